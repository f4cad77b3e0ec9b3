package io.edgepatch.demo.show

import java.util.Locale
import kotlin.math.abs

/** Numbers as people read them. All of them in the reader's own way of writing, given by [locale]. */
class Formatting(private val locale: Locale) {
    /** Bytes, in powers of ten as the system's settings have them: `812 B`, `95.2 kB`, `9.05 MB`. */
    fun bytes(count: Long): String = when {
        abs(count) < 1000 -> "$count${GAP}B"
        abs(count) < 999_950 -> "${three(count / 1e3)}${GAP}kB"
        else -> "${three(count / 1e6)}${GAP}MB"
    }

    /** A time in the unit that suits it: `35 µs`, `3.95 ms`, `1.20 s`. */
    fun time(nanoseconds: Long): String = when {
        nanoseconds < 999_500 -> "${Math.round(nanoseconds / 1e3)}${GAP}µs"
        nanoseconds < 999_500_000 -> "${three(nanoseconds / 1e6)}${GAP}ms"
        else -> "${three(nanoseconds / 1e9)}${GAP}s"
    }

    /** A score, 0..1. What is not whole is never shown as 100 %, and what is not nothing never as 0 %. */
    fun percent(score: Double): String = when {
        score >= 1 -> "100${GAP}%"
        score >= 0.9995 -> "> ${"%.1f".format(locale, 99.9)}${GAP}%"
        score > 0 && score < 0.0005 -> "< ${"%.1f".format(locale, 0.1)}${GAP}%"
        else -> "${"%.1f".format(locale, 100 * score)}${GAP}%"
    }

    /** A score in whole percents, where there is little room; as careful at both ends. */
    fun whole(score: Double): String = when {
        score >= 1 -> "100${GAP}%"
        score >= 0.995 -> "> 99${GAP}%"
        score > 0 && score < 0.005 -> "< 1${GAP}%"
        else -> "${"%.0f".format(locale, 100 * score)}${GAP}%"
    }

    /** How many times as fast or as slow: `1.27x`. */
    fun ratio(value: Double): String = "%.2fx".format(locale, value)

    /** Three figures that count, or all of them before the point. */
    private fun three(value: Double): String = when {
        value >= 99.95 -> "%.0f"
        value >= 9.995 -> "%.1f"
        else -> "%.2f"
    }.format(locale, value)

    private companion object {
        const val GAP = '\u00a0' // a number is not parted from its unit at a line's end
    }
}
