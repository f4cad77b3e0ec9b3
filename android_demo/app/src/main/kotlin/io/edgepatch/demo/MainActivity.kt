package io.edgepatch.demo

import android.Manifest
import android.app.Activity
import android.app.AlertDialog
import android.content.ActivityNotFoundException
import android.content.Intent
import android.content.pm.PackageManager
import android.net.Uri
import android.os.Bundle
import android.os.Parcelable
import android.view.WindowManager
import android.widget.TextView
import io.edgepatch.demo.camera.Camera
import io.edgepatch.demo.picture.Pictures
import io.edgepatch.demo.session.Row
import io.edgepatch.demo.session.Session
import java.io.FileNotFoundException

/** The one screen: a picture with its answer, the tasks, and what they cost. It shows the session and hands on taps. */
class MainActivity : Activity() {
    private lateinit var session: Session
    private lateinit var screen: Screen
    private lateinit var camera: Camera
    private var picture: Uri? = null // shown, and to be shown again after the process has ended
    private var watching = false // the camera is to run while the activity is in front

    override fun onCreate(state: Bundle?) {
        super.onCreate(state)
        setContentView(R.layout.main)
        val app = application as DemoApp
        session = app.session
        screen = Screen(this, session, onRemove = ::askToRemove)
        @Suppress("DEPRECATION") // what took its place came with API 30
        val display = windowManager.defaultDisplay
        camera = Camera(this, { 90 * display.rotation }, { session.idle }, session::offer, ::onCameraFailed)
        click(R.id.choose) { pick(PICTURE, "image/*") }
        click(R.id.camera) { if (watching) watch(false) else askForCamera() }
        click(R.id.add) { pick(PATCH, "*/*") }
        click(R.id.measure) { session.repeat(REPEATS) }
        click(R.id.dismiss) { session.dismiss() }
        watching = state?.getBoolean(WATCHING) ?: false
        picture = state?.getString(SHOWN)?.let(Uri::parse)
        session.start(state?.getString(TASK)) { app.seeds() }
        if (session.state.picture == null) picture?.let(::show)
        // what was sent is done with, when the app is opened anew from the list of recent ones
        val again = intent.flags and Intent.FLAG_ACTIVITY_LAUNCHED_FROM_HISTORY != 0
        if (state == null && !again) receive(intent)
    }

    override fun onNewIntent(intent: Intent) {
        super.onNewIntent(intent)
        receive(intent)
    }

    override fun onStart() {
        super.onStart()
        session.listener = screen::show
        screen.show(session.state)
        if (watching) watch(allowed())
    }

    override fun onStop() {
        camera.close()
        session.listener = null
        super.onStop()
    }

    override fun onSaveInstanceState(state: Bundle) {
        super.onSaveInstanceState(state)
        state.putBoolean(WATCHING, watching)
        state.putString(SHOWN, picture?.toString())
        state.putString(TASK, session.state.task)
    }

    override fun onActivityResult(request: Int, result: Int, data: Intent?) {
        val uri = data?.data ?: return
        if (result != RESULT_OK) return
        if (request == PICTURE) {
            try {
                contentResolver.takePersistableUriPermission(uri, Intent.FLAG_GRANT_READ_URI_PERMISSION)
            } catch (_: SecurityException) {
                // some apps lend a picture only once: it is not shown again after the process has ended
            }
            show(uri)
        } else {
            install(uri)
        }
    }

    override fun onRequestPermissionsResult(request: Int, permissions: Array<String>, results: IntArray) {
        val given = results.firstOrNull() ?: return // nothing was answered, as when the phone was turned meanwhile
        if (given == PackageManager.PERMISSION_GRANTED) watch(true) else session.fail(getString(R.string.camera_refused))
    }

    /** A file that another app sent: a picture is shown, anything else is taken for a patch or a graph. */
    private fun receive(intent: Intent?) {
        val uri = when (intent?.action) {
            Intent.ACTION_SEND -> stream(intent)
            Intent.ACTION_VIEW -> intent.data
            else -> return
        }
        if (uri?.scheme != "content") return session.fail(getString(R.string.not_content)) // file: could be our own files
        if (intent?.type?.startsWith("image/") == true) show(uri) else install(uri)
    }

    /** Of an intent that any app may have filled with anything. */
    private fun stream(intent: Intent): Uri? = try {
        @Suppress("DEPRECATION") // what took its place came with API 33
        intent.getParcelableExtra<Parcelable>(Intent.EXTRA_STREAM) as? Uri
    } catch (_: RuntimeException) { // a class that is not here, or that cannot be read
        null
    }

    private fun install(uri: Uri) {
        val resolver = applicationContext.contentResolver // the activity may be gone before the file has come
        session.install({ Names.of(resolver, uri) }) { resolver.openInputStream(uri) ?: throw FileNotFoundException("$uri") }
    }

    private fun show(uri: Uri) {
        watch(false)
        picture = uri
        val resolver = applicationContext.contentResolver
        session.show { Pictures(resolver).read(uri) }
    }

    private fun pick(request: Int, type: String) {
        val intent = Intent(Intent.ACTION_OPEN_DOCUMENT).addCategory(Intent.CATEGORY_OPENABLE).setType(type)
        try {
            startActivityForResult(intent, request)
        } catch (_: ActivityNotFoundException) {
            session.fail(getString(R.string.no_picker))
        }
    }

    private fun askForCamera() {
        if (allowed()) watch(true) else requestPermissions(arrayOf(Manifest.permission.CAMERA), CAMERA)
    }

    private fun allowed() = checkSelfPermission(Manifest.permission.CAMERA) == PackageManager.PERMISSION_GRANTED

    private fun watch(on: Boolean) {
        if (on) {
            picture = null
            camera.open()
        } else {
            camera.close()
        }
        watching = camera.isOpen
        if (watching) window.addFlags(WindowManager.LayoutParams.FLAG_KEEP_SCREEN_ON)
        else window.clearFlags(WindowManager.LayoutParams.FLAG_KEEP_SCREEN_ON)
        screen.watching(watching)
    }

    private fun onCameraFailed(problem: String) {
        session.fail(getString(R.string.camera_failed, problem))
        watch(false)
    }

    private fun askToRemove(row: Row) {
        AlertDialog.Builder(this)
            .setMessage(getString(R.string.remove_question, row.task))
            .setPositiveButton(R.string.remove) { _, _ -> session.remove(row) }
            .setNegativeButton(android.R.string.cancel, null)
            .show()
    }

    private fun click(id: Int, action: () -> Unit) = findViewById<TextView>(id).setOnClickListener { action() }

    private companion object {
        const val PICTURE = 1
        const val PATCH = 2
        const val CAMERA = 3
        const val REPEATS = 10
        const val WATCHING = "watching"
        const val SHOWN = "picture"
        const val TASK = "task"
    }
}
