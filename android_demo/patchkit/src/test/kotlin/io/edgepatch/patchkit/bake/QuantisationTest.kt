package io.edgepatch.patchkit.bake

import org.junit.jupiter.api.Assertions.assertArrayEquals
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import kotlin.math.abs
import kotlin.random.Random

/** The arithmetic of int8: negative scales turn signs, a huge bias coarsens its channel, zero is exact. */
class QuantisationTest {
    @Test
    fun `a folded kernel is the kernel times its scale, to a step`() {
        val random = Random(0)
        val kernel = Array(6) { FloatArray(9) { random.nextFloat() * 4 - 2 } } // by channel
        val most = FloatArray(6) { channel -> Quantisation.largest(kernel[channel].maxOf { abs(it) }) }
        val scale = floatArrayOf(1f, -2f, 0.5f, 0f, -1e-3f, 1f)
        val bias = floatArrayOf(0f, 1f, -1f, 3f, 0.1f, 4e3f)
        val found = Quantisation.scaled(most, scale, bias, FloatArray(6) { 1e-4f })
        assertTrue(found.scales[5] > 1.5 * most[5] / 127, "the bias would not fit otherwise")
        for (channel in kernel.indices) {
            val stored = kernel[channel].map { Quantisation.weight(it, most[channel]) }
            val turned = stored.map { Quantisation.turned(it, found.times[channel]) }
            for (weight in turned.indices) {
                val exact = kernel[channel][weight] * scale[channel]
                assertTrue(abs(turned[weight] * found.scales[channel] - exact) <= found.scales[channel] * 1.01)
            }
            val real = found.biases[channel] * found.scales[channel].toDouble() * 1e-4
            assertEquals(bias[channel].toDouble(), real, 1e-4 + 1e-3 * abs(bias[channel]))
            if (channel == 1) assertEquals(stored.map { -it }, turned.map { it.toInt() })
            if (channel == 3) assertTrue(turned.all { it == 0.toByte() })
        }
    }

    @Test
    fun `a range keeps zero exact`() {
        val ranges = floatArrayOf(0f, 6f, -1f, 3f, 0.5f, 2f, -3f, -1f, 0f, 0f)
        val found = Quantisation.activations(ranges)
        for (i in found.scales.indices) {
            val (scale, zero) = found.scales[i] to found.zeroPoints[i]
            assertTrue(scale > 0 && zero in -128..127)
            assertTrue((-128 - zero) * scale <= minOf(ranges[2 * i], 0f) + scale / 2)
            assertTrue((127 - zero) * scale >= maxOf(ranges[2 * i + 1], 0f) - scale / 2)
        }
        assertArrayEquals(intArrayOf(-128, -64, -128, 127), found.zeroPoints.copyOf(4))
    }

    @Test
    fun `halves are rounded to even, biases away from zero`() {
        assertEquals(listOf(0f, 2f, 2f, -0f, -2f), listOf(0.5f, 1.5f, 2.5f, -0.5f, -1.5f).map { Quantisation.round(it) })
        val ones = floatArrayOf(1f, 1f)
        val found = Quantisation.scaled(floatArrayOf(127f, 127f), ones, floatArrayOf(2.5f, -2.5f), ones)
        assertArrayEquals(intArrayOf(3, -3), found.biases)
    }
}
