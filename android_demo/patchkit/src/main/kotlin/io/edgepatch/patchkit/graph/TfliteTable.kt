package io.edgepatch.patchkit.graph

import io.edgepatch.patchkit.json.asObject
import java.nio.ByteBuffer

/**
 * A site in a .tflite.
 *
 * @property shape the kernel's, in TFLite's order.
 * @property kernelScale where one scale a channel stands, of a kernel in int8.
 * @property biasScale likewise of a bias in int32.
 */
internal class TfliteSite(
    private val named: Named<Int>,
    val shape: List<Int>,
    kernel: Span,
    val bias: Span,
    val kernelScale: Span?,
    val biasScale: Span?,
) : SiteRow(named.input, named.shift, kernel, kernelScale == null) {
    val operator: Int get() = named.operator

    fun toJson(): Map<String, Any?> = named.toJson() + listOfNotNull(
        "shape" to shape.map { it.toLong() },
        "kernel" to kernel.toJson(),
        "bias" to bias.toJson(),
        kernelScale?.let { "kernel_scale" to it.toJson() },
        biasScale?.let { "bias_scale" to it.toJson() },
    )
}

/**
 * One constant of the dense layer: its size depends on the task, so that it goes behind the end of the file.
 *
 * @property shape where it stands.
 * @property data the place of the buffer's field, [scale] and [zeroPoint] those of the quantisation's.
 */
internal class TfliteHeadPart(val shape: Span, val data: Int, val scale: Int?, val zeroPoint: Int?) {
    fun toJson(name: String): Map<String, Any?> = listOfNotNull(
        "${name}_data" to data.toLong(),
        "${name}_shape" to shape.toJson(),
        scale?.let { "${name}_scale" to it.toLong() },
        zeroPoint?.let { "${name}_zero_point" to it.toLong() },
    ).toMap()
}

/** The dense layer in a .tflite; [outputShapes] are those of its output and, where that is another one, the graph's. */
internal class TfliteHead(
    private val named: Named<Int>,
    val outputShapes: List<Span>,
    val kernel: TfliteHeadPart,
    val bias: TfliteHeadPart,
) {
    val input: Int get() = named.input

    fun toJson(): Map<String, Any?> = named.toJson() + kernel.toJson("kernel") + bias.toJson("bias") +
        ("output_shapes" to outputShapes.map { it.toJson() })
}

/** A quantised tensor that is no constant. */
internal class TfliteActivation(
    val tensor: Int, override val range: Int, val scale: Span, val zeroPoint: Span,
) : ActivationRow {
    fun toJson(): Map<String, Any?> = mapOf(
        "tensor" to tensor.toLong(),
        "range" to range.toLong(),
        "scale" to scale.toJson(),
        "zero_point" to zeroPoint.toJson(),
    )
}

/**
 * The bake table of a .tflite.
 *
 * @property readers for each block, where operators outside say that they read its join.
 * @property order the vector of operators with its length, which is cut for the blocks; null where there are none.
 */
internal class TfliteTable(
    override val sites: List<TfliteSite>,
    val head: TfliteHead,
    override val activations: List<TfliteActivation>,
    override val blocks: List<Block<Int>>,
    val readers: List<List<Int>>,
    val order: Span?,
) : BakeTable {
    override val headInput: Int get() = head.input

    override fun toJson(): Map<String, Any?> {
        val residuals = blocks.zip(readers) { block, places ->
            mapOf(
                "operators" to listOf(block.begin.toLong(), block.end.toLong()),
                "entry" to block.entry.toLong(),
                "join" to block.join.toLong(),
                "readers" to places.map { Span(it, it + 4).toJson() },
            )
        }
        val table = mapOf(
            "sites" to sites.map { it.toJson() },
            "head" to head.toJson(),
            "activations" to activations.map { it.toJson() },
            "residuals" to residuals,
        )
        return if (order == null) table else table + ("order" to order.toJson())
    }
}

/**
 * Finds the places of everything that a document's table names in a .tflite, as the file itself has them.
 *
 * What the file does not have throws [IllegalArgumentException], [IndexOutOfBoundsException] or
 * [NoSuchElementException].
 */
internal class TfliteLocator(private val data: ByteBuffer, private val document: Document) {
    private val subgraph = Flatbuffer.subgraph(data, Form.BAKE.word)
    private val buffers = Flatbuffer.root(data).tables(Schema.MODEL_BUFFERS)
    private val held = subgraph.tables(Schema.SUBGRAPH_TENSORS)
    private val operators = subgraph.tables(Schema.SUBGRAPH_OPERATORS).map { Table(data, it) }
    private val reads by lazy { operators.map { it.numbers(Schema.OPERATOR_INPUTS) } }
    private val makes by lazy { operators.map { it.numbers(Schema.OPERATOR_OUTPUTS) } }

    /** The first input of the operator that makes a tensor, by the tensor's position. */
    private val sources by lazy {
        operators.indices.associate { held[makes[it][0]] to reads[it][0] }
    }

