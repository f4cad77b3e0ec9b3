package io.edgepatch.patchkit.bake

import io.edgepatch.patchkit.graph.FlatbufferWriter
import io.edgepatch.patchkit.graph.FlatbufferWriter.Companion.byte
import io.edgepatch.patchkit.graph.FlatbufferWriter.Companion.data
import io.edgepatch.patchkit.graph.FlatbufferWriter.Companion.number
import io.edgepatch.patchkit.graph.FlatbufferWriter.Companion.numbers
import io.edgepatch.patchkit.graph.FlatbufferWriter.Fields
import io.edgepatch.patchkit.graph.FlatbufferWriter.Tables
import io.edgepatch.patchkit.graph.FlatbufferWriter.Text
import io.edgepatch.patchkit.graph.FlatbufferWriter.Value
import io.edgepatch.patchkit.graph.Schema
import io.edgepatch.patchkit.model.HeadNetwork
import io.edgepatch.patchkit.model.Layer
import io.edgepatch.patchkit.model.Tensor

/**
 * A head's network as a .tflite of its own, from maps of these [shapes], (1, side, side, channels), to its outputs, alike.
 *
 * Throws [IllegalArgumentException]: the maps do not go together in it, or it takes too much memory.
 *
 * @param weights `head/NAME/kernel` and `head/NAME/bias`, float32.
 */
