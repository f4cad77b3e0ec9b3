package io.edgepatch.patchkit.codec

import io.edgepatch.patchkit.errors.MismatchException
import io.edgepatch.patchkit.golden.Golden
import io.edgepatch.patchkit.json.asObject
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.DynamicTest
import org.junit.jupiter.api.DynamicTest.dynamicTest
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.TestFactory

class CodecTest {
    private val rows = Golden.document("patches").mapValues { it.value.asObject()!! }

    @TestFactory
    fun `values are numpy's to the last bit`(): List<DynamicTest> =
        rows.filterValues { it["values"] != null }.map { (name, row) ->
            dynamicTest(name) {
                val values = Codec.decode(Golden.patch(name), Golden.trunk, null)
                assertEquals(row["values"], values.mapValues { Golden.row(it.value) })
                assertTrue(values.values.all { it.data.isDirect })
            }
        }.also { assertTrue(it.size >= 17) }

    @Test
    fun `the trunk stays as it was`() {
        val before = Golden.trunk.scale.copyOf()
        Codec.decode(Golden.patch("scale_bias_int8"), Golden.trunk, null)
        assertTrue(before.contentEquals(Golden.trunk.scale))
    }

    @Test
    fun `a patch of another network is refused`() {
        val error = assertThrows(MismatchException::class.java) {
            Codec.decode(Golden.patch("mobilenet_int8"), Golden.trunk, "other.epatch")
        }
        assertEquals(4 to "sites.scale", error.code to error.field)
    }
}
