package io.edgepatch.demo.session

import io.edgepatch.demo.folder.Incoming
import io.edgepatch.demo.folder.PatchFolder
import io.edgepatch.patchkit.errors.EdgepatchException
import io.edgepatch.patchkit.file.Files
import io.edgepatch.patchkit.file.PatchFile
import io.edgepatch.patchkit.model.Patch
import java.io.File

/** The patches in the folder, and which of them the runtime took. For one thread. */
class Library(private val folder: PatchFolder) {
    /** Sorted by task. */
    var rows: List<Row> = emptyList()
        private set

    /** Loads all patches; those that are refused are kept with what is wrong with them. */
    fun load(tasks: Tasks?) {
        rows = folder.patches().map { file ->
            try {
                val patch = PatchFile.read(file)
                row(patch, file, problemOf(tasks, patch))
            } catch (error: EdgepatchException) { // damaged since it was installed
                Row(file.name, file.name, file.length(), 0, "", 0, 0, error.problem)
            }
        }.sortedBy { it.task }
    }

    /**
     * Verifies a patch, by itself and against the graph, and puts it in its place. [name] is for messages.
     *
     * Throws [EdgepatchException]: it is refused. [java.io.IOException]: the disk would not have it. The task's former
     * patch stays then, in the folder and in the runtime.
     */
    fun install(incoming: Incoming, name: String, tasks: Tasks?): Row {
        val patch = read(incoming.file, name)
        val place = folder.place(patch.task)
        tasks?.load(patch, name)
        try {
            folder.install(incoming, patch.task)
        } catch (error: Exception) {
            if (place.isFile) tasks?.load(PatchFile.read(place), name) else tasks?.unload(patch.task)
            throw error
        }
        val row = row(patch, place, null)
        rows = (rows.filter { it.file != row.file } + row).sortedBy { it.task }
        return row
    }

    fun remove(row: Row) {
        folder.patches().filter { it.name == row.file }.forEach(folder::remove)
        rows = rows.filter { it.file != row.file }
    }

    private fun problemOf(tasks: Tasks?, patch: Patch): String? = try {
        tasks?.load(patch, patch.task)
        null
    } catch (error: EdgepatchException) {
        error.problem
    }

    private fun read(file: File, name: String): Patch = PatchFile.parse(Files.map(file, PatchFile.MAX_BYTES), name)

    private fun row(patch: Patch, file: File, problem: String?) = Row(
        patch.task, file.name, file.length(), patch.version, patch.kind, patch.labels.size, patch.input.size, problem,
    )
}
