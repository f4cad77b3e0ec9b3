package io.edgepatch.patchkit.engine

import ai.onnxruntime.OnnxJavaType
import ai.onnxruntime.OnnxTensor
import ai.onnxruntime.OrtEnvironment
import ai.onnxruntime.OrtLoggingLevel
import ai.onnxruntime.OrtSession
import ai.onnxruntime.TensorInfo
import io.edgepatch.patchkit.bake.Model
import io.edgepatch.patchkit.bake.OnnxBaking
import io.edgepatch.patchkit.graph.GraphFormat
import io.edgepatch.patchkit.graph.Initializer
import io.edgepatch.patchkit.graph.OnnxType
import io.edgepatch.patchkit.graph.OnnxWriter
import io.edgepatch.patchkit.model.DType
import io.edgepatch.patchkit.model.Tensor

/** ONNX Runtime, from `com.microsoft.onnxruntime:onnxruntime-android` or, on a JVM, `onnxruntime`. */
object OnnxRuntime : EngineKind {
    override val name = "ONNX Runtime"
    override val format = GraphFormat.ONNX
    override val needs = "ai.onnxruntime.OrtEnvironment"
    override val artifact = "com.microsoft.onnxruntime:onnxruntime-android"

    override fun open(model: Model, threads: Int): Engine = OrtEngine(model, threads)
}

/**
 * An .onnx session.
 *
 * It reads large weights, the bound values and images where they lie, so that all of them are kept here; from its second
 * run on it writes outputs into buffers of ours, for their shapes are known then.
 */
private class OrtEngine(model: Model, threads: Int) : Engine {
    private val environment = OrtEnvironment.getEnvironment()
    private val weights = ArrayList<OnnxTensor>()
    private val options = OrtSession.SessionOptions()
    private val session: OrtSession
    private val image: String
    private var bound: Map<String, OnnxTensor> = emptyMap()
    private var shapes: Map<String, List<Int>> = emptyMap()
    private val pinned = LinkedHashMap<String, OnnxTensor>()
    private val answers = LinkedHashMap<String, Tensor>()

    override val imageShape: List<Int>?

    init {
        try {
            options.setIntraOpNumThreads(threads)
            options.setInterOpNumThreads(1)
            options.setSessionLogLevel(OrtLoggingLevel.ORT_LOGGING_LEVEL_ERROR)
            // known at once, it costs nothing; found at every run, it would
            model.size?.let { options.setSymbolicDimensionValue(OnnxBaking.SIDE, it.toLong()) }
            val filled = OnnxWriter.withInitializers(model.data, model.tensors)
            if (filled.beside.isNotEmpty()) {
                val beside = filled.beside.mapValues { (_, value) -> tensor(value).also { weights += it } }
                options.addExternalInitializers(beside)
            }
            // its Java interface gives no others to inputs that have values of their own
            session = environment.createSession(OnnxWriter.withoutDefaults(filled.data), options)
            val inputs = session.inputInfo
            image = if (IMAGE in inputs) IMAGE else requireNotNull(inputs.keys.firstOrNull()) { "it has no input" }
            val info = inputs.getValue(image).info as TensorInfo
            imageShape = if (info.type == OnnxJavaType.FLOAT) info.shape.map { Math.max(1, it.toInt()) } else null
        } catch (error: Throwable) {
            weights.forEach { it.close() }
            options.close()
            throw error
        }
    }

    override fun bind(values: Map<String, Tensor>) {
        val shapes = values.mapValues { it.value.shape }
        if (shapes != this.shapes) forget() // the outputs' shapes may be others, too
        bound.values.forEach { it.close() }
        bound = emptyMap() // should this fail half-way, nothing is taken for bound
        bound = values.mapValues { (_, value) -> tensor(value) }
        this.shapes = shapes
    }

    override fun run(image: Tensor): Map<String, Tensor> {
        tensor(image).use { given ->
            val inputs = bound + (this.image to given)
            if (pinned.isEmpty()) session.run(inputs).use { pin(it) } else session.run(inputs, pinned).close()
        }
        return answers
    }

    override fun close() {
        forget()
        bound.values.forEach { it.close() }
        bound = emptyMap()
        session.close()
        options.close()
        weights.forEach { it.close() }
        weights.clear()
    }

    /** Keeps the first outputs in buffers of ours, into which the following ones are written. */
    private fun pin(result: OrtSession.Result) {
        for ((name, value) in result) {
            val info = (value as OnnxTensor).info
            require(info.type == OnnxJavaType.FLOAT) { "the output $name is of ${info.type}" }
            val bytes = value.byteBuffer
            val data = Tensor.direct(bytes.remaining().toLong())
            data.put(bytes)
            data.rewind()
            val answer = Tensor(DType.F32, info.shape.map { it.toInt() }, data)
            answers[name] = answer
            pinned[name] = tensor(answer)
        }
    }

    private fun forget() {
        pinned.values.forEach { it.close() }
        pinned.clear()
        answers.clear()
    }

    private fun tensor(value: Tensor): OnnxTensor =
        OnnxTensor.createTensor(environment, value.data.asFloatBuffer(), sides(value.shape))

    private fun tensor(value: Initializer): OnnxTensor =
        OnnxTensor.createTensor(environment, value.data, sides(value.shape), TYPES.getValue(value.type))

    private fun sides(shape: List<Int>) = LongArray(shape.size) { shape[it].toLong() }

    private companion object {
        const val IMAGE = "image"
        val TYPES = mapOf(
            OnnxType.FLOAT32 to OnnxJavaType.FLOAT,
            OnnxType.UINT8 to OnnxJavaType.UINT8,
            OnnxType.INT8 to OnnxJavaType.INT8,
            OnnxType.INT32 to OnnxJavaType.INT32,
            OnnxType.INT64 to OnnxJavaType.INT64,
        )
    }
}
