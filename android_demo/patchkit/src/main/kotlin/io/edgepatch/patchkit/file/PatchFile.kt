package io.edgepatch.patchkit.file

import io.edgepatch.patchkit.errors.BadFileException
import io.edgepatch.patchkit.errors.begin
import io.edgepatch.patchkit.errors.length
import io.edgepatch.patchkit.errors.prints
import io.edgepatch.patchkit.errors.said
import io.edgepatch.patchkit.errors.tuple
import io.edgepatch.patchkit.json.asInt
import io.edgepatch.patchkit.json.asList
import io.edgepatch.patchkit.json.asObject
import io.edgepatch.patchkit.json.asStrings
import io.edgepatch.patchkit.model.DType
import io.edgepatch.patchkit.model.Effects
import io.edgepatch.patchkit.model.Patch
import io.edgepatch.patchkit.model.Statistics
import io.edgepatch.patchkit.model.Tensor
import io.edgepatch.patchkit.picture.Preprocessing
import java.io.File
import java.nio.ByteBuffer

/** The patch file, `.epatch`: all that is particular to one task (docs/format.md). */
object PatchFile {
    const val FORMAT = 1L
    const val MAX_BYTES = 256L * 1024 * 1024
    private val LATER = listOf("codec", "statistics") // the first patches had none
    private val FIELDS = linkedMapOf(
        "kind" to "str", "format" to "int", "task" to "str", "version" to "int", "backbone_id" to "str",
        "kinds" to "dict", "sites" to "dict", "labels" to "list", "input" to "dict", "decode" to "dict",
        "codec" to "dict", "ranges" to "dict", "statistics" to "dict", "metrics" to "dict", "licence" to "str",
    )

    /**
     * The patch in a file, which stays mapped as long as the patch is in use.
     *
     * Throws [io.edgepatch.patchkit.errors.UsageException]: there is no such file. [BadFileException]: it is not a
     * whole, sound patch of a format this version knows.
     */
    fun read(file: File): Patch = parse(Files.map(file, MAX_BYTES), file.path)

    /** The patch of a file's bytes, which [file] names in errors; its tensors are views into them. Throws as [read]. */
    fun parse(data: ByteBuffer, file: String?): Patch {
        if (data.limit() > MAX_BYTES) throw Files.tooLarge(file, data.limit().toLong(), MAX_BYTES)
        val contents = Container.parse(data, file)
        val document = LinkedHashMap(contents.document)
        for (name in LATER) if (name !in document) document[name] = emptyMap<String, Any?>()
        Container.checkDocument(document, "patch", FORMAT, FIELDS, file)
        return Reader(document, contents.tensors, file).patch()
    }
}

