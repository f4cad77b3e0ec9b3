package io.edgepatch.patchkit.file

import io.edgepatch.patchkit.errors.BadFileException
import io.edgepatch.patchkit.errors.EdgepatchException
import io.edgepatch.patchkit.errors.UsageException
import java.io.File
import java.io.FileOutputStream
import java.io.IOException
import java.io.OutputStream
import java.io.RandomAccessFile
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.channels.FileChannel
import java.nio.file.StandardOpenOption

/** Reading files in place, and writing them so that nothing is ever half there. */
object Files {
    /**
     * A file's bytes, mapped into memory: read-only, little-endian. The map stays when the file is replaced by
     * [replace], which leaves the old bytes where they are; a file that is written over in place is another matter.
     *
     * Throws [UsageException]: there is no such file. [BadFileException]: it is a folder or a device, cannot be read,
     * or is larger than [limit] bytes.
     */
    fun map(file: File, limit: Long): ByteBuffer {
        if (!file.exists()) throw UsageException("there is no such file", file = file.path)
        if (!file.isFile) throw BadFileException("cannot be read: it is not a file", file = file.path)
        try {
            RandomAccessFile(file, "r").use { opened ->
                val size = opened.length()
                if (size > limit) throw tooLarge(file.path, size, limit)
                // an empty file cannot be mapped everywhere
                if (size == 0L) return ByteBuffer.allocate(0).asReadOnlyBuffer().order(ByteOrder.LITTLE_ENDIAN)
                return opened.channel.map(FileChannel.MapMode.READ_ONLY, 0, size).order(ByteOrder.LITTLE_ENDIAN)
            }
        } catch (error: IOException) {
            throw BadFileException("cannot be read: ${error.message}", file = file.path, cause = error)
        }
    }

    /**
     * Replaces a file whole or not at all: what [write] gives is written beside it, brought to the disk and renamed.
     * Whatever goes wrong, the old file stays and nothing lies beside it.
     *
     * Throws [EdgepatchException]: the folder cannot be written to, or the disk is full; and what [write] throws.
     */
    fun replace(file: File, write: (OutputStream) -> Unit) {
        if (file.exists() && !file.isFile) throw UsageException("is not a file that can be replaced", file = file.path)
        val folder = file.absoluteFile.parentFile
        var beside: File? = null
        try {
            folder.mkdirs()
            beside = File.createTempFile(".${file.name}.", ".part", folder)
            FileOutputStream(beside).use { stream ->
                write(stream)
                stream.fd.sync()
            }
            if (!beside.renameTo(file)) throw IOException("it cannot be renamed")
            beside = null
            sync(folder)
        } catch (error: IOException) {
            throw EdgepatchException("cannot be written: ${error.message}", file = file.path, cause = error)
        } finally {
            beside?.delete()
        }
    }

    internal fun tooLarge(file: String?, size: Long, limit: Long) =
        BadFileException("is too large", file = file, field = "size", got = size, expected = "at most $limit bytes")

    /** Makes a rename durable, where folders can be opened. */
    private fun sync(folder: File) {
        try {
            FileChannel.open(folder.toPath(), StandardOpenOption.READ).use { it.force(true) }
        } catch (_: IOException) {
            // the file system has its own ways
        }
    }
}
