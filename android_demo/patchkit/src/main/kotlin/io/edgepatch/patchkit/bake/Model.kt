package io.edgepatch.patchkit.bake

import io.edgepatch.patchkit.graph.Initializer
import java.nio.ByteBuffer

/**
 * What an engine opens, and keeps as long as it runs.
 *
 * @property data the bytes of a .tflite or .onnx, direct, little-endian.
 * @property tensors initializers that an .onnx is given to them.
 * @property size side of its images in pixels, which an .onnx of ours leaves open; null of a head.
 */
class Model internal constructor(
    val data: ByteBuffer,
    internal val tensors: Map<String, Initializer> = emptyMap(),
    val size: Int? = null,
) {
    val nbytes: Long get() = data.limit() + tensors.values.sumOf { it.data.limit().toLong() }
}
