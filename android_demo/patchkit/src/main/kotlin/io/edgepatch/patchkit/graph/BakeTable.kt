package io.edgepatch.patchkit.graph

import io.edgepatch.patchkit.errors.quoted
import io.edgepatch.patchkit.json.asInt
import io.edgepatch.patchkit.json.asList
import io.edgepatch.patchkit.json.asObject

/**
 * Where a site's values go when a task is baked.
 *
 * @property input number of the range of what the convolution reads.
 * @property shift what is added to the bias of every channel; null without any.
 * @property kernel where the file has it.
 * @property plain whether the kernel is float32 whatever the graph's precision: TFLite has small ones so.
 */
internal abstract class SiteRow(val input: Int, val shift: Double?, val kernel: Span, val plain: Boolean)

/** A value of a graph that computes in int8: a task's own range says how it is kept. */
internal interface ActivationRow {
    val range: Int
}

/**
 * The bake table: where everything stands that a task changes, as the file itself has it.
 *
 * @property headInput number of the range of what the dense layer reads.
 */
internal interface BakeTable {
    val sites: List<SiteRow>
    val headInput: Int
    val activations: List<ActivationRow>
    val blocks: List<Block<*>>

    /** As the document has it, to be compared with what it says there. */
    fun toJson(): Map<String, Any?>
}

/** What a document's table says that no file can tell: of a site or the head, which operator is its, and two numbers. */
internal class Named<Key>(val operator: Key, val input: Int, val shift: Double?) {
    fun toJson(): Map<String, Any?> {
        val key = if (operator is Int) operator.toLong() else operator
        val row = mapOf("operator" to key, "input" to input.toLong())
        return if (shift == null) row else row + ("shift" to shift)
    }

    companion object {
        fun <Key> of(value: Any?, key: (Any?) -> Key): Named<Key> {
            val row = requireNotNull(value.asObject()) { "a row is no object" }
            val shift = row["shift"]
            require("shift" !in row || shift is Double) { "${quoted(shift)} is no shift of a bias" }
            return Named(key(row["operator"]), index(row["input"]), shift as Double?)
        }
    }
}

/** The rows of a document's table under a name; none where there are none. */
internal fun Document.rows(name: String): List<Map<String, Any?>> {
    val table = requireNotNull(json["bake"].asObject()) { "there is none" }
    val rows = if (name == "residuals" && name !in table) emptyList() else table[name].asList()
    return requireNotNull(rows?.map { it.asObject() ?: throw IllegalArgumentException("a row is no object") }) {
        "it has no $name"
    }
}

/** Refuses a table of more or fewer sites or blocks than the document tells of; throws [IllegalArgumentException]. */
internal fun Document.requireCounts() {
    val table = requireNotNull(json["bake"].asObject()) { "there is none" }
    val named = requireNotNull(table["sites"].asList()) { "it has no sites" }
    require(named.size == sites.size) { "it names ${named.size} sites of ${sites.size}" }
    val blocks = if ("residuals" in table) table["residuals"].asList() else emptyList()
    require(blocks?.size == residuals.size) { "it names ${blocks?.size ?: "no"} blocks of ${residuals.size}" }
}

/** What a document claims of the blocks that can be skipped; [run] is what its table calls their operators. */
internal fun Document.claims(run: String): List<Claim> {
    return rows("residuals").zip(residuals) { row, said ->
        val ends = row[run].asList()
        Claim(requireNotNull(ends?.map { index(it) }) { "a block has no run of operators" }, said.sites)
    }
}

/** A number that counts from the start. */
internal fun index(value: Any?): Int =
    requireNotNull(value.asInt(0..Int.MAX_VALUE)) { "${quoted(value)} is no index" }
