package io.edgepatch.patchkit.bake

import io.edgepatch.patchkit.graph.Edit
import io.edgepatch.patchkit.graph.Flatbuffer
import io.edgepatch.patchkit.graph.Form
import io.edgepatch.patchkit.graph.Graph
import io.edgepatch.patchkit.graph.Layout
import io.edgepatch.patchkit.graph.Schema
import io.edgepatch.patchkit.graph.Sizing
import io.edgepatch.patchkit.graph.Table
import io.edgepatch.patchkit.graph.TfliteHeadPart
import io.edgepatch.patchkit.graph.TfliteTable
import io.edgepatch.patchkit.graph.Vector
import io.edgepatch.patchkit.graph.follow
import io.edgepatch.patchkit.graph.instead
import io.edgepatch.patchkit.graph.splice
import io.edgepatch.patchkit.model.Effects
import io.edgepatch.patchkit.model.Tensor
import io.edgepatch.patchkit.model.leftOut

/**
 * The shared .tflite: two signatures, `bind` and `bake`, over one set of kernels.
 *
 * To bake is to copy the file with the kernels folded, biases and quantisation parameters written in their places, the
 * head put behind the end, and the `bake` subgraph alone left to be seen.
 */
internal object TfliteBaking {
    /** The form `bind` for images of a size, answering [maps], too. */
    fun bindModel(graph: Graph, size: Int, maps: List<String>): Model {
        val layout = layout(graph, Form.BIND, size)
        val vectors = layout.vectors + answering(graph, Form.BIND, maps)
        if (layout.edits.isEmpty() && vectors.isEmpty()) return Model(graph.data, size = size)
        return Model(splice(graph.data, layout.edits, vectors), size = size)
    }

    /** A dedicated model of one task. */
    fun bakeModel(graph: Graph, values: Map<String, Tensor>, ranges: FloatArray, size: Int, maps: List<String>): Model {
        val table = graph.table as TfliteTable
        val task = Folding(graph, values, ranges).task()
        val layout = layout(graph, Form.BAKE, size)
        val edits = ArrayList(graph.views.getValue(Form.BAKE).edits)
        edits += cut(graph, table, values)
        edits += layout.edits
        for ((row, site) in table.sites.zip(task.sites)) {
            if (site == null) continue
            edits += Edit(row.kernel.begin, site.size, site.write)
            edits += Edit(row.bias.begin, row.bias.size, site::writeBias)
            val scale = site.scale ?: continue
            edits += Edit.floats(row.kernelScale!!.begin, *scale)
            row.biasScale?.let { edits += Edit.floats(it.begin, *times(scale, task.scales[row.input])) }
        }
        for (row in table.activations) {
            edits += Edit.floats(row.scale.begin, task.scales[row.range])
            edits += Edit.long(row.zeroPoint.begin, task.zeroPoints[row.range].toLong())
        }
        val vectors = layout.vectors + head(table, task, edits) + answering(graph, Form.BAKE, maps)
        return Model(splice(graph.data, edits, vectors), size = size)
    }

    /** What goes behind the end for the head; adds to the [edits] the shapes that follow from its classes. */
    private fun head(table: TfliteTable, task: Task, edits: MutableList<Edit>): List<Vector> {
        val row = table.head
        val head = task.head
        val classes = task.classes
        val features = head.size / head.type.size / classes
        edits += Edit.ints(row.kernel.shape.begin, classes, features)
        edits += Edit.ints(row.bias.shape.begin, classes)
        for (span in row.outputShapes) edits += Edit.ints(span.begin, 1, classes)
        val vectors = arrayListOf(
            Vector(row.kernel.data, head.size, head.size, head.write),
            Vector(row.bias.data, 4 * classes, 4 * classes, head::writeBias),
        )
        val scale = head.scale ?: return vectors
        vectors += steps(row.kernel, scale)
        vectors += steps(row.bias, times(scale, task.scales[table.headInput]))
        return vectors
    }

    /** Scales of a constant, and zero points of nought, one a class. */
    private fun steps(part: TfliteHeadPart, scale: FloatArray): List<Vector> = listOf(
        Vector.floats(part.scale!!, scale),
        Vector(part.zeroPoint!!, scale.size, 8 * scale.size) {},
    )

    private fun times(scale: FloatArray, factor: Float) = FloatArray(scale.size) { scale[it] * factor }

    private fun layout(graph: Graph, form: Form, size: Int): Layout {
        if (size == graph.document.input.size) return Layout(emptyList(), emptyList())
        return Sizing(graph.data, Table(graph.data, graph.views.getValue(form).subgraph), size).layout()
    }

    /**
     * What makes a form answer some sites' outputs behind its own, in their order.
     *
     * Throws [IllegalArgumentException]: it has no such site.
     */
    private fun answering(graph: Graph, form: Form, maps: List<String>): List<Vector> {
        if (maps.isEmpty()) return emptyList()
        val subgraph = Table(graph.data, graph.views.getValue(form).subgraph)
        val named = HashMap<String, Int>()
        for ((number, position) in subgraph.tables(Schema.SUBGRAPH_TENSORS).withIndex()) {
            named[Table(graph.data, position).text(Schema.TENSOR_NAME)] = number
        }
        val made = maps.map { name -> // the latter where it is bound
            requireNotNull(named[name] ?: named["$name/add"]) { "there is no output of the site $name" }
        }
        val outputs = subgraph.numbers(Schema.SUBGRAPH_OUTPUTS) + made
        return listOf(Vector.ints(subgraph.need(Schema.SUBGRAPH_OUTPUTS), outputs))
    }

    /** Edits that leave out the blocks a task skips: their operators, and that others read their joins. */
    private fun cut(graph: Graph, table: TfliteTable, values: Map<String, Tensor>): List<Edit> {
        val gone = leftOut(table.blocks, values[Effects.SKIP])
        if (gone.isEmpty()) return emptyList()
        val data = graph.data
        val order = table.order!!
        val leftOut = gone.flatMapTo(HashSet()) { it.begin until it.end }
        val kept = (0 until order.size / 4 - 1).filter { it !in leftOut }
        val instead = instead(gone)
        val entries = gone.flatMap { block ->
            table.readers[table.blocks.indexOf(block)].map { Edit.ints(it, instead.getValue(block.join)) }
        }
        val codes = kept.mapTo(HashSet()) {
            Table(data, data.follow(order.begin + 4 + 4 * it)).number(Schema.OPERATOR_CODE)
        }
        return listOf(Flatbuffer.shorten(data, order.begin, kept)) + Flatbuffer.forgetCodes(data, codes) + entries
    }
}
