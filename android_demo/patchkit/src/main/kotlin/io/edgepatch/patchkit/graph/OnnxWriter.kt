package io.edgepatch.patchkit.graph

import io.edgepatch.patchkit.model.Tensor
import java.io.ByteArrayOutputStream
import java.nio.ByteBuffer

/** A type of an .onnx's values; [number] is TensorProto.DataType's, [size] in bytes. */
internal enum class OnnxType(val number: Long, val size: Int) {
    FLOAT32(1, 4), UINT8(2, 1), INT8(3, 1), INT32(6, 4), INT64(7, 8)
}

/**
 * A constant of an .onnx.
 *
 * @property shape none of a single value.
 * @property data little-endian, direct, from 0 to its limit: a session that is given it reads it there.
 */
internal class Initializer(val type: OnnxType, val shape: List<Int>, val data: ByteBuffer) {
    companion object {
        fun floats(values: FloatArray, shape: List<Int> = listOf(values.size)) =
            of(OnnxType.FLOAT32, shape) { it.asFloatBuffer().put(values) }

        fun longs(vararg values: Long) = of(OnnxType.INT64, listOf(values.size)) { it.asLongBuffer().put(values) }

        /** Of a new buffer that [write] fills. */
        fun of(type: OnnxType, shape: List<Int>, write: (ByteBuffer) -> Unit): Initializer {
            val data = Tensor.direct(Math.multiplyExact(Tensor.count(shape), type.size.toLong()))
            write(data.little())
            return Initializer(type, shape, data)
        }
    }
}

/**
 * An .onnx written: nodes, inputs and outputs laid down, initializers and outputs added.
 *
 * To add is to append: of two messages one behind the other, a parser makes one with both their fields.
 */
internal object OnnxWriter {
    /** Bytes up to which an initializer is written into the message. */
    const val INLINE = 1024

    /** A model with initializers, and those of them that its session is to be given beside it. */
    class Filled(val data: ByteBuffer, val beside: Map<String, Initializer>)

    /** A model with initializers added; those of up to [inline] bytes go into the model's own. */
    fun withInitializers(model: ByteBuffer, tensors: Map<String, Initializer>, inline: Int = INLINE): Filled {
        if (tensors.isEmpty()) return Filled(model, emptyMap())
        val beside = tensors.filterValues { it.data.limit() > inline }
        val graph = ByteArrayOutputStream()
        for ((name, value) in tensors) {
            graph.write(Protobuf.field(Protobuf.GRAPH_INITIALIZER, tensor(name, value, name in beside)))
        }
        return Filled(joined(model, Protobuf.field(Protobuf.MODEL_GRAPH, graph.toByteArray())), beside)
    }

    /** A model whose graph answers further float values, of any shape, behind its own. */
    fun withOutputs(model: ByteBuffer, names: List<String>): ByteBuffer {
        val float = Protobuf.number(1, OnnxType.FLOAT32.number)
        val kind = Protobuf.field(Protobuf.VALUE_TYPE, Protobuf.field(1, float))
        val outputs = joined(
            names.map { Protobuf.field(Protobuf.GRAPH_OUTPUT, Protobuf.field(Protobuf.VALUE_NAME, it) + kind) },
        )
        return joined(model, Protobuf.field(Protobuf.MODEL_GRAPH, outputs))
    }

    /** A model whose inputs have no values of their own; the same bytes where they have none. */
    fun withoutDefaults(model: ByteBuffer): ByteBuffer {
        val pieces = ArrayList<ByteBuffer>()
        var last = 0
        for (field in Protobuf.fields(model, Protobuf.all(model))) {
            val graph = field.content
            val kept = if (field.number == Protobuf.MODEL_GRAPH) kept(model, graph) else listOf(graph)
            if (kept.size > 1) {
                val length = Protobuf.encode(kept.sumOf { it.size.toLong() })
                pieces += ByteBuffer.wrap(Protobuf.encode(field.number.toLong() shl 3 or 2) + length)
                kept.mapTo(pieces) { model.slice(it) }
            } else {
                pieces += model.slice(Span(last, graph.end))
            }
            last = graph.end
        }
        val size = pieces.sumOf { it.remaining().toLong() }
        if (size == model.limit().toLong()) return model
        val found = Tensor.direct(size)
        for (piece in pieces) found.put(piece)
        found.rewind()
        return found
    }

    /** What is left of a graph without the initializers that are also its inputs: spans, one if that is all of it. */
    private fun kept(model: ByteBuffer, graph: Span): List<Span> {
        fun name(span: Span, number: Int) = Protobuf.fields(model, span, number).firstOrNull()?.let { model.slice(it) }
        val inputs = Protobuf.fields(model, graph, Protobuf.GRAPH_INPUT).mapTo(HashSet()) { name(it, Protobuf.VALUE_NAME) }
        val found = ArrayList<Span>()
        var begin = graph.begin
        var last = graph.begin
        for (field in Protobuf.fields(model, graph)) {
            if (field.number == Protobuf.GRAPH_INITIALIZER && name(field.content, Protobuf.TENSOR_NAME) in inputs) {
                found += Span(begin, last)
                begin = field.content.end
            }
            last = field.content.end
        }
        return found + Span(begin, graph.end)
    }

    /** A model without some nodes, and all names that the others read. */
    class Thinned(val data: ByteBuffer, val read: Set<String>)

