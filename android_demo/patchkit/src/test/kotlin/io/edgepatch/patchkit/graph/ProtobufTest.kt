package io.edgepatch.patchkit.graph

import java.nio.ByteBuffer
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Test

/** A message too large for a golden file; what else is refused, tests/golden/broken_limits.py has. */
class ProtobufTest {
    @Test
    fun `a message of a million fields is read, and of one more refused`() {
        val most = 1 shl 20
        val message = ByteBuffer.allocate(2 * (most + 1)) // each of a zero's number and a zero
        assertEquals(most, Protobuf.fields(message, Span(0, 2 * most)).count())
        val error = assertThrows(IllegalArgumentException::class.java) {
            Protobuf.fields(message, Span(0, 2 * (most + 1))).count()
        }
        assertEquals("a message of a million fields", error.message)
    }
}
