package io.edgepatch.patchkit.graph

import io.edgepatch.patchkit.model.Tensor
import java.nio.ByteBuffer
import java.nio.ByteOrder

/**
 * Flatbuffers, laid down from values: as much of a writer as a small .tflite needs.
 *
 * Offsets point forward only, so whatever is pointed at is laid behind what points at it.
 */
internal class FlatbufferWriter private constructor() {
    /** What a field may hold. */
    sealed class Value

    /** A number of [size] bytes, 1 or 4. What is the schema's default may be left out. */
    class Scalar(val size: Int, val value: Int) : Value()

    /** A vector of [count] numbers in their bytes. */
    class Numbers(val content: ByteArray, val count: Int, val alignment: Int = 4) : Value()

    class Text(val text: String) : Value()

    /** Fields by number. */
    class Fields(val values: Map<Int, Value>) : Value() {
        constructor(vararg values: Pair<Int, Value>) : this(values.toMap())
    }

    /** A vector of tables. */
    class Tables(val tables: List<Fields>) : Value()

    private class Slot(val place: Int, val value: Value)

    private var found = ByteBuffer.allocate(1 shl 12).order(ByteOrder.LITTLE_ENDIAN)

    /** Lays a value down behind the end, and has the offset at a place point at it. */
    private fun point(place: Int, value: Value) {
        val inner = ArrayList<Slot>()
        val at = when (value) {
            is Fields -> table(value, inner)
            is Text -> value.text.toByteArray().let { vector(it + 0.toByte(), it.size, 4) }
            is Numbers -> vector(value.content, value.count, value.alignment)
            is Tables -> vector(ByteArray(4 * value.tables.size), value.tables.size, 4).also { at ->
                value.tables.forEachIndexed { index, table -> inner += Slot(at + 4 + 4 * index, table) }
            }
            is Scalar -> throw IllegalArgumentException("a number is no thing to point at")
        }
        found.putInt(place, at - place)
        for (slot in inner) point(slot.place, slot.value)
    }

    private fun vector(content: ByteArray, count: Int, alignment: Int): Int {
        pad(0, 4)
        pad(4, alignment)
        val at = found.position()
        need(4 + content.size).putInt(count).put(content)
        return at
    }

    /** A table and its vtable; adds the places of its offsets with what they are to point at. */
    private fun table(fields: Fields, inner: MutableList<Slot>): Int {
        val order = fields.values.entries.sortedByDescending { size(it.value) } // so that each is aligned
        val places = HashMap<Int, Int>()
        var end = 4
        for ((field, value) in order) {
            places[field] = end
            end += size(value)
        }
        val entries = (fields.values.keys.maxOrNull() ?: -1) + 1
        val length = 4 + 2 * entries
        pad(length, 4)
        need(length + end)
        found.putShort(length.toShort()).putShort(end.toShort())
        for (field in 0 until entries) found.putShort((places[field] ?: 0).toShort())
        val at = found.position()
        found.putInt(length).put(ByteArray(end - 4))
        for ((field, value) in fields.values) {
            val place = at + places.getValue(field)
            when {
                value !is Scalar -> inner += Slot(place, value)
                value.size == 1 -> found.put(place, value.value.toByte())
                else -> found.putInt(place, value.value)
            }
        }
        return at
    }

    private fun size(value: Value) = if (value is Scalar) value.size else 4

    /** Zeros, until what comes [behind] bytes later is aligned. */
    private fun pad(behind: Int, alignment: Int) {
        val zeros = Math.floorMod(-(found.position() + behind), alignment)
        need(zeros).put(ByteArray(zeros))
    }

    /** The buffer with room for so many bytes more. */
    private fun need(more: Int): ByteBuffer {
        if (found.remaining() < more) {
            val size = Math.addExact(found.position(), more)
            val grown = ByteBuffer.allocate(Math.max(size, Math.multiplyExact(2, found.capacity())))
            val done = found.apply { flip() }
            found = grown.order(ByteOrder.LITTLE_ENDIAN).put(done)
        }
        return found
    }

    companion object {
        fun byte(value: Int) = Scalar(1, value)

        fun number(value: Int) = Scalar(4, value)

        fun numbers(values: List<Int>): Numbers {
            val content = ByteBuffer.allocate(4 * values.size).order(ByteOrder.LITTLE_ENDIAN)
            for (value in values) content.putInt(value)
            return Numbers(content.array(), values.size)
        }

        /** Bytes, aligned as the schema wants a buffer's. */
        fun data(content: ByteArray) = Numbers(content, content.size, Schema.ALIGNMENT)

        /** The bytes of a flatbuffer, direct; [identifier] are four characters that say what schema it is of. */
        fun build(root: Fields, identifier: String): ByteBuffer {
            val writer = FlatbufferWriter()
            writer.need(8).putInt(0).put(identifier.toByteArray())
            writer.point(0, root)
            writer.pad(0, Schema.ALIGNMENT)
            val found = writer.found
            val made = Tensor.direct(found.position().toLong())
            made.put(found.array(), 0, found.position())
            made.rewind()
            return made
        }
    }
}
