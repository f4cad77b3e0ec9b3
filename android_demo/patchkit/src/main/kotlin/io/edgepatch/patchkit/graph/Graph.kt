package io.edgepatch.patchkit.graph

import io.edgepatch.patchkit.model.DType
import io.edgepatch.patchkit.model.Half
import io.edgepatch.patchkit.model.Tensor
import io.edgepatch.patchkit.model.Trunk
import java.nio.ByteBuffer

/**
 * A shared graph, checked.
 *
 * @property data the bytes of the file, laid out for its first form; mapped, where the file is.
 * @property document what it says of itself.
 * @property tensors the backbone's own `scale` and `bias` of all sites, and what the precision and the format need.
 * @property table where everything stands that a task changes.
 * @property views each form alone.
 */
class Graph internal constructor(
    internal val data: ByteBuffer,
    val format: GraphFormat,
    val document: Document,
    internal val tensors: Map<String, Tensor>,
    internal val table: BakeTable,
    internal val views: Map<Form, View>,
) {
    /** SHA-256 of the backbone in the graph. */
    val backboneId: String get() = document.backboneId
    val precision: Precision get() = document.precision
    val forms: List<Form> get() = document.forms

    /** Bytes of the file. */
    val nbytes: Int get() = data.limit()

    /** Its sites and what they have of their own. */
    val trunk: Trunk = Trunk(
        document.sites.map { it.name },
        document.sites.map { it.kernel },
        document.sites.map { it.channels },
        document.residuals.size,
        tensors.getValue("scale").floats(),
        tensors.getValue("bias").floats(),
        ::ownKernel,
    )

    /** The largest magnitude in each channel of the kernels, which int8 keeps as 127; empty of other graphs. */
    internal val kernelMax: FloatArray = tensors[KERNEL_MAX]?.floats() ?: FloatArray(0)

    /** An .onnx's bake form: nodes without weights. */
    internal val skeleton: ByteBuffer get() = tensors.getValue(SKELETON).data

    /** The type of a site's kernel in the file. */
    internal fun storedAs(number: Int): DType = storedAs(document.precision, table.sites[number])

    /** A site's kernel as the file has it. */
    internal fun stored(number: Int): ByteBuffer = data.slice(table.sites[number].kernel)

    /** How a site's kernel lies in the file. */
    internal fun order(number: Int) = KernelOrder(document.sites[number], format)

    /** A site's kernel as the graph holds it, float32 HWIO. */
    private fun ownKernel(number: Int): FloatArray {
        val order = order(number)
        val stored = stored(number)
        val type = storedAs(number)
        val first = trunk.inside(number).first
        val found = FloatArray(document.sites[number].weights)
        order.each { place, channel, at ->
            found[at] = when (type) {
                DType.F32 -> stored.getFloat(4 * place)
                DType.F16 -> Half.toFloat(stored.getShort(2 * place))
                else -> stored.get(place) * (kernelMax[first + channel] / 127f)
            }
        }
        return found
    }

    internal companion object {
        const val SKELETON = "bake_graph"
        const val KERNEL_MAX = "kernel_max"

        fun storedAs(precision: Precision, row: SiteRow): DType =
            if (precision == Precision.DYNAMIC && row.plain) DType.F32 else precision.stored
    }
}

/**
 * The order of a site's weights in a graph's file, against HWIO.
 *
 * A .tflite has (out, height, width, in), depthwise (height, width, channels); an .onnx (out, in, height, width),
 * depthwise (channels, height, width).
 *
 * @property channels of the site.
 * @property rest weights of a channel.
 * @property last whether channels are the innermost side in the file, too, not the outermost.
 */
internal class KernelOrder(private val site: Site, format: GraphFormat) {
    val channels = site.channels
    val rest = site.weights / channels
    val last = format == GraphFormat.TFLITE && site.depthwise
    private val inputsFirst = format == GraphFormat.ONNX && !site.depthwise

    /** Calls [use] with each weight's place in the file, in order, its channel, and its place in HWIO. */
    inline fun each(use: (place: Int, channel: Int, at: Int) -> Unit) {
        var place = 0
        if (last) {
            for (weight in 0 until rest) for (channel in 0 until channels) use(place, channel, place++)
            return
        }
        for (channel in 0 until channels) {
            for (weight in 0 until rest) use(place++, channel, column(weight) * channels + channel)
        }
    }

    /** Which of a channel's weights in HWIO stands at a place among them in the file. */
    fun column(weight: Int): Int {
        if (!inputsFirst) return weight
        val pixels = site.kernel[0] * site.kernel[1]
        return weight % pixels * site.kernel[2] + weight / pixels
    }
}
