package io.edgepatch.patchkit.graph

import io.edgepatch.patchkit.model.Tensor
import java.io.ByteArrayOutputStream
import java.nio.ByteBuffer

/**
 * Protocol buffers, as far as an .onnx needs: found in place, without a parser's package.
 *
 * What is no message throws [IllegalArgumentException] or [IndexOutOfBoundsException].
 */
internal object Protobuf {
    const val MODEL_IR_VERSION = 1
    const val MODEL_GRAPH = 7
    const val MODEL_OPSET = 8
    const val MODEL_METADATA = 14
    const val OPSET_DOMAIN = 1
    const val OPSET_VERSION = 2
    const val ENTRY_KEY = 1 // StringStringEntryProto
    const val ENTRY_VALUE = 2
    const val GRAPH_NODE = 1
    const val GRAPH_NAME = 2
    const val GRAPH_INITIALIZER = 5
    const val GRAPH_INPUT = 11
    const val GRAPH_OUTPUT = 12
    const val NODE_INPUT = 1
    const val NODE_OUTPUT = 2
    const val NODE_NAME = 3
    const val NODE_OPERATOR = 4
    const val NODE_ATTRIBUTE = 5
    const val NODE_DOMAIN = 7
    const val ATTRIBUTE_NAME = 1
    const val ATTRIBUTE_TYPE = 20
    const val VALUE_NAME = 1 // ValueInfoProto
    const val VALUE_TYPE = 2
    const val DIMENSION_VALUE = 1
    const val TENSOR_DIMS = 1
    const val TENSOR_TYPE = 2
    const val TENSOR_NAME = 8
    const val TENSOR_RAW = 9
    const val TENSOR_EXTERNAL = 13
    const val TENSOR_LOCATION = 14

    /** TensorProto.DataLocation */
    const val EXTERNAL = 1

    private const val LENGTH_DELIMITED = 2

    /** Of a message. */
    private const val MAX_FIELDS = 1 shl 20

    /** A field of a message: its number, and where its content stands. */
    class Field(val number: Int, val content: Span)

    /** Each field of the message that stands in a span. */
    fun fields(data: ByteBuffer, message: Span): Sequence<Field> = sequence {
        val cursor = Cursor(data, message.begin)
        var count = 0
        while (cursor.at < message.end) {
            require(++count <= MAX_FIELDS) { "a message of a million fields" }
            val key = cursor.varint()
            require(key in 0..0xffffffffL) { "a field of no number" }
            val begin: Int
            val length: Long
            when ((key and 7).toInt()) {
                LENGTH_DELIMITED -> {
                    length = cursor.varint()
                    begin = cursor.at
                }
                0 -> {
                    begin = cursor.at
                    cursor.varint()
                    length = (cursor.at - begin).toLong()
                }
                1 -> {
                    begin = cursor.at
                    length = 8
                }
                5 -> {
                    begin = cursor.at
                    length = 4
                }
                else -> throw IllegalArgumentException("a field of an unknown kind")
            }
            require(length >= 0 && begin + length <= message.end) { "a field longer than its message" }
            cursor.at = begin + length.toInt()
            yield(Field((key ushr 3).toInt(), Span(begin, cursor.at)))
        }
    }

    /** The fields of one number of the message that stands in a span. */
    fun fields(data: ByteBuffer, message: Span, number: Int): Sequence<Span> =
        fields(data, message).filter { it.number == number }.map { it.content }

    /** All of the data as a message. */
    fun all(data: ByteBuffer) = Span(0, data.limit())

    /** Where the value of a model's property stands. */
    fun metadata(data: ByteBuffer, key: String): Span? {
        for (entry in fields(data, all(data), MODEL_METADATA)) {
            val parts = fields(data, entry).associate { it.number to it.content }
            if (parts[ENTRY_KEY]?.let { data.spells(it, key) } == true) return parts[ENTRY_VALUE]
        }
        return null
    }

