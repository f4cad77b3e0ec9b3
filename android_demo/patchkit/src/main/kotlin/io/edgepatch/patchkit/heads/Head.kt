package io.edgepatch.patchkit.heads

import io.edgepatch.patchkit.errors.BadFileException
import io.edgepatch.patchkit.errors.EdgepatchException
import io.edgepatch.patchkit.errors.begin
import io.edgepatch.patchkit.errors.said
import io.edgepatch.patchkit.model.Patch
import io.edgepatch.patchkit.model.Tensor

/** From a graph's outputs to answers, for one patch; it was held against the patch when it was made. */
interface Head {
    /**
     * The answer in the outputs, which are F32, each (1, ...): of a classifier the graph's `logits`, of others those of
     * the head's network in its order.
     *
     * [width] and [height] are the picture's in pixels. Throws [EdgepatchException]: the outputs are not finite.
     */
    fun decode(outputs: Map<String, Tensor>, width: Int, height: Int): Answer

    companion object {
        private val KINDS = mapOf<String, (Patch, Map<String, Tensor>, String?) -> Head>(
            "classifier" to ::Classifier,
            "detector" to { patch, _, file -> Detector(patch, file) },
            "segmenter" to { patch, _, file -> Segmenter(patch, file) },
        )

        /**
         * The head of a patch, whose [values] are decoded.
         *
         * Throws [BadFileException]: the head is unknown here, or the patch is not sound for it.
         */
        fun of(patch: Patch, values: Map<String, Tensor>, file: String?): Head {
            val name = patch.decode["head"]
            val make = KINDS[name] ?: throw BadFileException(
                "has a head that this version does not know", file = file, field = "decode.head",
                got = begin(said(name), 40), expected = KINDS.keys.joinToString(" or "),
                mend = "A newer version of this app may know it.",
            )
            return make(patch, values, file)
        }
    }
}

/** Refuses an answer that is none. */
internal fun requireFinite(values: FloatArray, task: String) {
    if (values.any { it.isNaN() || it.isInfinite() }) {
        throw EdgepatchException(
            "the task answers NaN or infinity: its patch is of no use", field = "task", got = task,
        )
    }
}

/** Makes of values powers of e, less the largest, divided by their sum: float32, in place. */
internal fun softmax(values: FloatArray, begin: Int = 0, end: Int = values.size) {
    var most = Float.NEGATIVE_INFINITY
    for (i in begin until end) most = maxOf(most, values[i])
    var sum = 0f
    for (i in begin until end) {
        values[i] = Math.exp((values[i] - most).toDouble()).toFloat()
        sum += values[i]
    }
    for (i in begin until end) values[i] /= sum
}
