package io.edgepatch.demo.show

import kotlin.math.max
import kotlin.math.min

/** A rectangle on the screen, in pixels. */
data class Frame(val left: Float, val top: Float, val right: Float, val bottom: Float) {
    val width: Float get() = right - left
    val height: Float get() = bottom - top
}

/**
 * How a picture lies in a view: as large as it fits, in the middle, in its own proportions.
 *
 * @property scale screen pixels a picture's pixel.
 * @property frame the whole picture on the screen.
 */
class Fit private constructor(val scale: Float, val frame: Frame) {
    /** Corners in pixels of the picture, on the screen and within the picture. */
    fun place(x0: Float, y0: Float, x1: Float, y1: Float): Frame = Frame(
        (frame.left + x0 * scale).coerceIn(frame.left, frame.right),
        (frame.top + y0 * scale).coerceIn(frame.top, frame.bottom),
        (frame.left + x1 * scale).coerceIn(frame.left, frame.right),
        (frame.top + y1 * scale).coerceIn(frame.top, frame.bottom),
    )

    /**
     * Where a box's label of a size goes: on top of the box, inside of it where there is no room above, and pushed to
     * the left where it would leave the picture.
     */
    fun tag(box: Frame, width: Float, height: Float): Frame {
        val left = max(frame.left, min(box.left, frame.right - width))
        val top = if (box.top - height >= frame.top) box.top - height else min(box.top, frame.bottom - height)
        return Frame(left, top, left + width, top + height)
    }

    companion object {
        /** A picture of [width] x [height] pixels in a view; null where either has no area. */
        fun of(width: Int, height: Int, viewWidth: Int, viewHeight: Int): Fit? {
            if (min(min(width, height), min(viewWidth, viewHeight)) < 1) return null
            val scale = min(viewWidth.toFloat() / width, viewHeight.toFloat() / height)
            val left = (viewWidth - width * scale) / 2
            val top = (viewHeight - height * scale) / 2
            return Fit(scale, Frame(left, top, left + width * scale, top + height * scale))
        }
    }
}
