package io.edgepatch.demo

import io.edgepatch.demo.session.GraphFacts
import io.edgepatch.demo.session.Tasks
import io.edgepatch.patchkit.errors.MismatchException
import io.edgepatch.patchkit.heads.Answer
import io.edgepatch.patchkit.heads.Classification
import io.edgepatch.patchkit.model.Patch
import io.edgepatch.patchkit.picture.Picture
import io.edgepatch.patchkit.runtime.Mode

/** A runtime that answers at once: what the session does with one can be watched, and made to fail. */
class FakeTasks(private val mode: Mode, private val bytes: Long) : Tasks {
    val loaded = LinkedHashMap<String, Patch>()
    val log = ArrayList<String>()
    var refuse: String? = null // this task
    var unusable: String? = null // this one is taken in, but does not run
    private var task: String? = null

    override val graph = GraphFacts(bytes, "fake", "fp32", "none", modes)
    override val tasks: List<String> get() = loaded.keys.toList()
    override val baked: List<String> get() = if (mode == Mode.BAKE) listOfNotNull(task) else emptyList()
    override val bakedBytes: Long get() = bytes * baked.size
    override var quiet = true

    override fun load(patch: Patch, name: String) {
        if (patch.task == refuse) throw MismatchException("is of another backbone", file = name)
        loaded[patch.task] = patch
        log += "load ${patch.task} ${patch.version}"
    }

    override fun unload(task: String) {
        loaded.remove(task)
        log += "unload $task"
    }

    override fun use(task: String) {
        if (task == unusable) throw IllegalStateException("the engine does not run it")
        this.task = task
        log += "use $task"
    }

    override fun predict(picture: Picture): Answer {
        val patch = loaded.getValue(task!!)
        val sure = FloatArray(patch.labels.size) { if (it == 0) 1f else 0f }
        return Classification(patch.task, patch.labels, sure, sure)
    }

    override fun settle() = Unit

    override fun close() {
        log += "close"
    }

    companion object {
        /** Of the graphs that are opened from now on. */
        var modes = Mode.values().toList()
    }
}
