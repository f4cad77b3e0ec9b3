package io.edgepatch.patchkit.graph

import io.edgepatch.patchkit.errors.quoted
import io.edgepatch.patchkit.json.Json
import io.edgepatch.patchkit.json.asInt
import io.edgepatch.patchkit.json.asList
import io.edgepatch.patchkit.json.asObject
import io.edgepatch.patchkit.json.asStrings
import io.edgepatch.patchkit.model.DType
import io.edgepatch.patchkit.picture.Preprocessing

/** What a graph computes in, and how it keeps its kernels. */
enum class Precision(val word: String, internal val stored: DType) {
    FP32("fp32", DType.F32),
    FP16("fp16", DType.F16),

    /** Kernels in int8, activations in float. */
    DYNAMIC("dynamic", DType.I8),

    /** All of it in int8. */
    INT8("int8", DType.I8),
    ;

    /** Whether a channel of its kernels has a largest magnitude, which int8 keeps as 127. */
    internal val quantised: Boolean get() = stored == DType.I8
}

/** A form of a graph: one takes a patch as its inputs, the other has it written into its constants. */
enum class Form(val word: String) { BIND("bind"), BAKE("bake") }

/**
 * One convolution of the trunk and the normalisation behind it, as a graph tells of it.
 *
 * @property kernel sides, HWIO; of a depthwise one (height, width, channels, 1).
 * @property bound whether a patch may change its scale and bias as inputs.
 */
class Site(
    val name: String,
    val placement: String,
    val channels: Int,
    val kernel: List<Int>,
    val bound: Boolean,
) {
    internal val depthwise: Boolean get() = placement == "depthwise"

    /** Values of the kernel. */
    internal val weights: Int = kernel.fold(1, Math::multiplyExact)
}

/**
 * A block with an identity shortcut, which a task may skip.
 *
 * @property sites numbers of the sites inside.
 * @property nodes of the network, between whose values it lies: its entry's and its join's.
 */
class Residual(val sites: List<Int>, val nodes: Pair<Int, Int>)

/**
 * What a shared graph says of itself.
 *
 * @property json all of it.
 * @property forms both, or `bake` alone.
 * @property input how the backbone's own pictures are prepared; the size is the one that the file is laid out for.
 * @property sizes sides of the input in pixels that the graph can be laid out for.
 * @property features of which the dense layer makes its logits.
 */
class Document internal constructor(val json: Map<String, Any?>) {
    val architecture = json["architecture"] as String
    val backboneId = json["backbone_id"] as String
    val placement = json["placement"] as String
    val input = Preprocessing.fromJson(json["input"])
    val sizes: IntRange = sizes(json["sizes"].asList().orEmpty())
    val forms: List<Form>
    val precision: Precision
    val sites: List<Site>
    val residuals: List<Residual>
    val features: Int

    /** Channels of all sites, and of those that are bound. */
    internal val channels: Int
    internal val boundChannels: Int

    init {
        val words = json["forms"].asList()
        require(words == listOf("bind", "bake") || words == listOf("bake")) {
            "the forms are ${quoted(words)}, not bind and bake or bake alone"
        }
        forms = if (words!!.size == 2) listOf(Form.BIND, Form.BAKE) else listOf(Form.BAKE)
        precision = of(Precision.values(), "precision", json["precision"]) { it.word }
        sites = json["sites"].asList()!!.map { site(it) }
        residuals = json["residuals"].asList().orEmpty().map { residual(it) }
        channels = sites.fold(0) { sum, site -> Math.addExact(sum, site.channels) }
        boundChannels = sites.filter { it.bound }.sumOf { it.channels }
        features = features(json["inputs"].asObject().orEmpty())
    }

    private fun sizes(value: List<Any?>): IntRange {
        if (value.isEmpty()) return input.size..input.size // exported before graphs took other sizes
        val low = value[0].asInt(Preprocessing.SIZES)
        val high = value.getOrNull(1).asInt(Preprocessing.SIZES)
        require(value.size == 2 && low != null && high != null && input.size in low..high) {
            "the sizes are ${quoted(value)}, not two around ${input.size} from ${Preprocessing.SIZES.first} to " +
                "${Preprocessing.SIZES.last}"
        }
        return low..high
    }

