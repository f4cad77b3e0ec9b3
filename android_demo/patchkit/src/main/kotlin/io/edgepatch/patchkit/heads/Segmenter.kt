package io.edgepatch.patchkit.heads

import io.edgepatch.patchkit.errors.BadFileException
import io.edgepatch.patchkit.model.HeadNetwork
import io.edgepatch.patchkit.model.Patch
import io.edgepatch.patchkit.model.Tensor
import io.edgepatch.patchkit.picture.Resize
import io.edgepatch.patchkit.picture.largestAfterGrowing

/**
 * A segmenter's answer: a class for each pixel of the picture, of maps that are enlarged bilinearly before the largest
 * is taken. Throws [BadFileException]: labels and head do not agree.
 */
internal class Segmenter(private val patch: Patch, file: String?) : Head {
    init {
        val answers = try {
            HeadNetwork.fromJson(patch.decode["network"]).answers
        } catch (error: IllegalArgumentException) {
            throw BadFileException("has a broken head: ${error.message}", file = file, field = "decode.network")
        }
        if (answers != listOf(patch.labels.size) || patch.labels.size !in 2..255) {
            throw BadFileException(
                "has labels for another head", file = file, field = "labels",
                got = "${patch.labels.size} labels, outputs of $answers channels",
                expected = "one output with a channel for each label, 2 to 255 of them",
            )
        }
        if (patch.input.resize != Resize.STRETCH) {
            throw BadFileException(
                "has a segmenter that cannot be brought back to the picture", file = file, field = "input.resize",
                got = patch.input.resize.word, expected = "stretch",
            )
        }
    }

    override fun decode(outputs: Map<String, Tensor>, width: Int, height: Int): Segmentation {
        val output = outputs.values.single()
        val logits = output.floats()
        requireFinite(logits, patch.task)
        val mask = largestAfterGrowing(logits, output.shape[1], patch.labels.size, width, height)
        return Segmentation(patch.task, patch.labels, width, height, mask)
    }
}
