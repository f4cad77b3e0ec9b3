package io.edgepatch.demo

import android.view.View
import android.view.ViewGroup
import android.widget.ScrollView
import java.io.File
import org.junit.Assert.assertTrue
import org.junit.Assume.assumeTrue
import org.junit.Before
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.RobolectricTestRunner
import org.robolectric.annotation.Config
import org.robolectric.annotation.GraphicsMode

/** The README's pictures: the graph, the patches and the test pictures of `make demo`, with real answers. */
@RunWith(RobolectricTestRunner::class)
@Config(sdk = [34], qualifiers = "en-rUS-w360dp-h740dp-hdpi")
@GraphicsMode(GraphicsMode.Mode.NATIVE)
class ShotsTest {
    private val demo = File(System.getProperty("demo"))
    private val stage = Stage()

    @Before
    fun furnish() {
        val files = listOf("mobilenet_v2.onnx") + listOf("digit-pages", "digits", "solar-defects", "solar-type").map { "$it.epatch" }
        val absent = files.filter { !File(demo, it).isFile }
        assumeTrue("make demo has not been run: no $absent in $demo", absent.isEmpty())
        stage.open()
        for (name in files) stage.send(name) { File(demo, name).inputStream() }
    }

    @Test
    fun light() {
        ask("digit-pages", "digit-pages/test/0019.jpg")
        stage.click(R.id.measure)
        done("light")
        down()
        stage.shoot("panel")
    }

    @Test
    @Config(qualifiers = "+night")
    fun dark() {
        ask("digit-pages", "digit-pages/test/0054.jpg")
        done("dark")
        val shot = stage.shoot()
        val ground = shot.getPixel(4, shot.height - 4)
        assertTrue(Integer.toHexString(ground), ground and 0xff < 0x30)
    }

    @Test
    fun scores() {
        ask("solar-type", "solar-defects/test") // opens the interpreter for pictures of this size
        ask("solar-defects", "solar-defects/test")
        done("scores")
    }

    @Test
    @Config(qualifiers = "+land")
    fun land() {
        ask("digit-pages", "digit-pages/test/0099.jpg")
        done("land")
    }

    @Test
    fun refused() {
        ask("digit-pages", "digit-pages/test/0000.jpg")
        val whole = File(demo, "digits.epatch").readBytes()
        stage.send("digits-from-mail.epatch") { whole.copyOf(whole.size - 100).inputStream() }
        stage.shoot("refused")
    }

    /** Uses a task on a picture of the demo's data, or on the first one below a folder of it. */
    private fun ask(task: String, path: String) {
        val picture = File(demo, "data/$path").walk().filter { it.isFile }.sorted().first()
        stage.send(picture.name, "image/*") { picture.inputStream() }
        val row = stage.view<ViewGroup>(R.id.tasks).getChildAt(stage.state.rows.indexOfFirst { it.task == task })
        row.findViewById<View>(R.id.task).performClick()
        stage.settle()
        assertTrue("${stage.state.notice}", stage.state.answer?.task == task)
    }

    private fun done(name: String) {
        stage.click(R.id.dismiss)
        stage.shoot(name)
    }

    private fun down() {
        val scroll = stage.all().filterIsInstance<ScrollView>().single()
        scroll.scrollTo(0, scroll.getChildAt(0).height)
        stage.settle()
    }
}
