package io.edgepatch.patchkit.model

import java.nio.ByteBuffer
import java.nio.ByteOrder

/** A type that files have, by its name there. */
enum class DType(val size: Int) {
    F32(4), F16(2), I8(1), U8(1);

    /** Whether its values may be NaN or infinite. */
    val isFloat: Boolean get() = this == F32 || this == F16
}

/**
 * Values in C order, little-endian, in a buffer of their own or a view into a file's.
 *
 * @property shape sides, the outermost first; none of a single value.
 * @property data the values' bytes, from 0 to its limit, little-endian. Its position is not to be moved: see [bytes].
 */
class Tensor(val type: DType, val shape: List<Int>, data: ByteBuffer) {
    val data: ByteBuffer = data.slice().order(ByteOrder.LITTLE_ENDIAN)

    /** How many values. */
    val count: Int get() = data.limit() / type.size

    init {
        val bytes = this.data.limit()
        require(count(shape) * type.size == bytes.toLong()) { "$shape of $type in $bytes bytes" }
    }

    /** A view of the bytes with a position of its own, read-only. */
    fun bytes(): ByteBuffer = data.asReadOnlyBuffer().order(ByteOrder.LITTLE_ENDIAN)

    /** The value at a place in C order, as float32. */
    fun float(index: Int): Float = when (type) {
        DType.F32 -> data.getFloat(4 * index)
        DType.F16 -> Half.toFloat(data.getShort(2 * index))
        DType.I8 -> data.get(index).toFloat()
        DType.U8 -> (data.get(index).toInt() and 0xff).toFloat()
    }

    /** All values as float32: a copy. */
    fun floats(): FloatArray {
        val found = FloatArray(count)
        if (type == DType.F32) bytes().asFloatBuffer().get(found) else for (i in found.indices) found[i] = float(i)
        return found
    }

    /** The bytes: a copy. */
    fun toByteArray(): ByteArray = ByteArray(data.limit()).also { bytes().get(it) }

    override fun toString(): String = "$type$shape"

    companion object {
        /** How many values a shape has. */
        fun count(shape: List<Int>): Long = shape.fold(1L) { product, side -> product * side }

        /** Float32 values in a direct buffer, which engines read in place. */
        fun of(shape: List<Int>, values: FloatArray): Tensor {
            val data = direct(4L * values.size)
            data.asFloatBuffer().put(values)
            return Tensor(DType.F32, shape, data)
        }

        /** Bits as uint8, 0 or 1, in a direct buffer. */
        fun of(shape: List<Int>, values: BooleanArray): Tensor {
            val data = direct(values.size.toLong())
            for (i in values.indices) data.put(i, if (values[i]) 1 else 0)
            return Tensor(DType.U8, shape, data)
        }

        /** An empty direct buffer, little-endian. */
        fun direct(size: Long): ByteBuffer =
            ByteBuffer.allocateDirect(Math.toIntExact(size)).order(ByteOrder.LITTLE_ENDIAN)
    }
}
