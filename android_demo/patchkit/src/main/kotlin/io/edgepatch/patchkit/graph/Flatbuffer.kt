package io.edgepatch.patchkit.graph

import java.nio.ByteBuffer
import java.nio.charset.CharacterCodingException

/** Fields of the TFLite schema's tables, by number, and its rules. */
internal object Schema {
    const val MODEL_CODES = 1
    const val MODEL_SUBGRAPHS = 2
    const val MODEL_BUFFERS = 4
    const val MODEL_METADATA = 6
    const val MODEL_SIGNATURES = 7
    const val MODEL_GROUPS = 8 // of buffers in other files
    const val MODEL_FILES = 9
    const val CODE_OLD = 0 // of an OperatorCode: as a byte, by a name of its own, and as a number
    const val CODE_CUSTOM = 1
    const val CODE = 3
    const val SUBGRAPH_TENSORS = 0
    const val SUBGRAPH_INPUTS = 1
    const val SUBGRAPH_OUTPUTS = 2
    const val SUBGRAPH_OPERATORS = 3
    const val TENSOR_SHAPE = 0
    const val TENSOR_TYPE = 1
    const val TENSOR_BUFFER = 2
    const val TENSOR_NAME = 3
    const val TENSOR_QUANTIZATION = 4
    const val QUANTIZATION_SCALE = 2
    const val QUANTIZATION_ZERO_POINT = 3
    const val OPERATOR_CODE = 0
    const val OPERATOR_INPUTS = 1
    const val OPERATOR_OUTPUTS = 2
    const val OPERATOR_KIND = 3
    const val OPERATOR_OPTIONS = 4

    /** Of a convolution's options, a depthwise one's, too. */
    const val CONVOLUTION_PADDING = 0
    const val CONVOLUTION_STRIDE = 1
    const val SIGNATURE_KEY = 2
    const val SIGNATURE_SUBGRAPH = 4
    const val METADATA_NAME = 0
    const val METADATA_BUFFER = 1
    const val BUFFER_DATA = 0

    /** Of bytes that stand elsewhere than where the buffer is. */
    const val BUFFER_OFFSET = 1

    /** Of a buffer's data. */
    const val ALIGNMENT = 16
}

/** Begin and end of some bytes of a file. */
internal data class Span(val begin: Int, val end: Int) {
    val size: Int get() = end - begin

    /** As a document's JSON has it. */
    fun toJson(): List<Long> = listOf(begin.toLong(), end.toLong())
}

/**
 * A flatbuffer's table: fields by number, absent ones null.
 *
 * Anything that leads out of the data throws [IndexOutOfBoundsException] or [IllegalArgumentException].
 *
 * @property data the file, little-endian, from 0 to its limit.
 */
internal class Table(val data: ByteBuffer, val position: Int) {
    private val vtable = position - data.getInt(position)

    init {
        require(vtable >= 0) { "a table before the file" }
    }

    private val count = (unsignedShort(vtable) - 4) / 2

    /** Where a field's value stands in the data. */
    fun at(field: Int): Int? {
        if (field >= count) return null
        val offset = unsignedShort(vtable + 4 + 2 * field)
        return if (offset == 0) null else position + offset
    }

    /** As [at], for a field that must be there. */
    fun need(field: Int): Int = requireNotNull(at(field)) { "field $field is absent" }

    /** A field of 32 bits; 0, the schema's default, where it is absent. */
    fun number(field: Int): Int = at(field)?.let { data.getInt(it) } ?: 0

    /** A field of 8 bits; 0, the schema's default, where it is absent. */
    fun byte(field: Int): Int = at(field)?.let { data.get(it).toInt() and 0xff } ?: 0

    /** Where a field's vector, string or table stands. */
    fun follow(field: Int): Int? = at(field)?.let { data.follow(it) }

    /** The table a field points at. */
    fun table(field: Int): Table = Table(data, data.follow(need(field)))

    /** Positions of the tables of a vector. */
    fun tables(field: Int): IntArray {
        val span = span(field, 4) ?: return IntArray(0)
        require(span.size <= 4 * MAX_TABLES) { "a vector of ${span.size / 4} tables" }
        return IntArray(span.size / 4) { data.follow(span.begin + 4 * it) }
    }

    /** A vector of 32-bit integers: a shape, or what an operator reads or makes. */
    fun numbers(field: Int): IntArray {
        val span = span(field, 4) ?: return IntArray(0)
        require(span.size <= 4 * MAX_NUMBERS) { "a vector of ${span.size / 4} numbers" }
        return IntArray(span.size / 4) { data.getInt(span.begin + 4 * it) }
    }

    /** A name; empty where it is absent. */
    fun text(field: Int): String {
        val span = span(field) ?: return ""
        require(span.size <= MAX_TEXT) { "a name of ${span.size} bytes" }
        return data.text(span)
    }

