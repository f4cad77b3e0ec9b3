package io.edgepatch.patchkit.codec

import io.edgepatch.patchkit.errors.BadFileException
import io.edgepatch.patchkit.errors.MismatchException
import io.edgepatch.patchkit.errors.begin
import io.edgepatch.patchkit.errors.said
import io.edgepatch.patchkit.errors.tuple
import io.edgepatch.patchkit.json.asInt
import io.edgepatch.patchkit.json.asList
import io.edgepatch.patchkit.json.asObject
import io.edgepatch.patchkit.model.DType
import io.edgepatch.patchkit.model.Effects
import io.edgepatch.patchkit.model.HeadNetwork
import io.edgepatch.patchkit.model.Patch
import io.edgepatch.patchkit.model.Tensor
import io.edgepatch.patchkit.model.Trunk
import java.math.BigInteger

/**
 * How a patch's values are stored, and what they make of a network: the reading half of Python's `edgepatch.codec`.
 *
 * Values are stored as float16, or as integers of at most eight bits, packed in bit planes, each times a step: one step
 * a site, and of a head's kernels one an output channel. All arithmetic is in float32 and in numpy's order, so that
 * what is baked is the same to the last bit.
 */
object Codec {
    private val PACKED = Effects.CHANNELS + Effects.KERNEL + "head_kernel" // and kernels of a head on maps
    private const val MAX_RANK = 32 // of an array
    private const val LARGEST = 1e8f // of a value: no sum of products with it overflows at once

    /**
     * The shape of each of a patch's values, of a mask its bytes', after a look at whether they can be decoded at all.
     *
     * Throws [BadFileException]: what the file says of its packed tensors does not fit them.
     */
    fun shapes(patch: Patch, file: String?): Map<String, List<Int>> {
        fun bad(problem: String, name: String, got: Any?, expected: Any?) = BadFileException(
            problem, file = file, field = "codec.$name", got = begin(said(got), 80), expected = expected,
        )

        val found = LinkedHashMap<String, List<Int>>()
        for ((name, tensor) in patch.tensors) found[name] = tensor.shape
        for ((name, value) in patch.codec) {
            if (!(name in PACKED || ofMapHead(name)) || name !in found) {
                val got = found.keys.joinToString(", ")
                throw bad("packs a tensor that is not there to be packed", name, got, PACKED.joinToString(", "))
            }
            val how = value.asObject()
            val sides = how?.get("shape").asList()?.map { it.asInt(1..Int.MAX_VALUE) }
            if (sides.isNullOrEmpty() || sides.size > MAX_RANK || null in sides) {
                throw bad("has a broken codec", name, value, "bits and shape")
            }
            val shape = sides.filterNotNull()
            val bits = how?.get("bits").asInt(2..8)
            if (bits == null || how?.size != 2) {
                throw bad("has a broken codec", name, value, "bits from 2 to 8, and shape")
            }
            val planes = patch.tensors.getValue(name)
            val bytes = bytesOf(shape)
            if (planes.type != DType.U8 || planes.shape.map { it.toBigInteger() } != listOf(bits.toBigInteger(), bytes)) {
                throw bad("has a tensor at odds with its codec", name, tuple(planes.shape), "($bits, $bytes)")
            }
            val steps = listOf(if (name in Effects.SITES) patch.sites[name].orEmpty().size else shape.last())
            val step = patch.tensors["${name}_step"]
            if (step == null || step.type != DType.F32 || step.shape != steps) {
                throw bad("has steps at odds with its codec", "${name}_step", tuple(step?.shape ?: listOf(0)), "float32 ${tuple(steps)}")
            }
            found[name] = shape
            found.remove("${name}_step")
        }
        val packed = Effects.CHANNELS.count { it in patch.codec }
        if (found.keys.containsAll(Effects.CHANNELS) && packed == 1) {
            throw bad("packs one of scale and bias", "scale", patch.codec.keys.joinToString(", "), "both or none")
        }
        return found
    }

