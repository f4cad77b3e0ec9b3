package io.edgepatch.patchkit.json

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.params.ParameterizedTest
import org.junit.jupiter.params.provider.ValueSource
import java.math.BigInteger

class JsonTest {
    @Test
    fun `values are what they spell`() {
        val text = """ {"a": [0, -0, 12, -3.5, 1e2, 1E-2, true, false, null], "b":{}, "c":[],"":"\u00e9\n\"\/\\" } """
        val expected = mapOf(
            "a" to listOf(0L, 0L, 12L, -3.5, 100.0, 0.01, true, false, null), "b" to emptyMap<String, Any?>(),
            "c" to emptyList<Any?>(), "" to "é\n\"/\\",
        )
        assertEquals(expected, Json.parse(text))
        assertEquals(expected.keys.toList(), Json.parse(text).asObject()!!.keys.toList())
    }

    @Test
    fun `whole numbers of any length stay whole`() {
        assertEquals(Long.MAX_VALUE, Json.parse("9223372036854775807"))
        assertEquals(Long.MIN_VALUE, Json.parse("-9223372036854775808"))
        assertEquals(BigInteger("9223372036854775808"), Json.parse("9223372036854775808"))
        assertEquals(BigInteger.TEN.pow(40), Json.parse("1" + "0".repeat(40)))
        val longest = "1".repeat(Json.MAX_DIGITS)
        for (text in listOf(longest, "-$longest")) assertEquals(BigInteger(text), Json.parse(text))
        for (text in listOf("1$longest", "-1$longest")) assertThrows(JsonException::class.java) { Json.parse(text) }
    }

    @Test
    fun `surrogate pairs are one character whichever way they are written`() {
        assertEquals("😀", Json.parse("\"\\ud83d\\ude00\""))
        assertEquals("😀", Json.parse("\"😀\""))
    }

    @ParameterizedTest
    @ValueSource(
        strings = [
            "", " ", "{", "[", "\"", "[1", "[1,", "[,1]", "{\"a\"}", "{\"a\":}", "{a:1}", "{} {}", "01", "1.", ".5",
            "+1", "-", "1e", "1e+", "NaN", "Infinity", "-Infinity", "1e999", "-1e999", "tru", "True", "nul",
            "'a'", "\"\t\"",
            "\"\\x\"", "\"\\u12\"", "\"\\u12g4\"", "\"\\ud800\"", "\"\\udc00\"", "\"\\udc00\\ud800\"", "\"\\ud800a\"",
            "{\"a\":1,\"a\":1}", "[{\"a\":{\"b\":1,\"b\":2}}]", "\uFEFF{}", "\u00A01", "1\u000b", "[1]]", "{\"a\":1}}",
        ],
    )
    fun `anything else is refused`(text: String) {
        assertThrows(JsonException::class.java) { Json.parse(text) }
    }

    @Test
    fun `deep nests are refused before the stack ends`() {
        val deepest = "[".repeat(Json.MAX_DEPTH) + "1" + "]".repeat(Json.MAX_DEPTH)
        assertTrue(Json.parse(deepest) is List<*>)
        for (text in listOf("[$deepest]", "[".repeat(Json.MAX_DEPTH) + "{}", "[".repeat(1_000_000), "{\"a\":".repeat(100_000))) {
            val error = assertThrows(JsonException::class.java) { Json.parse(text) }
            assertEquals("nested too deeply", error.message)
        }
    }

    @Test
    fun `conversions take what they name and nothing else`() {
        assertEquals(3, 3L.asInt(0..3))
        for (value in listOf(4L, -1L, 3.0, true, "3", null, 1L shl 40)) assertEquals(null, value.asInt(0..3))
        assertEquals(3.0, 3L.asNumber())
        for (value in listOf(true, "3", null, emptyList<Any?>())) assertEquals(null, value.asNumber())
        assertEquals(listOf("a"), listOf("a").asStrings())
        for (value in listOf(listOf("a", 1L), "a", null)) assertEquals(null, value.asStrings())
    }
}
