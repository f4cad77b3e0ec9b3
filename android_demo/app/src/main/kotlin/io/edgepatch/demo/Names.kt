package io.edgepatch.demo

import android.content.ContentResolver
import android.net.Uri
import android.provider.OpenableColumns

/** What people know other apps' files as. */
object Names {
    /**
     * A file's name for messages alone: another app chose it, so that it is no place, shortened, and without characters
     * that turn others around. Asks that app, which may take its time.
     */
    fun of(resolver: ContentResolver, uri: Uri): String {
        val given = try {
            resolver.query(uri, arrayOf(OpenableColumns.DISPLAY_NAME), null, null, null)?.use {
                if (it.moveToFirst()) it.getString(0) else null
            }
        } catch (_: Exception) { // another app's provider throws what it likes
            null
        }
        val name = given ?: uri.lastPathSegment ?: uri.toString()
        return name.filter { !it.isISOControl() && it.category != CharCategory.FORMAT }.take(LONGEST)
    }

    private const val LONGEST = 80
}
