package io.edgepatch.patchkit.graph

import io.edgepatch.patchkit.model.Tensor
import java.nio.ByteBuffer
import java.nio.ByteOrder

/**
 * Bytes of a file that become others, as many.
 *
 * @property begin where they stand.
 * @property size how many they are.
 * @property write puts them into a little-endian buffer of that size: a kernel is folded only on the way into the copy.
 */
internal class Edit(val begin: Int, val size: Int, val write: (ByteBuffer) -> Unit) {
    companion object {
        fun ints(begin: Int, vararg values: Int) = Edit(begin, 4 * values.size) { it.asIntBuffer().put(values) }

        fun long(begin: Int, value: Long) = Edit(begin, 8) { it.putLong(value) }

        fun floats(begin: Int, vararg values: Float) = Edit(begin, 4 * values.size) { it.asFloatBuffer().put(values) }
    }
}

/**
 * What is put behind the end of a file, for what does not fit its old place.
 *
 * @property place of the field that is pointed at it.
 * @property items how many it says they are.
 * @property size in bytes.
 * @property write as [Edit.write].
 */
internal class Vector(val place: Int, val items: Int, val size: Int, val write: (ByteBuffer) -> Unit) {
    companion object {
        fun ints(place: Int, values: IntArray) =
            Vector(place, values.size, 4 * values.size) { it.asIntBuffer().put(values) }

        fun floats(place: Int, values: FloatArray) =
            Vector(place, values.size, 4 * values.size) { it.asFloatBuffer().put(values) }
    }
}

/**
 * A copy of a file with the edits made and the vectors, each aligned, behind its end; the file is copied once, and only
 * where nothing else goes.
 *
 * Throws [IllegalArgumentException]: edits overlap or lead out of the data.
 */
internal fun splice(data: ByteBuffer, edits: List<Edit>, vectors: List<Vector> = emptyList()): ByteBuffer {
    val places = ArrayList<Int>()
    val pointers = ArrayList<Edit>()
    var end = data.limit().toLong()
    for (vector in vectors) {
        end += padding(end + 4)
        require(end + 4 + vector.size <= Int.MAX_VALUE) { "a file of more than 2 GiB" }
        places += end.toInt()
        pointers += Edit.ints(vector.place, end.toInt() - vector.place)
        end += 4 + vector.size
    }
    if (vectors.isNotEmpty()) end += padding(end)
    val copy = Tensor.direct(end)
    val source = data.duplicate()
    var done = 0
    for (edit in (edits + pointers).sortedBy { it.begin }) {
        require(edit.begin >= done && edit.begin.toLong() + edit.size <= data.limit()) {
            "an edit at ${edit.begin} overlaps another or leads out of the file"
        }
        copy.put(source.between(done, edit.begin))
        edit.write(copy.slice(Span(edit.begin, edit.begin + edit.size)))
        done = edit.begin + edit.size
        copy.position(done)
    }
    copy.put(source.between(done, data.limit()))
    for ((vector, place) in vectors.zip(places)) {
        copy.putInt(place, vector.items)
        vector.write(copy.slice(Span(place + 4, place + 4 + vector.size)))
    }
    copy.clear()
    return copy
}

private fun padding(end: Long): Long = Math.floorMod(-end, Schema.ALIGNMENT.toLong())

private fun ByteBuffer.between(begin: Int, end: Int): ByteBuffer = apply {
    limit(end)
    position(begin)
}

/** These bytes in little-endian order; a view. */
internal fun ByteBuffer.little(): ByteBuffer = duplicate().order(ByteOrder.LITTLE_ENDIAN)
