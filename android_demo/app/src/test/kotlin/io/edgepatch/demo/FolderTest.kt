package io.edgepatch.demo

import io.edgepatch.demo.folder.Incoming
import io.edgepatch.demo.folder.PatchFolder
import io.edgepatch.demo.folder.Sort
import io.edgepatch.patchkit.errors.BadFileException
import java.io.ByteArrayInputStream
import java.io.File
import java.io.IOException
import java.io.InputStream
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir

class FolderTest {
    @TempDir
    lateinit var root: File

    @Test
    fun `a patch takes its place wholly, and the one before is gone`() {
        val folder = PatchFolder(root)
        folder.install(folder.receive(stream("old"), "a"), "digits")
        val arriving = folder.receive(stream("new"), "b")
        assertEquals("old", folder.place("digits").readText())
        folder.install(arriving, "digits")
        assertEquals(listOf("new"), folder.patches().map { it.readText() })
        assertEquals(0, parts().size)
    }

    @Test
    fun `a stream that breaks off leaves nothing behind`() {
        val folder = PatchFolder(root)
        val broken = object : InputStream() {
            var left = 70_000
            override fun read(): Int = if (left-- > 0) 1 else throw IOException("unplugged")
        }
        assertEquals("unplugged", assertThrows(IOException::class.java) { folder.receive(broken, "x") }.message)
        assertEquals(0, parts().size)
    }

    @Test
    fun `what another app opened is closed, whatever happens`() {
        var closed = 0
        val broken = object : InputStream() {
            override fun read(): Int = throw IOException("unplugged")
            override fun close() { closed++ }
        }
        assertThrows(IOException::class.java) { Incoming.receive(broken, root, "x", 10) }
        assertThrows(IOException::class.java) { Incoming.receive(broken, File(root, "absent"), "x", 10) }
        assertEquals(2, closed)
    }

    @Test
    fun `endless files are refused`() {
        val endless = object : InputStream() {
            override fun read(): Int = 1
        }
        val large = assertThrows(BadFileException::class.java) { Incoming.receive(endless, root, "x.epatch", 100_000) }
        assertEquals("x.epatch: is too large (field bytes, got more, expected at most 100000)", large.message)
        assertEquals(0, root.listFiles { file -> file.isFile }!!.size)
    }

    @Test
    fun `what a stopped installation left is swept away, and what is installed stays`() {
        val folder = PatchFolder(root)
        folder.install(folder.receive(stream("kept"), "a"), "digits")
        folder.receive(stream("half"), "b")
        assertEquals(1, parts().size)
        val again = PatchFolder(root)
        assertEquals(0, parts().size)
        assertEquals(listOf("kept"), again.patches().map { it.readText() })
    }

    @Test
    fun `no task's name leads out of the folder`() {
        val folder = PatchFolder(root)
        val names = listOf("../../evil", "/etc/passwd", "a/b", "..", "con", "ü", "x".repeat(100))
        val places = names.map { folder.place(it) }
        assertEquals(names.size, places.toSet().size)
        assertTrue(places.all { it.canonicalFile.parentFile == File(root, "patches").canonicalFile })
    }

    @Test
    fun `graphs are told from patches, and one of the other format takes the former's place`() {
        val folder = PatchFolder(root)
        val lite = folder.receive(ByteArrayInputStream(byteArrayOf(28, 0, 0, 0) + "TFL3....".toByteArray()), "g")
        assertEquals(Sort.TFLITE, PatchFolder.sort(lite.file))
        folder.installGraph(lite, Sort.TFLITE)
        assertEquals("graph.tflite", folder.graph?.name)
        val onnx = folder.receive(ByteArrayInputStream(byteArrayOf(8, 10, 18, 9) + "edgepatch".toByteArray()), "g")
        assertEquals(Sort.ONNX, PatchFolder.sort(onnx.file))
        folder.installGraph(onnx, Sort.ONNX)
        assertEquals("graph.onnx", folder.graph?.name)
        val patch = folder.receive(ByteArrayInputStream(byteArrayOf(8, 1, 0, 0, 0, 0, 0, 0) + "{}".toByteArray()), "p")
        assertEquals(Sort.PATCH, PatchFolder.sort(patch.file)) // a header of 0x108 bytes is not ONNX
    }

    private fun stream(text: String) = ByteArrayInputStream(text.toByteArray())

    private fun parts() = root.walk().filter { it.name.endsWith(Incoming.ENDING) }.toList()
}