    /**
     * Refuses a patch that is not of this network, before anything is unpacked; returns what [shapes] does.
     *
     * Throws [MismatchException]: it changes sites or blocks that the network does not have, or in other shapes.
     * [BadFileException]: as [shapes].
     */
    fun check(patch: Patch, trunk: Trunk, file: String?): Map<String, List<Int>> {
        val found = shapes(patch, file)
        val sites = trunk.names.size
        Effects.SITES.find { it in found && it !in patch.sites }?.let {
            throw BadFileException("does not say at which sites", file = file, field = "sites.$it")
        }
        for ((effect, numbers) in patch.sites) {
            val outside = numbers.find { it >= sites } ?: continue
            throw MismatchException(
                "changes sites that the network does not have", file = file, field = "sites.$effect", got = outside,
                expected = "numbers from 0 to ${sites - 1}",
            )
        }
        val expected = LinkedHashMap<String, Long>()
        for ((effect, numbers) in patch.sites) expected[effect] = trunk.length(effect, numbers)
        expected[Effects.MASK]?.let { expected[Effects.MASK] = (it + 7) / 8 }
        if (Effects.SKIP in found) expected[Effects.SKIP] = trunk.residuals.toLong()
        for ((effect, length) in expected) {
            val got = found[effect]
            if (got?.map { it.toLong() } != listOf(length)) throw otherShape(effect, got, length, trunk, file)
        }
        for (name in listOf(Effects.MASK, Effects.SKIP).filter { it in found }) {
            if (patch.tensors.getValue(name).type != DType.U8) {
                throw BadFileException("has bits of another type", file = file, field = name, expected = "uint8")
            }
        }
        patch.tensors[Effects.SKIP]?.let { skip ->
            val most = skip.floats().maxOrNull() ?: 0f
            if (most > 1) {
                throw BadFileException(
                    "has broken bits", file = file, field = Effects.SKIP, got = most.toInt(), expected = "0 or 1",
                )
            }
        }
        return found
    }

    /**
     * What a patch makes of a network.
     *
     * Returns F32 `scale` and `bias` of all sites (sum of channels,), the network's own where the patch has none, and
     * the head. For each site with another kernel `NAME/kernel`, F32 HWIO, and for each with a mask `NAME/mask`, U8
     * HWIO of 0 and 1. If the patch can skip blocks, `skip`, U8 (residuals,). All in direct buffers.
     *
     * Throws [MismatchException], [BadFileException]: as [check]; or a value is out of range.
     */
    fun decode(patch: Patch, trunk: Trunk, file: String?): Map<String, Tensor> {
        val shapes = check(patch, trunk, file)
        val found = LinkedHashMap<String, Tensor>()
        val channels = listOf(trunk.scale.size)
        val scale = trunk.scale.copyOf()
        val bias = trunk.bias.copyOf()
        val change = FloatArray(scale.size) { 1f } // of packed scales, which own biases go through
        for ((name, shape) in shapes.entries.sortedBy { it.key != Effects.SCALE }) { // the sort keeps the others' order
            val numbers = patch.sites[name].orEmpty()
            val packed = name in patch.codec
            when (name) {
                Effects.MASK -> found += masks(patch.tensors.getValue(name), trunk, numbers)
                Effects.SKIP -> {
                    val stored = patch.tensors.getValue(name)
                    found[name] = Tensor.of(shape, BooleanArray(stored.count) { stored.data.get(it) != 0.toByte() })
                }
                Effects.KERNEL -> {
                    val value = value(patch, name, shape, trunk, numbers)
                    for ((number, cut) in trunk.cuts(name, numbers)) {
                        val own = if (packed) trunk.kernel(number) else null
                        val kernel = FloatArray(trunk.weights[number]) { value[cut.first + it] + (own?.get(it) ?: 0f) }
                        found["${trunk.names[number]}/kernel"] = Tensor.of(trunk.shapes[number], kernel)
                    }
                }
                Effects.SCALE -> {
                    val value = value(patch, name, shape, trunk, numbers)
                    trunk.inside(numbers).forEachIndexed { at, channel ->
                        if (packed) change[channel] = 1f + value[at]
                        scale[channel] = if (packed) trunk.scale[channel] * change[channel] else value[at]
                    }
                }
                Effects.BIAS -> {
                    val value = value(patch, name, shape, trunk, numbers)
                    trunk.inside(numbers).forEachIndexed { at, channel ->
                        bias[channel] = if (packed) trunk.bias[channel] * change[channel] + value[at] else value[at]
                    }
                }
                else -> found[name] = Tensor.of(shape, value(patch, name, shape, trunk, numbers))
            }
        }
        val values = linkedMapOf(Effects.SCALE to Tensor.of(channels, scale), Effects.BIAS to Tensor.of(channels, bias))
        values += found
        for ((name, value) in values) {
            if (value.type == DType.F32 && value.floats().any { !(Math.abs(it) <= LARGEST) }) {
                throw BadFileException("has values out of range", file = file, field = name, expected = "at most 1e+08")
            }
        }
        return values
    }