/** One patch's document and tensors, held against each other. The document's fields are of their types. */
private class Reader(
    private val document: Map<String, Any?>, tensors: Map<String, Tensor>, private val file: String?,
) {
    private val tensors = LinkedHashMap(tensors)

    fun patch(): Patch {
        val task = text("task")
        if (!printable(task, 100)) throw broken("task", task, "1 to 100 printable characters")
        val version = (document["version"] as? Long)?.takeIf { it >= 1 }
            ?: throw broken("version", document["version"], "1 or more, in 64 bits")
        val backboneId = text("backbone_id")
        if (!ID.matches(backboneId)) throw broken("backbone_id", backboneId, "64 hexadecimal digits")
        val labels = labels()
        val input = try {
            Preprocessing.fromJson(document["input"])
        } catch (error: IllegalArgumentException) {
            throw broken("input", error.message, "size, resize, scale and offset")
        }
        val sites = sites()
        val ranges = ranges()
        val statistics = try {
            Statistics.fromJson(dict("statistics"), tensors.remove(Statistics.CENTRE), labels.size)
        } catch (error: IllegalArgumentException) {
            throw bad("has broken statistics", "statistics", error.message, "as docs/format.md says")
        }
        val kinds = kinds()
        return Patch(
            task, version, backboneId, kinds, sites, labels, input, dict("decode"), dict("codec"), tensors, ranges,
            statistics, dict("metrics"), text("licence"),
        )
    }

    private fun labels(): List<String> {
        val items = document["labels"].asList().orEmpty()
        val labels = items.filterIsInstance<String>().filter { printable(it, 200) }
        if (labels.size != items.size || labels.size > MAX_LABELS) {
            throw bad("has broken labels", "labels", items.size, "at most $MAX_LABELS printable strings")
        }
        val known = HashSet<String>()
        labels.find { !known.add(it) }?.let { throw bad("has a label twice", "labels", it, "each label once") }
        return labels
    }

    private fun sites(): Map<String, List<Int>> {
        var written = dict("sites")
        if ("placement" in written) { // as the first patches had them: of scale and bias alike, all unless numbered
            val all = written["channels"].asList()?.indices?.map { it.toLong() }
            val numbers = if ("sites" in written) written["sites"] else all
            written = linkedMapOf(Effects.SCALE to numbers, Effects.BIAS to numbers)
        }
        val sites = written.mapValues { (effect, value) ->
            if (effect !in Effects.SITES) {
                throw bad("changes its sites in an unknown way", "sites", effect, Effects.SITES.joinToString(", "))
            }
            val numbers = value.asList()?.map { it.asInt(0 until MAX_SITES) ?: -1 }
            val ordered = numbers != null && numbers.isNotEmpty() && numbers[0] >= 0 &&
                numbers.zipWithNext().all { (before, after) -> before < after }
            if (numbers == null || !ordered) {
                throw broken("sites.$effect", value, "numbers of sites, each once, in order")
            }
            if (effect !in tensors) throw bad("lacks a tensor", "tensors", names(tensors.keys), effect)
            numbers
        }
        Effects.SITES.find { it in tensors && it !in sites }?.let {
            throw bad("does not say at which sites", "sites", names(sites.keys), it)
        }
        return sites
    }

    private fun ranges(): Tensor? {
        val ranges = tensors.remove(RANGES)
        if (ranges != null && !sound(ranges)) {
            throw bad("has broken activation ranges", RANGES, tuple(ranges.shape), "float32 pairs, the smaller one first")
        }
        val expected = if (ranges == null) emptyMap() else mapOf("activations" to ranges.shape[0].toLong())
        if (document["ranges"] != expected) {
            throw bad(
                "has activation ranges at odds with its document", RANGES, document["ranges"], "as many as it holds",
            )
        }
        return ranges
    }

    private fun sound(ranges: Tensor): Boolean =
        ranges.type == DType.F32 && ranges.shape.size == 2 && ranges.shape[1] == 2 &&
            (0 until ranges.shape[0]).all { row ->
                val low = ranges.float(2 * row)
                val high = ranges.float(2 * row + 1)
                low <= high && -LARGEST_RANGE < low && high < LARGEST_RANGE
            }

    /** For each kind the names of its tensors: together they are all that are left, in the order of first mention. */
    private fun kinds(): Map<String, List<String>> {
        val kinds = dict("kinds").mapValues { (_, names) -> names.asStrings().orEmpty() }
        if (kinds.isEmpty() || kinds.values.any { it.isEmpty() }) {
            throw broken("kinds", document["kinds"], "for each kind the names of its tensors")
        }
        kinds.values.find { it.toSet().size != it.size }?.let {
            throw bad("names a tensor twice", "kinds", names(it), "each tensor once in a kind")
        }
        // kinds may share one: what they change adds up
        val expected = kinds.values.flatten().distinct()
        expected.find { it !in tensors }?.let { throw bad("lacks a tensor", "tensors", names(tensors.keys), it) }
        tensors.keys.find { it !in expected }?.let {
            throw bad("has a tensor that no kind names", "tensors", it, names(expected))
        }
        if (tensors.keys.toList() != expected) {
            throw bad("has its tensors in another order", "tensors", names(tensors.keys), names(expected))
        }
        return kinds
    }

    private fun text(field: String): String = document[field] as String

    private fun dict(field: String): Map<String, Any?> = document[field].asObject().orEmpty()

    private fun names(names: Collection<String>): String = names.joinToString(", ").ifEmpty { "none" }

    private fun broken(field: String, got: Any?, expected: Any?) = bad("has a broken document", field, got, expected)

    private fun bad(problem: String, field: String, got: Any?, expected: Any?) =
        BadFileException(problem, file = file, field = field, got = begin(said(got), 80), expected = expected)

    private companion object {
        const val MAX_LABELS = 65_536
        const val MAX_SITES = 4096
        const val LARGEST_RANGE = 1e30f // of an activation: its width is finite in float32
        const val RANGES = "ranges" // the tensor of activation ranges, which belongs to no kind
        val ID = Regex("[0-9a-f]{64}")

        fun printable(text: String, limit: Int): Boolean =
            text.isNotEmpty() && length(text) <= limit && text.codePoints().allMatch(::prints)
    }
}
