package io.edgepatch.demo.camera

import java.nio.ByteBuffer

/** One plane of a YUV_420_888 frame: sample (x, y) is at y x [rowStride] + x x [pixelStride]. */
class Plane(val bytes: ByteBuffer, val rowStride: Int, val pixelStride: Int)

/** From a camera's frames to pixels. */
object Yuv {
    /**
     * Opaque pixels, 0xffRRGGBB, of a frame whose two colour planes have half its sides: full-range BT.601 (JFIF), which
     * Android's cameras give.
     */
    fun toArgb(width: Int, height: Int, y: Plane, u: Plane, v: Plane): IntArray {
        val found = IntArray(width * height)
        for (row in 0 until height) {
            val light = row * y.rowStride
            val uRow = (row / 2) * u.rowStride
            val vRow = (row / 2) * v.rowStride
            for (column in 0 until width) {
                val luma = (y.bytes.get(light + column * y.pixelStride).toInt() and 255) shl BITS
                val blue = (u.bytes.get(uRow + (column / 2) * u.pixelStride).toInt() and 255) - 128
                val red = (v.bytes.get(vRow + (column / 2) * v.pixelStride).toInt() and 255) - 128
                found[row * width + column] = 0xff000000.toInt() or
                    (clipped(luma + V_RED * red) shl 16) or
                    (clipped(luma - U_GREEN * blue - V_GREEN * red) shl 8) or
                    clipped(luma + U_BLUE * blue)
            }
        }
        return found
    }

    /** How far a frame has to be turned clockwise to stand upright: 0, 90, 180 or 270 degrees. */
    fun turn(sensorDegrees: Int, displayDegrees: Int, front: Boolean): Int =
        Math.floorMod(if (front) sensorDegrees + displayDegrees else sensorDegrees - displayDegrees, 360)

    /** EXIF's orientation of a picture that has to be turned clockwise by that much. */
    fun orientation(turn: Int): Int = when (turn) {
        90 -> 6
        180 -> 3
        270 -> 8
        else -> 1
    }

    private fun clipped(value: Int): Int = ((value + HALF) shr BITS).coerceIn(0, 255)

    private const val BITS = 16
    private const val HALF = 1 shl (BITS - 1)
    private const val V_RED = 91881 // 1.402
    private const val U_GREEN = 22554 // 0.344136
    private const val V_GREEN = 46802 // 0.714136
    private const val U_BLUE = 116130 // 1.772
}
