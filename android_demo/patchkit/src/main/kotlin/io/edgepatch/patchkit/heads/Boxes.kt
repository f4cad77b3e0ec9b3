package io.edgepatch.patchkit.heads

/**
 * Boxes of a Single Shot MultiBox Detector (Liu et al., ECCV 2016): their coding, and what is left when the best ones
 * suppress others. A box is x0, y0, x1, y1, float32, 0..1 of the network's square input; several lie one behind the
 * other in one array. Everything is in float32 and in numpy's order.
 */
internal object Boxes {
    private const val LARGEST_CODING = 4f // of a size: e^4 times the anchor's

    /** The boxes that a detector answers by [codings] (n, 4), of centre and size, at [anchors] (n, 4). */
    fun decode(codings: FloatArray, anchors: FloatArray, variances: List<Double>): FloatArray {
        val factors = FloatArray(4) { variances[it].toFloat() }
        val found = FloatArray(codings.size)
        for (box in codings.indices step 4) for (axis in 0..1) {
            val low = anchors[box + axis]
            val high = anchors[box + axis + 2]
            val size = high - low
            val centre = codings[box + axis] * factors[axis] * size + (low + high) / 2
            val power = (codings[box + axis + 2] * factors[axis + 2]).coerceIn(-LARGEST_CODING, LARGEST_CODING)
            val half = Math.exp(power.toDouble()).toFloat() * size / 2
            found[box + axis] = centre - half
            found[box + axis + 2] = centre + half
        }
        return found
    }

    /** Intersection over union of boxes number [one] and [other]. */
    fun overlap(boxes: FloatArray, one: Int, other: Int): Float {
        val a = 4 * one
        val b = 4 * other
        val width = maxOf(minOf(boxes[a + 2], boxes[b + 2]) - maxOf(boxes[a], boxes[b]), 0f)
        val height = maxOf(minOf(boxes[a + 3], boxes[b + 3]) - maxOf(boxes[a + 1], boxes[b + 1]), 0f)
        val shared = width * height
        return shared / maxOf(area(boxes, a) + area(boxes, b) - shared, 1e-12f)
    }

    /**
     * What a picture shows, by class: the boxes (n, 4) of a score of at least [least], each class suppressed by itself.
     *
     * [scores] are (n, [classes]), without the background, 0..1; [threshold] is the overlap from which on the worse of
     * two of a class goes; [limit] is of all classes together; [candidates] of each class are looked at, the best ones.
     * Returns places among the scores, the best first: box number `place / classes` of class `place % classes`.
     */
    fun choose(
        boxes: FloatArray, scores: FloatArray, classes: Int, least: Float, threshold: Float, limit: Int,
        candidates: Int = 400,
    ): List<Int> {
        val keys = LongArray(boxes.size / 4)
        val kept = IntArray(minOf(limit, candidates)) // numbers of boxes of a class, the best first
        val found = ArrayList<Int>()
        for (label in 0 until classes) {
            // the best first, equals in their order: scores are not negative, so that their bits sort as they do
            var sure = 0
            for (box in keys.indices) {
                val score = scores[box * classes + label]
                if (score >= least) keys[sure++] = (-score.toRawBits().toLong() shl 32) or box.toLong()
            }
            keys.sort(0, sure)
            var count = 0
            for (at in 0 until minOf(sure, candidates)) {
                val box = keys[at].toInt()
                if ((0 until count).any { overlap(boxes, kept[it], box) > threshold }) continue
                found += box * classes + label
                kept[count++] = box
                if (count == kept.size) break
            }
        }
        return found.sortedByDescending { scores[it] }.take(limit) // equals stay in their order
    }

    private fun area(boxes: FloatArray, at: Int): Float =
        maxOf(boxes[at + 2] - boxes[at], 0f) * maxOf(boxes[at + 3] - boxes[at + 1], 0f)
}
