package org.tensorflow.lite

import org.bytedeco.javacpp.BytePointer
import org.bytedeco.javacpp.Pointer
import org.bytedeco.tensorflowlite.BuiltinOpResolverWithXNNPACK
import org.bytedeco.tensorflowlite.InterpreterBuilder
import org.bytedeco.tensorflowlite.TfLiteTensor
import java.nio.ByteBuffer
import java.nio.ByteOrder
import org.bytedeco.tensorflowlite.Interpreter as Handle
import org.bytedeco.tensorflowlite.global.tensorflowlite as c

/**
 * Stands in, on a JVM, for the class of this name in `org.tensorflow:tensorflow-lite`, whose native library is Android's
 * alone: as much of it as patchkit calls, over TensorFlow Lite as `org.bytedeco:tensorflow-lite` has it for desktops. So
 * tests run the very class that runs in an app, against a real interpreter, with XNNPACK as there. InterpreterTest holds
 * its methods against the real class's.
 *
 * What the real one refuses, this one does, too: buffers that are not direct, not in native order or not of the tensor's
 * size, inputs that are missing, calls after [close]. As there, models are verified before they are read, and all of a
 * model's inputs are handed over at each run.
 */
class Interpreter(private val data: ByteBuffer, options: Options) : AutoCloseable {
    class Options {
        internal var threads = -1

        fun setNumThreads(threads: Int): Options = apply { this.threads = threads }
    }

    private val resolver = BuiltinOpResolverWithXNNPACK()
    private var handle: Handle? = null
    private var allocated = true

    init {
        require(data.isDirect && data.order() == ByteOrder.nativeOrder()) { "Model ByteBuffer should be a direct one" }
        val bytes = BytePointer(data)
        val verified = c.TfLiteModelCreate(bytes, data.capacity().toLong())
            ?: throw IllegalArgumentException("ByteBuffer is not a valid TensorFlow Lite model flatbuffer")
        c.TfLiteModelDelete(verified)
        val made = Handle(null as Pointer?)
        val status = InterpreterBuilder(bytes.getPointer(data.getInt(0).toLong()), resolver).apply(made, options.threads)
        require(status == c.kTfLiteOk) { "Internal error: Cannot create interpreter" }
        handle = made
        check(made.AllocateTensors(), "Unexpected failure when preparing tensor allocations")
    }

    fun getSignatureKeys(): Array<String> =
        open().signature_keys().let { keys -> Array(keys.size().toInt()) { keys.get(it.toLong()).string } }

    fun getSignatureInputs(key: String): Array<String> {
        val named = open().signature_inputs(key)
        val found = ArrayList<String>()
        val next = named.begin()
        while (!next.equals(named.end())) {
            found += next.first()
            next.increment()
        }
        return found.toTypedArray()
    }

    fun getInputTensorFromSignature(name: String, key: String): Tensor = getInputTensor(placeOf(name, key))

    fun getOutputTensorFromSignature(name: String, key: String): Tensor {
        val tensor = open().output_tensor_by_signature(name, key)
        require(tensor != null) { "Input error: '$name' is not a valid name for any output of signature $key" }
        return getOutputTensor((0 until getOutputTensorCount()).first { output(it).address() == tensor.address() })
    }

    fun getInputTensorCount(): Int = open().inputs().limit().toInt()

    fun getInputTensor(place: Int): Tensor = Native(input(place), open().inputs().get(place.toLong()))

    fun getOutputTensorCount(): Int = open().outputs().limit().toInt()

    fun getOutputTensor(place: Int): Tensor = Native(output(place), open().outputs().get(place.toLong()))

    fun resizeInput(place: Int, sides: IntArray) {
        check(open().ResizeInputTensor(open().inputs().get(place.toLong()), sides), "Failed to resize input $place")
        allocated = false
    }

    fun runSignature(inputs: Map<String, Any>, outputs: Map<String, Any>, key: String) {
        require(outputs.isEmpty()) { "the stand-in copies no outputs" }
        val list = arrayOfNulls<Any>(inputs.size)
        for ((name, value) in inputs) list[placeOf(name, key)] = value
        runForMultipleInputsOutputs(list, HashMap<Int, Any>())
    }