    /** Begin and end of a string, or of a vector whose items are [width] bytes wide. */
    fun span(field: Int, width: Int = 1): Span? {
        val place = follow(field) ?: return null
        val end = place + 4L + width * (data.getInt(place).toLong() and 0xffffffffL)
        require(end <= data.limit()) { "a vector longer than the file" }
        return Span(place + 4, end.toInt())
    }

    /** As [span], for one that must be there. */
    fun vector(field: Int, width: Int = 1): Span = requireNotNull(span(field, width)) { "field $field is absent" }

    private fun unsignedShort(place: Int) = data.getShort(place).toInt() and 0xffff

    private companion object {
        // vectors may lie upon each other: a million tables of a megabyte each fit into two megabytes
        const val MAX_TABLES = 65_536
        const val MAX_NUMBERS = 64
        const val MAX_TEXT = 1024
    }
}

/** Where the offset at a place points to: forward, as all of a flatbuffer's but those to vtables. */
internal fun ByteBuffer.follow(place: Int): Int {
    val target = place + (getInt(place).toLong() and 0xffffffffL)
    require(target <= limit()) { "an offset that leads out of the file" }
    return target.toInt()
}

/** Some bytes as a name: UTF-8, or [IllegalArgumentException]. */
internal fun ByteBuffer.text(span: Span): String = try {
    Charsets.UTF_8.newDecoder().decode(slice(span)).toString()
} catch (error: CharacterCodingException) {
    throw IllegalArgumentException("a name that is not UTF-8", error)
}

/** Whether some bytes are those of a text. */
internal fun ByteBuffer.spells(span: Span, text: String): Boolean = slice(span) == ByteBuffer.wrap(text.toByteArray())

/** Some bytes as a buffer of their own, in this one's memory and order. */
internal fun ByteBuffer.slice(span: Span): ByteBuffer {
    val view = duplicate()
    view.limit(span.end)
    view.position(span.begin)
    return view.slice().order(order())
}

/** What a .tflite is made of, found in place: no parser's package, no copy. */
internal object Flatbuffer {
    /** The Model table. */
    fun root(data: ByteBuffer) = Table(data, data.follow(0))

    /** The signatures of a model, by key. */
    fun signatures(data: ByteBuffer): Map<String, Table> =
        root(data).tables(Schema.MODEL_SIGNATURES).map { Table(data, it) }.associateBy { it.text(Schema.SIGNATURE_KEY) }

    /** The subgraph that a signature calls. */
    fun subgraph(data: ByteBuffer, signature: String): Table {
        val index = signatures(data).getValue(signature).number(Schema.SIGNATURE_SUBGRAPH)
        return Table(data, root(data).tables(Schema.MODEL_SUBGRAPHS)[index])
    }

    /** Edits that leave a model with one signature and its subgraph: an interpreter prepares every subgraph it sees. */
    fun keep(data: ByteBuffer, signature: String): List<Edit> {
        val model = root(data)
        val kept = signatures(data).getValue(signature)
        val wanted = mapOf(
            Schema.MODEL_SUBGRAPHS to subgraph(data, signature).position,
            Schema.MODEL_SIGNATURES to kept.position,
        )
        val edits = wanted.map { (field, position) ->
            val vector = data.follow(model.need(field))
            Edit.ints(vector, 1, position - vector - 4)
        }
        return edits + listOfNotNull(kept.at(Schema.SIGNATURE_SUBGRAPH)?.let { Edit.ints(it, 0) })
    }

    /**
     * The edit that leaves of a vector of tables those with the [wanted] numbers, in their order.
     *
     * @param vector where it stands, its length first.
     */
    fun shorten(data: ByteBuffer, vector: Int, wanted: List<Int>): Edit {
        val words = IntArray(1 + wanted.size)
        words[0] = wanted.size
        for ((place, number) in wanted.withIndex()) { // each offset counts from its own place
            words[1 + place] = data.getInt(vector + 4 + 4 * number) + 4 * number - 4 * place
        }
        return Edit.ints(vector, *words)
    }

    /**
     * Edits that make each operator code but the [used] ones another name for one of these.
     *
     * TensorFlow's calibrator knows the codes of operators that are there, and refuses a model that lists others.
     */
    fun forgetCodes(data: ByteBuffer, used: Set<Int>): List<Edit> {
        val span = root(data).span(Schema.MODEL_CODES, 4)
        if (span == null || used.isEmpty()) return emptyList()
        val codes = root(data).tables(Schema.MODEL_CODES)
        val other = used.maxOf { codes[it] } // offsets point forward only
        return codes.indices.filter { it !in used }.map { span.begin + 4 * it }.filter { other > it }
            .map { Edit.ints(it, other - it) }
    }
}
