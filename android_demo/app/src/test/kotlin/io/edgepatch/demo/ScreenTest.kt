package io.edgepatch.demo

import android.Manifest
import android.content.Context
import android.content.Intent
import android.hardware.camera2.CameraCharacteristics
import android.hardware.camera2.CameraManager
import android.net.Uri
import android.view.View
import android.view.ViewGroup
import android.view.WindowManager
import android.widget.LinearLayout
import android.widget.RadioButton
import android.widget.TextView
import io.edgepatch.demo.session.Notice
import java.io.InputStream
import java.io.SequenceInputStream
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNotNull
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.RobolectricTestRunner
import org.robolectric.RuntimeEnvironment
import org.robolectric.Shadows.shadowOf
import org.robolectric.annotation.Config
import org.robolectric.annotation.GraphicsMode
import org.robolectric.shadows.ShadowCameraCharacteristics

/** The whole app, its own activity over its own session, patchkit and ONNX Runtime. */
@RunWith(RobolectricTestRunner::class)
@Config(sdk = [34], qualifiers = "en-rUS-w360dp-h740dp-xhdpi")
@GraphicsMode(GraphicsMode.Mode.NATIVE)
class ScreenTest {
    private val stage = Stage()

    @Test
    fun `an empty app says what to bring`() {
        stage.open()
        assertEquals(stage.activity.getString(R.string.no_graph), stage.text(R.id.answer))
        assertEquals(View.VISIBLE, stage.view<View>(R.id.no_tasks).visibility)
    }

    @Test
    fun `a graph, patches and a picture come from other apps, and are answered`() {
        furnish()
        assertEquals(listOf("bias", "finder", "painter", "scale_bias"), stage.state.rows.map { it.task })
        assertTrue(stage.state.rows.all { it.problem == null })
        stage.pick(R.id.choose, "square.png") { Golden.pictureFile("square").inputStream() }
        use("scale_bias")
        assertEquals("${stage.state.notice}", "scale_bias", stage.state.answer?.task)
        assertTrue(stage.text(R.id.answer), stage.text(R.id.answer).lines().size == 3)
        assertTrue(stage.text(R.id.switched), stage.text(R.id.switched).startsWith("Switched to scale_bias in "))
        use("painter")
        assertEquals("painter", stage.state.answer?.task)
        use("finder")
        assertEquals("finder", stage.state.answer?.task)
    }

    @Test
    fun `a bad patch is refused in one sentence, and the old one goes on`() {
        furnish()
        val damaged = Golden.patch("bias").readBytes().also { it[it.size - 1] = (it[it.size - 1] + 1).toByte() }
        stage.send("new.epatch") { damaged.inputStream() }
        assertTrue(stage.state.notice is Notice.Refused)
        assertEquals(View.VISIBLE, stage.view<View>(R.id.notice).visibility)
        assertTrue(stage.text(R.id.notice_text), stage.text(R.id.notice_text).startsWith("new.epatch was refused"))
        stage.pick(R.id.choose, "square.png") { Golden.pictureFile("square").inputStream() }
        use("bias")
        assertEquals("${stage.state.notice}", "bias", stage.state.answer?.task)
        stage.click(R.id.dismiss)
        assertEquals(View.GONE, stage.view<View>(R.id.notice).visibility)
    }

    @Test
    fun `turning the phone keeps picture, answer and task, and opens nothing anew`() {
        furnish()
        stage.pick(R.id.choose, "square.png") { Golden.pictureFile("square").inputStream() }
        use("bias")
        val before = stage.state
        val text = stage.text(R.id.answer)
        RuntimeEnvironment.setQualifiers("+land")
        stage.controller.configurationChange(stage.app.resources.configuration)
        stage.settle()
        assertTrue(stage.state.picture === before.picture && stage.state.answer === before.answer)
        assertEquals("bias", stage.state.task)
        assertEquals(text, stage.text(R.id.answer))
        assertTrue(button("bias").isChecked)
        assertEquals(LinearLayout.HORIZONTAL, (stage.view<View>(R.id.picture).parent.parent as LinearLayout).orientation)
    }

