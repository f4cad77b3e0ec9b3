package io.edgepatch.demo.show

import kotlin.math.roundToInt

/** Colours of classes, the same ones as `edgepatch run --draw` has, and masks in them. */
object Palette {
    private const val GOLDEN = 0.618034
    private const val VEIL = 0x80 // a mask's share of what is seen, of 255

    /** Of a class, 0xffRRGGBB, far from those of its neighbours: hues a golden section apart. */
    fun colour(label: Int): Int = opaque((0.02 + GOLDEN * label) % 1.0, saturation = 0.85, value = 0.9)

    /** Black or white, whichever is read more easily on a colour. */
    fun ink(colour: Int): Int {
        val light = 0.299 * (colour shr 16 and 255) + 0.587 * (colour shr 8 and 255) + 0.114 * (colour and 255)
        return if (light > 150) 0xff000000.toInt() else 0xffffffff.toInt()
    }

    /** A veil over the picture, 0xAARRGGBB a pixel: nothing over class 0, which is the background. */
    fun veil(mask: ByteArray, classes: Int): IntArray {
        val colours = IntArray(classes) { if (it == 0) 0 else colour(it) and 0xffffff or (VEIL shl 24) }
        return IntArray(mask.size) { colours[mask[it].toInt() and 255] }
    }

    private fun opaque(hue: Double, saturation: Double, value: Double): Int {
        fun channel(offset: Int): Int {
            val sector = (offset + hue * 6) % 6
            return (255 * value * (1 - saturation * minOf(sector, 4 - sector, 1.0).coerceAtLeast(0.0))).roundToInt()
        }
        return 0xff000000.toInt() or (channel(5) shl 16) or (channel(3) shl 8) or channel(1)
    }
}