    fun runForMultipleInputsOutputs(inputs: Array<Any?>, outputs: Map<Int, Any>) {
        require(outputs.isEmpty()) { "the stand-in copies no outputs" }
        require(inputs.isNotEmpty()) { "Input error: Inputs should not be null or empty." }
        if (!allocated) {
            check(open().AllocateTensors(), "Internal error: Unexpected failure when preparing tensor allocations")
            allocated = true
        }
        for ((place, value) in inputs.withIndex()) write(input(place), value)
        check(open().Invoke(), "Internal error: Failed to run on the given Interpreter")
    }

    override fun close() {
        handle?.deallocate()
        handle = null
        resolver.deallocate()
    }

    private fun write(tensor: TfLiteTensor, value: Any?) {
        require(value != null) { "Null inputs are allowed only if the Tensor is bound to a buffer handle." }
        val buffer = value as ByteBuffer
        val size = c.TfLiteTensorByteSize(tensor)
        require(buffer.capacity().toLong() == size) {
            "Cannot copy to a TensorFlowLite tensor (${c.TfLiteTensorName(tensor).string}) with $size bytes from a Java " +
                "Buffer with ${buffer.capacity()} bytes."
        }
        require(buffer.isDirect && buffer.order() == ByteOrder.nativeOrder()) { "a buffer that would be copied" }
        val bytes = BytePointer(buffer.duplicate().apply { position(0) })
        check(c.TfLiteTensorCopyFromBuffer(tensor, bytes, size), "Failed to copy")
    }

    private fun input(place: Int): TfLiteTensor {
        require(place in 0 until getInputTensorCount()) { "Invalid input Tensor index: $place" }
        return open().input_tensor(place.toLong())
    }

    private fun output(place: Int): TfLiteTensor {
        require(place in 0 until getOutputTensorCount()) { "Invalid output Tensor index: $place" }
        return open().output_tensor(place.toLong())
    }

    private fun placeOf(name: String, key: String): Int {
        val tensor = open().input_tensor_by_signature(name, key)
        require(tensor != null) { "Input error: '$name' is not a valid name for any input of signature $key" }
        return (0 until getInputTensorCount()).first { input(it).address() == tensor.address() }
    }

    private fun open(): Handle =
        handle ?: throw IllegalStateException("Internal error: The Interpreter has already been closed.")

    private fun check(status: Int, problem: String) {
        if (status != c.kTfLiteOk) throw IllegalStateException(problem)
    }

    private inner class Native(private val tensor: TfLiteTensor, private val number: Int) : Tensor {
        override fun dataType(): DataType = when (val type = c.TfLiteTensorType(tensor)) {
            c.kTfLiteFloat32 -> DataType.FLOAT32
            c.kTfLiteInt32 -> DataType.INT32
            c.kTfLiteInt8 -> DataType.INT8
            c.kTfLiteUInt8 -> DataType.UINT8
            c.kTfLiteInt64 -> DataType.INT64
            else -> throw IllegalArgumentException("DataType error: DataType $type is not recognized in Java.")
        }

        override fun numDimensions(): Int = c.TfLiteTensorNumDims(tensor)
        override fun numBytes(): Int = c.TfLiteTensorByteSize(tensor).toInt()
        override fun numElements(): Int = shape().fold(1, Int::times)
        override fun shape() = IntArray(numDimensions()) { c.TfLiteTensorDim(tensor, it) }
        override fun shapeSignature(): IntArray = shape()
        override fun index(): Int = number
        override fun name(): String = c.TfLiteTensorName(tensor).string

        override fun quantizationParams(): Tensor.QuantizationParams =
            c.TfLiteTensorQuantizationParams(tensor).let { Tensor.QuantizationParams(it.scale(), it.zero_point()) }

        override fun asReadOnlyBuffer(): ByteBuffer {
            open()
            val data = BytePointer(c.TfLiteTensorData(tensor)).capacity(numBytes().toLong())
            return data.asByteBuffer().asReadOnlyBuffer().order(ByteOrder.nativeOrder())
        }
    }
}
