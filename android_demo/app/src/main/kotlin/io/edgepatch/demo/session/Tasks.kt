package io.edgepatch.demo.session

import io.edgepatch.patchkit.errors.EdgepatchException
import io.edgepatch.patchkit.heads.Answer
import io.edgepatch.patchkit.model.Patch
import io.edgepatch.patchkit.picture.Picture
import io.edgepatch.patchkit.runtime.Mode
import java.io.Closeable

/** What the graph in use is: its file's bytes, the backbone's name, `fp32`, `int8`, ..., and the engine that runs it. */
data class GraphFacts(
    val bytes: Long, val architecture: String, val precision: String, val engine: String, val modes: List<Mode>,
)

/** What this app asks of a patchkit runtime. Bad input is answered with [EdgepatchException]. */
interface Tasks : Closeable {
    val graph: GraphFacts

    /** Names of the tasks that are loaded. */
    val tasks: List<String>

    /** Tasks whose patch is written into a copy of the graph now. */
    val baked: List<String>

    /** What the baked copies keep in memory, in bytes. */
    val bakedBytes: Long

    /** Whether nothing is being baked in the background, which takes time from predictions. */
    val quiet: Boolean

    /** Takes a patch in, in place of the task's former one. A refused one changes nothing. [name] is for messages. */
    fun load(patch: Patch, name: String)

    fun unload(task: String)

    /** Switches to a task. */
    fun use(task: String)

    /** What the task in use says of a picture. */
    fun predict(picture: Picture): Answer

    /** Waits until nothing is being baked in the background. */
    fun settle()
}
