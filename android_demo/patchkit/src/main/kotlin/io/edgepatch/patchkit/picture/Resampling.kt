package io.edgepatch.patchkit.picture

/**
 * Bilinear resampling with antialiasing along one axis, by Pillow's arithmetic to the bit (`Resample.c`): output i is
 * the sum over j below `counts[i]` of `weights[i * width + j]` times input `starts[i] + j`.
 *
 * @property starts the first input of each output.
 * @property counts how many inputs each output reads.
 * @property weights float64, in rows of [width].
 */
internal class Resampling private constructor(
    val starts: IntArray, val counts: IntArray, val weights: DoubleArray, val width: Int,
) {
    /** The inputs that are read at all. */
    val reach: IntRange get() = starts[0] until starts.last() + counts.last()

    /** The weights in fixed point with [PRECISION] bits behind the point, as Pillow has them for bytes. */
    fun fixed(): IntArray = IntArray(weights.size) { (0.5 + weights[it] * (1 shl PRECISION)).toInt() }

    companion object {
        /** Of an int32, less 8 for the value and 2 for headroom. */
        const val PRECISION = 22

        /** From [begin] to [end] of [inputs] values to [outputs]. */
        fun of(inputs: Int, begin: Int, end: Int, outputs: Int): Resampling {
            val scale = (end - begin).toFloat().toDouble() / outputs
            val support = maxOf(scale, 1.0) // of a triangle, whose half width is one
            val width = Math.ceil(support).toInt() * 2 + 1
            val starts = IntArray(outputs)
            val counts = IntArray(outputs)
            val weights = DoubleArray(outputs * width)
            for (at in 0 until outputs) {
                val centre = begin + (at + 0.5) * scale
                val start = maxOf((centre - support + 0.5).toInt(), 0)
                val count = minOf((centre + support + 0.5).toInt(), inputs) - start
                var sum = 0.0
                for (i in 0 until count) {
                    val distance = Math.abs((i + start - centre + 0.5) * (1.0 / support))
                    val weight = if (distance < 1.0) 1.0 - distance else 0.0
                    weights[at * width + i] = weight
                    sum += weight
                }
                if (sum != 0.0) for (i in 0 until count) weights[at * width + i] /= sum
                starts[at] = start
                counts[at] = count
            }
            return Resampling(starts, counts, weights, width)
        }
    }
}

/**
 * Whether a picture's height is brought to its size before its width, as Pillow does from 13 on where this takes less
 * time; each is rounded, so that their order counts.
 */
internal fun heightFirst(width: Int, height: Int, newWidth: Int, newHeight: Int): Boolean =
    height > newHeight && height - newHeight > 2 * (width - newWidth)
