package io.edgepatch.patchkit.model

import io.edgepatch.patchkit.errors.begin
import io.edgepatch.patchkit.errors.quoted
import io.edgepatch.patchkit.errors.said
import io.edgepatch.patchkit.json.asInt
import io.edgepatch.patchkit.json.asList
import io.edgepatch.patchkit.json.asObject
import io.edgepatch.patchkit.json.asStrings

/**
 * One step of a head. Images are square, and padded as TensorFlow's `same` does.
 *
 * @property name its own; its tensors are `head/NAME/kernel`, HWIO, of a depthwise one (height, width, channels), and
 *   `head/NAME/bias`, (channels,).
 * @property op `conv` and `depthwise`, with a bias; `mean` over all pixels, which leaves one; `multiply` and `add` of
 *   two, of which the second may be one pixel; `resize` of the first to the side of the second, bilinear.
 * @property inputs names of maps or of earlier layers.
 * @property channels that a `conv` makes; 0 of all others.
 * @property kernel in pixels, both ways; 1 where it convolves nothing.
 * @property stride likewise.
 * @property activation what follows: `linear`, `relu`, `relu6` or `sigmoid`.
 */
data class Layer(
    val name: String,
    val op: String,
    val inputs: List<String>,
    val channels: Int = 0,
    val kernel: Int = 1,
    val stride: Int = 1,
    val activation: String = "linear",
)

/**
 * A head that is more than a dense layer: a small network on the trunk's maps, which its patch carries as data.
 *
 * @property maps sites of the trunk whose outputs are read, behind their activations.
 * @property layers in forward order.
 * @property outputs names of the layers that answer.
 */
data class HeadNetwork(val maps: List<String>, val layers: List<Layer>, val outputs: List<String>) {
    /** Channels of each output; 0 of one that no convolution leads to. */
    val answers: List<Int>
        get() {
            val byName = layers.associateBy { it.name }
            return outputs.map { output ->
                var layer = byName[output]
                while (layer != null && layer.channels == 0) layer = byName[layer.inputs[0]]
                layer?.channels ?: 0
            }
        }

    /**
     * Channels of each map and layer, given those of the maps.
     *
     * Throws [IllegalArgumentException]: a sum's or a product's terms differ.
     */
    fun widths(maps: Map<String, Int>): Map<String, Int> {
        val found = LinkedHashMap<String, Int>()
        for (name in this.maps) found[name] = maps.getValue(name)
        for (layer in layers) {
            val sources = layer.inputs.map { found.getValue(it) }
            require(layer.op !in PAIRS || sources.toSet().size == 1) {
                "${layer.name}: ${layer.op} of ${sources[0]} and ${sources[1]} channels"
            }
            found[layer.name] = if (layer.op == "conv") layer.channels else sources[0]
        }
        return found
    }

    /**
     * Sides in pixels of each map and layer, given those of the maps.
     *
     * Throws [IllegalArgumentException]: a sum's or a product's terms differ.
     */
    fun sides(maps: Map<String, Int>): Map<String, Int> {
        val found = LinkedHashMap<String, Int>()
        for (name in this.maps) found[name] = maps.getValue(name)
        for (layer in layers) {
            val sources = layer.inputs.map { found.getValue(it) }
            require(layer.op !in PAIRS || sources[1] == 1 || sources[1] == sources[0]) {
                "${layer.name}: ${layer.op} of ${sources[0]} and ${sources[1]} pixels"
            }
            val side = if (layer.op == "resize") sources[1] else sources[0]
            found[layer.name] = if (layer.op == "mean") 1 else (side + layer.stride - 1) / layer.stride
        }
        return found
    }

    /**
     * Refuses a head whose layers take more memory than a device has.
     *
     * Throws [IllegalArgumentException]: they are of more than [MAX_VALUES] values.
     */
    fun requireRoom(sides: Map<String, Int>, widths: Map<String, Int>) {
        val values = layers.sumOf { layer ->
            val side = sides.getValue(layer.name).toLong()
            side * side * widths.getValue(layer.name)
        }
        require(values <= MAX_VALUES) { "the head's layers have $values values, and $MAX_VALUES are the most" }
    }

    /** Names and shapes of its weights, given the channels of the maps. Throws as [widths] does. */
    fun tensors(maps: Map<String, Int>): Map<String, List<Int>> {
        val widths = widths(maps)
        val found = LinkedHashMap<String, List<Int>>()
        for (layer in layers.filter { it.op in CONVOLUTIONS }) {
            val sides = listOf(layer.kernel, layer.kernel, widths.getValue(layer.inputs[0]))
            found["$PREFIX${layer.name}/kernel"] = if (layer.op == "depthwise") sides else sides + layer.channels
            found["$PREFIX${layer.name}/bias"] = listOf(widths.getValue(layer.name))
        }
        return found
    }

