package io.edgepatch.patchkit.model

/** IEEE 754 binary16, as numpy converts it. */
object Half {
    /** The float32 that 16 bits spell, exactly. */
    fun toFloat(bits: Short): Float {
        val word = bits.toInt() and 0xffff
        val sign = (word and 0x8000) shl 16
        val exponent = (word ushr 10) and 0x1f
        val fraction = word and 0x3ff
        return when (exponent) {
            0 -> {
                val magnitude = fraction * SUBNORMAL
                Float.fromBits(magnitude.toRawBits() or sign)
            }
            0x1f -> Float.fromBits(sign or 0x7f800000 or (fraction shl 13))
            else -> Float.fromBits(sign or ((exponent + 112) shl 23) or (fraction shl 13))
        }
    }

    /** The nearest 16 bits, halves to even; beyond the largest half infinity. */
    fun fromFloat(value: Float): Short {
        val word = value.toRawBits()
        val sign = (word ushr 16) and 0x8000
        val magnitude = word and 0x7fffffff
        val bits = when {
            magnitude > 0x7f800000 -> 0x7e00 or ((magnitude ushr 13) and 0x3ff)
            magnitude >= 0x477ff000 -> 0x7c00 // 65520 and more
            magnitude < 0x38800000 -> { // below the smallest normal half: a multiple of 2^-24, rounded by the addition
                val shifted = Float.fromBits(magnitude) + 0.5f
                shifted.toRawBits() - 0.5f.toRawBits()
            }
            else -> (magnitude - 0x38000000 + 0xfff + ((magnitude ushr 13) and 1)) ushr 13
        }
        return (sign or bits).toShort()
    }

    private const val SUBNORMAL = 5.9604645e-8f // 2^-24
}
