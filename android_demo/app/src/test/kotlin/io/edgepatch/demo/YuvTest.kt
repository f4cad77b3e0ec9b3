package io.edgepatch.demo

import io.edgepatch.demo.camera.Plane
import io.edgepatch.demo.camera.Yuv
import java.nio.ByteBuffer
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Test

class YuvTest {
    @Test
    fun `full-range BT_601 gives the primaries`() {
        val colours = mapOf(
            Triple(0, 128, 128) to 0x000000, Triple(255, 128, 128) to 0xffffff, Triple(76, 85, 255) to 0xfe0000,
            Triple(150, 44, 21) to 0x00ff01, Triple(29, 255, 107) to 0x0000fe, Triple(128, 128, 128) to 0x808080,
        )
        for ((yuv, rgb) in colours) {
            val (y, u, v) = yuv
            val found = Yuv.toArgb(2, 2, plane(ByteArray(4) { y.toByte() }, 2), plane(byteArrayOf(u.toByte()), 1), plane(byteArrayOf(v.toByte()), 1))
            assertEquals(List(4) { Integer.toHexString(rgb or (0xff shl 24)) }, found.map(Integer::toHexString))
        }
    }

    @Test
    fun `padding of rows and interleaved colours are stepped over`() {
        val y = plane(byteArrayOf(10, 20, 30, 40, 99, 99, 50, 60, 70, 80), rowStride = 6) // 4 wide, 2 of padding
        val colours = byteArrayOf(-128, 99, -128, 99) // two of 128, every other byte another plane's
        val found = Yuv.toArgb(4, 2, y, Plane(ByteBuffer.wrap(colours), 4, 2), Plane(ByteBuffer.wrap(colours), 4, 2))
        assertEquals(listOf(10, 20, 30, 40, 50, 60, 70, 80), found.map { it and 255 })
    }

    @Test
    fun `frames are turned upright whichever way the phone is held`() {
        // the usual back camera is mounted at 90 degrees, the usual front camera at 270
        assertEquals(listOf(90, 0, 270, 180), listOf(0, 90, 180, 270).map { Yuv.turn(90, it, front = false) })
        assertEquals(listOf(270, 0, 90, 180), listOf(0, 90, 180, 270).map { Yuv.turn(270, it, front = true) })
        assertEquals(listOf(1, 6, 3, 8), listOf(0, 90, 180, 270).map(Yuv::orientation))
    }

    private fun plane(bytes: ByteArray, rowStride: Int) = Plane(ByteBuffer.wrap(bytes), rowStride, 1)
}
