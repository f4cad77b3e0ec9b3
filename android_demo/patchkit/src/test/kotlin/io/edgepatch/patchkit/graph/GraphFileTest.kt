package io.edgepatch.patchkit.graph

import io.edgepatch.patchkit.errors.BadFileException
import io.edgepatch.patchkit.errors.EdgepatchException
import io.edgepatch.patchkit.errors.MismatchException
import io.edgepatch.patchkit.errors.UsageException
import io.edgepatch.patchkit.golden.Golden
import io.edgepatch.patchkit.golden.GoldenGraph
import io.edgepatch.patchkit.json.asList
import io.edgepatch.patchkit.json.asObject
import org.junit.jupiter.api.Assertions.assertArrayEquals
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.DynamicTest
import org.junit.jupiter.api.DynamicTest.dynamicTest
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.TestFactory
import org.junit.jupiter.api.io.TempDir
import java.io.File
import kotlin.random.Random

/** A graph's file: read as Python reads it; damaged or forged, it is refused before an interpreter sees it. */
class GraphFileTest {
    @TestFactory
    fun `broken graphs are refused with Python's own error`(): List<DynamicTest> =
        Golden.document("broken")["graphs"].asList()!!.map { it.asObject()!! }.map { row ->
            dynamicTest(row["name"] as String) {
                val data = Golden.followed(row["recipe"], Golden.source(row["of"] as String))
                val error = assertThrows(EdgepatchException::class.java) { GraphFile.parse(Golden.direct(data), "file") }
                Golden.assertSaid("graphs", row["name"], row["error"], error)
            }
        }

    @Test
    fun `a graph's sites and kernels are the ones that Python sees`() {
        for (name in listOf("gated-fp32.tflite", "gated-fp32.onnx")) {
            val trunk = GoldenGraph(name).graph.trunk
            assertEquals(Golden.trunk.names, trunk.names)
            assertEquals(Golden.trunk.shapes, trunk.shapes)
            assertEquals(Golden.trunk.residuals, trunk.residuals)
            assertArrayEquals(Golden.trunk.scale, trunk.scale)
            for (number in trunk.names.indices) {
                assertArrayEquals(Golden.trunk.kernel(number), trunk.kernel(number)) { trunk.names[number] }
            }
        }
    }

    @Test
    fun `a graph that is cut short anywhere is refused`() {
        for (name in listOf("gated-fp32.tflite", "gated-fp32.onnx")) {
            val data = Golden.graph(name)
            val random = Random(1)
            for (length in List(60) { random.nextInt(data.size) } + listOf(0, 1, 7, 8, 9, data.size - 1)) {
                assertThrows(EdgepatchException::class.java, { read(data.copyOf(length)) }, "$name at $length")
            }
        }
    }

    @Test
    fun `a graph with any byte changed is refused`() {
        for (name in listOf("gated-int8.tflite", "gated-int8.onnx")) {
            val data = Golden.graph(name)
            val random = Random(2)
            repeat(60) {
                val at = random.nextInt(data.size)
                val changed = data.copyOf()
                changed[at] = (changed[at] + 1 + random.nextInt(255)).toByte()
                assertThrows(EdgepatchException::class.java, { read(changed) }, "$name at $at")
            }
        }
    }

    @Test
    fun `what is no graph of ours is told from what is none`(@TempDir folder: File) {
        assertThrows(UsageException::class.java) { GraphFile.read(File(folder, "none")) }
        assertThrows(BadFileException::class.java) { GraphFile.read(folder) }
        assertThrows(BadFileException::class.java) { GraphFile.read(File(folder, "empty").apply { createNewFile() }) }
        assertThrows(BadFileException::class.java) { read(Golden.patchBytes("scale_bias")) }
        val plain = FlatbufferWriter.build(FlatbufferWriter.Fields(0 to FlatbufferWriter.number(3)), "TFL3")
        assertThrows(MismatchException::class.java) { GraphFile.parse(plain, "file") }
    }

    @Test
    fun `a file is not changed by being read, nor has to be writable`(@TempDir folder: File) {
        val data = Golden.graph("gated-fp32.tflite")
        val file = File(folder, "graph.tflite").apply { writeBytes(data) }
        val mapped = GraphFile.read(file)
        assertArrayEquals(data, file.readBytes())
        val given = Golden.direct(data)
        val copied = GraphFile.parse(given, "graph")
        assertArrayEquals(data, ByteArray(given.limit()).also { given.duplicate().get(it) })
        assertEquals(Golden.sha256(copied.data), Golden.sha256(mapped.data))
        assertTrue(Golden.sha256(mapped.data) != Golden.sha256(data), "one form alone is seen")
    }

    private fun read(data: ByteArray) = GraphFile.parse(Golden.direct(data), "file")
}
