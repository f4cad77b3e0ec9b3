package io.edgepatch.patchkit.file

import io.edgepatch.patchkit.errors.BadFileException
import io.edgepatch.patchkit.errors.begin
import io.edgepatch.patchkit.errors.length
import io.edgepatch.patchkit.errors.quoted
import io.edgepatch.patchkit.errors.said
import io.edgepatch.patchkit.json.Json
import io.edgepatch.patchkit.json.JsonException
import io.edgepatch.patchkit.json.asList
import io.edgepatch.patchkit.json.asNumber
import io.edgepatch.patchkit.json.asObject
import io.edgepatch.patchkit.model.DType
import io.edgepatch.patchkit.model.Tensor
import java.math.BigInteger
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.security.MessageDigest
import java.util.TreeMap

/**
 * What a container holds.
 *
 * @property document JSON values as [Json] gives them.
 * @property tensors in the file's order: read-only views into its bytes.
 */
class Contents(val document: Map<String, Any?>, val tensors: Map<String, Tensor>)

/**
 * The container of backbone and patch files, and of what is written into graphs: safetensors, read strictly
 * (docs/format.md). The one metadata entry `edgepatch` holds one JSON document and `sha256` the hash of that document
 * and all tensors, tensors lie in the header's order without gaps, and every value is finite.
 */
object Container {
    private const val MAX_HEADER_KIB = 256
    private const val MAX_TENSORS = 4096
    private const val MAX_RANK = 6
    private const val MAX_SIDE = (1L shl 40) - 1
    private val NAME = Regex("[A-Za-z0-9_.:/-]{1,120}")

    /** Python's order of texts: by what UTF-32 makes of them, where Java's is by UTF-16's. */
    private val BY_CHARACTERS = Comparator<String> { one, other ->
        val mine = one.codePoints().toArray()
        val theirs = other.codePoints().toArray()
        val at = mine.indices.firstOrNull { it >= theirs.size || mine[it] != theirs[it] }
        when {
            at == null -> mine.size - theirs.size
            at >= theirs.size -> 1
            else -> mine[at] - theirs[at]
        }
    }

    /** Whether the bytes start as a container: the ninth opens the header. No model's does. */
    fun isContainer(data: ByteBuffer): Boolean = data.limit() > 8 && data.get(8) == '{'.code.toByte()

    /**
     * The document and the tensors of a file.
     *
     * [data] holds it from 0 to its limit; [file] is what errors call it. Throws [BadFileException]: the first thing
     * found wrong, by field, got and expected.
     */
    fun parse(data: ByteBuffer, file: String?): Contents = Parser(data, file).parse()

    /**
     * Refuses a document of another kind or format version, or whose fields are not just [fields], of which each has
     * the name of its type as [Json.typeName] tells it.
     *
     * Throws [BadFileException]: the first field found wrong.
     */
    fun checkDocument(
        document: Map<String, Any?>, kind: String, version: Long, fields: Map<String, String>, file: String?,
    ) {
        fun bad(problem: String, field: String, got: Any?, expected: Any?, mend: String? = null) =
            BadFileException(problem, file = file, field = field, got = short(got), expected = expected, mend = mend)

        if (document["kind"] != kind) throw bad("is not a $kind", "kind", document["kind"], kind)
        // true and 1.0 count as 1 here, and are of the wrong type below: as Python has it
        val format = if (document["format"] == true) 1.0 else document["format"].asNumber()
        if (format != version.toDouble()) {
            val mend = "A newer version of this app may know it."
            throw bad("has a format this version does not know", "format", document["format"], version, mend)
        }
        for (name in fields.keys + document.keys) {
            val expected = fields[name] ?: throw bad("has an unknown field", name, name, fields.keys.joinToString(", "))
            val got = if (name in document) Json.typeName(document[name]) else "nothing"
            if (got != expected) throw bad("has a broken document", name, got, expected)
        }
    }

    /** SHA-256 in hexadecimal. */
    internal fun hex(digest: MessageDigest): String = digest.digest().joinToString("") { "%02x".format(it) }

    private fun short(value: Any?): Any {
        if (value is Number && value !is Double || value is Boolean) return value
        val text = said(value)
        return if (length(text) <= 80) text else begin(text, 77) + "..."
    }

