package io.edgepatch.patchkit.heads

/** What a task says of a picture. */
sealed class Answer {
    /** Whose patch answered. */
    abstract val task: String

    /** All class names, by index. */
    abstract val labels: List<String>
}

/** A class and how sure the task is of it, 0..1. */
data class Scored(val label: String, val score: Float)

/**
 * What a classifier says.
 *
 * @property probabilities (classes,), summing to 1.
 * @property logits (classes,), before the softmax.
 */
class Classification(
    override val task: String, override val labels: List<String>, val probabilities: FloatArray, val logits: FloatArray,
) : Answer() {
    /** The most probable class, the first of equals. */
    val best: Scored get() = top(1)[0]

    /** The [count] most probable classes, best first. */
    fun top(count: Int): List<Scored> = logits.indices.sortedByDescending { logits[it] }.take(count)
        .map { Scored(labels[it], probabilities[it]) }
}

/** A box in pixels of the picture, its label's number and name, and its score, 0..1. */
data class Box(
    val x0: Float, val y0: Float, val x1: Float, val y1: Float, val number: Int, val label: String, val score: Float,
)

/** What a detector finds, the surest first. */
class Detections(override val task: String, override val labels: List<String>, val boxes: List<Box>) : Answer()

/**
 * What a segmenter says.
 *
 * @property width of the picture in pixels, as [height].
 * @property mask uint8 (height, width), the class of each pixel.
 */
class Segmentation(
    override val task: String, override val labels: List<String>, val width: Int, val height: Int, val mask: ByteArray,
) : Answer() {
    /** The share of the picture that each class has, by index. */
    fun shares(): DoubleArray {
        val counts = IntArray(labels.size)
        for (value in mask) counts[value.toInt() and 255]++
        return DoubleArray(counts.size) { counts[it].toDouble() / mask.size }
    }
}
