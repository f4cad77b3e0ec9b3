package io.edgepatch.patchkit.engine

import io.edgepatch.patchkit.bake.Model
import io.edgepatch.patchkit.graph.GraphFormat
import io.edgepatch.patchkit.graph.little
import io.edgepatch.patchkit.model.DType
import io.edgepatch.patchkit.model.Tensor
import org.tensorflow.lite.DataType
import org.tensorflow.lite.Interpreter
import java.nio.ByteBuffer
import org.tensorflow.lite.Tensor as Held

/** TensorFlow Lite's Java interpreter, from `org.tensorflow:tensorflow-lite`. */
object TfLite : EngineKind {
    override val name = "TensorFlow Lite"
    override val format = GraphFormat.TFLITE
    override val needs = "org.tensorflow.lite.Interpreter"
    override val artifact = "org.tensorflow:tensorflow-lite"

    override fun open(model: Model, threads: Int): Engine = TfLiteEngine(model, threads)
}

/**
 * A .tflite with one signature, or a plain one; the interpreter reads its bytes where they lie.
 *
 * The inputs are given by name, never by index: converters order them as they like.
 */
private class TfLiteEngine(model: Model, threads: Int) : Engine {
    private val interpreter = Interpreter(model.data.little(), Interpreter.Options().setNumThreads(threads))
    private val signature: String? = interpreter.signatureKeys.firstOrNull()

    /** Places of the inputs among the model's own, by the signature's names or, without one, the tensors'. */
    private val places: Map<String, Int> = inputs()

    /**
     * Likewise of the outputs. Those behind the signature's one are maps, which it does not name: so many that asking it
     * for all of its names would read beyond their end.
     */
    private val outputs: Map<String, Int> = outputs()

    private val image: String =
        if (IMAGE in places) IMAGE else requireNotNull(places.keys.firstOrNull()) { "it has no input" }
    private val shapes = HashMap<String, List<Int>>()
    private var bound: Map<String, Tensor> = emptyMap()
    private val scratch = HashMap<String, ByteBuffer>()

    override val imageShape: List<Int>? = interpreter.getInputTensor(places.getValue(image))
        .let { if (it.dataType() == DataType.FLOAT32) it.shape().toList() else null }

    /** A number of classes that the graph was not laid out for lays it out anew. */
    override fun bind(values: Map<String, Tensor>) {
        bound = emptyMap() // should this fail half-way, nothing is taken for bound
        for ((name, value) in values) {
            if (shapes[name] == value.shape) continue
            shapes.remove(name)
            interpreter.resizeInput(places.getValue(name), value.shape.toIntArray())
            shapes[name] = value.shape
        }
        bound = values
    }

    override fun run(image: Tensor): Map<String, Tensor> {
        if (signature != null) {
            val inputs = HashMap<String, Any>()
            for ((name, value) in bound) inputs[name] = value.data
            inputs[this.image] = image.data
            interpreter.runSignature(inputs, HashMap<String, Any>(), signature)
        } else {
            val inputs = arrayOfNulls<Any>(places.size)
            for ((name, value) in bound) inputs[places.getValue(name)] = value.data
            inputs[places.getValue(this.image)] = image.data
            interpreter.runForMultipleInputsOutputs(inputs, HashMap<Int, Any>())
        }
        return outputs.mapValues { (name, place) -> answer(name, interpreter.getOutputTensor(place)) }
    }

    override fun close() = interpreter.close()

    /** An output where it lies; of an int8 one its real values. */
    private fun answer(name: String, held: Held): Tensor {
        val shape = held.shape().toList()
        val stored = held.asReadOnlyBuffer().little()
        stored.rewind()
        if (held.dataType() == DataType.FLOAT32) return Tensor(DType.F32, shape, stored)
        require(held.dataType() == DataType.INT8) { "the output $name is of ${held.dataType()}" }
        val steps = held.quantizationParams()
        val zero = steps.zeroPoint.toFloat()
        val values = scratch[name]?.takeIf { it.limit() == 4 * stored.limit() }
            ?: Tensor.direct(4L * stored.limit()).also { scratch[name] = it }
        for (i in 0 until stored.limit()) values.putFloat(4 * i, (stored.get(i) - zero) * steps.scale)
        return Tensor(DType.F32, shape, values)
    }

    private fun inputs(): Map<String, Int> {
        val held = (0 until interpreter.inputTensorCount).map { interpreter.getInputTensor(it) }
        if (signature == null) return held.indices.associateBy { held[it].name() }
        val numbers = held.map { it.index() }
        return interpreter.getSignatureInputs(signature).associateWith { name ->
            numbers.indexOf(interpreter.getInputTensorFromSignature(name, signature).index())
        }
    }

    private fun outputs(): Map<String, Int> {
        val answer = signature?.let { interpreter.getOutputTensorFromSignature(LOGITS, it).index() }
        return (0 until interpreter.outputTensorCount).associateBy { place ->
            interpreter.getOutputTensor(place).let { if (it.index() == answer) LOGITS else it.name() }
        }
    }

    private companion object {
        const val IMAGE = "image"

        /** What a graph's own dense layer answers. */
        const val LOGITS = "logits"
    }
}