    private class Entry(val type: DType, val shape: List<Long>, val begin: Long, val end: Long)

    private class Parser(whole: ByteBuffer, private val file: String?) {
        private val entries = TreeMap<String, Entry>() // by name
        private val data: ByteBuffer = whole.asReadOnlyBuffer().order(ByteOrder.LITTLE_ENDIAN).apply { position(0) }

        fun parse(): Contents {
            val size = data.limit()
            if (size < 8) throw bad("is not an edgepatch file", "size", "$size bytes", "at least 8 bytes")
            if (!isContainer(data)) {
                val got = if (isModel()) "a graph or another model" else "something else"
                throw bad("is not an edgepatch file", "header", got, "a .backbone or an .epatch")
            }
            val length = data.getLong(0) // unsigned: what looks negative is huge
            if (length < 0 || length > MAX_HEADER_KIB * 1024) {
                throw bad(
                    "is not an edgepatch file", "header length", java.lang.Long.toUnsignedString(length),
                    "at most $MAX_HEADER_KIB KiB",
                )
            }
            if (length > size - 8) throw bad("is truncated", "header", "${size - 8} bytes", "$length bytes")
            val header = LinkedHashMap(header(part(8, 8 + length)))
            val metadata = header.remove("__metadata__")
            val (words, sha) = metadata(metadata)
            val document = document(words)
            if (header.size > MAX_TENSORS) {
                throw bad("has too many tensors", "header", header.size, "at most $MAX_TENSORS")
            }
            val body = part(8 + length, size.toLong())
            val tensors = tensors(header, body)
            val digest = digest(words, body)
            if (digest != sha) throw bad("was changed after it was written", "__metadata__.sha256", digest, sha)
            for ((name, tensor) in tensors) {
                val odd = unlikeNumbers(tensor)
                if (odd > 0) throw bad("holds NaN or infinity", name, odd, "0 such values")
            }
            return Contents(document, tensors)
        }

        private fun header(text: ByteBuffer): Map<String, Any?> {
            val value = try {
                Json.parse(text)
            } catch (error: JsonException) {
                val expected = "one JSON object without duplicate keys"
                throw bad("has a broken header", "header", error.message, expected, error)
            }
            return value.asObject() ?: throw bad("has a broken header", "header", Json.typeName(value), "a JSON object")
        }

        /** The document's text and the checksum. */
        private fun metadata(value: Any?): Pair<String, String> {
            val fields = value.asObject()
            val words = fields?.get("edgepatch") as? String
            val sha = fields?.get("sha256") as? String
            if (fields?.size == 2 && words != null && sha != null) return words to sha
            val got = fields?.keys?.sortedWith(BY_CHARACTERS) ?: Json.typeName(value)
            throw bad("is not an edgepatch file", "__metadata__", got, "two strings, edgepatch and sha256")
        }

        private fun document(words: String): Map<String, Any?> {
            val field = "__metadata__.edgepatch"
            val value = try {
                Json.parse(words)
            } catch (error: JsonException) {
                throw bad("has a broken document", field, error.message, "one JSON object", error)
            }
            return value.asObject() ?: throw bad("has a broken document", field, Json.typeName(value), "a JSON object")
        }

        private fun entry(name: String, value: Any?): Entry {
            val fields = value.asObject()
            if (fields == null || fields.keys != setOf("dtype", "shape", "data_offsets")) {
                throw bad("has a broken header", name, value, "dtype, shape and data_offsets")
            }
            val type = DType.values().find { it.name == fields["dtype"] } ?: throw bad(
                "has a tensor of a type that is not allowed", "$name.dtype", fields["dtype"],
                DType.values().joinToString(" "),
            )
            val shape = naturals(fields["shape"])?.takeIf { it.size <= MAX_RANK }
                ?: throw bad("has a broken header", "$name.shape", fields["shape"], "at most $MAX_RANK sizes")
            val offsets = naturals(fields["data_offsets"])?.takeIf { it.size == 2 && it[0] <= it[1] }
                ?: throw bad("has a broken header", "$name.data_offsets", fields["data_offsets"], "begin and end")
            return Entry(type, shape, offsets[0], offsets[1])
        }

