package io.edgepatch.patchkit.engine

import io.edgepatch.patchkit.bake.Model
import io.edgepatch.patchkit.errors.BadFileException
import io.edgepatch.patchkit.errors.EdgepatchException
import io.edgepatch.patchkit.errors.MismatchException
import io.edgepatch.patchkit.errors.MissingPackageException
import io.edgepatch.patchkit.graph.GraphFormat
import io.edgepatch.patchkit.model.Tensor
import java.io.Closeable

/**
 * One opened model. Not thread-safe: its `runtime.Runtime` takes turns.
 *
 * Interpreters' own exceptions, which share no base, come through.
 */
interface Engine : Closeable {
    /** Sides of its image, (1, size, size, 3); 1 where the model leaves one open. Null of what is not float32. */
    val imageShape: List<Int>?

    /** Gives the graph its patch inputs, F32 in direct buffers, which are kept, not copied, before its first run. */
    fun bind(values: Map<String, Tensor>)

    /**
     * Outputs by name for one [image], F32 in a direct buffer, in the model's order, F32.
     *
     * They lie in the engine's memory: its next call writes over them.
     */
    fun run(image: Tensor): Map<String, Tensor>

    /** Gives back the memory. */
    override fun close()
}

/** An interpreter's package: what opens models of a format. */
interface EngineKind {
    val name: String
    val format: GraphFormat

    /** The class that must be there. */
    val needs: String

    /** What brings it. */
    val artifact: String

    /** Opens a model; whatever the package throws comes through. See [start]. */
    fun open(model: Model, threads: Int): Engine
}

/** The engines there are. */
object Engines {
    val ALL: List<EngineKind> = listOf(TfLite, OnnxRuntime)

    /** The first engine for a format whose classes are there. Throws [MissingPackageException]: there is none. */
    fun choose(format: GraphFormat): EngineKind {
        val fitting = ALL.filter { it.format == format }
        return fitting.find { isThere(it.needs) } ?: throw MissingPackageException(
            "running this graph needs ${fitting.joinToString(" or ") { it.name }}, which is not in this app",
            mend = "Add ${fitting[0].artifact} to its dependencies.",
        )
    }

    private fun isThere(name: String): Boolean = try {
        Class.forName(name, false, Engines::class.java.classLoader)
        true
    } catch (_: ClassNotFoundException) {
        false
    }
}

/**
 * Opens a model with an engine.
 *
 * Throws [MissingPackageException]: its native library does not load here. [BadFileException]: it refuses the model.
 */
internal fun EngineKind.start(model: Model, threads: Int): Engine = try {
    open(model, threads)
} catch (error: LinkageError) {
    throw MissingPackageException("$name does not load here: ${error.message}", mend = "Add $artifact.", cause = error)
} catch (error: EdgepatchException) {
    throw error
} catch (error: Exception) {
    throw BadFileException("$name cannot open the graph: ${error.message}", cause = error)
}

/** What an engine throws while it lays out or runs a task's model, as a [MismatchException]. */
internal inline fun <Result> EngineKind.refusals(task: String, work: () -> Result): Result = try {
    work()
} catch (error: EdgepatchException) {
    throw error
} catch (error: Exception) {
    val said = error.message?.lineSequence()?.firstOrNull() ?: error.javaClass.simpleName
    throw MismatchException("$name cannot run the task: $said", field = "task", got = task, cause = error)
}
