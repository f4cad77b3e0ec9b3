package io.edgepatch.demo

import android.content.Context
import android.graphics.Bitmap
import android.graphics.Canvas
import android.graphics.Paint
import android.graphics.RectF
import android.util.AttributeSet
import android.view.View
import io.edgepatch.demo.show.Fit
import io.edgepatch.demo.show.Frame
import io.edgepatch.demo.show.Palette
import io.edgepatch.patchkit.heads.Answer
import io.edgepatch.patchkit.heads.Detections
import io.edgepatch.patchkit.heads.Segmentation
import io.edgepatch.patchkit.picture.Picture

/** A picture with what a task found in it: boxes with their labels, or a veil of colour a class. */
class AnswerView(context: Context, attributes: AttributeSet?) : View(context, attributes) {
    private val smooth = Paint(Paint.FILTER_BITMAP_FLAG)
    private val outline = Paint(Paint.ANTI_ALIAS_FLAG).apply { style = Paint.Style.STROKE }
    private val fill = Paint(Paint.ANTI_ALIAS_FLAG)
    private val text = Paint(Paint.ANTI_ALIAS_FLAG or Paint.SUBPIXEL_TEXT_FLAG)
    private val rectangle = RectF()

    private var picture: Picture? = null
    private var answer: Answer? = null
    private var pixels: Bitmap? = null
    private var veil: Bitmap? = null

    /** The words on a box, of its label and score. */
    var caption: (String, Float) -> String = { label, _ -> label }

    fun show(picture: Picture?, answer: Answer?) {
        if (picture !== this.picture) {
            this.picture = picture
            pixels = picture?.let { bitmap(it.width, it.height, IntArray(it.pixels.size) { at -> it.pixels[at] or OPAQUE }) }
        }
        if (answer !== this.answer) {
            this.answer = answer
            veil = (answer as? Segmentation)?.let { bitmap(it.width, it.height, Palette.veil(it.mask, it.labels.size)) }
        }
        invalidate()
    }

    override fun onDraw(canvas: Canvas) {
        val shown = pixels ?: return
        val fit = Fit.of(shown.width, shown.height, width, height) ?: return
        set(fit.frame)
        canvas.drawBitmap(shown, null, rectangle, smooth)
        veil?.let { canvas.drawBitmap(it, null, rectangle, null) }
        (answer as? Detections)?.let { drawBoxes(canvas, fit, it) }
    }

    /** The surest last, so that its label is on top. */
    private fun drawBoxes(canvas: Canvas, fit: Fit, found: Detections) {
        val density = resources.displayMetrics.density
        outline.strokeWidth = 2 * density
        text.textSize = 13 * resources.displayMetrics.scaledDensity
        for (box in found.boxes.asReversed()) {
            val colour = Palette.colour(box.number)
            val frame = fit.place(box.x0, box.y0, box.x1, box.y1)
            outline.color = colour
            set(frame)
            canvas.drawRoundRect(rectangle, 3 * density, 3 * density, outline)
            val words = caption(box.label, box.score)
            val metrics = text.fontMetrics
            val tag = fit.tag(frame, text.measureText(words) + 8 * density, metrics.descent - metrics.ascent + 4 * density)
            fill.color = colour
            set(tag)
            canvas.drawRoundRect(rectangle, 3 * density, 3 * density, fill)
            text.color = Palette.ink(colour)
            canvas.drawText(words, tag.left + 4 * density, tag.top + 2 * density - metrics.ascent, text)
        }
    }

    private fun set(frame: Frame) = rectangle.set(frame.left, frame.top, frame.right, frame.bottom)

    private fun bitmap(width: Int, height: Int, argb: IntArray): Bitmap =
        Bitmap.createBitmap(argb, width, height, Bitmap.Config.ARGB_8888)

    private companion object {
        const val OPAQUE = 0xff000000.toInt()
    }
}
