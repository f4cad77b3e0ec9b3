package io.edgepatch.patchkit.bake

import io.edgepatch.patchkit.graph.GraphFormat
import io.edgepatch.patchkit.graph.Initializer
import io.edgepatch.patchkit.graph.OnnxWriter
import io.edgepatch.patchkit.model.HeadNetwork
import io.edgepatch.patchkit.model.Layer
import io.edgepatch.patchkit.model.Tensor

/**
 * A head's network as an .onnx of its own, from maps of these [shapes], (1, channels, side, side), as the trunk makes
 * them; outputs are (1, side, side, channels) as in a .tflite.
 *
 * Throws [IllegalArgumentException]: the maps do not go together in it, or it takes too much memory.
 *
 * @param weights `head/NAME/kernel` and `head/NAME/bias`, float32.
 */
internal class OnnxHeadWriter(
    private val network: HeadNetwork,
    private val weights: Map<String, Tensor>,
    private val shapes: Map<String, List<Int>>,
) {
    private val sides = network.sides(shapes.mapValues { it.value[2] })
    private val widths = network.widths(shapes.mapValues { it.value[1] })
    private val constants = linkedMapOf(
        "relu6/low" to Initializer.floats(floatArrayOf(0f), emptyList()),
        "relu6/high" to Initializer.floats(floatArrayOf(6f), emptyList()),
    )

    init {
        network.requireRoom(sides, widths)
    }

    fun model(): Model {
        val nodes = network.layers.flatMap { layer(it) } +
            network.outputs.map { OnnxWriter.node("Transpose", listOf(it), "$it/nhwc", "perm" to listOf(0L, 2L, 3L, 1L)) }
        val inputs = network.maps.map { OnnxWriter.valueInfo(it, shapes.getValue(it)) }
        val outputs = network.outputs.map { name ->
            val side = sides.getValue(name)
            OnnxWriter.valueInfo("$name/nhwc", listOf(1, side, side, widths.getValue(name)))
        }
        val data = OnnxWriter.message(nodes, inputs, outputs, OPSET, IR_VERSION)
        return Model(OnnxWriter.withInitializers(data, constants, inline = Int.MAX_VALUE).data)
    }

    /** The nodes of one layer; adds to the constants. */
    private fun layer(layer: Layer): List<ByteArray> {
        val apart = layer.activation != "linear"
        val output = if (apart) "${layer.name}/plain" else layer.name
        val found = when (layer.op) {
            "mean" -> OnnxWriter.node("GlobalAveragePool", layer.inputs, output)
            "resize" -> resize(layer, output)
            "add" -> OnnxWriter.node("Add", layer.inputs, output)
            "multiply" -> OnnxWriter.node("Mul", layer.inputs, output)
            else -> convolution(layer, output)
        }
        if (!apart) return listOf(found)
        return listOf(
            found,
            when (layer.activation) {
                "relu" -> OnnxWriter.node("Relu", listOf(output), layer.name)
                "relu6" -> OnnxWriter.node("Clip", listOf(output, "relu6/low", "relu6/high"), layer.name)
                else -> OnnxWriter.node("Sigmoid", listOf(output), layer.name)
            },
        )
    }

    private fun resize(layer: Layer, output: String): ByteArray {
        val sizes = "${layer.name}/sizes"
        val side = sides.getValue(layer.name).toLong()
        constants[sizes] = Initializer.longs(1, widths.getValue(layer.name).toLong(), side, side)
        return OnnxWriter.node(
            "Resize", listOf(layer.inputs[0], "", "", sizes), output,
            "mode" to "linear", "coordinate_transformation_mode" to "half_pixel",
        )
    }

    private fun convolution(layer: Layer, output: String): ByteArray {
        val name = "${HeadNetwork.PREFIX}${layer.name}"
        val kernel = weights.getValue("$name/kernel")
        val depthwise = layer.op == "depthwise"
        constants["$name/kernel"] = transposed(kernel)
        constants["$name/bias"] = weights.getValue("$name/bias").let { Initializer.floats(it.floats(), it.shape) }
        return OnnxWriter.node(
            "Conv", layer.inputs + listOf("$name/kernel", "$name/bias"), output,
            "kernel_shape" to listOf(layer.kernel.toLong(), layer.kernel.toLong()),
            "strides" to listOf(layer.stride.toLong(), layer.stride.toLong()),
            "group" to if (depthwise) widths.getValue(layer.name).toLong() else 1L,
            "auto_pad" to "SAME_UPPER",
        )
    }

    /** HWIO as (out, in, height, width), a depthwise one's (height, width, channels) as (channels, 1, height, width). */
    private fun transposed(kernel: Tensor): Initializer {
        val (height, width) = kernel.shape
        val inputs = if (kernel.shape.size == 4) kernel.shape[2] else 1
        val outputs = kernel.shape.last()
        val found = FloatArray(kernel.count)
        var place = 0
        for (output in 0 until outputs) for (input in 0 until inputs) for (pixel in 0 until height * width) {
            found[place++] = kernel.float((pixel * inputs + input) * outputs + output)
        }
        return Initializer.floats(found, listOf(outputs, inputs, height, width))
    }

    private companion object {
        const val OPSET = 17L
        const val IR_VERSION = 8L
    }
}

/** A head's network with its weights as a model of a format, from maps of these shapes as the trunk makes them. */
internal fun HeadNetwork.model(format: GraphFormat, weights: Map<String, Tensor>, shapes: Map<String, List<Int>>): Model =
    when (format) {
        GraphFormat.TFLITE -> TfliteHeadWriter(this, weights, shapes).model()
        GraphFormat.ONNX -> OnnxHeadWriter(this, weights, shapes).model()
    }
