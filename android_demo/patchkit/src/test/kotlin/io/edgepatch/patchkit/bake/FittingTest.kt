package io.edgepatch.patchkit.bake

import io.edgepatch.patchkit.errors.EdgepatchException
import io.edgepatch.patchkit.file.PatchFile
import io.edgepatch.patchkit.golden.Golden
import io.edgepatch.patchkit.golden.GoldenGraph
import io.edgepatch.patchkit.graph.Graph
import io.edgepatch.patchkit.graph.GraphFile
import io.edgepatch.patchkit.heads.Head
import io.edgepatch.patchkit.json.asList
import io.edgepatch.patchkit.json.asObject
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.DynamicTest
import org.junit.jupiter.api.DynamicTest.dynamicTest
import org.junit.jupiter.api.TestFactory

/** A patch fits a graph, or is refused, as in Python: by the same code, the same field, the same words. */
class FittingTest {
    @TestFactory
    fun `broken patches are refused beside a graph`(): List<DynamicTest> {
        val graph = GoldenGraph("gated-int8.tflite").graph
        return rows("patches").map { row ->
            dynamicTest(row["name"] as String) { assertEquals(row["runtime"], outcome(graph, bytes(row))) }
        }
    }

    @TestFactory
    fun `sound patches fit the graphs that take them`(): List<DynamicTest> = rows("fits").map { row ->
        dynamicTest(row["name"] as String) {
            val graph = GraphFile.parse(Golden.direct(bytes(row)), "graph")
            assertEquals(row["error"], outcome(graph, Golden.patchBytes(row["patch"] as String)))
        }
    }

    private fun rows(part: String) = Golden.document("broken")[part].asList()!!.map { it.asObject()!! }

    private fun bytes(row: Map<String, Any?>) = Golden.followed(row["recipe"], Golden.source(row["of"] as String))

    private fun outcome(graph: Graph, data: ByteArray): Map<String, Any?>? = try {
        val patch = PatchFile.parse(Golden.direct(data), "file")
        Head.of(patch, Fitting.fit(graph, patch, "file").values, "file")
        null
    } catch (error: EdgepatchException) {
        assertEquals("file", error.file)
        Golden.row(error)
    }
}
