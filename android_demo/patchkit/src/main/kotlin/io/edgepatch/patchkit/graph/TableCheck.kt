package io.edgepatch.patchkit.graph

import io.edgepatch.patchkit.json.asList
import io.edgepatch.patchkit.json.asObject
import io.edgepatch.patchkit.model.Tensor

/** Every place a document's bake table names must be the one that the file itself has, once, and of the right size. */
internal class TableCheck(private val document: Document, private val table: BakeTable) {
    private val integer = document.precision == Precision.INT8
    private val taken = ArrayList<Span>()

    /** Throws [IllegalArgumentException]. */
    fun check() {
        val said = requireNotNull(document.json["bake"].asObject()) { "there is none" }
        val there = table.toJson()
        val compared = if ("residuals" in said) said else said + ("residuals" to emptyList<Any?>())
        require(compared == there) { "${difference(compared, there)} is not what the file has there" }
        ranges()
        for ((row, site) in table.sites.zip(document.sites)) {
            val width = Graph.storedAs(document.precision, row).size
            take("kernel of site ${site.name}", row.kernel, Tensor.count(site.kernel) * width)
            if (row is TfliteSite) tflite(row, site)
        }
        if (table is TfliteTable) tflite(table)
        taken.sortBy { it.begin }
        for ((before, after) in taken.zipWithNext()) {
            require(after.begin >= before.end) { "two entries share their bytes" }
        }
    }

    private fun ranges() {
        require(table.activations.isNotEmpty() == integer) {
            "it names ${table.activations.size} activations of a graph in ${document.precision.word}"
        }
        if (!integer) return
        val ranges = table.activations.mapTo(HashSet()) { it.range }
        val read = table.sites.map { it.input } + table.headInput +
            document.residuals.flatMap { listOf(it.nodes.first + 1, it.nodes.second + 1) } // the image's comes first
        require(ranges.containsAll(read)) { "an operator's input has no range" }
    }

    private fun tflite(row: TfliteSite, site: Site) {
        require((row.biasScale != null) == integer) { "site ${site.name} is not of a graph in ${document.precision.word}" }
        val (height, width, first, second) = site.kernel
        require(row.shape == listOf(second, height, width, first)) {
            "the operator of site ${site.name} has a kernel of shape ${row.shape}"
        }
        val places = mapOf("bias" to row.bias, "kernel_scale" to row.kernelScale, "bias_scale" to row.biasScale)
        for ((name, span) in places) if (span != null) take("$name of site ${site.name}", span, 4L * site.channels)
    }

    private fun tflite(table: TfliteTable) {
        val head = table.head
        for ((name, part, sides) in listOf(Triple("kernel", head.kernel, 2), Triple("bias", head.bias, 1))) {
            take("shape of the head's $name", part.shape, 4L * sides)
            for (place in listOfNotNull(part.data, part.scale, part.zeroPoint)) {
                take("a field of the head's $name", Span(place, place + 4), 4)
            }
        }
        for (span in head.outputShapes) take("an output's shape", span, 8)
        table.order?.let { take("the order of operators", it, it.size.toLong()) }
        for (place in table.readers.flatten()) take("a reader of a block", Span(place, place + 4), 4)
        for (row in table.activations) {
            take("scale of tensor ${row.tensor}", row.scale, 4)
            take("zero point of tensor ${row.tensor}", row.zeroPoint, 8)
        }
    }

    private fun take(what: String, span: Span, size: Long) {
        require(span.size.toLong() == size) { "$what has ${span.size} bytes, not $size" }
        taken += span
    }

    /** Where two tables differ, for a sentence. */
    private fun difference(got: Any?, expected: Any?, name: String = "it"): String {
        val (mine, theirs) = got.asObject() to expected.asObject()
        if (mine != null && theirs != null) {
            val key = (mine.keys + theirs.keys).find { mine[it] != theirs[it] } ?: return name
            return difference(mine[key], theirs[key], if (name == "it") key else "$name.$key")
        }
        val (these, those) = got.asList() to expected.asList()
        if (these != null && those != null && these.size == those.size) {
            val index = these.indices.find { these[it] != those[it] && (these[it] is List<*> || these[it] is Map<*, *>) }
            if (index != null) return difference(these[index], those[index], "$name[$index]")
        }
        return name
    }
}
