package io.edgepatch.patchkit.bake

import io.edgepatch.patchkit.graph.Graph
import io.edgepatch.patchkit.graph.GraphFormat
import io.edgepatch.patchkit.graph.Initializer
import io.edgepatch.patchkit.graph.OnnxTable
import io.edgepatch.patchkit.graph.OnnxType
import io.edgepatch.patchkit.graph.OnnxWriter
import io.edgepatch.patchkit.graph.Protobuf
import io.edgepatch.patchkit.graph.Site
import io.edgepatch.patchkit.graph.instead
import io.edgepatch.patchkit.model.DType
import io.edgepatch.patchkit.model.Effects
import io.edgepatch.patchkit.model.Tensor
import io.edgepatch.patchkit.model.leftOut
import java.nio.ByteBuffer

/**
 * The shared .onnx: its graph is the form `bind`; in its metadata are the nodes of the form `bake`, over its kernels.
 *
 * To bake is to give a session these nodes and, beside them, every weight: the folded ones lie in buffers of ours, which
 * ONNX Runtime takes as external data, so that every convolution is as constant as in a dedicated model.
 */
internal object OnnxBaking {
    /** What the image's height and width are called, which the file leaves open. */
    const val SIDE = "side"

    // what the value behind a site is called, the last one first: in int8, with an activation, bound, or plain
    private val ACTIVATED = listOf("/relu6", "/relu", "/hard_swish", "/hard_sigmoid")
    private val ENDINGS = ACTIVATED.map { "$it/float" } + ACTIVATED + listOf("/float", "/scaled", "")

    /** The form `bind` for images of a size, answering [maps], too. */
    fun bindModel(graph: Graph, size: Int, maps: List<String>) = Model(answering(graph.data, maps), size = size)

    /** A dedicated model of one task. */
    fun bakeModel(graph: Graph, values: Map<String, Tensor>, ranges: FloatArray, size: Int, maps: List<String>): Model {
        val table = graph.table as OnnxTable
        val task = Folding(graph, values, ranges).task()
        val gone = leftOut(table.blocks, values[Effects.SKIP])
        if (gone.isEmpty()) return Model(answering(graph.skeleton, maps), tensors(graph, table, task, null), size)
        val left = gone.flatMapTo(HashSet()) { it.begin until it.end }
        val thinned = OnnxWriter.withoutNodes(graph.skeleton, left, instead(gone))
        return Model(answering(thinned.data, maps), tensors(graph, table, task, thinned.read), size)
    }

    /** The constants of all nodes that are left; of those that are [read], where that is told. */
    private fun tensors(graph: Graph, table: OnnxTable, task: Task, read: Set<String>?): Map<String, Initializer> {
        val found = LinkedHashMap<String, Initializer>()
        fun add(name: String, make: () -> Initializer) {
            if (read == null || name in read) found[name] = make()
        }

        fun add(name: String, folded: Folded, shape: List<Int>, input: Int) {
            val channels = shape[0]
            add("$name/kernel") { Initializer.of(type(folded.type), shape, folded.write) }
            val bias = if (folded.integers == null) OnnxType.FLOAT32 else OnnxType.INT32
            add("$name/bias") { Initializer.of(bias, listOf(channels), folded::writeBias) }
            val scale = folded.scale ?: return
            val factor = task.scales[input]
            add("$name/kernel_scale") { Initializer.floats(scale) }
            add("$name/bias_scale") { Initializer.floats(FloatArray(channels) { scale[it] * factor }) }
            add("$name/zeros") { Initializer.of(OnnxType.INT8, listOf(channels)) {} }
            add("$name/bias_zeros") { Initializer.of(OnnxType.INT32, listOf(channels)) {} }
        }
        for ((number, site) in task.sites.withIndex()) {
            val row = table.sites[number]
            if (site != null) add(row.name, site, shape(graph.document.sites[number]), row.input)
        }
        add(table.headName, task.head, listOf(task.classes, graph.document.features), table.headInput)
        for (row in table.activations) {
            add("${row.name}/scale") { Initializer.floats(floatArrayOf(task.scales[row.range]), emptyList()) }
            add("${row.name}/zero_point") { // activations are unsigned
                Initializer.of(OnnxType.UINT8, emptyList()) { it.put((task.zeroPoints[row.range] + 128).toByte()) }
            }
        }
        return found
    }

    /** The file's order of a kernel's sides, (out, in per group, height, width), of HWIO. */
    private fun shape(site: Site): List<Int> {
        val (height, width, first, second) = site.kernel
        return (if (site.depthwise) listOf(first, second) else listOf(second, first)) + listOf(height, width)
    }

    private fun type(type: DType): OnnxType = if (type == DType.I8) OnnxType.INT8 else OnnxType.FLOAT32

    /**
     * A model that answers some sites' outputs behind its own, in their order.
     *
     * Throws [IllegalArgumentException]: it has no such site.
     */
    private fun answering(model: ByteBuffer, maps: List<String>): ByteBuffer {
        if (maps.isEmpty()) return model
        val made = Protobuf.nodes(model).operators.flatMapTo(HashSet()) { it.makes }
        val names = maps.map { site ->
            requireNotNull(ENDINGS.map { "$site$it" }.find { it in made }) { "there is no output of the site $site" }
        }
        return OnnxWriter.withOutputs(model, names)
    }
}

/** The form of a graph that takes a patch as its inputs, or a task's own model, whatever file it goes into. */
internal fun Graph.bindModel(size: Int, maps: List<String>): Model = when (format) {
    GraphFormat.TFLITE -> TfliteBaking.bindModel(this, size, maps)
    GraphFormat.ONNX -> OnnxBaking.bindModel(this, size, maps)
}

internal fun Graph.bakeModel(values: Map<String, Tensor>, ranges: FloatArray, size: Int, maps: List<String>): Model =
    when (format) {
        GraphFormat.TFLITE -> TfliteBaking.bakeModel(this, values, ranges, size, maps)
        GraphFormat.ONNX -> OnnxBaking.bakeModel(this, values, ranges, size, maps)
    }
