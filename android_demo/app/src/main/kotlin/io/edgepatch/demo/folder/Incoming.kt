package io.edgepatch.demo.folder

import io.edgepatch.patchkit.errors.BadFileException
import java.io.File
import java.io.FileOutputStream
import java.io.IOException
import java.io.InputStream
import java.nio.channels.FileChannel
import java.nio.file.Files
import java.nio.file.Path
import java.nio.file.StandardCopyOption.ATOMIC_MOVE
import java.nio.file.StandardCopyOption.REPLACE_EXISTING
import java.nio.file.StandardOpenOption.READ

/**
 * A file on its way into a folder: whole on the disk and beside its place, but not yet in it.
 *
 * It takes its place by [moveTo], which happens wholly or not at all, or goes by [discard].
 */
class Incoming private constructor(val file: File) {
    /**
     * Takes the place of [place], in the same file system, which has the old file until then.
     *
     * Throws [IOException]: the old file stays.
     */
    fun moveTo(place: File) {
        Files.move(file.toPath(), place.toPath(), ATOMIC_MOVE, REPLACE_EXISTING)
        place.parentFile?.let { sync(it.toPath()) }
    }

    fun discard() {
        file.delete()
    }

    companion object {
        /** Files of a stopped installation have this ending. */
        const val ENDING = ".part"

        /**
         * Writes a stream into [folder] and onto the disk; the stream is closed.
         *
         * Throws [BadFileException]: it has more than [limit] bytes. [IOException]: it cannot be read, or the disk is full.
         * Nothing stays behind then.
         */
        fun receive(stream: InputStream, folder: File, name: String, limit: Long): Incoming = stream.use {
            val file = File.createTempFile("incoming", ENDING, folder)
            try {
                FileOutputStream(file).use { out ->
                    val size = copy(stream, out, limit)
                    if (size > limit) {
                        throw BadFileException("is too large", file = name, field = "bytes", got = "more", expected = "at most $limit")
                    }
                    out.fd.sync()
                }
            } catch (error: Throwable) {
                file.delete()
                throw error
            }
            Incoming(file)
        }

        /** Copies until the end or just past [limit]; returns how many bytes were read. */
        private fun copy(from: InputStream, to: FileOutputStream, limit: Long): Long {
            val buffer = ByteArray(1 shl 16)
            var size = 0L
            while (size <= limit) {
                val count = from.read(buffer)
                if (count < 0) break
                to.write(buffer, 0, count)
                size += count
            }
            return size
        }

        /** Brings a folder's names onto the disk, where the system lets folders be opened. */
        private fun sync(folder: Path) {
            try {
                FileChannel.open(folder, READ).use { it.force(true) }
            } catch (_: IOException) {
                // the rename is atomic without it, only later on the disk
            }
        }
    }
}
