package io.edgepatch.patchkit.model

/** What a patch does to a network is told in five effects; these are their names, of tensors and of `sites` alike. */
object Effects {
    const val SCALE = "scale"
    const val BIAS = "bias"
    const val KERNEL = "kernel"
    const val MASK = "mask"

    /** One bit a block with an identity shortcut. */
    const val SKIP = "skip"

    /** One value a channel. */
    val CHANNELS = listOf(SCALE, BIAS)

    /** One value a weight. */
    val KERNELS = listOf(KERNEL, MASK)

    /** Told by site. */
    val SITES = CHANNELS + KERNELS
}

/**
 * The sites of a network in forward order, and what they have of their own: a graph as a patch sees it.
 *
 * @property names of the sites.
 * @property shapes of their kernels, HWIO; of a depthwise one (height, width, channels, 1).
 * @property channels of their outputs.
 * @property residuals how many blocks can be skipped.
 * @property scale of all sites, (sum of channels,).
 * @property bias likewise.
 * @property kernel gives a site's kernel by its number, float32 HWIO, owned by the caller.
 */
class Trunk(
    val names: List<String>,
    val shapes: List<List<Int>>,
    val channels: List<Int>,
    val residuals: Int,
    val scale: FloatArray,
    val bias: FloatArray,
    val kernel: (Int) -> FloatArray,
) {
    /** Values of each site's kernel. */
    val weights: List<Int> = shapes.map { Math.toIntExact(Tensor.count(it)) }

    /** Behind which channel of all each site ends. */
    val ends: List<Int> = channels.runningReduce { sum, count -> sum + count }

    /** Where each of some sites' part lies in the one flat tensor that an effect has of them, by the site's number. */
    fun cuts(effect: String, numbers: Iterable<Int>): Map<Int, IntRange> {
        val counts = counts(effect)
        val found = LinkedHashMap<Int, IntRange>()
        var end = 0
        for (number in numbers) {
            found[number] = end until end + counts[number]
            end += counts[number]
        }
        return found
    }

    /** Values of the flat tensor that an effect has of some sites. */
    fun length(effect: String, numbers: Iterable<Int>): Long = counts(effect).let { counts ->
        numbers.fold(0L) { sum, number -> sum + counts[number] }
    }

    /** Where a site's channels lie among all. */
    fun inside(number: Int): IntRange = ends[number] - channels[number] until ends[number]

    /** Which of all channels are of some sites, in forward order: their indices. */
    fun inside(numbers: Collection<Int>): IntArray {
        val chosen = numbers.toSet()
        return channels.indices.filter { it in chosen }.flatMap { inside(it) }.toIntArray()
    }

    private fun counts(effect: String): List<Int> = if (effect in Effects.CHANNELS) channels else weights
}

/** Those of the blocks that can be skipped, in forward order, that a task's `skip` (blocks,) skips; none without it. */
fun <Block> leftOut(blocks: List<Block>, skip: Tensor?): List<Block> {
    if (skip == null) return emptyList()
    require(skip.count == blocks.size) { "skip is of ${skip.count} blocks, not ${blocks.size}" }
    return blocks.filterIndexed { number, _ -> skip.data.get(number) != 0.toByte() }
}
