package io.edgepatch.patchkit.bake

import io.edgepatch.patchkit.graph.GraphFormat
import io.edgepatch.patchkit.model.HeadNetwork
import io.edgepatch.patchkit.model.Layer
import io.edgepatch.patchkit.model.Tensor
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test

/** A head whose layers would take more memory than a device has is not laid out. */
class HeadRoomTest {
    private val network = HeadNetwork(listOf("map"), listOf(Layer("wide", "conv", listOf("map"), 4096)), listOf("wide"))
    private val weights = mapOf(
        "head/wide/kernel" to Tensor.of(listOf(1, 1, 1, 4096), FloatArray(4096)),
        "head/wide/bias" to Tensor.of(listOf(4096), FloatArray(4096)),
    )

    @Test
    fun `as many values as Python takes, and no more`() {
        for (format in GraphFormat.values()) {
            assertTrue(format.model(128).nbytes > 0) // 2^26 values
            val error = assertThrows(IllegalArgumentException::class.java) { format.model(129) }
            assertTrue("67108864 are the most" in error.message!!) { error.message }
            assertThrows(IllegalArgumentException::class.java) { format.model(65536) }
        }
    }

    private fun GraphFormat.model(side: Int): Model {
        val shape = if (this == GraphFormat.ONNX) listOf(1, 1, side, side) else listOf(1, side, side, 1)
        return network.model(this, weights, mapOf("map" to shape))
    }
}
