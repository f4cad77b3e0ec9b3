package io.edgepatch.demo

import android.content.Intent
import android.graphics.Bitmap
import android.graphics.Canvas
import android.net.Uri
import android.os.Looper
import android.view.View
import android.view.ViewGroup
import android.widget.TextView
import io.edgepatch.demo.session.State
import java.io.File
import java.io.FileOutputStream
import java.io.InputStream
import org.robolectric.Robolectric
import org.robolectric.RuntimeEnvironment
import org.robolectric.Shadows.shadowOf
import org.robolectric.android.controller.ActivityController

/** The app's own activity on a JVM, with other apps that lend it files. */
class Stage {
    val app get() = RuntimeEnvironment.getApplication() as DemoApp
    val state: State get() = app.session.state
    lateinit var controller: ActivityController<MainActivity>
    val activity: MainActivity get() = controller.get()
    private var number = 0

    fun open() {
        controller = Robolectric.buildActivity(MainActivity::class.java).setup()
        settle()
    }

    /** Sends a file as the share sheet does. */
    fun send(name: String, type: String = "application/octet-stream", stream: () -> InputStream) {
        val uri = lend(name, stream)
        controller.newIntent(Intent(Intent.ACTION_SEND).setType(type).putExtra(Intent.EXTRA_STREAM, uri))
        settle()
    }

    /** An intent of another app's, as it is. */
    fun send(intent: Intent) {
        controller.newIntent(intent)
        settle()
    }

    /** Chooses a file by the system's picker, which a tap on [button] has opened. */
    fun pick(button: Int, name: String, stream: () -> InputStream) {
        click(button)
        val asked = shadowOf(activity).nextStartedActivityForResult
        check(asked.intent.action == Intent.ACTION_OPEN_DOCUMENT) { asked.intent }
        shadowOf(activity).receiveResult(asked.intent, -1, Intent().setData(lend(name, stream)))
        settle()
    }

    /** A content address, of which a stream can be had as often as it is asked for. */
    private fun lend(name: String, stream: () -> InputStream): Uri {
        val uri = Uri.parse("content://other.app/${number++}/$name")
        shadowOf(app.contentResolver).registerInputStreamSupplier(uri, stream)
        return uri
    }

    fun click(id: Int) {
        check(view<View>(id).performClick()) { "nothing happens" }
        settle()
    }

    fun <Kind : View> view(id: Int): Kind = activity.findViewById(id)

    fun text(id: Int): String = view<TextView>(id).text.toString()

    /** Waits until the worker is done and the screen has seen it. */
    fun settle() {
        val end = System.nanoTime() + 120_000_000_000
        do { // what the screen is told may lead to a further job
            check(System.nanoTime() < end) { "still busy: $state" }
            Thread.sleep(5)
            val rested = app.session.resting
            shadowOf(Looper.getMainLooper()).idle()
        } while (!rested || !app.session.resting)
    }

    /** All views below one. */
    fun all(view: View = activity.window.decorView): List<View> =
        listOf(view) + if (view is ViewGroup) (0 until view.childCount).flatMap { all(view.getChildAt(it)) } else emptyList()

    /** What the screen looks like now. */
    fun shoot(): Bitmap {
        val root = activity.window.decorView
        root.jumpDrawablesToCurrentState() // no time passes here in which a button could turn into its state
        val bitmap = Bitmap.createBitmap(root.width, root.height, Bitmap.Config.ARGB_8888)
        root.draw(Canvas(bitmap))
        return bitmap
    }

    fun shoot(name: String) {
        val folder = File(System.getProperty("shots")).apply { mkdirs() }
        FileOutputStream(File(folder, "$name.png")).use { shoot().compress(Bitmap.CompressFormat.PNG, 100, it) }
    }
}