    fun table(): TfliteTable {
        val sites = document.rows("sites").map { site(Named.of(it, ::index)) }
        val blocks = blocks(sites.map { it.operator })
        return TfliteTable(
            sites,
            head(Named.of(requireNotNull(document.json["bake"].asObject())["head"], ::index)),
            activations(),
            blocks,
            blocks.map { readers(it) },
            subgraph.vector(Schema.SUBGRAPH_OPERATORS, 4).takeIf { blocks.isNotEmpty() }?.let { Span(it.begin - 4, it.end) },
        )
    }

    private fun tensor(number: Int) = Table(data, held[number])

    private fun buffer(holder: Table) = Table(data, buffers[holder.number(Schema.TENSOR_BUFFER)])

    /** The kernel, the bias and the output of an operator. */
    private fun constants(number: Int): Triple<Table, Table, Table> {
        val inputs = operators[number].numbers(Schema.OPERATOR_INPUTS)
        require(inputs.size >= 3) { "operator $number has no kernel and bias" }
        val output = operators[number].numbers(Schema.OPERATOR_OUTPUTS)[0]
        return Triple(tensor(inputs[1]), tensor(inputs[2]), tensor(output))
    }

    private fun site(named: Named<Int>): TfliteSite {
        val (kernel, bias) = constants(named.operator)
        // half-precision kernels pass a DEQUANTIZE first
        val kept = if (kernel.number(Schema.TENSOR_BUFFER) != 0) kernel else tensor(sources.getValue(kernel.position))
        var kernelScale: Span? = null
        var biasScale: Span? = null
        if (document.precision.quantised && kernel.at(Schema.TENSOR_QUANTIZATION) != null) {
            kernelScale = scale(kernel)
            if (bias.at(Schema.TENSOR_QUANTIZATION) != null) biasScale = scale(bias)
        }
        return TfliteSite(
            named,
            kernel.numbers(Schema.TENSOR_SHAPE).toList(),
            buffer(kept).vector(Schema.BUFFER_DATA),
            buffer(bias).vector(Schema.BUFFER_DATA),
            kernelScale,
            biasScale,
        )
    }

    private fun scale(tensor: Table): Span =
        tensor.table(Schema.TENSOR_QUANTIZATION).vector(Schema.QUANTIZATION_SCALE, 4)

    private fun head(named: Named<Int>): TfliteHead {
        val (kernel, bias, output) = constants(named.operator)
        val answer = tensor(subgraph.numbers(Schema.SUBGRAPH_OUTPUTS)[0])
        val shapes = listOf(output, answer).distinctBy { it.position }.map { it.vector(Schema.TENSOR_SHAPE, 4) }
        return TfliteHead(named, shapes, headPart(kernel), headPart(bias))
    }

    private fun headPart(holder: Table): TfliteHeadPart {
        val parameters = holder.at(Schema.TENSOR_QUANTIZATION)?.let { holder.table(Schema.TENSOR_QUANTIZATION) }
        return TfliteHeadPart(
            holder.vector(Schema.TENSOR_SHAPE, 4),
            buffer(holder).need(Schema.BUFFER_DATA),
            parameters?.need(Schema.QUANTIZATION_SCALE),
            parameters?.need(Schema.QUANTIZATION_ZERO_POINT),
        )
    }

    private fun activations(): List<TfliteActivation> {
        val ranges = document.rows("activations").associate { index(it["tensor"]) to index(it["range"]) }
        val moving = held.indices.filter {
            val holder = tensor(it)
            holder.at(Schema.TENSOR_QUANTIZATION) != null && holder.number(Schema.TENSOR_BUFFER) == 0
        }
        return moving.map { number ->
            val parameters = tensor(number).table(Schema.TENSOR_QUANTIZATION)
            TfliteActivation(
                number,
                requireNotNull(ranges[number]) { "activations is not what the file has there" },
                parameters.vector(Schema.QUANTIZATION_SCALE, 4),
                parameters.vector(Schema.QUANTIZATION_ZERO_POINT, 8),
            )
        }
    }

    private fun blocks(sites: List<Int>): List<Block<Int>> {
        val claims = document.claims("operators")
        if (claims.isEmpty()) return emptyList()
        val wiring = Wiring(
            operators.indices.map { Operator(reads[it].toList(), makes[it].toList()) },
            subgraph.numbers(Schema.SUBGRAPH_INPUTS).toList(),
            subgraph.numbers(Schema.SUBGRAPH_OUTPUTS).toList(),
        )
        val found = wiring.blocks(sites, claims)
        for (block in found) {
            val (entry, join) = listOf(block.entry, block.join).map { number ->
                tensor(number).let { it.byte(Schema.TENSOR_TYPE) to it.numbers(Schema.TENSOR_SHAPE).toList() }
            }
            require(entry == join) { "tensor ${block.entry} cannot stand for tensor ${block.join}" }
        }
        return found
    }

    private fun readers(block: Block<Int>): List<Int> = operators.indices
        .filter { it < block.begin || it >= block.end }
        .flatMap { number ->
            val begin by lazy { operators[number].vector(Schema.OPERATOR_INPUTS, 4).begin }
            reads[number].indices.filter { reads[number][it] == block.join }.map { begin + 4 * it }
        }
}
