package io.edgepatch.patchkit.heads

import io.edgepatch.patchkit.errors.BadFileException
import io.edgepatch.patchkit.errors.begin
import io.edgepatch.patchkit.errors.said
import io.edgepatch.patchkit.errors.tuple
import io.edgepatch.patchkit.model.Patch
import io.edgepatch.patchkit.model.Statistics
import io.edgepatch.patchkit.model.Tensor

/** A classifier's answer: probabilities of its labels. Throws [BadFileException]: labels and head do not agree. */
internal class Classifier(private val patch: Patch, values: Map<String, Tensor>, file: String?) : Head {
    init {
        val classes = patch.labels.size
        for ((name, rank) in listOf("head_kernel" to 2, "head_bias" to 1)) {
            val shape = values[name]?.shape.orEmpty()
            if (shape.size != rank || shape.last() != classes || classes == 0) {
                throw BadFileException(
                    "has labels for another head", file = file, field = name, got = tuple(shape),
                    expected = "$classes classes, one or more",
                )
            }
        }
        val features = values.getValue("head_kernel").shape[0]
        val known = patch.statistics?.centre?.count
        if (known != null && known != features) {
            throw BadFileException(
                "has statistics of other features", file = file, field = Statistics.CENTRE, got = known,
                expected = features,
            )
        }
        val activation = patch.decode["activation"]
        if (activation != "softmax") {
            throw BadFileException(
                "has a head that this version does not know", file = file, field = "decode.activation",
                got = begin(said(activation), 40), expected = "softmax",
            )
        }
    }

    override fun decode(outputs: Map<String, Tensor>, width: Int, height: Int): Classification {
        val logits = outputs.getValue("logits").floats()
        requireFinite(logits, patch.task)
        return Classification(patch.task, patch.labels, logits.copyOf().also { softmax(it) }, logits)
    }
}
