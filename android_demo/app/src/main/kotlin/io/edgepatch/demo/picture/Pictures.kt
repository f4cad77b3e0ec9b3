package io.edgepatch.demo.picture

import android.content.ContentResolver
import android.graphics.Bitmap
import android.graphics.BitmapFactory
import android.media.ExifInterface
import android.net.Uri
import io.edgepatch.demo.Names
import io.edgepatch.patchkit.errors.BadFileException
import io.edgepatch.patchkit.picture.Picture
import java.io.FileNotFoundException
import java.io.InputStream

/** Pictures of other apps, brought to a size that a phone can hold. */
class Pictures(private val resolver: ContentResolver) {
    /**
     * The picture behind an address, upright; its long side is halved until it is at most [LONGEST].
     *
     * Throws [BadFileException]: it is none, or a decompression bomb. [FileNotFoundException], [SecurityException]: it is
     * not there, or not ours to read.
     */
    fun read(uri: Uri): Picture {
        val name = Names.of(resolver, uri)
        val bounds = BitmapFactory.Options().apply { inJustDecodeBounds = true }
        open(uri).use { BitmapFactory.decodeStream(it, null, bounds) }
        if (bounds.outWidth < 1 || bounds.outHeight < 1) throw BadFileException("is not a picture that can be read", file = name)
        Picture.checkSize(bounds.outWidth, bounds.outHeight, name)
        val options = BitmapFactory.Options().apply {
            inSampleSize = Shrink.of(bounds.outWidth, bounds.outHeight, LONGEST)
            inPremultiplied = false
            inPreferredConfig = Bitmap.Config.ARGB_8888
        }
        val bitmap = open(uri).use { BitmapFactory.decodeStream(it, null, options) }
            ?: throw BadFileException("is not a picture that can be read", file = name)
        val pixels = IntArray(bitmap.width * bitmap.height)
        bitmap.getPixels(pixels, 0, bitmap.width, 0, 0, bitmap.width, bitmap.height)
        return Picture.of(bitmap.width, bitmap.height, pixels, orientation(uri))
    }

    /** EXIF's; 1, upright, of files without. */
    private fun orientation(uri: Uri): Int = try {
        open(uri).use { ExifInterface(it).getAttributeInt(ExifInterface.TAG_ORIENTATION, ExifInterface.ORIENTATION_NORMAL) }
    } catch (_: java.io.IOException) {
        ExifInterface.ORIENTATION_NORMAL
    }

    private fun open(uri: Uri): InputStream = resolver.openInputStream(uri) ?: throw FileNotFoundException(uri.toString())

    private companion object {
        const val LONGEST = 1600
    }
}
