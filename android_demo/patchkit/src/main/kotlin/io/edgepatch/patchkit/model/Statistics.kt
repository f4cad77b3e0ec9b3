package io.edgepatch.patchkit.model

import io.edgepatch.patchkit.errors.quoted
import io.edgepatch.patchkit.json.asInt
import io.edgepatch.patchkit.json.asList
import io.edgepatch.patchkit.json.asNumber

/**
 * What a patch knows of the features of its training pictures, under its own values; for classes that are added on a
 * device (docs/enrolling.md). Nothing else reads it.
 *
 * @property centre U8 (features,), the mean of all pictures: `low + step * centre`.
 * @property gain what a step of one in a class's mean feature is worth in the head's kernel.
 * @property level what the logits of a class whose mean were the centre have there, beyond the trained columns' mean.
 * @property spread the squared distance of a picture from its class's mean, on average.
 * @property norm of a class's mean, on average.
 * @property pictures for each class that was enrolled, from how many; these classes are the last ones.
 */
class Statistics(
    val centre: Tensor,
    val gain: Double,
    val level: Double,
    val spread: Double,
    val norm: Double,
    val low: Double,
    val step: Double,
    val pictures: List<Int>,
) {
    companion object {
        /** The tensor, which belongs to no kind. */
        const val CENTRE = "centre"

        private const val LARGEST = 1e12 // of a number: sums of products with it are finite
        private val NUMBERS = listOf("gain", "level", "spread", "norm", "low", "step")
        private val POSITIVE = listOf("gain", "spread", "norm")

        /**
         * Of a document's `statistics`, for a patch of [classes]; null of `{}` without a centre.
         *
         * Throws [IllegalArgumentException]: a number is missing, unknown or out of range, or the centre is of another
         * type.
         */
        fun fromJson(value: Map<String, Any?>, centre: Tensor?, classes: Int): Statistics? {
            if (value.isEmpty() && centre == null) return null
            require(centre != null && centre.type == DType.U8 && centre.shape.size == 1 && centre.count > 0) {
                "there is no tensor $CENTRE of uint8 (features,)"
            }
            require(value.keys == NUMBERS.toSet() + "pictures") {
                "its fields are ${value.keys.joinToString(", ").ifEmpty { "none" }}"
            }
            val numbers = NUMBERS.map { name ->
                val number = value[name].asNumber()
                require(number != null && Math.abs(number) <= LARGEST) {
                    "$name is ${quoted(value[name])}, not a number of at most 1e+12"
                }
                number
            }
            for ((name, number) in NUMBERS.zip(numbers)) {
                require(name !in POSITIVE || number > 0) { "$name is ${quoted(value[name])}, not above 0" }
            }
            require(numbers[5] >= 0) { "step is ${quoted(value["step"])}, below 0" }
            val counts = value["pictures"].asList()?.map { it.asInt(1..Int.MAX_VALUE) }
            require(counts != null && counts.size <= classes && null !in counts) {
                "pictures is ${quoted(value["pictures"])}, not a count for each of at most $classes classes"
            }
            val (gain, level, spread, norm, low) = numbers
            return Statistics(centre, gain, level, spread, norm, low, numbers[5], counts.filterNotNull())
        }
    }
}