        private fun tensors(header: Map<String, Any?>, body: ByteBuffer): Map<String, Tensor> {
            val tensors = LinkedHashMap<String, Tensor>()
            var end = 0L
            for ((name, value) in header) {
                if (!NAME.matches(name)) {
                    throw bad("has a tensor with an odd name", "header", quoted(name), "letters, digits and _.:/-")
                }
                val entry = entry(name, value)
                entries[name] = entry
                if (entry.begin != end) {
                    val problem = if (entry.begin < end) "tensors that overlap" else "a hole between its tensors"
                    throw bad("has $problem", "$name.data_offsets", entry.begin, end)
                }
                val size = product(entry.shape, entry.type.size)
                if ((entry.end - entry.begin).toBigInteger() != size) {
                    val expected = "$size bytes for ${entry.shape}"
                    throw bad("has a tensor of the wrong size", name, "${entry.end - entry.begin} bytes", expected)
                }
                if (entry.end > body.limit()) {
                    throw bad("is truncated", name, "${body.limit() - entry.begin} bytes", "$size bytes")
                }
                // sizes whose product is 0 may still be too large for an array
                val nonzero = product(entry.shape.filter { it != 0L }, entry.type.size)
                if (nonzero.bitLength() >= 64 || entry.shape.any { it > Int.MAX_VALUE }) {
                    throw bad(
                        "has a tensor of an impossible shape", "$name.shape", entry.shape, "a shape of an array",
                    )
                }
                val bytes = body.duplicate().apply { limit(entry.end.toInt()).position(entry.begin.toInt()) }
                tensors[name] = Tensor(entry.type, entry.shape.map { it.toInt() }, bytes)
                end = entry.end
            }
            if (end != body.limit().toLong()) {
                val start = data.limit() - body.limit()
                throw bad("has trailing bytes", "size", data.limit(), start + end)
            }
            return tensors
        }

        /** The checksum: of the document's text, of the other header, keys sorted and no spaces, of the tensors. */
        private fun digest(words: String, body: ByteBuffer): String {
            val digest = MessageDigest.getInstance("SHA-256")
            digest.update(words.toByteArray())
            val text = entries.entries.joinToString(",", "{", "}") { (name, entry) ->
                val shape = entry.shape.joinToString(",")
                val offsets = "${entry.begin},${entry.end}"
                "\"$name\":{\"data_offsets\":[$offsets],\"dtype\":\"${entry.type}\",\"shape\":[$shape]}"
            }
            digest.update(text.toByteArray())
            digest.update(body.duplicate())
            return hex(digest)
        }

        /** How many of a tensor's values are NaN or infinite. */
        private fun unlikeNumbers(tensor: Tensor): Int {
            val bytes = tensor.data
            return when (tensor.type) {
                DType.F32 -> (0 until tensor.count).count { bytes.getInt(4 * it) and 0x7f800000 == 0x7f800000 }
                DType.F16 -> (0 until tensor.count).count { bytes.getShort(2 * it).toInt() and 0x7c00 == 0x7c00 }
                else -> 0
            }
        }

        private fun part(begin: Long, end: Long): ByteBuffer =
            data.duplicate().apply { limit(end.toInt()).position(begin.toInt()) }.slice().order(ByteOrder.LITTLE_ENDIAN)

        /** Whether the bytes start as a .tflite's or an .onnx's. */
        private fun isModel(): Boolean {
            val magic = "TFL3".toByteArray()
            return data.get(0) == 8.toByte() || magic.indices.all { data.get(4 + it) == magic[it] }
        }

        private fun bad(problem: String, field: String, got: Any?, expected: Any?, cause: Throwable? = null) =
            BadFileException(problem, file = file, field = field, got = short(got), expected = expected, cause = cause)
    }

    private fun naturals(value: Any?): List<Long>? = value.asList()?.let { items ->
        items.filterIsInstance<Long>().takeIf { found -> found.size == items.size && found.all { it in 0..MAX_SIDE } }
    }

    /** The product of sizes and a width. */
    private fun product(sides: List<Long>, width: Int): BigInteger =
        sides.fold(width.toBigInteger()) { product, side -> product * side.toBigInteger() }
}
