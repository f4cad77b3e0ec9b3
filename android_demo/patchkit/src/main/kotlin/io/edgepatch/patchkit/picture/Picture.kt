package io.edgepatch.patchkit.picture

import io.edgepatch.patchkit.errors.BadFileException
import io.edgepatch.patchkit.errors.UsageException

/**
 * An upright, opaque picture.
 *
 * @property width in pixels, as [height].
 * @property pixels row by row, 0xRRGGBB in the lower 24 bits; what the upper 8 hold does not count.
 */
class Picture(val width: Int, val height: Int, val pixels: IntArray) {
    init {
        if (width < 1 || height < 1 || pixels.size.toLong() != width.toLong() * height) {
            val got = "${pixels.size} pixels of $width x $height"
            throw UsageException("is not a picture", got = got, expected = "all of them")
        }
    }

    companion object {
        /** A decompression bomb has more pixels; the largest phone cameras stay below. */
        const val MAX_PIXELS = 100_000_000L

        /**
         * Refuses a picture by its sides, before it is decoded.
         *
         * Throws [BadFileException]: it has more than [MAX_PIXELS].
         */
        fun checkSize(width: Int, height: Int, file: String? = null) {
            val count = width.toLong() * height
            if (count > MAX_PIXELS) {
                val most = "at most $MAX_PIXELS"
                throw BadFileException(
                    "is too large a picture", file = file, field = "pixels", got = count, expected = most,
                )
            }
        }

        /**
         * Of decoded pixels 0xAARRGGBB, not premultiplied, as Android's `Bitmap.getPixels` and the JDK's
         * `BufferedImage.getRGB` give them: what is transparent is laid on white, and the picture turned upright.
         *
         * The array is used and may be changed. [orientation] is EXIF's, 1 to 8; anything else counts as 1.
         */
        fun of(width: Int, height: Int, argb: IntArray, orientation: Int = 1): Picture {
            checkSize(width, height)
            for (at in argb.indices) if (argb[at] ushr 24 != 255) argb[at] = onWhite(argb[at])
            return turned(Picture(width, height, argb), orientation)
        }

        /** A pixel laid on white, by Pillow's `alpha_composite` to the bit. */
        private fun onWhite(argb: Int): Int {
            val alpha = argb ushr 24
            if (alpha == 0) return 0xffffff
            val share = alpha * BITS_7 // of 255 * 2^7; what lies beneath is opaque
            var found = 0
            for (shift in intArrayOf(16, 8, 0)) {
                val own = argb ushr shift and 255
                val sum = own * share + 255 * (255 * BITS_7 - share) + (128 * BITS_7)
                found = found or (((((sum ushr 8) + sum) ushr 8) ushr 7) shl shift)
            }
            return found
        }

        private fun turned(picture: Picture, orientation: Int): Picture {
            if (orientation !in 2..8) return picture
            val (width, height) = picture.width to picture.height
            val across = orientation >= 5 // rows become columns
            val (newWidth, newHeight) = if (across) height to width else width to height
            val found = IntArray(picture.pixels.size)
            for (y in 0 until newHeight) for (x in 0 until newWidth) {
                val right = newWidth - 1 - x
                val below = newHeight - 1 - y
                val (fromX, fromY) = when (orientation) {
                    2 -> right to y
                    3 -> right to below
                    4 -> x to below
                    5 -> y to x
                    6 -> y to right
                    7 -> below to right
                    else -> below to x
                }
                found[y * newWidth + x] = picture.pixels[fromY * width + fromX]
            }
            return Picture(newWidth, newHeight, found)
        }

        private const val BITS_7 = 128
    }
}
