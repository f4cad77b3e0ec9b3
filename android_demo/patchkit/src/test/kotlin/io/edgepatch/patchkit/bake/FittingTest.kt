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
            dynamicTest(row["name"] as String) {
                Golden.assertSaid("runtime", row["name"], row["runtime"], error(graph, bytes(row)))
            }
        }
    }

    @TestFactory
    fun `sound patches fit the graphs that take them`(): List<DynamicTest> = rows("fits").map { row ->
        dynamicTest(row["name"] as String) {
            val graph = GraphFile.parse(Golden.direct(bytes(row)), "graph")
            val error = error(graph, Golden.patchBytes(row["patch"] as String))
            Golden.assertSaid("fits", row["name"], row["error"], error)
        }
    }

    @TestFactory
    fun `graphs that cannot be laid out for a patch are refused`(): List<DynamicTest> = rows("binds").map { row ->
        dynamicTest(row["name"] as String) {
            val graph = GraphFile.parse(Golden.direct(bytes(row)), "graph")
            val fitted = Fitting.fit(graph, Golden.patch(row["patch"] as String), "file")
            val error = Golden.thrown { Baking.bindModel(fitted) }
            Golden.assertSaid("binds", row["name"], row["error"], error)
        }
    }

    private fun rows(part: String) = Golden.document("broken")[part].asList()!!.map { it.asObject()!! }

    private fun bytes(row: Map<String, Any?>) = Golden.followed(row["recipe"], Golden.source(row["of"] as String))

    private fun error(graph: Graph, data: ByteArray): EdgepatchException? = Golden.thrown {
        val patch = PatchFile.parse(Golden.direct(data), "file")
        Head.of(patch, Fitting.fit(graph, patch, "file").values, "file")
    }?.also { assertEquals("file", it.file) }
}
