package io.edgepatch.demo

import io.edgepatch.demo.picture.Shrink
import io.edgepatch.demo.show.Fit
import io.edgepatch.demo.show.Frame
import io.edgepatch.demo.show.Palette
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertNotNull
import org.junit.jupiter.api.Assertions.assertNull
import org.junit.jupiter.api.Test

class GeometryTest {
    @Test
    fun `a picture lies in the middle in its own proportions`() {
        assertEquals(Frame(0f, 50f, 200f, 150f), fit(100, 50, 200, 200).frame)
        assertEquals(Frame(75f, 0f, 125f, 100f), fit(200, 400, 200, 100).frame)
        assertNull(Fit.of(0, 10, 10, 10))
        assertNull(Fit.of(10, 10, 10, 0))
    }

    @Test
    fun `boxes are brought to the screen and cut off at the picture's edge`() {
        val fit = fit(100, 50, 200, 200)
        assertEquals(Frame(20f, 70f, 100f, 90f), fit.place(10f, 10f, 50f, 20f))
        assertEquals(Frame(0f, 50f, 200f, 150f), fit.place(-5f, -5f, 500f, 500f))
    }

    @Test
    fun `a label stands on its box, inside where there is no room above, and never leaves the picture`() {
        val fit = fit(100, 100, 100, 100)
        assertEquals(Frame(10f, 20f, 50f, 30f), fit.tag(Frame(10f, 30f, 60f, 60f), 40f, 10f))
        assertEquals(Frame(10f, 5f, 50f, 15f), fit.tag(Frame(10f, 5f, 60f, 60f), 40f, 10f))
        assertEquals(Frame(60f, 20f, 100f, 30f), fit.tag(Frame(90f, 30f, 99f, 60f), 40f, 10f))
    }

    @Test
    fun `classes have the colours that the command line draws them in`() {
        // edgepatch.drawing.colour(0), (1), (2), (79)
        val expected = listOf(0xe63a22, 0x2244e6, 0x7de622, 0xe622d8).map { it or (0xff shl 24) }
        assertEquals(expected.map(Integer::toHexString), listOf(0, 1, 2, 79).map { Integer.toHexString(Palette.colour(it)) })
    }

    @Test
    fun `a veil leaves the background alone`() {
        val veil = Palette.veil(byteArrayOf(0, 1, 2, 1), classes = 3)
        assertEquals(listOf(0, 0x80, 0x80, 0x80), veil.map { it ushr 24 })
        assertEquals(Palette.colour(1) and 0xffffff, veil[1] and 0xffffff)
    }

    @Test
    fun `pictures are halved until they are small enough`() {
        assertEquals(listOf(1, 1, 2, 4), listOf(800, 1600, 1601, 6400).map { Shrink.of(it, 100, 1600) })
    }

    private fun fit(width: Int, height: Int, viewWidth: Int, viewHeight: Int): Fit {
        val found = Fit.of(width, height, viewWidth, viewHeight)
        assertNotNull(found)
        return found!!
    }
}
