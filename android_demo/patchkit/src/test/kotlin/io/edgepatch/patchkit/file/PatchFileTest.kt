package io.edgepatch.patchkit.file

import io.edgepatch.patchkit.errors.BadFileException
import io.edgepatch.patchkit.golden.Golden
import io.edgepatch.patchkit.json.asObject
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.DynamicTest
import org.junit.jupiter.api.DynamicTest.dynamicTest
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.TestFactory
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.security.MessageDigest
import java.util.Random

class PatchFileTest {
    @TestFactory
    fun `golden patches hold what Python says`(): List<DynamicTest> = Golden.document("patches").map { (name, value) ->
        dynamicTest(name) {
            val expected = value.asObject()!!
            val patch = Golden.patch(name)
            val got = mapOf(
                "task" to patch.task, "version" to patch.version, "kind" to patch.kind, "labels" to patch.labels,
                "sites" to patch.sites.mapValues { (_, numbers) -> numbers.map { it.toLong() } },
                "bindable" to patch.bindable, "ranges" to patch.ranges?.let { Golden.row(it) },
                "tensors" to patch.tensors.mapValues { Golden.row(it.value) },
            )
            assertEquals(expected.filterKeys { it in got }, got)
            assertTrue(patch.tensors.values.all { it.data.isDirect && it.data.isReadOnly })
        }
    }

    @Test
    fun `statistics are read`() {
        val statistics = Golden.patch("enrollable").statistics!!
        assertEquals(40, statistics.centre.count)
        assertEquals(
            listOf(0.5, -1.5, 20.0, 40.0, 0.0, 0.0125),
            statistics.run { listOf(gain, level, spread, norm, low, step) },
        )
        assertEquals(listOf(7), statistics.pictures)
    }

    @Test
    fun `a patch cut short anywhere is refused`() {
        val whole = Golden.patchBytes("scale_bias_int8")
        for (end in whole.indices) {
            val cut = ByteBuffer.wrap(whole, 0, end).slice()
            assertThrows(BadFileException::class.java) { PatchFile.parse(cut, "cut") }
        }
    }

    @Test
    fun `a bit flipped anywhere is refused`() {
        val whole = Golden.patchBytes("scale_bias_int8")
        val length = ByteBuffer.wrap(whole).order(ByteOrder.LITTLE_ENDIAN).getLong(0).toInt()
        val end = (8 + length downTo 8).first { whole[it - 1] != ' '.code.toByte() } // padding says nothing
        val random = Random(0)
        for (position in whole.indices.filter { it !in end until 8 + length }) {
            val broken = whole.copyOf()
            broken[position] = (broken[position].toInt() xor (1 shl random.nextInt(8))).toByte()
            assertThrows(BadFileException::class.java) { PatchFile.parse(ByteBuffer.wrap(broken), "flipped") }
        }
    }

    @Test
    fun `noise never does anything else than be refused`() {
        val random = Random(1)
        for (size in listOf(0, 1, 7, 8, 9, 64, 4096)) repeat(20) {
            val noise = ByteArray(size).also { random.nextBytes(it) }
            if (size > 8) noise[8] = '{'.code.toByte()
            if (size > 8) for (at in 2..7) noise[at] = 0
            assertThrows(BadFileException::class.java) { PatchFile.parse(ByteBuffer.wrap(noise), "noise") }
        }
    }

    @Test
    fun `more tensors than any patch has are refused`() {
        val entries = (0..4096).joinToString(",") { """"t$it":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}""" }
        val sha = MessageDigest.getInstance("SHA-256").digest().joinToString("") { "%02x".format(it) }
        val header = """{"__metadata__":{"edgepatch":"{}","sha256":"$sha"},$entries}""".toByteArray()
        val data = ByteBuffer.allocate(8 + header.size).order(ByteOrder.LITTLE_ENDIAN)
        data.putLong(header.size.toLong()).put(header)
        val error = assertThrows(BadFileException::class.java) { PatchFile.parse(data.apply { position(0) }, "many") }
        assertEquals("has too many tensors" to "header", error.problem to error.field)
    }

    @Test
    fun `an error names file, field, got and expected`() {
        val error = assertThrows(BadFileException::class.java) {
            PatchFile.parse(ByteBuffer.wrap(Golden.patchBytes("bias") + 0), "long.epatch")
        }
        val size = Golden.patchBytes("bias").size
        assertEquals("long.epatch: has trailing bytes (field size, got ${size + 1}, expected $size)", error.message)
    }
}