    /** Where the raw values of each initializer of a model's graph stand. */
    fun initializers(data: ByteBuffer): Map<String, Span> {
        val found = LinkedHashMap<String, Span>()
        for (graph in fields(data, all(data), MODEL_GRAPH)) {
            for (tensor in fields(data, graph, GRAPH_INITIALIZER)) {
                val parts = fields(data, tensor).associate { it.number to it.content }
                val name = parts[TENSOR_NAME]
                val raw = parts[TENSOR_RAW]
                if (name != null && raw != null) found[data.text(name)] = raw
            }
        }
        return found
    }

    /** The nodes of a model's graph, by names, and what the graph takes and answers. */
    fun nodes(model: ByteBuffer): Wiring<String> {
        val nodes = ArrayList<Operator<String>>()
        val inputs = ArrayList<String>()
        val outputs = ArrayList<String>()
        fun names(message: Span, number: Int) = fields(model, message, number).map { model.text(it) }.toList()
        for (graph in fields(model, all(model), MODEL_GRAPH)) {
            for (field in fields(model, graph)) {
                when (field.number) {
                    GRAPH_NODE -> nodes += Operator(names(field.content, NODE_INPUT), names(field.content, NODE_OUTPUT))
                    GRAPH_INPUT -> inputs += names(field.content, VALUE_NAME)
                    GRAPH_OUTPUT -> outputs += names(field.content, VALUE_NAME)
                }
            }
        }
        return Wiring(nodes, inputs, outputs)
    }

    /**
     * A message whose fields are what [change] makes of each one's number and content: the same span of it leaves a
     * field as it is, null leaves it out, bytes take its content's place.
     */
    fun rewritten(data: ByteBuffer, message: Span, change: (Int, Span) -> Change): ByteArray {
        val found = ByteArrayOutputStream(message.size)
        var last = message.begin
        for (field in fields(data, message)) {
            when (val changed = change(field.number, field.content)) {
                Change.Keep -> found.write(data.bytes(Span(last, field.content.end)))
                Change.Drop -> Unit
                is Change.Put -> found.write(field(field.number, changed.content))
            }
            last = field.content.end
        }
        return found.toByteArray()
    }

    /** What becomes of a field. */
    sealed class Change {
        object Keep : Change()
        object Drop : Change()
        class Put(val content: ByteArray) : Change()
    }

    fun field(number: Int, content: ByteArray): ByteArray =
        encode(number.toLong() shl 3 or LENGTH_DELIMITED.toLong()) + encode(content.size.toLong()) + content

    fun field(number: Int, text: String): ByteArray = field(number, text.toByteArray())

    fun number(number: Int, value: Long): ByteArray = encode(number.toLong() shl 3) + encode(value)

    fun encode(value: Long): ByteArray {
        val found = ByteArrayOutputStream(2)
        var rest = value
        while (rest > 0x7f) {
            found.write((rest and 0x7f or 0x80).toInt())
            rest = rest shr 7
        }
        found.write(rest.toInt())
        return found.toByteArray()
    }

    private class Cursor(private val data: ByteBuffer, var at: Int) {
        fun varint(): Long {
            var value = 0L
            for (shift in 0 until 70 step 7) {
                val byte = data.get(at++).toInt()
                if (shift == 63 && byte !in 0..1) break // parsers forget bits beyond, and each would see another number
                value = value or ((byte and 0x7f).toLong() shl shift)
                if (byte >= 0) return value
            }
            throw IllegalArgumentException("a number too long")
        }
    }
}

/** Some bytes: a copy. */
internal fun ByteBuffer.bytes(span: Span): ByteArray = ByteArray(span.size).also { slice(span).get(it) }

/** Messages one behind the other: a parser makes one message of them, with the fields of all. */
internal fun joined(first: ByteBuffer, vararg more: ByteArray): ByteBuffer {
    val found = Tensor.direct(first.limit().toLong() + more.sumOf { it.size.toLong() })
    found.put(first.duplicate().apply { rewind() })
    for (each in more) found.put(each)
    found.rewind()
    return found
}
