package io.edgepatch.patchkit.graph

/** What an operator reads and makes: numbers of tensors in a .tflite, names in an .onnx. */
internal class Operator<Value>(val reads: List<Value>, val makes: List<Value>)

/**
 * A graph as it hangs together.
 *
 * @property operators in the graph's order.
 * @property inputs values that it takes; what neither comes in nor is made is a constant.
 * @property outputs values that it answers.
 */
internal class Wiring<Value>(val operators: List<Operator<Value>>, val inputs: List<Value>, val outputs: List<Value>)

/**
 * A block that a task may skip, as the file has it: a run of operators that reads one value and makes one. Without the
 * block, whatever reads its join reads its entry.
 *
 * @property begin the first of its operators, [end] the one behind its last.
 */
internal class Block<Value>(val begin: Int, val end: Int, val entry: Value, val join: Value)

/** What a document and its bake table say of a block: its run of operators, and the numbers of its sites. */
internal class Claim(val run: List<Int>, val sites: List<Int>)

/**
 * The blocks that a document claims, found sound.
 *
 * Throws [IllegalArgumentException]: they are out of bounds or of order, overlap, have other sites, read more than one
 * value from outside, or make more than one that is read there.
 *
 * @param sites which operator is each site's.
 */
internal fun <Value> Wiring<Value>.blocks(sites: List<Int>, claims: List<Claim>): List<Block<Value>> {
    val makers = HashMap<Value, Int>()
    for (input in inputs) makers[input] = -1
    val readers = HashMap<Value, ArrayList<Int>>()
    for ((number, operator) in operators.withIndex()) {
        for (value in operator.makes) makers[value] = number
        for (value in operator.reads) readers.getOrPut(value) { ArrayList() } += number
    }
    val found = ArrayList<Block<Value>>()
    for (claim in claims) {
        require(claim.run.size == 2) { "a run of operators has no begin and end" }
        val (begin, end) = claim.run
        val first = found.lastOrNull()?.end ?: 0
        require(begin in first until end && end <= operators.size) {
            "the block of operators ${claim.run} overlaps another or leads out of the graph"
        }
        require(claim.sites == sites.indices.filter { sites[it] in begin until end }) {
            "the block of operators ${claim.run} has other sites than ${claim.sites}"
        }
        val inner = operators.subList(begin, end)
        val made = inner.flatMapTo(HashSet()) { it.makes }
        val entries = inner.flatMap { it.reads }.filterTo(HashSet()) { value ->
            makers[value]?.let { it < begin || it >= end } ?: false
        }
        val joins = made.filter { value -> readers[value].orEmpty().any { it < begin || it >= end } }
        require(
            entries.size == 1 && joins.size == 1 && joins[0] in inner.last().makes && outputs.none { it in made },
        ) { "operators ${claim.run} are no block with one entry and, at its end, one join" }
        found += Block(begin, end, entries.first(), joins[0])
    }
    return found
}

/** What is read in place of the join of each block that is left out; in forward order, so that chains resolve. */
internal fun <Value> instead(gone: List<Block<Value>>): Map<Value, Value> {
    val found = LinkedHashMap<Value, Value>()
    for (block in gone) found[block.join] = found[block.entry] ?: block.entry
    return found
}
