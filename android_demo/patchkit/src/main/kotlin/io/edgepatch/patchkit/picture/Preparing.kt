package io.edgepatch.patchkit.picture

import io.edgepatch.patchkit.model.DType
import io.edgepatch.patchkit.model.Tensor
import java.nio.ByteBuffer

/** Share of the short side that ImageNet's evaluation keeps. */
private const val CROP_SHARE = 224.0 / 256

private const val HALF = 1 shl (Resampling.PRECISION - 1)

/** Network input, F32 (1, size, size, 3) in a direct buffer, of a picture. */
fun Preprocessing.prepare(picture: Picture): Tensor {
    val made = Tensor(DType.F32, listOf(1, size, size, 3), Tensor.direct(12L * size * size))
    prepare(picture, made.data)
    return made
}

/** As [prepare], into a little-endian buffer of size x size x 3 float32 from its start on. */
fun Preprocessing.prepare(picture: Picture, into: ByteBuffer) {
    val pixels = fit(picture, size, resize)
    val scales = FloatArray(3) { scale[it].toFloat() }
    val offsets = FloatArray(3) { offset[it].toFloat() }
    var at = 0
    for (pixel in pixels) for (channel in 0..2) {
        into.putFloat(at, (pixel ushr (16 - 8 * channel) and 255).toFloat() * scales[channel] + offsets[channel])
        at += 4
    }
}

/**
 * A picture as size x size pixels 0xRRGGBB: bilinear with antialiasing, to the byte what Python makes of it by Pillow.
 *
 * Crops are of whole pixels: half a pixel's offset blurs, and costs 1.5 points on ImageNet.
 */
fun fit(picture: Picture, size: Int, resize: Resize): IntArray {
    var (left, top) = 0 to 0
    var (right, bottom) = picture.width to picture.height
    if (resize == Resize.CROP) {
        val side = Math.rint(minOf(picture.width, picture.height) * CROP_SHARE).toInt() // halves to even
        left = (picture.width - side) / 2
        top = (picture.height - side) / 2
        right = left + side
        bottom = top + side
    }
    val across = Resampling.of(picture.width, left, right, size)
    val down = Resampling.of(picture.height, top, bottom, size)
    return if (heightFirst(picture.width, picture.height, size, size)) {
        val columns = across.reach
        val lower = shortened(picture.pixels, picture.width, columns, down, 0)
        narrowed(lower, columns.count(), 0 until size, across, columns.first)
    } else {
        val rows = down.reach
        val narrower = narrowed(picture.pixels, picture.width, rows, across, 0)
        shortened(narrower, size, 0 until size, down, rows.first)
    }
}

/** Some rows of a picture of a width, its first column number [before], brought to another width. */
private fun narrowed(pixels: IntArray, width: Int, rows: IntRange, across: Resampling, before: Int): IntArray {
    val weights = across.fixed()
    val outputs = across.counts.size
    val found = IntArray(rows.count() * outputs)
    var at = 0
    for (y in rows) for (x in 0 until outputs) {
        var red = HALF
        var green = HALF
        var blue = HALF
        val from = y * width + across.starts[x] - before
        val row = x * across.width
        for (i in 0 until across.counts[x]) {
            val pixel = pixels[from + i]
            val weight = weights[row + i]
            red += (pixel ushr 16 and 255) * weight
            green += (pixel ushr 8 and 255) * weight
            blue += (pixel and 255) * weight
        }
        found[at++] = pixel(red, green, blue)
    }
    return found
}

/** Some columns of a picture of a width, its first row number [before], brought to another height. */
private fun shortened(pixels: IntArray, width: Int, columns: IntRange, down: Resampling, before: Int): IntArray {
    val weights = down.fixed()
    val count = columns.count()
    val outputs = down.counts.size
    val found = IntArray(outputs * count)
    val (red, green, blue) = List(3) { IntArray(count) }
    for (y in 0 until outputs) {
        for (sums in arrayOf(red, green, blue)) sums.fill(HALF)
        for (i in 0 until down.counts[y]) {
            val weight = weights[y * down.width + i]
            val from = (down.starts[y] - before + i) * width + columns.first
            for (x in 0 until count) {
                val pixel = pixels[from + x]
                red[x] += (pixel ushr 16 and 255) * weight
                green[x] += (pixel ushr 8 and 255) * weight
                blue[x] += (pixel and 255) * weight
            }
        }
        for (x in 0 until count) found[y * count + x] = pixel(red[x], green[x], blue[x])
    }
    return found
}

private fun pixel(red: Int, green: Int, blue: Int): Int =
    (clipped(red) shl 16) or (clipped(green) shl 8) or clipped(blue)

private fun clipped(sum: Int): Int = (sum shr Resampling.PRECISION).coerceIn(0, 255)
