package io.edgepatch.patchkit.picture

import io.edgepatch.patchkit.errors.quoted
import io.edgepatch.patchkit.errors.tuple
import io.edgepatch.patchkit.json.asInt
import io.edgepatch.patchkit.json.asList
import io.edgepatch.patchkit.json.asNumber
import io.edgepatch.patchkit.json.asObject

/** How a picture is brought to the square that a network sees. */
enum class Resize(val word: String) {
    /** The whole picture, whatever its shape. */
    STRETCH("stretch"),

    /** The central square of 224/256 of the short side, as ImageNet's evaluation takes it. */
    CROP("crop"),
}

/**
 * How a picture becomes the network's input.
 *
 * @property size side of the square input, in pixels.
 * @property scale a channel's value is pixel (0..255) x scale + [offset]; RGB order. Float64 as the file has them: the
 *   arithmetic is in float32.
 */
class Preprocessing(val size: Int, val resize: Resize, val scale: List<Double>, val offset: List<Double>) {
    init {
        require(size in SIZES) { "size is $size, not a whole number from ${SIZES.first} to ${SIZES.last}" }
        for ((name, values) in listOf("scale" to scale, "offset" to offset)) {
            require(values.size == 3 && values.all { Math.abs(it) <= LARGEST }) {
                "$name is ${tuple(values)}, not three numbers up to a million"
            }
        }
    }

    companion object {
        /** Sides of the input in pixels. */
        val SIZES = 16..1024

        private const val LARGEST = 1e6
        private val FIELDS = setOf("size", "resize", "scale", "offset")

        /** Of a document's `input`. Throws [IllegalArgumentException]: a field is missing, unknown or out of range. */
        fun fromJson(value: Any?): Preprocessing {
            val fields = value.asObject()
            require(fields != null && fields.keys == FIELDS) {
                "expected the fields ${FIELDS.sorted().joinToString(", ")}"
            }
            for (name in listOf("scale", "offset")) {
                require(fields[name] is List<*>) { "$name is ${quoted(fields[name])}, not three numbers" }
            }
            val size = fields["size"].asInt(SIZES)
            require(size != null) {
                "size is ${quoted(fields["size"])}, not a whole number from ${SIZES.first} to ${SIZES.last}"
            }
            val resize = Resize.values().find { it.word == fields["resize"] }
            require(resize != null) {
                "resize is ${quoted(fields["resize"])}, not one of ${Resize.values().joinToString(", ") { it.word }}"
            }
            return Preprocessing(size, resize, three("scale", fields["scale"]), three("offset", fields["offset"]))
        }

        private fun three(name: String, value: Any?): List<Double> {
            val items = value.asList().orEmpty()
            val numbers = items.mapNotNull { item -> item.asNumber()?.takeIf { Math.abs(it) <= LARGEST } }
            require(numbers.size == 3 && items.size == 3) {
                "$name is ${tuple(items)}, not three numbers up to a million"
            }
            return numbers
        }
    }
}