internal class TfliteHeadWriter(
    private val network: HeadNetwork,
    private val weights: Map<String, Tensor>,
    shapes: Map<String, List<Int>>,
) {
    private val sides = network.sides(shapes.mapValues { it.value[1] })
    private val widths = network.widths(shapes.mapValues { it.value[3] })
    private val buffers = arrayListOf(Fields()) // the first one is empty, by convention
    private val codes = ArrayList<Op>()
    private val tensors = ArrayList<Fields>()
    private val operators = ArrayList<Fields>()
    private val values = HashMap<String, Int>()

    init {
        network.requireRoom(sides, widths)
    }

    /** The schema's numbers of an operator and of its kind of options, and from which version on it does what is asked. */
    private enum class Op(val code: Int, val options: Int = 0, val version: Int = 1) {
        ADD(0, 11),
        CONV_2D(3, 1),
        DEPTHWISE_CONV_2D(4, 2),
        LOGISTIC(14),
        MUL(18, 21),
        RESIZE_BILINEAR(23, 15, 3), // knows of pixels' centres
        MEAN(40, 27),
    }

    /** An operator of a layer, its inputs beside other layers, and its options. */
    private class Step(val op: Op, val constants: List<Int>, val options: Map<Int, Value>)

    fun model(): Model {
        for (name in network.maps) values[name] = activation(name, name)
        for (layer in network.layers) values[layer.name] = lay(layer)
        val subgraph = Fields(
            Schema.SUBGRAPH_TENSORS to Tables(tensors),
            Schema.SUBGRAPH_INPUTS to numbers(network.maps.map { values.getValue(it) }),
            Schema.SUBGRAPH_OUTPUTS to numbers(network.outputs.map { values.getValue(it) }),
            Schema.SUBGRAPH_OPERATORS to Tables(operators),
        )
        val root = Fields(
            0 to number(VERSION),
            Schema.MODEL_CODES to Tables(
                codes.map { Fields(0 to byte(it.code), 2 to number(it.version), 3 to number(it.code)) },
            ),
            Schema.MODEL_SUBGRAPHS to Tables(listOf(subgraph)),
            3 to Text("edgepatch head"),
            Schema.MODEL_BUFFERS to Tables(buffers),
        )
        return Model(FlatbufferWriter.build(root, "TFL3"))
    }

    private fun lay(layer: Layer): Int {
        val apart = layer.activation == "sigmoid"
        val inputs = layer.inputs.map { values.getValue(it) }
        val step = step(layer)
        val plain = activation(if (apart) "${layer.name}/plain" else layer.name, layer.name)
        add(step.op, (if (layer.op == "resize") inputs.take(1) else inputs) + step.constants, plain, step.options)
        if (!apart) return plain
        return activation(layer.name, layer.name).also { add(Op.LOGISTIC, listOf(plain), it, null) }
    }

    private fun step(layer: Layer): Step = when (layer.op) {
        "mean" -> Step(Op.MEAN, listOf(integers("${layer.name}/axes", 1, 2)), mapOf(0 to byte(1)))
        "resize" -> { // centres at halves
            val side = sides.getValue(layer.name)
            Step(Op.RESIZE_BILINEAR, listOf(integers("${layer.name}/size", side, side)), mapOf(3 to byte(1)))
        }
        "add" -> Step(Op.ADD, emptyList(), mapOf(0 to fused(layer)))
        "multiply" -> Step(Op.MUL, emptyList(), mapOf(0 to fused(layer)))
        else -> convolution(layer)
    }

    private fun convolution(layer: Layer): Step {
        val name = "${HeadNetwork.PREFIX}${layer.name}"
        val kernel = weights.getValue("$name/kernel")
        val stride = number(layer.stride)
        val padding = mapOf(Schema.CONVOLUTION_PADDING to byte(0), 1 to stride, 2 to stride) // same
        if (layer.op == "depthwise") {
            val constants = listOf(floats("$name/kernel", listOf(1) + kernel.shape, kernel.toByteArray()), bias(name))
            return Step(Op.DEPTHWISE_CONV_2D, constants, padding + mapOf(3 to number(1), 4 to fused(layer)))
        }
        val (height, width, inputs, outputs) = kernel.shape
        val shape = listOf(outputs, height, width, inputs)
        val constants = listOf(floats("$name/kernel", shape, outermost(kernel, outputs)), bias(name))
        return Step(Op.CONV_2D, constants, padding + mapOf(3 to fused(layer)))
    }

    private fun fused(layer: Layer) = byte(FUSED.getValue(layer.activation))

    private fun bias(name: String): Int =
        weights.getValue("$name/bias").let { floats("$name/bias", it.shape, it.toByteArray()) }

    /** The bytes of a kernel with its last side first. */
    private fun outermost(kernel: Tensor, outputs: Int): ByteArray {
        val found = Tensor.direct(kernel.data.limit().toLong())
        val rest = kernel.count / outputs
        for (output in 0 until outputs) {
            for (weight in 0 until rest) {
                found.putFloat(4 * (output * rest + weight), kernel.data.getFloat(4 * (weight * outputs + output)))
            }
        }
        return ByteArray(found.limit()).also { found.get(it) }
    }

    private fun add(op: Op, inputs: List<Int>, output: Int, options: Map<Int, Value>?) {
        if (op !in codes) codes += op
        val row = linkedMapOf(
            Schema.OPERATOR_CODE to number(codes.indexOf(op)),
            Schema.OPERATOR_INPUTS to numbers(inputs),
            Schema.OPERATOR_OUTPUTS to numbers(listOf(output)),
        )
        if (options != null) {
            row[Schema.OPERATOR_KIND] = byte(op.options)
            row[Schema.OPERATOR_OPTIONS] = Fields(options)
        }
        operators += Fields(row)
    }

    /** A value of the shape that a map or layer has. */
    private fun activation(name: String, like: String): Int {
        val side = sides.getValue(like)
        return tensor(name, listOf(1, side, side, widths.getValue(like)), 0, FLOAT)
    }

    private fun integers(name: String, vararg values: Int): Int =
        constant(name, listOf(values.size), numbers(values.toList()).content, INTEGER)

    private fun floats(name: String, shape: List<Int>, content: ByteArray): Int = constant(name, shape, content, FLOAT)

    private fun constant(name: String, shape: List<Int>, content: ByteArray, type: Int): Int {
        buffers += Fields(Schema.BUFFER_DATA to data(content))
        return tensor(name, shape, buffers.size - 1, type)
    }

    private fun tensor(name: String, shape: List<Int>, buffer: Int, type: Int): Int {
        tensors += Fields(
            Schema.TENSOR_SHAPE to numbers(shape),
            Schema.TENSOR_TYPE to byte(type),
            Schema.TENSOR_BUFFER to number(buffer),
            Schema.TENSOR_NAME to Text(name),
        )
        return tensors.size - 1
    }

    private companion object {
        /** Of the schema. */
        const val VERSION = 3

        // TensorType
        const val FLOAT = 0
        const val INTEGER = 2
        val FUSED = mapOf("linear" to 0, "relu" to 1, "relu6" to 3, "sigmoid" to 0)
    }
}
