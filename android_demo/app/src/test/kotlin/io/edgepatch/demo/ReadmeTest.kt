package io.edgepatch.demo

import android.graphics.BitmapFactory
import io.edgepatch.patchkit.errors.BadFileException
import java.io.File
import java.nio.file.Files
import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.RobolectricTestRunner
import org.robolectric.annotation.Config
import org.robolectric.annotation.GraphicsMode

/** The README's lines for other apps are those that are compiled here, and they do what it says. */
@RunWith(RobolectricTestRunner::class)
@Config(sdk = [34])
@GraphicsMode(GraphicsMode.Mode.NATIVE)
class ReadmeTest {
    @Test
    fun `the README shows the lines that are compiled`() {
        val source = File("src/test/kotlin/io/edgepatch/demo/Readme.kt").readText()
        val lines = source.substring(source.indexOf("fun look("))
        val readme = File("../README.md").readText()
        assertTrue(lines, "```kotlin\n$lines```" in readme)
        for (line in source.lines().filter { it.startsWith("import io.edgepatch") }) assertTrue(line, line in readme)
    }

    @Test
    fun `they answer, and refuse a damaged patch`() {
        val folder = Files.createTempDirectory("readme").toFile()
        Golden.graph("gated-fp32.onnx").use { File(folder, "backbone.onnx").writeBytes(it.readBytes()) }
        Golden.patch("scale_bias").copyTo(File(folder, "digits.epatch"))
        Golden.patch("finder").copyTo(File(folder, "digit-pages.epatch"))
        val bitmap = BitmapFactory.decodeFile(Golden.pictureFile("square").path)
        val told = Regex("(.+): (\\S+), and (\\d+) digits on the page").matchEntire(look(folder, bitmap))
        assertTrue("$told", told != null && told.groupValues[2].toFloat() in 0f..1f)
        File(folder, "digits.epatch").let { it.writeBytes(it.readBytes().copyOf(500)) }
        assertEquals(3, assertThrows(BadFileException::class.java) { look(folder, bitmap) }.code)
        folder.deleteRecursively()
    }
}
