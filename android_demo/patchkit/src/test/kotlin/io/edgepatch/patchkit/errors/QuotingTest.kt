package io.edgepatch.patchkit.errors

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Test

/** What errors quote is written as Python writes it; `tests/golden/data/words.json` has whole errors. */
class QuotingTest {
    private val smile = "\uD83D\uDE00"

    @Test
    fun `nothing moves a cursor or turns a text around`() {
        assertEquals("a\\x1b[2J\\r\\n\\u202e\\u2028\\xa0\\U000e0041b", printable("a\u001b[2J\r\n\u202e\u2028\u00a0\uDB40\uDC41b"))
        assertEquals("plain, \\ and 'so' $smile", printable("plain, \\ and 'so' $smile"))
        assertEquals("\\ud83d", printable("\uD83D")) // half of a character
    }

    @Test
    fun `long values are cut between characters`() {
        assertEquals(smile.repeat(LONGEST), printable(smile.repeat(LONGEST)))
        assertEquals(smile.repeat(LONGEST - 3) + "...", printable(smile.repeat(LONGEST + 1)))
        assertEquals(smile.repeat(LONGEST + 1), printable(smile.repeat(LONGEST + 1), null))
        assertEquals(smile, begin(smile.repeat(2), 1))
    }

    @Test
    fun `numbers have the fewest digits that make the same one`() {
        val written = mapOf(
            0.1 to "0.1", -0.0 to "-0.0", 100.0 to "100.0", 1e15 to "1000000000000000.0", 1e16 to "1e+16",
            1e-4 to "0.0001", 1.5e-5 to "1.5e-05", 2e23 to "2e+23", Double.MIN_VALUE to "5e-324",
            Double.MAX_VALUE to "1.7976931348623157e+308", -123456789.125 to "-123456789.125",
            Double.NaN to "nan", Double.NEGATIVE_INFINITY to "-inf",
        )
        for ((value, text) in written) assertEquals(text, quoted(value))
    }

    @Test
    fun `an error prints whatever it quotes`() {
        val error = BadFileException(
            "is \u0007 broken", file = "a\u001bb", field = "x".repeat(600), got = listOf("\u202e", null), expected = 7,
        )
        assertEquals("is \\x07 broken", error.problem)
        assertEquals("x".repeat(497) + "...", error.field)
        assertEquals(listOf("\u202e", null), error.got)
        assertEquals(
            "a\\x1bb: is \\x07 broken (field ${error.field}, got ['\\u202e', None], expected 7)", error.message,
        )
    }
}
