package io.edgepatch.patchkit.file

import io.edgepatch.patchkit.errors.BadFileException
import io.edgepatch.patchkit.errors.EdgepatchException
import io.edgepatch.patchkit.errors.UsageException
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir
import java.io.File
import java.io.RandomAccessFile

class FilesTest {
    @TempDir
    lateinit var folder: File

    @Test
    fun `a file is mapped, not read`() {
        val file = File(folder, "a").apply { writeBytes(byteArrayOf(1, 0, 0, 0, 2)) }
        val data = Files.map(file, 5)
        assertTrue(data.isDirect && data.isReadOnly)
        assertEquals(1, data.getInt(0))
        assertEquals(0, Files.map(File(folder, "none").apply { createNewFile() }, 5).limit())
    }

    @Test
    fun `what is absent, no file or too large is refused`() {
        val error = assertThrows(UsageException::class.java) { Files.map(File(folder, "absent"), 9) }
        assertEquals("${folder.path}/absent: there is no such file", error.message)
        assertThrows(BadFileException::class.java) { Files.map(folder, 9) }
        val huge = File(folder, "huge")
        RandomAccessFile(huge, "rw").use { it.setLength(PatchFile.MAX_BYTES + 1) }
        val refused = assertThrows(BadFileException::class.java) { PatchFile.read(huge) }
        assertEquals("size" to 3, refused.field to refused.code)
    }

    @Test
    fun `a replaced file is the new one, and maps of the old one keep it`() {
        val file = File(folder, "a").apply { writeText("old") }
        val map = Files.map(file, 99)
        Files.replace(file) { it.write("newer".toByteArray()) }
        assertEquals("newer", file.readText())
        assertEquals("old", String(ByteArray(3).also { map.get(it) }))
        assertEquals(listOf("a"), folder.list()!!.toList())
    }

    @Test
    fun `a failed write leaves what was there and nothing beside it`() {
        val file = File(folder, "a").apply { writeText("old") }
        assertThrows(IllegalStateException::class.java) {
            Files.replace(file) {
                it.write("half of the n".toByteArray())
                error("killed")
            }
        }
        assertEquals("old", file.readText())
        assertEquals(listOf("a"), folder.list()!!.toList())
    }

    @Test
    fun `writing where one cannot is an error that says so`() {
        val file = File(folder, "a").apply { writeText("old") }
        val error = assertThrows(EdgepatchException::class.java) { Files.replace(File(file, "below")) { it.write(1) } }
        assertTrue(error.problem.startsWith("cannot be written"))
        assertThrows(UsageException::class.java) { Files.replace(folder) { it.write(1) } }
    }
}
