package io.edgepatch.patchkit.runtime

import io.edgepatch.patchkit.golden.Golden
import io.edgepatch.patchkit.golden.GoldenGraph
import io.edgepatch.patchkit.heads.Answer
import io.edgepatch.patchkit.heads.Classification
import io.edgepatch.patchkit.heads.Detections
import io.edgepatch.patchkit.heads.Segmentation
import io.edgepatch.patchkit.json.asList
import io.edgepatch.patchkit.json.asNumber
import io.edgepatch.patchkit.json.asObject
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.DynamicTest
import org.junit.jupiter.api.DynamicTest.dynamicTest
import org.junit.jupiter.api.TestFactory
import kotlin.math.abs
import kotlin.math.sqrt

/**
 * Real engines, bound and baked, answer as they do in Python: other versions of them, so not to the bit.
 *
 * int8 goes by steps, and a step that falls the other way in one layer moves all that follows: in Python, LiteRT's own
 * kernels and XNNPACK's give answers for one and the same model that are up to 0.19 apart by this measure.
 */
class AnswersTest {
    @TestFactory
    fun `every task answers as in Python, in each form`(): List<DynamicTest> = GoldenGraph.names.flatMap { name ->
        val golden = GoldenGraph(name)
        golden.runs.flatMap { (patch, run) ->
            run["answers"].asObject()!!.map { (form, expected) ->
                dynamicTest("$name $patch $form") { check(golden, patch, form, expected.asObject()!!) }
            }
        }
    }

    private fun check(golden: GoldenGraph, patch: String, form: String, expected: Map<String, Any?>) {
        val answer = Runtime(golden.graph, Mode.valueOf(form.uppercase())).use { runtime ->
            runtime.add(Golden.patch(patch))
            runtime.predict(Golden.picture("noise"))
        }
        compare(answer, expected, TOLERANCES.getValue(golden.graph.precision.word))
    }

    private fun compare(answer: Answer, expected: Map<String, Any?>, tolerance: Float) {
        when (answer) {
            is Classification -> near(Golden.floats(expected["logits"]), answer.logits, tolerance)
            is Detections -> {
                val rows = expected["boxes"].asList()!!.map { it.asObject()!! }
                // a box at the threshold of scores or of overlaps may come or go
                val found = answer.boxes.count { box -> rows.any { same(it, box, tolerance) } }
                assertTrue(found >= (1 - 2 * tolerance) * rows.size) { "$found of ${rows.size}: ${answer.boxes}" }
                assertEquals(rows.size.toFloat(), answer.boxes.size.toFloat(), 2 * tolerance * rows.size)
            }
            is Segmentation -> {
                val mask = Golden.mask(expected["mask"])
                assertEquals(mask.size, answer.mask.size)
                val other = mask.indices.count { mask[it] != answer.mask[it] }
                assertTrue(other <= tolerance * mask.size) { "$other of ${mask.size} pixels" }
            }
        }
    }

    private fun same(row: Map<String, Any?>, box: io.edgepatch.patchkit.heads.Box, tolerance: Float): Boolean {
        val sides = Golden.floats(row["xyxy"])
        val own = listOf(box.x0, box.y0, box.x1, box.y1)
        return row["class"] == box.number.toLong() && abs(row["score"].asNumber()!! - box.score) <= tolerance &&
            own.indices.all { abs(sides[it] - own[it]) <= 56 * tolerance }
    }

    /** Root mean square of the difference, over that of the expected values. */
    private fun near(expected: FloatArray, got: FloatArray, tolerance: Float) {
        assertEquals(expected.size, got.size)
        val error = size(FloatArray(expected.size) { got[it] - expected[it] })
        val size = size(expected)
        assertTrue(error <= tolerance * size) { "${expected.toList()} ${got.toList()}: ${error / size}" }
    }

    private fun size(values: FloatArray): Double = sqrt(values.sumOf { (it * it).toDouble() } / values.size)

    private companion object {
        val TOLERANCES = mapOf("fp32" to 1e-4f, "fp16" to 1e-3f, "dynamic" to 0.05f, "int8" to 0.25f)
    }
}
