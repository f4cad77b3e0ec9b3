package io.edgepatch.patchkit.bake

import io.edgepatch.patchkit.graph.Graph
import io.edgepatch.patchkit.model.DType
import io.edgepatch.patchkit.model.Half
import io.edgepatch.patchkit.model.Tensor
import java.nio.ByteBuffer

/**
 * A site's kernel before anything is folded into it: the graph's, or the task's own; masked, where the task has a mask.
 *
 * @property type of the kernel in the file. A task's own that the file would have in float16 is float32 still.
 * @property largest the magnitude in each channel that an int8 kernel has as 127; null of others.
 */
internal class Kernel(graph: Graph, val number: Int, values: Map<String, Tensor>) {
    private val site = graph.document.sites[number]
    private val order = graph.order(number)
    private val stored: ByteBuffer = graph.stored(number)
    private val own: Tensor? = values["${site.name}/kernel"]
    private val mask: Tensor? = values["${site.name}/mask"]
    val type: DType = graph.storedAs(number)
    val largest: FloatArray? = when {
        type != DType.I8 -> null
        own == null -> graph.trunk.inside(number).let { graph.kernelMax.copyOfRange(it.first, it.last + 1) }
        else -> largest(own)
    }

    /** Bytes that it has in a type. */
    fun bytes(type: DType): Int = Math.multiplyExact(site.weights, type.size)

    /** Each weight times its channel's factor, as float32 or float16, in the file's order. */
    fun fold(into: ByteBuffer, factors: FloatArray, to: DType) {
        val found = FloatArray(site.weights)
        read(found)
        order.each { place, channel, _ -> found[place] *= factors[channel] }
        if (to == DType.F32) {
            into.asFloatBuffer().put(found)
            return
        }
        val halves = into.asShortBuffer()
        for (value in found) halves.put(Half.fromFloat(value.coerceIn(-LARGEST_HALF, LARGEST_HALF)))
    }

    /** Each int8 weight as [Quantisation.turned] by its channel's [times], in the file's order. */
    fun turn(into: ByteBuffer, times: DoubleArray) {
        if (own == null && mask == null && times.all { it == 1.0 }) {
            into.put(stored.duplicate())
            return
        }
        val found = ByteArray(site.weights)
        integers(found)
        order.each { place, channel, _ -> found[place] = Quantisation.turned(found[place], times[channel]) }
        into.put(found)
    }

    /** Before it is folded, masked, in the file's order. */
    private fun read(found: FloatArray) {
        val own = own
        when {
            type == DType.I8 -> ByteArray(found.size).let { bytes ->
                integers(bytes)
                for (i in found.indices) found[i] = bytes[i].toFloat()
                return
            }
            own != null -> order.each { place, _, at -> found[place] = own.data.getFloat(4 * at) }
            type == DType.F32 -> stored.asFloatBuffer().get(found)
            else -> stored.asShortBuffer().let { halves -> for (i in found.indices) found[i] = Half.toFloat(halves.get(i)) }
        }
        if (mask != null) order.each { place, _, at -> found[place] *= mask.data.get(at).toFloat() }
    }

    private fun integers(found: ByteArray) {
        val own = own
        if (own == null) {
            stored.duplicate().get(found)
        } else {
            val most = largest!!
            order.each { place, channel, at -> found[place] = Quantisation.weight(own.data.getFloat(4 * at), most[channel]) }
        }
        if (mask != null) order.each { place, _, at -> if (mask.data.get(at) == 0.toByte()) found[place] = 0 }
    }

    private fun largest(own: Tensor): FloatArray {
        val found = FloatArray(site.channels)
        order.each { _, channel, at -> found[channel] = Math.max(found[channel], Math.abs(own.data.getFloat(4 * at))) }
        for (channel in found.indices) found[channel] = Quantisation.largest(found[channel])
        return found
    }

    private companion object {
        const val LARGEST_HALF = 65504f
    }
}
