package io.edgepatch.patchkit.model

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test

class HalfTest {
    /** What 16 bits spell, written down as the standard has it. */
    private fun spelt(bits: Int): Double {
        val sign = if (bits ushr 15 == 1) -1.0 else 1.0
        val exponent = bits ushr 10 and 31
        val fraction = (bits and 1023) / 1024.0
        val power = Math.pow(2.0, maxOf(exponent, 1) - 15.0)
        return sign * power * if (exponent == 0) fraction else 1 + fraction
    }

    @Test
    fun `every half is the number it spells and comes back`() {
        for (bits in 0..0xffff) {
            val value = Half.toFloat(bits.toShort())
            if (bits ushr 10 and 31 == 31) {
                assertTrue(if (bits and 1023 == 0) value.isInfinite() else value.isNaN())
                assertEquals(bits ushr 15 == 1, value.toRawBits() < 0)
            } else {
                assertEquals(spelt(bits), value.toDouble())
                assertEquals(bits.toShort(), Half.fromFloat(value))
            }
        }
    }

    @Test
    fun `what lies between two halves becomes the nearer one, or the even one half-way`() {
        for (bits in 0 until 0x7bff) {
            val low = Half.toFloat(bits.toShort())
            val high = Half.toFloat((bits + 1).toShort())
            val middle = ((low.toDouble() + high) / 2).toFloat() // exact: float32 has a bit to spare
            val even = if (bits % 2 == 0) bits else bits + 1
            val around = listOf(middle to even, Math.nextDown(middle) to bits, Math.nextUp(middle) to bits + 1)
            for ((value, expected) in around) {
                assertEquals(expected, Half.fromFloat(value).toInt(), "$value")
                assertEquals(expected or 0x8000, Half.fromFloat(-value).toInt() and 0xffff, "-$value")
            }
        }
    }

    @Test
    fun `what is beyond the largest half is infinite`() {
        assertEquals(0x7bff, Half.fromFloat(65519.996f).toInt())
        for (value in listOf(65520f, 1e30f, Float.POSITIVE_INFINITY)) {
            assertEquals(0x7c00, Half.fromFloat(value).toInt())
        }
        assertTrue(Half.toFloat(Half.fromFloat(Float.NaN)).isNaN())
    }
}
