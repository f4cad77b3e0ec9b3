package io.edgepatch.patchkit.graph

import io.edgepatch.patchkit.errors.begin
import java.nio.ByteBuffer

/**
 * Which operators a shared graph may have: those that edgepatch exports.
 *
 * They compute, and do nothing else: none loops, keeps state, calls code of somebody's or reads another file.
 * Interpreters run and open more than that, whatever the graph says of itself.
 */
internal object Operators {
    /** Of a .tflite, by the schema's numbers. */
    private val TFLITE = mapOf(
        0L to "ADD",
        3L to "CONV_2D",
        4L to "DEPTHWISE_CONV_2D",
        6L to "DEQUANTIZE",
        9L to "FULLY_CONNECTED",
        18L to "MUL",
        34L to "PAD",
        40L to "MEAN",
        102L to "SPLIT_V",
        114L to "QUANTIZE",
        117L to "HARD_SWISH",
        126L to "BATCH_MATMUL",
    )
    private val ONNX = setOf(
        "Add", "BatchNormalization", "Cast", "Clip", "Conv", "DequantizeLinear", "Flatten", "Gemm", "GlobalAveragePool",
        "HardSigmoid", "HardSwish", "Mul", "QuantizeLinear", "Relu", "Reshape", "Split", "Transpose",
    )

    // fields of ModelProto, GraphProto and AttributeProto that say nothing which is not looked at
    private val MODEL = setOf(1, 2, 3, 4, 5, 6, 7, 8, 14)
    private val GRAPH = setOf(1, 2, 5, 10, 11, 12, 13)
    private val ATTRIBUTE = setOf(1, 2, 3, 4, 7, 8, 9, 13, 20)

    /** Refuses a .tflite with other operators, or with bytes elsewhere; throws as [Table] does. */
    fun requireTflite(data: ByteBuffer) {
        val model = Flatbuffer.root(data)
        for (position in model.tables(Schema.MODEL_CODES)) {
            val code = Table(data, position)
            val number = maxOf(code.byte(Schema.CODE_OLD).toLong(), code.number(Schema.CODE).toLong() and 0xffffffffL)
            require(code.at(Schema.CODE_CUSTOM) == null && number in TFLITE) {
                "operator $number is not one of ${TFLITE.values.joinToString(", ")}"
            }
        }
        val buffers = model.tables(Schema.MODEL_BUFFERS).map { Table(data, it) }
        val elsewhere = listOf(Schema.MODEL_GROUPS, Schema.MODEL_FILES).any { model.at(it) != null } ||
            buffers.any { it.at(Schema.BUFFER_OFFSET) != null }
        require(!elsewhere) { "a buffer's bytes are elsewhere" }
    }

    /**
     * Refuses an .onnx with other operators, with graphs within operators, or with weights in other files; throws as
     * [Protobuf] does.
     */
    fun requireOnnx(model: ByteBuffer) {
        for (part in Protobuf.fields(model, Protobuf.all(model))) {
            require(part.number in MODEL) { "the model has a field ${part.number}" }
            if (part.number == Protobuf.MODEL_GRAPH) requireGraph(model, part.content)
        }
    }

    private fun requireGraph(model: ByteBuffer, graph: Span) {
        for (part in Protobuf.fields(model, graph)) {
            require(part.number in GRAPH) { "the graph has a field ${part.number}" }
            if (part.number == Protobuf.GRAPH_NODE) {
                requireNode(model, part.content)
            } else if (part.number == Protobuf.GRAPH_INITIALIZER) {
                val elsewhere = Protobuf.fields(model, part.content)
                    .any { it.number == Protobuf.TENSOR_EXTERNAL || it.number == Protobuf.TENSOR_LOCATION }
                require(!elsewhere) { "an initializer's values are in another file" }
            }
        }
    }

    private fun requireNode(model: ByteBuffer, node: Span) {
        for (part in Protobuf.fields(model, node)) {
            when (part.number) {
                Protobuf.NODE_OPERATOR -> require(model.text(part.content) in ONNX) {
                    "operator ${begin(model.text(part.content), 40)} is not one of ${ONNX.joinToString(", ")}"
                }
                Protobuf.NODE_DOMAIN -> require(part.content.size == 0) { "an operator is of a domain of its own" }
                Protobuf.NODE_ATTRIBUTE -> for (inner in Protobuf.fields(model, part.content)) {
                    require(inner.number in ATTRIBUTE) { "an attribute has a field ${inner.number}" }
                }
            }
        }
    }
}