    /** A tensor as it is stored, float32: values, or integers times steps. */
    private fun value(patch: Patch, name: String, shape: List<Int>, trunk: Trunk, numbers: List<Int>): FloatArray {
        val stored = patch.tensors.getValue(name)
        if (name !in patch.codec) return stored.floats()
        val step = patch.tensors.getValue("${name}_step").floats()
        val value = unpack(stored, Math.toIntExact(Tensor.count(shape)))
        if (name in Effects.SITES) {
            trunk.cuts(name, numbers).values.forEachIndexed { at, cut -> for (i in cut) value[i] *= step[at] }
        } else {
            for (i in value.indices) value[i] *= step[i % step.size]
        }
        return value
    }

    private fun ofMapHead(name: String): Boolean = name.startsWith(HeadNetwork.PREFIX) && name.endsWith("/kernel")

    private fun masks(stored: Tensor, trunk: Trunk, numbers: List<Int>): Map<String, Tensor> =
        trunk.cuts(Effects.MASK, numbers).entries.associate { (number, cut) ->
            val bits = BooleanArray(trunk.weights[number]) { bit(stored, 0, cut.first + it) != 0 }
            "${trunk.names[number]}/mask" to Tensor.of(trunk.shapes[number], bits)
        }

    /** Integers of bit planes (bits, bytes), the lowest plane first, less 2^(bits - 1): float32. */
    private fun unpack(planes: Tensor, count: Int): FloatArray {
        val (bits, bytes) = planes.shape
        val middle = 1 shl (bits - 1)
        return FloatArray(count) { at ->
            var unsigned = 0
            for (plane in 0 until bits) unsigned = unsigned or (bit(planes, plane * bytes, at) shl plane)
            (unsigned - middle).toFloat()
        }
    }

    /** A bit behind a byte's place; the lowest bit of a byte comes first. */
    private fun bit(stored: Tensor, begin: Int, at: Int): Int =
        stored.data.get(begin + at / 8).toInt() ushr (at % 8) and 1

    /** Bytes of a plane of so many values. */
    private fun bytesOf(shape: List<Int>): BigInteger {
        val count = shape.fold(BigInteger.ONE) { product, side -> product * side.toBigInteger() }
        return (count + 7.toBigInteger()).shiftRight(3)
    }

    private fun otherShape(
        effect: String, got: List<Int>?, length: Long, trunk: Trunk, file: String?,
    ): MismatchException {
        val problem = when (effect) {
            Effects.MASK -> "is a mask for other kernels"
            Effects.SKIP -> "skips blocks that the network does not have"
            else -> "has a tensor of another shape than its sites have here"
        }
        val old = effect == Effects.SKIP && trunk.residuals == 0
        return MismatchException(
            problem, file = file, field = effect, got = got?.let { tuple(it) } ?: "nothing", expected = tuple(listOf(length)),
            mend = if (old) "Export the graph again: it was made before tasks could skip blocks." else null,
        )
    }
}
