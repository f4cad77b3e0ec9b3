package io.edgepatch.demo

import io.edgepatch.demo.show.Formatting
import java.util.Locale
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Test

class FormattingTest {
    private val english = Formatting(Locale.ENGLISH)

    @Test
    fun `bytes have three figures and the unit that suits them`() {
        val cases = mapOf(
            0L to "0 B", 999L to "999 B", 1000L to "1.00 kB", 95_164L to "95.2 kB", 999_949L to "1000 kB",
            999_950L to "1.00 MB", 9_050_880L to "9.05 MB", 14_194_080L to "14.2 MB",
        )
        assertEquals(cases.values.toList(), cases.keys.map { plain(english.bytes(it)) })
    }

    @Test
    fun `times go from microseconds to seconds`() {
        val cases = mapOf(0L to "0 µs", 35_400L to "35 µs", 3_950_000L to "3.95 ms", 12_345_678L to "12.3 ms", 1_200_000_000L to "1.20 s")
        assertEquals(cases.values.toList(), cases.keys.map { plain(english.time(it)) })
    }

    @Test
    fun `a score is never rounded to certain or impossible`() {
        val cases = mapOf(1.0 to "100 %", 0.99999 to "> 99.9 %", 0.9994 to "99.9 %", 0.5 to "50.0 %", 0.0001 to "< 0.1 %", 0.0 to "0.0 %")
        assertEquals(cases.values.toList(), cases.keys.map { plain(english.percent(it)) })
    }

    @Test
    fun `nor is one in whole percents`() {
        val cases = mapOf(1.0 to "100 %", 0.996 to "> 99 %", 0.994 to "99 %", 0.706 to "71 %", 0.004 to "< 1 %", 0.0 to "0 %")
        assertEquals(cases.values.toList(), cases.keys.map { plain(english.whole(it)) })
    }

    @Test
    fun `numbers are written as the reader's language does`() {
        val german = Formatting(Locale.GERMANY)
        val found = listOf(german.bytes(9_050_880), german.time(3_950_000), german.percent(0.973), german.ratio(1.27))
        assertEquals(listOf("9,05 MB", "3,95 ms", "97,3 %", "1,27x"), found.map(::plain))
    }

    @Test
    fun `a number stays with its unit`() {
        assertEquals(-1, listOf(english.bytes(9_050_880), english.time(3_950_000), english.percent(0.5)).joinToString("").indexOf(' '))
    }

    /** With plain spaces for those that do not break. */
    private fun plain(text: String) = text.replace('\u00a0', ' ')
}
