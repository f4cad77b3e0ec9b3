package io.edgepatch.patchkit.bake

import io.edgepatch.patchkit.golden.Golden
import io.edgepatch.patchkit.golden.GoldenGraph
import io.edgepatch.patchkit.golden.row
import io.edgepatch.patchkit.json.asObject
import io.edgepatch.patchkit.model.HeadNetwork
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.DynamicTest
import org.junit.jupiter.api.DynamicTest.dynamicTest
import org.junit.jupiter.api.TestFactory

/** What an engine is given is, to the byte, what Python gives it: bound, baked, and a head's network. */
class GoldenBakingTest {
    @TestFactory
    fun `every graph and patch makes the models that Python makes`(): List<DynamicTest> =
        GoldenGraph.names.map { GoldenGraph(it) }.flatMap { golden ->
            golden.runs.map { (patch, run) -> dynamicTest("${golden.name} $patch") { check(golden, patch, run) } }
        }

    private fun check(golden: GoldenGraph, patch: String, run: Map<String, Any?>) {
        val graph = golden.graph
        val fitted = Fitting.fit(graph, Golden.patch(patch), "patch")
        val found = HashMap<String, Any?>()
        found["decoded"] = Golden.digest(io.edgepatch.patchkit.codec.Codec.decode(fitted.patch, graph.trunk, "patch"))
        found["bake"] = row(Baking.bake(fitted))
        val inputs = fitted.inputs
        if (inputs != null && graph.forms.size == 2) {
            found["bind"] = row(Baking.bindModel(fitted))
            found["inputs"] = Golden.digest(inputs)
        }
        fitted.network?.let { network ->
            val shapes = run["maps"].asObject()!!.mapValues { Golden.ints(it.value) }
            val weights = fitted.values.filterKeys { it.startsWith(HeadNetwork.PREFIX) }
            found["maps"] = run["maps"]
            found["head"] = row(network.model(graph.format, weights, shapes))
        }
        assertEquals(run - "answers", found)
    }
}