    @Test
    fun `everything that can be tapped has words and room`() {
        furnish()
        val least = 48 * stage.activity.resources.displayMetrics.density
        val tapped = stage.all().filter { it.isClickable && it.isShown }
        assertTrue("${tapped.size}", tapped.size >= 15)
        for (view in tapped) {
            val words = (view as? android.widget.TextView)?.text?.takeIf { it.isNotBlank() } ?: view.contentDescription
            assertNotNull("$view says nothing", words)
            assertTrue("$words is ${view.height} high", view.height >= least)
        }
        for (id in listOf(R.id.answer, R.id.switched)) {
            assertEquals(View.ACCESSIBILITY_LIVE_REGION_POLITE, stage.view<View>(id).accessibilityLiveRegion)
        }
        assertEquals("No picture", stage.view<View>(R.id.picture).contentDescription)
        val lines = stage.view<ViewGroup>(R.id.panel)
        assertTrue((0 until lines.childCount).all { lines.getChildAt(it).contentDescription?.contains(": ") == true })
    }

    @Test
    fun `without the camera's permission the app says so and goes on`() {
        stage.open()
        stage.click(R.id.camera)
        val asked = shadowOf(stage.activity).lastRequestedPermission
        assertEquals(listOf(Manifest.permission.CAMERA), asked.requestedPermissions.toList())
        stage.activity.onRequestPermissionsResult(asked.requestCode, asked.requestedPermissions, intArrayOf(-1))
        stage.settle()
        assertEquals(stage.activity.getString(R.string.camera_refused), stage.text(R.id.notice_text))
        assertFalse(stage.text(R.id.camera) == stage.activity.getString(R.string.camera_stop))
    }

    @Test
    fun `a patch whose app breaks off in the middle is refused, and the old one goes on`() {
        furnish()
        val sound = Golden.patch("bias").readBytes()
        stage.send("half.epatch") {
            SequenceInputStream(sound.copyOf(sound.size / 2).inputStream(), object : InputStream() {
                override fun read(): Int = throw IllegalStateException("the provider died")
            })
        }
        assertEquals(Notice.Refused("half.epatch", "the provider died"), stage.state.notice)
        assertEquals(4, stage.state.rows.size)
    }

    @Test
    fun `intents that hold nonsense are said, and nothing else happens`() {
        furnish()
        val before = stage.state.rows
        val nonsense = listOf(
            Intent(Intent.ACTION_SEND).setType("application/octet-stream"),
            Intent(Intent.ACTION_SEND).putExtra(Intent.EXTRA_STREAM, Intent("not an address")),
            Intent(Intent.ACTION_SEND).putExtra(Intent.EXTRA_STREAM, 7),
            Intent(Intent.ACTION_SEND).putExtra(Intent.EXTRA_STREAM, Uri.parse("file:///data/data/io.edgepatch.demo/files/x")),
            Intent(Intent.ACTION_VIEW),
            Intent(Intent.ACTION_VIEW, Uri.parse("https://example.org/x.epatch")),
        )
        for (intent in nonsense) {
            stage.send(intent)
            assertEquals("$intent", stage.activity.getString(R.string.not_content), stage.text(R.id.notice_text))
            stage.click(R.id.dismiss)
        }
        stage.send(Intent(Intent.ACTION_VIEW, Uri.parse("content://nobody/x.epatch")))
        assertTrue("${stage.state.notice}", stage.state.notice is Notice.Refused)
        stage.send(Intent(Intent.ACTION_SEND).setType("image/png").putExtra(Intent.EXTRA_STREAM, Uri.parse("content://nobody/x")))
        assertTrue("${stage.state.notice}", stage.state.notice is Notice.Failed)
        assertEquals(before, stage.state.rows)
    }

    @Test
    fun `a file that is no picture is said, and the one before stays`() {
        furnish()
        stage.pick(R.id.choose, "square.png") { Golden.pictureFile("square").inputStream() }
        val before = stage.state.picture
        val half = Golden.pictureFile("square").readBytes().let { it.copyOf(20) }
        stage.pick(R.id.choose, "half.png") { half.inputStream() }
        assertTrue("${stage.state.notice}", (stage.state.notice as Notice.Failed).problem.startsWith("half.png: is not a picture"))
        assertTrue(stage.state.picture === before)
    }

