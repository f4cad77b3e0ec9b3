package io.edgepatch.patchkit.heads

import io.edgepatch.patchkit.errors.BadFileException
import io.edgepatch.patchkit.errors.begin
import io.edgepatch.patchkit.errors.said
import io.edgepatch.patchkit.json.Json
import io.edgepatch.patchkit.json.asNumber
import io.edgepatch.patchkit.model.HeadNetwork
import io.edgepatch.patchkit.model.Patch
import io.edgepatch.patchkit.model.Tensor
import io.edgepatch.patchkit.picture.Resize

/**
 * A detector's answer: boxes in pixels of the picture, each with a label and a score. Throws [BadFileException]:
 * labels, anchors and head do not agree.
 */
internal class Detector(private val patch: Patch, private val file: String?) : Head {
    private val anchors: Anchors
    private val least: Float
    private val threshold: Float
    private val limit: Int
    private val ofEach: Boolean // scores of each class by itself, not of all together

    init {
        val network: HeadNetwork
        try {
            anchors = Anchors.fromJson(patch.decode["anchors"])
            network = HeadNetwork.fromJson(patch.decode["network"])
        } catch (error: IllegalArgumentException) {
            throw bad("has a broken detector", "anchors", error.message, "as docs/format.md says")
        }
        least = number("score", 0.0..1.0, "0.0 to 1.0").toFloat()
        threshold = number("overlap", 0.0..1.0, "0.0 to 1.0").toFloat()
        limit = number("limit", 1.0..1000.0, "1 to 1000").toInt()
        val outputs = network.outputs
        if (outputs.size != 2 * anchors.shapes.size) {
            throw bad("has anchors for other maps", "anchors", anchors.shapes.size, "${outputs.size / 2}${if (outputs.size % 2 == 0) "" else ".5"} maps")
        }
        val activation = patch.decode["activation"]
        if (activation !in ACTIVATIONS) {
            throw bad("has scores that this version does not know", "activation", activation, ACTIVATIONS.joinToString(" or "))
        }
        ofEach = activation == "sigmoid"
        if (patch.input.resize != Resize.STRETCH) {
            val problem = "has a detector that cannot be brought back to the picture"
            throw bad(problem, "input", patch.input.resize.word, "stretch")
        }
        if (patch.labels.isEmpty()) throw bad("has no labels", "labels", 0, "one or more")
        anchors.counts.forEachIndexed { map, count ->
            val got = network.answers.subList(2 * map, 2 * map + 2)
            val expected = listOf(count * (1 + patch.labels.size), count * 4)
            if (got != expected) {
                throw bad("has labels or anchors for another head", "network.${outputs[2 * map]}", got, expected)
            }
        }
    }

    override fun decode(outputs: Map<String, Tensor>, width: Int, height: Int): Detections {
        val (boxes, scores) = raw(outputs.values.toList())
        requireFinite(scores, patch.task)
        requireFinite(boxes, patch.task)
        for (i in boxes.indices) boxes[i] = boxes[i].coerceIn(0f, 1f)
        val classes = patch.labels.size
        val found = Boxes.choose(boxes, scores, classes, least, threshold, limit).map { place ->
            val at = place / classes * 4
            val label = place % classes
            Box(
                boxes[at] * width, boxes[at + 1] * height, boxes[at + 2] * width, boxes[at + 3] * height,
                label, patch.labels[label], scores[place],
            )
        }
        return Detections(patch.task, patch.labels, found)
    }

    /**
     * Boxes (anchors, 4), 0..1 of the network's input, and scores (anchors, classes), of one picture's outputs: for
     * each map class scores (1, side, side, anchors x (1 + classes)), the background first, before the softmax, and
     * codings (1, side, side, anchors x 4).
     */
    private fun raw(outputs: List<Tensor>): Pair<FloatArray, FloatArray> {
        val logits = joined(outputs.filterIndexed { at, _ -> at % 2 == 0 })
        val codings = joined(outputs.filterIndexed { at, _ -> at % 2 == 1 })
        val width = 1 + patch.labels.size
        val scores = FloatArray(logits.size / width * (width - 1))
        for (row in 0 until logits.size / width) {
            if (!ofEach) softmax(logits, row * width, (row + 1) * width)
            for (label in 1 until width) {
                val value = logits[row * width + label]
                scores[row * (width - 1) + label - 1] = if (ofEach) sigmoid(value) else value
            }
        }
        val sides = outputs.filterIndexed { at, _ -> at % 2 == 0 }.map { it.shape[1] }
        return Boxes.decode(codings, anchors.boxes(sides), anchors.variances) to scores
    }

    private fun joined(tensors: List<Tensor>): FloatArray {
        val found = FloatArray(tensors.sumOf { it.count })
        var at = 0
        for (tensor in tensors) {
            tensor.bytes().asFloatBuffer().get(found, at, tensor.count)
            at += tensor.count
        }
        return found
    }

    private fun number(name: String, range: ClosedFloatingPointRange<Double>, words: String): Double {
        val value = patch.decode[name]
        val number = value.asNumber()
        if (number == null || number !in range || (name == "limit" && Json.typeName(value) != "int")) {
            throw bad("has a broken detector", name, value, words)
        }
        return number
    }

    private fun bad(problem: String, field: String, got: Any?, expected: Any?) = BadFileException(
        problem, file = file, field = "decode.$field", got = begin(said(got), 60), expected = expected,
    )

    private companion object {
        val ACTIVATIONS = listOf("softmax", "sigmoid") // over a box's classes together, or of each by itself

        fun sigmoid(value: Float): Float = 1f / (1f + Math.exp(-value.coerceIn(-80f, 80f).toDouble()).toFloat())
    }
}