    private fun site(value: Any?): Site {
        val row = typed(value, SITE)
        require(row != null) { "a site has other fields than ${SITE.keys.joinToString(", ")}" }
        val name = row["name"] as String
        val channels = row["channels"].asInt(POSITIVE)
        val sides = row["kernel"].asList()?.map { it.asInt(POSITIVE) }
        val weights = sides?.fold(1.toBigInteger()) { product, side -> product * (side ?: 0).toBigInteger() }
        require(channels != null && sides?.size == 4 && null !in sides && weights!!.bitLength() < 32) {
            "site $name has no proper shape"
        }
        val placement = row["placement"] as String
        require(sides[if (placement == "depthwise") 2 else 3] == channels) {
            "the kernel of site $name is not of its channels"
        }
        return Site(name, placement, channels, sides.filterNotNull(), row["bound"] as Boolean)
    }

    private fun residual(value: Any?): Residual {
        val row = typed(value, RESIDUAL)
        require(row != null) { "a block has other fields than ${RESIDUAL.keys.joinToString(", ")}" }
        val nodes = row["nodes"].asList()?.map { it.asInt(NATURAL) }
        val entry = nodes?.getOrNull(0)
        val join = nodes?.getOrNull(1)
        require(nodes?.size == 2 && entry != null && join != null && entry < join) {
            "block ${row["block"]} lies between the nodes ${quoted(row["nodes"])}"
        }
        val numbers = row["sites"].asList()!!.map {
            requireNotNull(it.asInt(NATURAL)) { "block ${row["block"]} has odd sites" }
        }
        return Residual(numbers, entry to join)
    }

    /** Of the inputs' shapes, which must be the ones that go with the sites. */
    private fun features(inputs: Map<String, Any?>): Int {
        val said = inputs["head_kernel"].asList()?.firstOrNull()
        val features = said.asInt(POSITIVE)
        val bound = listOf(boundChannels.toLong())
        val wanted = mapOf(
            "scale" to bound,
            "bias" to bound,
            "head_kernel" to listOf(said, null),
            "head_bias" to listOf(null),
        )
        require(features != null && inputs == wanted) { "the inputs are ${quoted(inputs)}, not ${quoted(wanted)}" }
        return features
    }

    internal companion object {
        const val FORMAT = 1L

        /** Each field and its type. */
        val FIELDS = mapOf(
            "kind" to "str", "format" to "int", "architecture" to "str", "alpha" to "float", "backbone_id" to "str",
            "precision" to "str", "forms" to "list", "placement" to "str", "input" to "dict", "sizes" to "list",
            "sites" to "list", "residuals" to "list", "inputs" to "dict", "bake" to "dict", "graph_sha256" to "str",
        )
        private val SITE = linkedMapOf(
            "name" to "str", "placement" to "str", "block" to "int", "channels" to "int", "kernel" to "list",
            "bound" to "bool",
        )
        private val RESIDUAL = linkedMapOf("block" to "int", "sites" to "list", "nodes" to "list")
        private val POSITIVE = 1..Int.MAX_VALUE
        private val NATURAL = 0..Int.MAX_VALUE

        /** A value as a row of these fields, of these types; null where it is none. */
        private fun typed(value: Any?, fields: Map<String, String>): Map<String, Any?>? =
            value.asObject()?.takeIf { row -> row.mapValues { Json.typeName(it.value) } == fields }

        private fun <Word> of(words: Array<Word>, what: String, value: Any?, spelt: (Word) -> String): Word =
            requireNotNull(words.find { spelt(it) == value }) {
                "the $what is ${quoted(value)}, not one of ${words.joinToString(", ") { spelt(it) }}"
            }
    }
}

/** The names of inputs and of values that the dense layer of a graph is given. */
internal object Dense {
    const val KERNEL = "head_kernel"
    const val BIAS = "head_bias"
    val NAMES = listOf(KERNEL, BIAS)
}