    @Test
    fun `the camera is opened with the permission, goes on after turning the phone, and is closed`() {
        val manager = shadowOf(RuntimeEnvironment.getApplication().getSystemService(Context.CAMERA_SERVICE) as CameraManager)
        val about = ShadowCameraCharacteristics.newCameraCharacteristics()
        shadowOf(about).set(CameraCharacteristics.LENS_FACING, CameraCharacteristics.LENS_FACING_BACK)
        shadowOf(about).set(CameraCharacteristics.SENSOR_ORIENTATION, 90)
        manager.addCamera("0", about)
        shadowOf(RuntimeEnvironment.getApplication()).grantPermissions(Manifest.permission.CAMERA)
        stage.open()
        stage.click(R.id.camera)
        assertNull("${stage.state.notice}", stage.state.notice)
        assertEquals(stage.activity.getString(R.string.camera_stop), stage.text(R.id.camera))
        assertEquals(View.ACCESSIBILITY_LIVE_REGION_NONE, stage.view<View>(R.id.answer).accessibilityLiveRegion)
        RuntimeEnvironment.setQualifiers("+land")
        stage.controller.configurationChange(stage.app.resources.configuration)
        stage.settle()
        assertEquals(stage.activity.getString(R.string.camera_stop), stage.text(R.id.camera))
        stage.click(R.id.camera)
        assertEquals(stage.activity.getString(R.string.camera), stage.text(R.id.camera))
        assertEquals(View.ACCESSIBILITY_LIVE_REGION_POLITE, stage.view<View>(R.id.answer).accessibilityLiveRegion)
    }

    @Test
    fun `a device without a camera says so, and the button is as it was`() {
        shadowOf(RuntimeEnvironment.getApplication()).grantPermissions(Manifest.permission.CAMERA)
        stage.open()
        stage.click(R.id.camera)
        assertEquals("The camera stopped: there is none.", stage.text(R.id.notice_text))
        assertEquals(stage.activity.getString(R.string.camera), stage.text(R.id.camera))
        assertEquals(0, stage.activity.window.attributes.flags and WindowManager.LayoutParams.FLAG_KEEP_SCREEN_ON)
    }

    @Test
    fun `a tap on a task that fails leaves the button on the one in use`() {
        furnish()
        use("bias")
        val gone = stage.state.rows.first { it.task == "finder" }
        val tapped = button("finder")
        stage.app.session.remove(gone) // while its row is still on the screen
        tapped.performClick()
        stage.settle()
        assertTrue("${stage.state.notice}", stage.state.notice is Notice.Failed)
        assertEquals("bias", stage.state.task)
        assertTrue(button("bias").isChecked)
        assertEquals(1, stage.state.rows.count { button(it.task).isChecked })
    }

    @Test
    @Config(fontScale = 2f)
    fun `words of double size have room`() {
        furnish()
        stage.pick(R.id.choose, "square.png") { Golden.pictureFile("square").inputStream() }
        val words = stage.all().filterIsInstance<TextView>().filter { it.isShown && it.text.isNotBlank() }
        assertTrue("${words.size}", words.size >= 20)
        for (view in words) {
            assertTrue("${view.text} is cut off", view.layout.height <= view.height - view.compoundPaddingTop - view.compoundPaddingBottom)
            assertTrue("${view.text} is cut off", (0 until view.layout.lineCount).all { view.layout.getEllipsisCount(it) == 0 })
        }
    }

    /** A graph and a patch of each head. */
    private fun furnish() {
        stage.open()
        stage.send("gated.onnx") { Golden.graph("gated-fp32.onnx") }
        assertTrue("${stage.state.notice}", stage.state.notice is Notice.NewGraph)
        for (name in listOf("scale_bias", "bias", "finder", "painter")) {
            stage.pick(R.id.add, "$name.epatch") { Golden.patch(name).inputStream() }
            assertTrue("${stage.state.notice}", stage.state.notice is Notice.Installed)
        }
        stage.click(R.id.dismiss)
    }

    private fun button(task: String): RadioButton = stage.view<ViewGroup>(R.id.tasks)
        .getChildAt(stage.state.rows.indexOfFirst { it.task == task }).findViewById(R.id.task)

    private fun use(task: String) {
        button(task).performClick()
        stage.settle()
    }
}
