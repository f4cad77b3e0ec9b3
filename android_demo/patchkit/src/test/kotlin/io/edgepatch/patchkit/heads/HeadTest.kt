package io.edgepatch.patchkit.heads

import io.edgepatch.patchkit.errors.EdgepatchException
import io.edgepatch.patchkit.golden.Golden
import io.edgepatch.patchkit.json.asList
import io.edgepatch.patchkit.json.asNumber
import io.edgepatch.patchkit.json.asObject
import io.edgepatch.patchkit.json.asStrings
import io.edgepatch.patchkit.model.Patch
import io.edgepatch.patchkit.model.Tensor
import org.junit.jupiter.api.Assertions.assertArrayEquals
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertSame
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.DynamicTest
import org.junit.jupiter.api.DynamicTest.dynamicTest
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.TestFactory

class HeadTest {
    /** numpy's exp and ours differ in the last bit or two. */
    private val near = 2e-6f

    /** A golden patch with other labels and another head. */
    private fun patch(labels: List<String>, decode: Map<String, Any?>): Patch {
        val name = mapOf("detector" to "finder", "segmenter" to "painter")[decode["head"]] ?: "scale_bias"
        return Golden.patch(name).run {
            Patch(
                task, version, backboneId, kinds, sites, labels, input, decode, codec, tensors, ranges, statistics,
                metrics, licence,
            )
        }
    }

    private fun head(patch: Patch): Head {
        val classes = patch.labels.size
        val values = mapOf(
            "head_kernel" to Tensor.of(listOf(1, classes), FloatArray(classes)),
            "head_bias" to Tensor.of(listOf(classes), FloatArray(classes)),
        )
        return Head.of(patch, values, "patch")
    }

    @TestFactory
    fun `outputs are decoded as Python does`(): List<DynamicTest> = Golden.document("decoding").map { (name, value) ->
        dynamicTest(name) {
            val expected = value.asObject()!!
            val contents = Golden.contents("decoding/$name.tensors")
            val patch = patch(contents.document["labels"].asStrings()!!, contents.document["decode"].asObject()!!)
            val (width, height) = Golden.ints(contents.document["picture"])
            compare(expected, head(patch).decode(contents.tensors, width, height), width, height)
        }
    }

    private fun compare(expected: Map<String, Any?>, answer: Answer, width: Int, height: Int) {
        when (answer) {
            is Classification -> {
                assertArrayEquals(Golden.floats(expected["logits"]), answer.logits)
                val probabilities = Golden.floats(expected["probabilities"])
                assertArrayEquals(probabilities, answer.probabilities, near)
                val best = probabilities.indices.maxByOrNull { probabilities[it] }!!
                assertEquals(answer.labels[best], answer.best.label)
            }
            is Detections -> {
                val rows = expected["boxes"].asList()!!.map { it.asObject()!! }
                assertEquals(rows.map { it["class"] }, answer.boxes.map { it.number.toLong() })
                for ((row, box) in rows.zip(answer.boxes)) {
                    assertEquals(answer.labels[box.number], box.label)
                    assertEquals(row["score"].asNumber()!!.toFloat(), box.score, near)
                    val pixels = floatArrayOf(box.x0, box.y0, box.x1, box.y1)
                    assertArrayEquals(Golden.floats(row["xyxy"]), pixels, near * maxOf(width, height))
                }
            }
            is Segmentation -> {
                assertEquals(width to height, answer.width to answer.height)
                assertArrayEquals(Golden.mask(expected["mask"]), answer.mask)
                assertEquals(1.0, answer.shares().sum(), 1e-9)
            }
        }
    }

    @Test
    fun `anchors are laid out once a size`() {
        val anchors = Anchors.fromJson(Golden.patch("finder").decode["anchors"])
        val small = anchors.boxes(listOf(2, 1))
        assertSame(small, anchors.boxes(listOf(2, 1)))
        assertEquals(4 * (2 * 9 + 4), anchors.boxes(listOf(3, 2)).size)
        assertArrayEquals(small, anchors.boxes(listOf(2, 1)))
    }

    @Test
    fun `what is no number is no answer`() {
        val head = head(Golden.patch("scale_bias"))
        for (value in listOf(Float.NaN, Float.POSITIVE_INFINITY)) {
            val outputs = mapOf("logits" to Tensor.of(listOf(1, 3), floatArrayOf(0f, value, 1f)))
            val error = assertThrows(EdgepatchException::class.java) { head.decode(outputs, 1, 1) }
            assertEquals(1 to "task", error.code to error.field)
        }
    }

    @Test
    fun `the most probable come first`() {
        val outputs = mapOf("logits" to Tensor.of(listOf(1, 3), floatArrayOf(0f, 2f, 1f)))
        val answer = head(Golden.patch("scale_bias")).decode(outputs, 1, 1) as Classification
        assertEquals(listOf("class 1", "class 2"), answer.top(2).map { it.label })
        assertEquals(3, answer.top(9).size)
    }
}