    companion object {
        /** Of the names of its tensors. */
        const val PREFIX = "head/"
        val CONVOLUTIONS = setOf("conv", "depthwise")
        val ACTIVATIONS = setOf("linear", "relu", "relu6", "sigmoid")

        private val PAIRS = setOf("multiply", "add")
        private val OPS = CONVOLUTIONS + PAIRS + setOf("mean", "resize")
        private const val MAX_LAYERS = 256
        private const val MAX_CHANNELS = 8192
        private const val MAX_KERNEL = 15
        private const val MAX_STRIDE = 8

        /** Of all layers together, 256 MiB in float32: a wide layer's weights are small, its output is not. */
        private const val MAX_VALUES = 1L shl 26
        private val NAME = Regex("[A-Za-z0-9_.-]{1,60}")
        private val NEEDED = setOf("name", "op", "inputs")
        private val FIELDS = NEEDED + setOf("channels", "kernel", "stride", "activation")

        /** Of a patch's `decode.network`. Throws [IllegalArgumentException]: no device could lay it out. */
        fun fromJson(value: Any?): HeadNetwork {
            val fields = value.asObject()
            require(fields != null && fields.keys == setOf("maps", "layers", "outputs")) {
                "expected the fields layers, maps, outputs"
            }
            val maps = names(fields["maps"])
            val rows = fields["layers"].asList()
            require(maps != null && rows != null && rows.size in 1..MAX_LAYERS) {
                "expected the names of maps, and 1 to $MAX_LAYERS layers"
            }
            val known = maps.toMutableSet()
            val layers = rows.mapIndexed { number, row ->
                val layer = layer(row, number)
                require(layer.name !in known) { "the name ${layer.name} is there twice" }
                layer.inputs.find { it !in known }?.let {
                    throw IllegalArgumentException("layer ${layer.name} reads $it, which no earlier layer makes")
                }
                known += layer.name
                layer
            }
            val outputs = names(fields["outputs"])
            require(outputs != null && layers.map { it.name }.containsAll(outputs)) {
                "expected the names of layers as outputs"
            }
            return HeadNetwork(maps, layers, outputs)
        }

        private fun layer(row: Any?, number: Int): Layer {
            val fields = row.asObject()
            require(fields != null && fields.keys.containsAll(NEEDED) && FIELDS.containsAll(fields.keys)) {
                "layer $number has other fields than ${FIELDS.joinToString(", ")}"
            }
            val inputs = names(fields["inputs"], twice = true)
            val name = (fields["name"] as? String)?.takeIf { NAME.matches(it) }
            require(inputs != null && name != null) { "layer $number has broken names" }
            val op = fields["op"] as? String
            require(op in OPS && inputs.size == if (op in PAIRS || op == "resize") 2 else 1) {
                "layer $name is ${quoted(begin(said(fields["op"]), 20))} of ${inputs.size} inputs"
            }
            val convolves = op in CONVOLUTIONS

            fun limited(field: String, default: Int, range: IntRange): Int {
                val got = if (field in fields) fields[field].asInt(range) else default.takeIf { it in range }
                require(got != null) {
                    "layer $name has $field ${begin(said(if (field in fields) fields[field] else default), 20)}, not ${range.first} to ${range.last}"
                }
                return got
            }
            val channels = limited("channels", 0, if (op == "conv") 1..MAX_CHANNELS else 0..0)
            val kernel = limited("kernel", 1, 1..if (convolves) MAX_KERNEL else 1)
            val stride = limited("stride", 1, 1..if (convolves) MAX_STRIDE else 1)
            val activation = if ("activation" in fields) fields["activation"] as? String else "linear"
            require(activation in ACTIVATIONS) {
                "layer $name has no activation ${quoted(begin(said(fields["activation"]), 20))}"
            }
            return Layer(name, op!!, inputs, channels, kernel, stride, activation!!)
        }

        /** A list of names, one or more, or null where it is none; without [twice] each once. */
        private fun names(value: Any?, twice: Boolean = false): List<String>? = value.asStrings()?.takeIf { names ->
            names.isNotEmpty() && names.all { NAME.matches(it) } && (twice || names.toSet().size == names.size)
        }
    }
}
