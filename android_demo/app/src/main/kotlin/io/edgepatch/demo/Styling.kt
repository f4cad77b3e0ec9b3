package io.edgepatch.demo

import android.content.Context
import android.graphics.Canvas
import android.graphics.Paint
import android.text.SpannableStringBuilder
import android.text.Spanned
import android.text.style.ForegroundColorSpan
import android.text.style.LineBackgroundSpan
import android.text.style.LineHeightSpan
import android.text.style.RelativeSizeSpan
import io.edgepatch.demo.show.Line

/** How lines of words look: the first larger, a bar below those that have a share. To TalkBack they are plain words. */
class Styling(private val context: Context) {
    private val density = context.resources.displayMetrics.density

    /** An answer: what counts is large, the rest below it. */
    fun answer(lines: List<Line>): CharSequence {
        val text = SpannableStringBuilder()
        lines.forEachIndexed { at, line ->
            if (at > 0) text.append('\n')
            val begin = text.length
            text.append(line.text)
            // a sentence, which is no answer, stays at its size
            if (at == 0 && (lines.size > 1 || line.share != null)) text.span(RelativeSizeSpan(LARGE), begin)
            line.share?.let { text.span(bar(it), begin) }
        }
        return text
    }

    /** A value, with its bar. */
    fun value(line: Line): CharSequence {
        val text = SpannableStringBuilder(line.text)
        line.share?.let { text.span(bar(it), 0) }
        return text
    }

    /** A task's name, and below it what is to be said of it. */
    fun task(name: String, about: String, sound: Boolean): CharSequence {
        val text = SpannableStringBuilder(name).append('\n')
        val begin = text.length
        text.append(about)
        text.span(RelativeSizeSpan(SMALL), begin)
        text.span(ForegroundColorSpan(context.getColor(if (sound) R.color.quiet else R.color.wrong)), begin)
        return text
    }

    private fun bar(share: Double) = Bar(share.toFloat().coerceIn(0f, 1f), context.getColor(R.color.bar), density)

    private fun SpannableStringBuilder.span(what: Any, begin: Int) =
        setSpan(what, begin, length, Spanned.SPAN_EXCLUSIVE_EXCLUSIVE)

    private companion object {
        const val LARGE = 1.4f
        const val SMALL = 0.9f
    }
}

/** A bar below a line's words, as long as its [share] of the line's width; the line is higher by its room. */
private class Bar(private val share: Float, private val colour: Int, private val density: Float) :
    LineBackgroundSpan, LineHeightSpan {
    override fun chooseHeight(
        text: CharSequence, start: Int, end: Int, top: Int, height: Int, metrics: Paint.FontMetricsInt,
    ) {
        val room = (ROOM * density).toInt()
        metrics.descent += room
        metrics.bottom += room
    }

    override fun drawBackground(
        canvas: Canvas, paint: Paint, left: Int, right: Int, top: Int, baseline: Int, bottom: Int, text: CharSequence,
        start: Int, end: Int, number: Int,
    ) {
        val former = paint.color
        val thick = THICK * density
        val begin = baseline + paint.fontMetrics.descent + (ROOM - THICK) / 2 * density
        val length = maxOf((right - left) * share, thick)
        paint.color = colour
        canvas.drawRoundRect(left.toFloat(), begin, left + length, begin + thick, thick / 2, thick / 2, paint)
        paint.color = former
    }

    private companion object {
        const val THICK = 5 // dp
        const val ROOM = 8 // dp
    }
}
