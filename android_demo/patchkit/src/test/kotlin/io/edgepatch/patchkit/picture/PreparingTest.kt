package io.edgepatch.patchkit.picture

import io.edgepatch.patchkit.errors.BadFileException
import io.edgepatch.patchkit.errors.UsageException
import io.edgepatch.patchkit.golden.Golden
import io.edgepatch.patchkit.json.Json
import io.edgepatch.patchkit.json.asList
import io.edgepatch.patchkit.json.asObject
import io.edgepatch.patchkit.model.Tensor
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.DynamicTest
import org.junit.jupiter.api.DynamicTest.dynamicTest
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.TestFactory
import java.nio.ByteBuffer
import java.nio.ByteOrder
import javax.imageio.ImageIO

class PreparingTest {
    private val cases =
        Json.parse(ByteBuffer.wrap(Golden.file("pictures.json").readBytes())).asList()!!.map { it.asObject()!! }

    @TestFactory
    fun `pictures are prepared as Pillow and numpy do, to the last bit`(): List<DynamicTest> = cases.map { case ->
        val how = Preprocessing.fromJson(case["input"])
        val orientation = (case["orientation"] as Long).toInt()
        dynamicTest("${case["picture"]} turned $orientation, ${how.resize.word} to ${how.size}") {
            val picture = Golden.picture(case["picture"] as String, orientation)
            case["fitted"]?.let { name -> // says by how much, where a hash says that something differs
                val expected = ImageIO.read(Golden.file("pictures/$name"))
                val got = fit(picture, how.size, how.resize)
                val most = got.indices.maxOf { at ->
                    val pixel = expected.getRGB(at % how.size, at / how.size)
                    listOf(16, 8, 0).maxOf { Math.abs((got[at] ushr it and 255) - (pixel ushr it and 255)) }
                }
                assertEquals(0, most, "steps of 255")
            }
            val prepared = how.prepare(picture)
            assertEquals(listOf(1, how.size, how.size, 3), prepared.shape)
            assertEquals(case["sha256"], Golden.sha256(prepared.data))
        }
    }

    @Test
    fun `a buffer of the caller's is written in place`() {
        val how = Preprocessing.fromJson(cases[0]["input"])
        val into = Tensor.direct(12L * how.size * how.size).order(ByteOrder.LITTLE_ENDIAN)
        repeat(2) { how.prepare(Golden.picture("noise"), into) }
        assertEquals(cases[0]["sha256"], Golden.sha256(into))
    }

    @Test
    fun `no picture has more pixels than phones take, or fewer than it says`() {
        val error = assertThrows(BadFileException::class.java) { Picture.checkSize(100_000, 1001) }
        assertEquals(3 to "pixels", error.code to error.field)
        assertThrows(UsageException::class.java) { Picture(2, 2, IntArray(3)) }
        assertThrows(UsageException::class.java) { Picture(0, 2, IntArray(0)) }
        assertThrows(BadFileException::class.java) { Picture.of(65_536, 65_536, IntArray(0)) }
    }

    @Test
    fun `a phone's picture takes a fraction of a second`() {
        val picture = Picture(4000, 3000, IntArray(12_000_000) { it * 31 })
        val how = Preprocessing(224, Resize.CROP, listOf(1.0, 1.0, 1.0), listOf(0.0, 0.0, 0.0))
        how.prepare(picture)
        val start = System.nanoTime()
        how.prepare(picture)
        val seconds = (System.nanoTime() - start) / 1e9
        println("a picture of 12 megapixels was prepared in %.0f ms".format(1000 * seconds))
        assertTrue(seconds < 5) // generous: machines that test are busy
    }
}
