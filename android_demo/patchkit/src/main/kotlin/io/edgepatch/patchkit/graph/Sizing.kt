package io.edgepatch.patchkit.graph

import java.nio.ByteBuffer

/**
 * A .tflite laid out for images of another size: the shapes of its tensors, found anew from its own operators.
 *
 * Kernels do not depend on the size of what they see. Shapes do, and so do the vectors of ones with which the form
 * `bind` lays scale and bias out for a row of pixels (docs/decisions/0012-one-graph-any-size.md).
 *
 * @property edits that lay the form out.
 * @property vectors what is to be pointed at behind the end.
 */
internal class Layout(val edits: List<Edit>, val vectors: List<Vector>)

/** Finds a [Layout] of a subgraph for a size; throws what [Table] does where the network cannot be laid out for it. */
internal class Sizing(private val data: ByteBuffer, private val subgraph: Table, private val size: Int) {
    private val tensors = subgraph.tables(Schema.SUBGRAPH_TENSORS).map { Table(data, it) }
    private val buffers = Flatbuffer.root(data).tables(Schema.MODEL_BUFFERS)

    /** Sides of tensors (1, side, side, channels). */
    private val images = LinkedHashMap<Int, Int>()

    /** Sides of vectors laid out for a row of pixels, (side, channels), and of the ones before that. */
    private val rows = LinkedHashMap<Int, Int>()

    /** What the operator that makes a tensor reads. */
    private val madeOf = HashMap<Int, IntArray>()

    fun layout(): Layout {
        for (number in subgraph.numbers(Schema.SUBGRAPH_INPUTS)) if (shape(number).size == 4) images[number] = size
        for (position in subgraph.tables(Schema.SUBGRAPH_OPERATORS)) follow(Table(data, position))
        val edits = images.map { (number, side) -> Edit.ints(place(number) + 4, side, side) } +
            rows.map { (number, side) -> Edit.ints(place(number), side) }
        val ones = rows.filterKeys { it !in madeOf }
        val pixels = ones.values.sumOf { it.toLong() }
        require(pixels <= ROWS) { "rows of $pixels pixels" }
        val vectors = ones.map { (number, side) ->
            Vector(buffer(number).need(Schema.BUFFER_DATA), 4 * side, 4 * side) { bytes ->
                repeat(side) { bytes.putFloat(1f) }
            }
        }
        return Layout(edits, vectors)
    }

    private fun follow(operator: Table) {
        val reads = operator.numbers(Schema.OPERATOR_INPUTS)
        val makes = operator.numbers(Schema.OPERATOR_OUTPUTS)
        for (made in makes) madeOf[made] = reads
        val sides = reads.toList().mapNotNull { images[it] }
        if (sides.isEmpty() || shape(makes[0]).size != 4) return
        var side = sides.maxOf { it }.toLong()
        when (operator.byte(Schema.OPERATOR_KIND)) {
            in CONVOLUTIONS -> side = convolved(side, operator, reads[1])
            PAD -> {
                val zeros = data.slice(buffer(reads[1]).vector(Schema.BUFFER_DATA))
                side += zeros.getInt(8).toLong() + zeros.getInt(12)
            }
            REDUCER -> side = 1
            else -> for (row in reads.filter { shape(it).size == 2 }) {
                for (number in listOf(row, madeOf.getValue(row)[0])) {
                    require(rows.getOrPut(number) { side.toInt() } == side.toInt()) {
                        "tensor $number is laid out for rows of two lengths"
                    }
                }
            }
        }
        require(side in 1..WIDEST) { "$size pixels leave $side of tensor ${makes[0]}" }
        images[makes[0]] = side.toInt()
    }

    private fun convolved(side: Long, operator: Table, kernel: Int): Long {
        val options = operator.table(Schema.OPERATOR_OPTIONS)
        val stride = options.number(Schema.CONVOLUTION_STRIDE).toLong() and 0xffffffffL
        val taken = if (options.byte(Schema.CONVOLUTION_PADDING) == VALID) shape(kernel)[1] else 1
        return Math.floorDiv(side - taken, stride) + 1
    }

    private fun shape(number: Int): IntArray = tensors[number].numbers(Schema.TENSOR_SHAPE)

    private fun place(number: Int): Int = tensors[number].vector(Schema.TENSOR_SHAPE, 4).begin

    private fun buffer(number: Int) = Table(data, buffers[tensors[number].number(Schema.TENSOR_BUFFER)])

    private companion object {
        // kinds of operators' options, by the schema's numbers; all other operators leave an image's size as it is
        val CONVOLUTIONS = 1..2
        const val PAD = 22
        const val REDUCER = 27

        /** Side of any tensor: nothing that a network makes of its largest image, zeros around it included. */
        const val WIDEST = 1 shl 16

        /** Pixels of all rows of ones: each of a file's tensors may ask for one. */
        const val ROWS = 1L shl 22

        /** The padding of a convolution that has none. */
        const val VALID = 1
    }
}
