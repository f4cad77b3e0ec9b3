package io.edgepatch.patchkit.json

import io.edgepatch.patchkit.errors.quoted
import java.math.BigInteger
import java.nio.ByteBuffer
import java.nio.charset.CharacterCodingException
import java.nio.charset.CodingErrorAction

/** It is no JSON, or JSON that nobody should write. */
class JsonException(message: String) : IllegalArgumentException(message)

/**
 * JSON as RFC 8259 has it, read strictly: no duplicate keys, no NaN or infinity, nothing behind the value, no deep
 * nests, and text that can be written.
 *
 * Values are `null`, `Boolean`, `Long` (`BigInteger` beyond 64 bits), `Double` (of what is written with a point or an
 * exponent), `String`, `List<Any?>` and `Map<String, Any?>` in the file's order.
 */
object Json {
    /** How many arrays and objects may lie in each other: any device's stack is deep enough for it. */
    const val MAX_DEPTH = 512

    /** Digits of a whole number, beyond which reading it takes more than its share of time. */
    const val MAX_DIGITS = 4300

    /** The value that UTF-8 bytes spell, from their position to their limit. Throws [JsonException]. */
    fun parse(data: ByteBuffer): Any? {
        val decoder = Charsets.UTF_8.newDecoder()
            .onMalformedInput(CodingErrorAction.REPORT)
            .onUnmappableCharacter(CodingErrorAction.REPORT)
        val text = try {
            decoder.decode(data.duplicate()).toString()
        } catch (error: CharacterCodingException) {
            throw JsonException("it is not UTF-8: ${error.message}")
        }
        return parse(text)
    }

    /** The value that a text spells. Throws [JsonException]. */
    fun parse(text: String): Any? = Reader(text).document()

    /** What Python calls the type of a value, so that both say the same of it. */
    fun typeName(value: Any?): String = when (value) {
        null -> "NoneType"
        is Boolean -> "bool"
        is Long, is BigInteger -> "int"
        is Double -> "float"
        is String -> "str"
        is List<*> -> "list"
        else -> "dict"
    }
}

/** A value as an object with string keys, or null where it is none. */
@Suppress("UNCHECKED_CAST") // the reader makes no others
fun Any?.asObject(): Map<String, Any?>? = this as? Map<String, Any?>

/** A value as a list, or null where it is none. */
fun Any?.asList(): List<Any?>? = this as? List<Any?>

/** A whole number that lies in a range, as Int, or null: of a Boolean, of 1.0, of anything else. */
fun Any?.asInt(range: IntRange): Int? = (this as? Long)?.takeIf { it in range.first..range.last }?.toInt()

/** A whole number or one with a point, as Double, or null. */
fun Any?.asNumber(): Double? = when (this) {
    is Long -> toDouble()
    is BigInteger -> toDouble()
    is Double -> this
    else -> null
}

/** All as strings, or null where the value is no list or one of its items is none. */
fun Any?.asStrings(): List<String>? = asList()?.let { items ->
    val strings = items.filterIsInstance<String>()
    strings.takeIf { it.size == items.size }
}

private class Reader(private val text: String) {
    private var at = 0

    private companion object {
        val NO_NUMBERS = listOf("NaN", "Infinity", "-Infinity") // of which other writers make JSON
    }

    fun document(): Any? {
        val value = value(0)
        space()
        if (at < text.length) fail("something behind the value")
        return value
    }

    private fun value(depth: Int): Any? {
        space()
        val first = peek()
        if (depth == Json.MAX_DEPTH && (first == '{' || first == '[')) throw JsonException("nested too deeply")
        NO_NUMBERS.find { text.startsWith(it, at) }?.let { throw JsonException("$it is not JSON") }
        return when (first) {
            '{' -> objectAt(depth)
            '[' -> arrayAt(depth)
            '"' -> string()
            't' -> word("true", true)
            'f' -> word("false", false)
            'n' -> word("null", null)
            else -> if (first == '-' || first in '0'..'9') number() else fail("no value")
        }
    }

