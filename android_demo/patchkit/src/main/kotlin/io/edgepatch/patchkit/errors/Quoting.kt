package io.edgepatch.patchkit.errors

import java.math.BigDecimal
import java.math.MathContext

/*
 * What a file says, in a sentence of ours: in Python's words, so that both languages say the same of one file, and so
 * that nothing of it moves a cursor, turns the text around or runs on for pages.
 */

/** Characters of what an error quotes. */
internal const val LONGEST = 500

/** Categories of characters that do not print: Python's `str.isprintable`, but for newer Unicode. */
private val UNPRINTABLE = setOf(
    Character.CONTROL, Character.FORMAT, Character.SURROGATE, Character.PRIVATE_USE, Character.UNASSIGNED,
    Character.LINE_SEPARATOR, Character.PARAGRAPH_SEPARATOR, Character.SPACE_SEPARATOR,
)

/** Whether a character, by its code point, is seen as itself. */
internal fun prints(point: Int): Boolean = point == ' '.code || Character.getType(point).toByte() !in UNPRINTABLE

/** A value for people to read: no more than [longest] characters of it, those that do not print as escapes. */
internal fun printable(value: Any?, longest: Int? = LONGEST): String {
    val text = said(value)
    val cut = if (longest == null || length(text) <= longest) text else begin(text, longest - 3) + "..."
    return escaped(cut) { !prints(it) }
}

/** Characters of a text, as Python counts them. */
internal fun length(text: String): Int = text.codePointCount(0, text.length)

/** The first characters of a text. */
internal fun begin(text: String, count: Int): String =
    if (text.length <= count || length(text) <= count) text else text.substring(0, text.offsetByCodePoints(0, count))

/** A value of a document as Python's `str` writes it. */
internal fun said(value: Any?): String = if (value is String) value else quoted(value)

/** As Python's `repr`. */
internal fun quoted(value: Any?): String = when (value) {
    null -> "None"
    true -> "True"
    false -> "False"
    is String -> quotedText(value)
    is Double -> quotedNumber(value)
    is List<*> -> value.joinToString(", ", "[", "]") { quoted(it) }
    is Map<*, *> -> value.entries.joinToString(", ", "{", "}") { (key, each) -> "${quoted(key)}: ${quoted(each)}" }
    else -> value.toString()
}

/** As Python writes the shape of an array, and whatever else it keeps in a tuple. */
internal fun tuple(values: List<*>): String =
    if (values.size == 1) "(${quoted(values[0])},)" else values.joinToString(", ", "(", ")") { quoted(it) }

private fun quotedText(text: String): String {
    val mark = if ('\'' in text && '"' !in text) '"' else '\''
    return mark + escaped(text) { it == mark.code || it == '\\'.code || !prints(it) } + mark
}

private fun escaped(text: String, odd: (Int) -> Boolean): String {
    if (text.codePoints().noneMatch(odd)) return text
    val found = StringBuilder()
    for (point in text.codePoints()) {
        if (odd(point)) found.append(escape(point)) else found.appendCodePoint(point)
    }
    return found.toString()
}

private fun escape(point: Int): String = when (point) {
    '\t'.code -> "\\t"
    '\n'.code -> "\\n"
    '\r'.code -> "\\r"
    in ' '.code..'~'.code -> "\\" + point.toChar()
    in 0..0xff -> "\\x%02x".format(point)
    in 0..0xffff -> "\\u%04x".format(point)
    else -> "\\U%08x".format(point)
}

/** The fewest digits that make the same number; a point up to sixteen of them, an exponent beyond. */
private fun quotedNumber(value: Double): String {
    if (value.isNaN()) return "nan"
    if (value.isInfinite()) return if (value > 0) "inf" else "-inf"
    val sign = if (1 / value < 0 || value < 0) "-" else ""
    if (value == 0.0) return sign + "0.0"
    val exact = BigDecimal(Math.abs(value))
    val short = (1..17).map { exact.round(MathContext(it)) }.first { it.toDouble() == Math.abs(value) }
    val digits = short.unscaledValue().toString().trimEnd('0')
    val exponent = short.precision() - short.scale() - 1
    if (exponent in -4..15) {
        val plain = BigDecimal(sign + short.toPlainString()).stripTrailingZeros().toPlainString()
        return if ('.' in plain) plain else "$plain.0"
    }
    val fraction = if (digits.length == 1) "" else "." + digits.substring(1)
    val power = "${Math.abs(exponent)}".padStart(2, '0') // format's digits would be those of the phone's language
    return sign + digits[0] + fraction + (if (exponent < 0) "e-" else "e+") + power
}
