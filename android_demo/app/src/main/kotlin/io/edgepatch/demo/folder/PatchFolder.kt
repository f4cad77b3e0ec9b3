package io.edgepatch.demo.folder

import java.io.File
import java.io.InputStream
import java.nio.file.Files
import java.security.MessageDigest

/** What a file that arrives is, told by its first bytes; whether it is sound is patchkit's to say. */
enum class Sort { PATCH, TFLITE, ONNX }

/**
 * The app's own files: one shared graph, and one patch a task.
 *
 * Names in it are of the app's making, whatever a file was called where it came from, so that none can lead elsewhere.
 */
class PatchFolder(private val root: File) {
    private val patches = File(root, "patches")

    init {
        patches.mkdirs()
        for (folder in listOf(root, patches)) {
            folder.listFiles { file -> file.name.endsWith(Incoming.ENDING) }?.forEach { it.delete() }
        }
    }

    /** The shared graph; null where none was brought yet. */
    val graph: File? get() = GRAPHS.values.map { File(root, it) }.firstOrNull { it.isFile }

    /** All patches' files. Their names say nothing; tasks are to be sorted by theirs. */
    fun patches(): List<File> =
        patches.listFiles { file -> file.name.endsWith(PATCH) }.orEmpty().sortedBy { it.name }

    /** Where the patch of a task is, or would be. */
    fun place(task: String): File {
        val digest = MessageDigest.getInstance("SHA-256").digest(task.toByteArray())
        return File(patches, digest.take(16).joinToString("") { "%02x".format(it) } + PATCH)
    }

    /** Writes a stream beside the folder's files; see [Incoming.receive]. [name] is for messages. */
    fun receive(stream: InputStream, name: String): Incoming = Incoming.receive(stream, patches, name, LARGEST)

    /** A patch takes its task's place. */
    fun install(patch: Incoming, task: String): File = place(task).also { patch.moveTo(it) }

    /** A graph takes the place of the one before, which may be of the other format. */
    fun installGraph(graph: Incoming, sort: Sort): File {
        val place = File(root, GRAPHS.getValue(sort))
        graph.moveTo(place)
        GRAPHS.values.filter { it != place.name }.forEach { File(root, it).delete() }
        return place
    }

    /** Throws [java.io.IOException]: it is there still. */
    fun remove(patch: File) {
        Files.deleteIfExists(patch.toPath())
    }

    companion object {
        /** Of a file that is let in at all. */
        const val LARGEST = 256L shl 20
        private const val PATCH = ".epatch"
        private val GRAPHS = mapOf(Sort.TFLITE to "graph.tflite", Sort.ONNX to "graph.onnx")

        /** Tells files apart: a .tflite says TFL3, an ONNX model begins with the field of its version. */
        fun sort(file: File): Sort {
            val head = ByteArray(8)
            val count = file.inputStream().use { it.read(head) }
            return when {
                count == 8 && String(head, 4, 4, Charsets.ISO_8859_1) == "TFL3" -> Sort.TFLITE
                count == 8 && head[0].toInt() == 0x08 && head[7].toInt() != 0 -> Sort.ONNX // a patch's length has zeros there
                else -> Sort.PATCH
            }
        }
    }
}