    private fun objectAt(depth: Int): Map<String, Any?> {
        val found = LinkedHashMap<String, Any?>()
        at++
        space()
        if (peek() == '}') return found.also { at++ }
        while (true) {
            space()
            if (peek() != '"') fail("no key")
            val key = string()
            space()
            expect(':')
            val value = value(depth + 1)
            if (key in found) throw JsonException("duplicate key ${quoted(key)}")
            found[key] = value
            space()
            if (peek() == '}') return found.also { at++ }
            expect(',')
        }
    }

    private fun arrayAt(depth: Int): List<Any?> {
        val found = ArrayList<Any?>()
        at++
        space()
        if (peek() == ']') return found.also { at++ }
        while (true) {
            found.add(value(depth + 1))
            space()
            if (peek() == ']') return found.also { at++ }
            expect(',')
        }
    }

    private fun string(): String {
        val found = StringBuilder()
        at++
        while (true) {
            val next = peek()
            at++
            when {
                next == '"' -> break
                next == '\\' -> found.append(escape())
                next < ' ' -> fail("a control character in a string")
                else -> found.append(next)
            }
        }
        // half a surrogate pair is JSON, but no text
        for (i in found.indices) {
            val pairs = when {
                found[i].isHighSurrogate() -> i + 1 < found.length && found[i + 1].isLowSurrogate()
                found[i].isLowSurrogate() -> i > 0 && found[i - 1].isHighSurrogate()
                else -> true
            }
            if (!pairs) fail("half a surrogate pair")
        }
        return found.toString()
    }

    private fun escape(): Char {
        val kind = peek()
        at++
        return when (kind) {
            '"', '\\', '/' -> kind
            'b' -> '\b'
            'f' -> '\u000c'
            'n' -> '\n'
            'r' -> '\r'
            't' -> '\t'
            'u' -> {
                if (at + 4 > text.length) fail("a broken escape")
                val digits = text.substring(at, at + 4)
                if (!digits.all { it in '0'..'9' || it in 'a'..'f' || it in 'A'..'F' }) fail("a broken escape")
                at += 4
                digits.toInt(16).toChar()
            }
            else -> fail("an unknown escape")
        }
    }

    private fun number(): Any {
        val start = at
        if (peek() == '-') at++
        if (peek() == '0') at++ else digits()
        var whole = true
        if (peekOrNull() == '.') {
            whole = false
            at++
            digits()
        }
        if (peekOrNull() == 'e' || peekOrNull() == 'E') {
            whole = false
            at++
            if (peekOrNull() == '+' || peekOrNull() == '-') at++
            digits()
        }
        val written = text.substring(start, at)
        if (!whole) {
            val value = written.toDouble()
            if (value.isInfinite()) throw JsonException("$written is too large a number")
            return value
        }
        if (written.length <= 18) return written.toLong()
        val count = written.trimStart('-').length
        if (count > Json.MAX_DIGITS) throw JsonException("a number of $count digits")
        val value = BigInteger(written)
        return if (value.bitLength() < 64) value.toLong() else value
    }

    private fun digits() {
        val start = at
        while (peekOrNull() in '0'..'9') at++
        if (at == start) fail("no digit")
    }

    private fun word(word: String, value: Any?): Any? {
        if (!text.startsWith(word, at)) fail("no value")
        at += word.length
        return value
    }

    private fun space() {
        while (at < text.length && text[at] in " \t\n\r") at++
    }

    private fun expect(wanted: Char) {
        if (peek() != wanted) fail("no '$wanted'")
        at++
    }

    private fun peek(): Char = if (at < text.length) text[at] else throw JsonException("it ends too early")

    private fun peekOrNull(): Char? = text.getOrNull(at)

    private fun fail(problem: String): Nothing = throw JsonException("$problem at character $at")
}

private operator fun CharRange.contains(value: Char?): Boolean = value != null && value in first..last
