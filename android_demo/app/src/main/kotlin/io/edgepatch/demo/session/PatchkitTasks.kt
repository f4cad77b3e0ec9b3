package io.edgepatch.demo.session

import io.edgepatch.patchkit.graph.Form
import io.edgepatch.patchkit.graph.GraphFile
import io.edgepatch.patchkit.heads.Answer
import io.edgepatch.patchkit.model.Patch
import io.edgepatch.patchkit.picture.Picture
import io.edgepatch.patchkit.runtime.Mode
import io.edgepatch.patchkit.runtime.Runtime
import java.io.File

/** A patchkit runtime over one graph, by the engine that this app has for its format. */
class PatchkitTasks private constructor(private val runtime: Runtime) : Tasks {
    override val graph = GraphFacts(
        bytes = runtime.graph.nbytes.toLong(),
        architecture = runtime.graph.document.architecture,
        precision = runtime.graph.precision.word,
        engine = runtime.engine.name,
        modes = Mode.values().filter { it == Mode.AUTO || Form.valueOf(it.name) in runtime.graph.forms },
    )

    override val tasks: List<String> get() = runtime.tasks
    override val baked: List<String> get() = runtime.baked
    override val bakedBytes: Long get() = runtime.bakedBytes
    override val quiet: Boolean get() = runtime.await(0)

    override fun load(patch: Patch, name: String) {
        runtime.add(patch, name)
    }

    override fun unload(task: String) = runtime.unload(task)

    override fun use(task: String) = runtime.use(task)

    override fun predict(picture: Picture): Answer = runtime.predict(picture)

    override fun settle() {
        runtime.await(PATIENCE)
    }

    override fun close() = runtime.close()

    companion object {
        private const val PATIENCE = 10_000L // milliseconds, for something that takes some of them

        private const val THREADS = 2 // the network is small, and the other cores are other apps'

        fun open(graph: File, mode: Mode): Tasks = PatchkitTasks(Runtime(GraphFile.read(graph), mode, threads = THREADS))
    }
}
