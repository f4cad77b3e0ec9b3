package io.edgepatch.patchkit.bake

/**
 * Affine int8 arithmetic, as TFLite and ONNX have it: real = scale * (stored - zero point).
 *
 * Weights are symmetric, one scale a channel; activations have one scale and zero point a tensor, from their range:
 * Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", 2018,
 * section 2. Each step is in the type that Python's `edgepatch.quantisation` has it in, for the bytes are to be the same.
 */
internal object Quantisation {
    /** Stored; half of what an int32 holds, so that sums on top of it do not overflow. */
    private const val LARGEST_BIAS = 1 shl 30

    /** Magnitude of a channel that is not all zeros; a 127th of it is an ordinary float32. */
    private const val SMALLEST_LARGEST = 1e-36f

    /** Between the scales of two activations of a network. */
    private const val LARGEST_RATIO = 65536f

    /** The product of two is still an ordinary float32. */
    const val SMALLEST_SCALE = 1e-12f

    /** Scales and zero points of activations. */
    class Activations(val scales: FloatArray, val zeroPoints: IntArray)

    /** Of tensors with values in [ranges], the smallest and the largest of each; zero is always exact. */
    fun activations(ranges: FloatArray): Activations {
        val count = ranges.size / 2
        val least = FloatArray(count) { Math.min(ranges[2 * it], 0f) }
        val scales = FloatArray(count) { (Math.max(ranges[2 * it + 1], 0f) - least[it]) / 255f }
        // a value that never stirs would have no scale, and sums abort in TFLite where scales lie a million times apart
        val smallest = Math.max(scales.fold(0f, Math::max) / LARGEST_RATIO, SMALLEST_SCALE)
        for (i in scales.indices) scales[i] = Math.max(scales[i], smallest)
        val zeros = IntArray(count) { round(-128f - least[it] / scales[it]).toInt().coerceIn(-128, 127) }
        return Activations(scales, zeros)
    }

    /** The nearest whole number, halves to even. */
    fun round(value: Float): Float = Math.rint(value.toDouble()).toFloat()

    /** A magnitude as a channel's largest one; 1 where the channel is all zeros. */
    fun largest(magnitude: Float): Float = if (magnitude > SMALLEST_LARGEST) magnitude else 1f

    /** A weight in -127..127 where 127 stands for a channel's [largest] magnitude. */
    fun weight(value: Float, largest: Float): Byte = round(value / (largest / 127f)).toInt().toByte()

    /**
     * What becomes of int8 kernels behind which a scale and a bias stand, when these are folded in.
     *
     * @property scales of the kernels.
     * @property biases in int32.
     * @property times how many times coarser than the stored one each kernel is to be rounded: below 0 where its signs
     *   turn, 0 where it vanishes.
     */
    class Scaled(val scales: FloatArray, val biases: IntArray, val times: DoubleArray)

    /**
     * Rounding commutes with the scale: quantising kernel * scale gives the same int8 values, their sign turned where
     * the scale is negative. So the scale goes into the channel's quantisation scale, and the bytes stay the backbone's.
     * Only where a bias would not fit into int32 does a channel get a coarser scale; see [turned] for its kernel.
     *
     * All arrays are of one value a channel.
     *
     * @param most the largest magnitude of the kernel that was stored.
     * @param inputScale of the tensor that the channel's convolution reads.
     */
    fun scaled(most: FloatArray, scale: FloatArray, bias: FloatArray, inputScale: FloatArray): Scaled {
        val scales = FloatArray(most.size)
        val biases = IntArray(most.size)
        val times = DoubleArray(most.size)
        for (i in most.indices) {
            val found = Math.max(most[i] * Math.abs(scale[i]) / 127f, SMALLEST_SCALE)
            val coarser = Math.max(Math.abs(bias[i]) / (inputScale[i].toDouble() * found * LARGEST_BIAS), 1.0)
            scales[i] = (found * coarser).toFloat()
            // by the reciprocal, in float32, halves away from zero: to the last bit what TensorFlow's quantiser does
            val steps = bias[i] * (1f / (inputScale[i] * scales[i]))
            biases[i] = (steps + Math.copySign(0.5f, steps)).toInt()
            times[i] = Math.signum(scale[i]) * coarser
        }
        return Scaled(scales, biases, times)
    }

    /** A stored weight as [scaled] wants its channel's. */
    fun turned(stored: Byte, times: Double): Byte {
        if (times == 1.0) return stored
        val weight = stored * Math.signum(times).toInt()
        val coarser = Math.abs(times)
        return (if (coarser > 1) Math.rint(weight / coarser).toInt() else weight).toByte()
    }
}