    /** A model without the nodes of these numbers, the others reading renamed values by their new names. */
    fun withoutNodes(model: ByteBuffer, leftOut: Set<Int>, renamed: Map<String, String>): Thinned {
        val read = HashSet<String>()
        var number = 0
        val found = Protobuf.rewritten(model, Protobuf.all(model)) { field, graph ->
            if (field != Protobuf.MODEL_GRAPH) return@rewritten Protobuf.Change.Keep
            Protobuf.Change.Put(
                Protobuf.rewritten(model, graph) { part, node ->
                    when {
                        part != Protobuf.GRAPH_NODE -> Protobuf.Change.Keep
                        number++ in leftOut -> Protobuf.Change.Drop
                        else -> Protobuf.Change.Put(
                            Protobuf.rewritten(model, node) { of, name -> renamed(model, of, name, renamed, read) },
                        )
                    }
                },
            )
        }
        return Thinned(joined(Tensor.direct(0), found), read)
    }

    private fun renamed(
        model: ByteBuffer, field: Int, span: Span, renamed: Map<String, String>, read: MutableSet<String>,
    ): Protobuf.Change {
        if (field != Protobuf.NODE_INPUT) return Protobuf.Change.Keep
        val name = model.text(span)
        val other = renamed[name]
        read += other ?: name
        return if (other == null) Protobuf.Change.Keep else Protobuf.Change.Put(other.toByteArray())
    }

    /** A model of one graph, without initializers. */
    fun message(
        nodes: List<ByteArray>, inputs: List<ByteArray>, outputs: List<ByteArray>, opset: Long, version: Long,
    ): ByteBuffer {
        val parts = listOf(Protobuf.GRAPH_NODE to nodes, Protobuf.GRAPH_INPUT to inputs, Protobuf.GRAPH_OUTPUT to outputs)
        val graph = joined(
            listOf(Protobuf.field(Protobuf.GRAPH_NAME, "edgepatch")) +
                parts.flatMap { (number, contents) -> contents.map { Protobuf.field(number, it) } },
        )
        val operators = Protobuf.field(Protobuf.OPSET_DOMAIN, "") + Protobuf.number(Protobuf.OPSET_VERSION, opset)
        return joined(
            Tensor.direct(0),
            Protobuf.number(Protobuf.MODEL_IR_VERSION, version),
            Protobuf.field(Protobuf.MODEL_OPSET, operators),
            Protobuf.field(Protobuf.MODEL_GRAPH, graph),
        )
    }

    /** A node of one output, which it is named by; attributes are Long, String or lists of Long. */
    fun node(operator: String, inputs: List<String>, output: String, vararg attributes: Pair<String, Any>): ByteArray {
        val parts = inputs.mapTo(ArrayList()) { Protobuf.field(Protobuf.NODE_INPUT, it) }
        parts += Protobuf.field(Protobuf.NODE_OUTPUT, output)
        parts += Protobuf.field(Protobuf.NODE_NAME, output)
        parts += Protobuf.field(Protobuf.NODE_OPERATOR, operator)
        for ((name, value) in attributes) {
            val (kind, content) = attribute(value)
            val type = Protobuf.number(Protobuf.ATTRIBUTE_TYPE, kind)
            parts += Protobuf.field(Protobuf.NODE_ATTRIBUTE, Protobuf.field(Protobuf.ATTRIBUTE_NAME, name) + content + type)
        }
        return joined(parts)
    }

    /** A float input or output of a graph. */
    fun valueInfo(name: String, shape: List<Int>): ByteArray {
        val sides = joined(shape.map { Protobuf.field(1, Protobuf.number(Protobuf.DIMENSION_VALUE, it.toLong())) })
        val kind = Protobuf.number(1, OnnxType.FLOAT32.number) + Protobuf.field(2, sides)
        return Protobuf.field(Protobuf.VALUE_NAME, name) + Protobuf.field(Protobuf.VALUE_TYPE, Protobuf.field(1, kind))
    }

    /** An attribute's AttributeType and its value's field. */
    private fun attribute(value: Any): Pair<Long, ByteArray> = when (value) {
        is Long -> 2L to Protobuf.number(3, value)
        is String -> 3L to Protobuf.field(4, value)
        else -> 7L to joined((value as List<*>).map { Protobuf.number(8, it as Long) })
    }

    private fun tensor(name: String, value: Initializer, external: Boolean): ByteArray {
        val parts = value.shape.mapTo(ArrayList()) { Protobuf.number(Protobuf.TENSOR_DIMS, it.toLong()) }
        parts += Protobuf.number(Protobuf.TENSOR_TYPE, value.type.number)
        parts += Protobuf.field(Protobuf.TENSOR_NAME, name)
        if (external) {
            val entries = listOf("location" to "edgepatch", "offset" to "0", "length" to "${value.data.limit()}")
            for ((key, text) in entries) {
                val entry = Protobuf.field(Protobuf.ENTRY_KEY, key) + Protobuf.field(Protobuf.ENTRY_VALUE, text)
                parts += Protobuf.field(Protobuf.TENSOR_EXTERNAL, entry)
            }
            parts += Protobuf.number(Protobuf.TENSOR_LOCATION, Protobuf.EXTERNAL.toLong())
        } else {
            parts += Protobuf.field(Protobuf.TENSOR_RAW, value.data.bytes(Protobuf.all(value.data)))
        }
        return joined(parts)
    }

    private fun joined(parts: List<ByteArray>): ByteArray {
        val found = ByteArrayOutputStream(parts.sumOf { it.size })
        for (part in parts) found.write(part)
        return found.toByteArray()
    }

    private fun joined(model: ByteBuffer, vararg more: ByteArray): ByteBuffer =
        io.edgepatch.patchkit.graph.joined(model, *more)
}
