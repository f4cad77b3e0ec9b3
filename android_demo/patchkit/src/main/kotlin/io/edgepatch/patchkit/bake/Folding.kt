package io.edgepatch.patchkit.bake

import io.edgepatch.patchkit.graph.Graph
import io.edgepatch.patchkit.graph.GraphFormat
import io.edgepatch.patchkit.graph.Precision
import io.edgepatch.patchkit.model.DType
import io.edgepatch.patchkit.model.Effects
import io.edgepatch.patchkit.model.Tensor
import io.edgepatch.patchkit.model.leftOut
import java.nio.ByteBuffer

/**
 * One convolution, or the head, as a dedicated model has it.
 *
 * @property type of the kernel.
 * @property size of the kernel in bytes.
 * @property bias one a channel; int32 in a graph that computes in int8, see [integers], else float32.
 * @property scale one a channel, of an int8 kernel; null of others.
 * @property write lays the kernel down, in the file's order, into a little-endian buffer.
 */
internal class Folded(
    val type: DType,
    val size: Int,
    val bias: FloatArray?,
    val integers: IntArray?,
    val scale: FloatArray?,
    val write: (ByteBuffer) -> Unit,
) {
    /** Lays the bias down. */
    fun writeBias(into: ByteBuffer) {
        if (bias != null) into.asFloatBuffer().put(bias) else into.asIntBuffer().put(integers)
    }
}

/**
 * All that baking writes.
 *
 * @property sites in forward order; null of a block that is skipped.
 * @property head its kernel is (classes, features).
 * @property scales of the patch's ranges; none unless the graph computes in int8.
 * @property zeroPoints likewise.
 */
internal class Task(
    val sites: List<Folded?>,
    val head: Folded,
    val classes: Int,
    val scales: FloatArray,
    val zeroPoints: IntArray,
)

/**
 * A task's values folded into a graph's kernels: the arithmetic of baking, whatever file it goes into. To the bit what
 * numpy makes of them.
 *
 * @param values as `codec.Codec.decode` gives them: `scale`, `bias` of all sites, `head_kernel` (features, classes) and
 *   `head_bias`; where the task has them `NAME/kernel`, `NAME/mask`, `skip`.
 * @param ranges (activations, 2); only a graph that computes in int8 needs them.
 */
internal class Folding(private val graph: Graph, private val values: Map<String, Tensor>, private val ranges: FloatArray) {
    private val document = graph.document
    private val scale = values.getValue(Effects.SCALE).floats()
    private val bias = shifted(values.getValue(Effects.BIAS).floats())

    fun task(): Task {
        val skipped = leftOut(document.residuals, values[Effects.SKIP])
        val idle = skipped.flatMapTo(HashSet()) { it.sites }
        val kernels = document.sites.indices.map { if (it in idle) null else Kernel(graph, it, values) }
        val head = Head(values.getValue("head_kernel"), values.getValue("head_bias").floats())
        if (graph.precision != Precision.INT8) {
            val none = FloatArray(0)
            return Task(kernels.map { it?.let(::site) }, head.folded(), head.classes, none, IntArray(0))
        }
        val activations = Quantisation.activations(ranges)
        for (block in skipped) { // in forward order, so that chains resolve
            val (entry, join) = block.nodes
            activations.scales[join + 1] = activations.scales[entry + 1] // the image's range comes first
            activations.zeroPoints[join + 1] = activations.zeroPoints[entry + 1]
        }
        val sites = kernels.map { kernel ->
            kernel?.let { integer(it, activations.scales[graph.table.sites[it.number].input]) }
        }
        val folded = head.folded(activations.scales[graph.table.headInput])
        return Task(sites, folded, head.classes, activations.scales, activations.zeroPoints)
    }

    /** A site of a graph that computes in float. */
    private fun site(kernel: Kernel): Folded {
        val scale = of(scale, kernel.number)
        val bias = of(bias, kernel.number)
        val most = kernel.largest
        if (most == null) {
            // ONNX Runtime computes in float32, so nothing need be rounded there
            val half = kernel.type == DType.F16 && graph.format == GraphFormat.TFLITE
            val type = if (half) DType.F16 else DType.F32
            return Folded(type, kernel.bytes(type), bias, null, null) { kernel.fold(it, scale, type) }
        }
        val steps = FloatArray(most.size) { most[it] / 127f }
        if (graph.format == GraphFormat.TFLITE) { // dynamic range: int8 kernels, float biases and activations
            val found = FloatArray(most.size) { Math.max(steps[it] * Math.abs(scale[it]), Quantisation.SMALLEST_SCALE) }
            val times = DoubleArray(most.size) { Math.signum(scale[it]).toDouble() }
            return Folded(DType.I8, kernel.bytes(DType.I8), bias, null, found) { kernel.turn(it, times) }
        }
        val factors = FloatArray(most.size) { steps[it] * scale[it] }
        return Folded(DType.F32, kernel.bytes(DType.F32), bias, null, null) { kernel.fold(it, factors, DType.F32) }
    }

    /** A site of a graph that computes in int8. */
    private fun integer(kernel: Kernel, inputScale: Float): Folded {
        val most = kernel.largest!!
        val scale = of(scale, kernel.number)
        val found = Quantisation.scaled(most, scale, of(bias, kernel.number), FloatArray(most.size) { inputScale })
        return Folded(DType.I8, kernel.bytes(DType.I8), null, found.biases, found.scales) { kernel.turn(it, found.times) }
    }

    private fun of(channels: FloatArray, number: Int): FloatArray =
        graph.trunk.inside(number).let { channels.copyOfRange(it.first, it.last + 1) }

    /** The biases with what rows of the bake table add to their sites'. */
    private fun shifted(bias: FloatArray): FloatArray {
        val shifts = graph.table.sites.map { it.shift ?: 0.0 }
        if (shifts.all { it == 0.0 }) return bias
        for ((number, shift) in shifts.withIndex()) {
            for (channel in graph.trunk.inside(number)) bias[channel] += shift.toFloat()
        }
        return bias
    }
}

/** The dense layer of a task: [kernel] is (features, classes), the file has (classes, features). */
private class Head(private val kernel: Tensor, private val bias: FloatArray) {
    private val features = kernel.shape[0]
    val classes = kernel.shape[1]

    fun folded() = Folded(DType.F32, kernel.data.limit(), bias, null, null) { into ->
        each { place, _, at -> into.putFloat(4 * place, kernel.data.getFloat(4 * at)) }
    }

    /** Of a graph that computes in int8. */
    fun folded(inputScale: Float): Folded {
        val most = FloatArray(classes)
        each { _, label, at -> most[label] = Math.max(most[label], Math.abs(kernel.data.getFloat(4 * at))) }
        for (label in most.indices) most[label] = Quantisation.largest(most[label])
        val ones = FloatArray(classes) { 1f }
        val found = Quantisation.scaled(most, ones, bias, FloatArray(classes) { inputScale })
        return Folded(DType.I8, kernel.count, null, found.biases, found.scales) { into ->
            each { place, label, at ->
                val stored = Quantisation.weight(kernel.data.getFloat(4 * at), most[label])
                into.put(place, Quantisation.turned(stored, found.times[label]))
            }
        }
    }

    private inline fun each(use: (place: Int, label: Int, at: Int) -> Unit) {
        for (label in 0 until classes) {
            for (feature in 0 until features) use(label * features + feature, label, feature * classes + label)
        }
    }
}
