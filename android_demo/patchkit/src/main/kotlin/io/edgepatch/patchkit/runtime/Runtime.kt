package io.edgepatch.patchkit.runtime

import io.edgepatch.patchkit.bake.Baking
import io.edgepatch.patchkit.bake.Fitting
import io.edgepatch.patchkit.bake.Layout
import io.edgepatch.patchkit.engine.EngineKind
import io.edgepatch.patchkit.engine.Engines
import io.edgepatch.patchkit.errors.MismatchException
import io.edgepatch.patchkit.errors.UsageException
import io.edgepatch.patchkit.file.PatchFile
import io.edgepatch.patchkit.graph.Form
import io.edgepatch.patchkit.graph.Graph
import io.edgepatch.patchkit.heads.Answer
import io.edgepatch.patchkit.heads.Head
import io.edgepatch.patchkit.model.Patch
import io.edgepatch.patchkit.model.Tensor
import io.edgepatch.patchkit.picture.Picture
import io.edgepatch.patchkit.picture.prepare
import java.io.Closeable
import java.io.File
import java.util.concurrent.ExecutorService
import java.util.concurrent.Executors
import java.util.concurrent.TimeUnit
import java.util.concurrent.TimeoutException
import java.util.concurrent.locks.ReentrantLock
import kotlin.concurrent.withLock

/** How a [Runtime] gives its graph a patch. */
enum class Mode(internal val form: Form?) {
    /** Binds at once and, when a task stays, bakes it in the background and moves over between two predictions. */
    AUTO(null),

    /** As the graph's inputs: switches in microseconds. */
    BIND(Form.BIND),

    /** Written into a copy of the graph: switches in milliseconds, then runs as fast as a dedicated model. */
    BAKE(Form.BAKE),
}

/**
 * The device side: one shared graph, any number of patches.
 *
 * Any thread may call any method. A prediction runs wholly under one task. A task runs at the input size that its patch
 * was trained for: bound tasks of one size share an interpreter, which the first of them opens; it stays until another
 * is opened while no task of its size is loaded. A patch that changes kernels or skips blocks cannot be bound;
 * [Mode.AUTO] bakes it at once.
 *
 * @param graph a shared graph, of [io.edgepatch.patchkit.graph.GraphFile.read].
 * @param engine by default the first one for the graph's format whose classes are there; throws
 *   [io.edgepatch.patchkit.errors.MissingPackageException] if there is none.
 * @param threads of the interpreter, 1 to 256.
 * @param memory what baked models may take together, in bytes; beyond it the least recently used one goes. A single one
 *   may exceed it where there is no other way: under [Mode.BAKE], of an int8 graph, and of a patch that cannot be bound.
 *   Any other stays bound under [Mode.AUTO].
 *
 * Throws [UsageException]: the graph has no such form, or a number is out of range.
 */
class Runtime(
    val graph: Graph,
    val mode: Mode = Mode.AUTO,
    val engine: EngineKind = Engines.choose(graph.format),
    val threads: Int = 1,
    memory: Long = MEMORY,
) : Closeable {
    private val lock = ReentrantLock() // of everything below but running models
    private val bakeLock = ReentrantLock() // one model is baked at a time
    private val residents = Residents(memory)
    private val bounds = HashMap<Layout, Bound>()
    private val loaded = LinkedHashMap<String, Loaded>()
    private val images = Images()
    private var baker: ExecutorService? = null
    private var closed = false
    private var current: String? = null

    init {
        if (mode.form != null && mode.form !in graph.forms) {
            val forms = listOf("auto") + graph.forms.map { it.word }
            throw UsageException(
                "this graph has no such form", field = "mode", got = mode.form.word, expected = forms.joinToString(" or "),
            )
        }
        if (threads !in 1..MAX_THREADS) {
            throw UsageException("is out of range", field = "threads", got = threads, expected = "1 to $MAX_THREADS")
        }
        if (memory < 0) throw UsageException("is out of range", field = "memory", got = memory, expected = "0 or more")
        if (engine.format != graph.format) {
            throw UsageException(
                "this engine does not run .${graph.format.word} graphs", field = "engine", got = engine.name,
                expected = Engines.ALL.filter { it.format == graph.format }.joinToString(" or ") { it.name },
            )
        }
    }

    /** Names of the tasks loaded, in order of loading. */
    val tasks: List<String> get() = lock.withLock { loaded.keys.toList() }

    /** The task in use; null without any. */
    val task: String? get() = lock.withLock { current }

    /** Tasks that are baked and resident, the least recently used first. */
    val baked: List<String> get() = lock.withLock { residents.tasks }

    /** What the baked tasks are taken to keep resident. */
    val bakedBytes: Long get() = lock.withLock { residents.nbytes }

    /** Tasks that [Mode.AUTO] could not bake, and why; they stay bound. */
    val problems: Map<String, String>
        get() = lock.withLock { loaded.mapNotNull { (task, it) -> it.problem?.let { why -> task to why } }.toMap() }

    /** The patch of a task. Throws [UsageException]: it is not loaded. */
    fun patch(task: String): Patch = lock.withLock { find(task).patch }

    /**
     * Loads a patch file; returns its task. A task loaded again is replaced, unless the new patch is refused. The first
     * one loaded is put to use.
     *
     * Throws [UsageException]: there is no such file, or the mode is `BIND` and the patch cannot be bound.
     * [io.edgepatch.patchkit.errors.BadFileException]: it is not a whole, sound patch. [MismatchException]: it is of
     * another backbone or does not fit the graph.
     */
    fun load(file: File): String = add(PatchFile.read(file), file.path)

    /** As [load], for a patch in memory; [file] is what errors call it. */
    fun add(patch: Patch, file: String? = null): String {
        val fitted = Fitting.fit(graph, patch, file)
        if (mode == Mode.BIND && !fitted.bindable) {
            throw UsageException(
                "the patch changes kernels or skips blocks, so it cannot be bound", file = file, field = "mode",
                got = "bind", expected = "auto or bake",
            )
        }
        val head = Head.of(patch, fitted.values, file)
        val network = fitted.network?.let { HeadModel(engine, threads, fitted, it) }
        val gone = lock.withLock {
            refuseClosed()
            val gone = residents.drop(patch.task) + listOfNotNull(loaded[patch.task]?.network)
            loaded[patch.task] = Loaded(fitted, head, network)
            if (current == null) current = patch.task
            gone
        }
        gone.forEach { it.close() }
        return patch.task
    }

    /**
     * Forgets a task. A bound one's memory goes with the next switch. If it was in use, the first of the others is.
     *
     * Throws [UsageException]: it is not loaded.
     */
    fun unload(task: String) {
        val gone = lock.withLock {
            val gone = listOfNotNull(find(task).network) + residents.drop(task)
            loaded.remove(task)
            if (current == task) current = loaded.keys.firstOrNull()
            gone
        }
        gone.forEach { it.close() }
    }

    /** Switches to a task: what follows is predicted by it. Throws [UsageException]: it is not loaded. */
    fun use(task: String) {
        val (found, resident) = lock.withLock { find(task).let { it to residents[task] } }
        if (resident == null) {
            if (mustBake(found)) {
                bake(found).let { if (!it.stays) it.close() }
            } else {
                while (!bound(found).use(found.fitted)) Unit // it was let go between being found and being bound
            }
        }
        lock.withLock { current = find(task).patch.task }
    }

    /**
     * What the task in use, or the one named, says of a picture; a task named is safe with other threads predicting
     * others.
     *
     * Throws [UsageException]: no patch is loaded, or the task is not. [io.edgepatch.patchkit.errors.EdgepatchException]:
     * its answer is none.
     */
    fun predict(picture: Picture, task: String? = null): Answer {
        val found = lock.withLock { find(task ?: current) }
        return images.use(found.patch.input.size) { image ->
            found.patch.input.prepare(picture, image.data)
            run(found, image) { found.head.decode(it, picture.width, picture.height) }
        }
    }

    /**
     * What [read] makes of a task's outputs for an image that is prepared already: F32 (1, size, size, 3), little-endian,
     * in a direct buffer. The outputs are F32: a classifier's `logits` (1, classes), of others those of the head's
     * network; they lie in the interpreter's memory and are no longer there when [read] returns.
     *
     * Throws as [predict] does, and [UsageException]: the image is of another shape.
     */
    fun <Result : Any> run(image: Tensor, task: String? = null, read: (Map<String, Tensor>) -> Result): Result {
        val found = lock.withLock { find(task ?: current) }
        val size = found.patch.input.size
        if (image.shape != listOf(1, size, size, 3) || !image.data.isDirect) {
            throw UsageException("is no image for the task", got = image.shape, expected = "(1, $size, $size, 3), direct")
        }
        return run(found, image, read)
    }

    /** Waits until nothing is being baked in the background, at most so many milliseconds; whether nothing is. */
    fun await(milliseconds: Long): Boolean {
        val end = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(milliseconds)
        for (job in lock.withLock { loaded.values.mapNotNull { it.job } }) {
            try {
                job.get(Math.max(0, end - System.nanoTime()), TimeUnit.NANOSECONDS)
            } catch (_: TimeoutException) {
                return false
            }
        }
        return true
    }

    /** Gives back the interpreters' memory, when what runs has ended. Predicting afterwards is an error. */
    override fun close() {
        val ending = lock.withLock {
            closed = true
            baker.also { baker = null }
        }
        ending?.shutdown() // what is queued ends at once, for the runtime is closed
        ending?.awaitTermination(Long.MAX_VALUE, TimeUnit.NANOSECONDS)
        val gone = lock.withLock {
            val gone = residents.clear() + bounds.values + loaded.values.mapNotNull { it.network }
            bounds.clear()
            gone
        }
        gone.forEach { it.close() }
    }

    private fun find(task: String?): Loaded {
        if (task == null) throw UsageException("no patch is loaded", mend = "Load one first.")
        return loaded[task] ?: throw UsageException(
            "this task is not loaded", field = "task", got = task,
            expected = loaded.keys.joinToString(", ").ifEmpty { "none" },
        )
    }

    private fun mustBake(found: Loaded): Boolean =
        mode == Mode.BAKE || Form.BIND !in graph.forms || !found.fitted.bindable

    /** By a task's baked model where it has one, else bound or, where that is not to be, baked now. */
    private fun <Result : Any> run(found: Loaded, image: Tensor, read: Read<Result>): Result {
        val network = found.network
        val whole: Read<Result> = if (network == null) read else { outputs -> network.run(outputs, read) }
        while (true) {
            val resident = lock.withLock {
                refuseClosed()
                if (isCurrent(found)) residents[found.patch.task] else null
            } ?: if (mustBake(found)) bake(found) else null
            val result = if (resident == null) runBound(found, image, whole) else runBaked(resident, image, whole)
            if (result != null) return result
            // it was let go between being found and being run
        }
    }

    private fun <Result : Any> runBaked(baked: Baked, image: Tensor, read: Read<Result>): Result? = try {
        baked.run(image, read)
    } finally {
        if (!baked.stays) baked.close()
    }

    private fun <Result : Any> runBound(found: Loaded, image: Tensor, read: Read<Result>): Result? {
        val result = bound(found).run(found.fitted, image, read)
        if (result != null && mode == Mode.AUTO) {
            lock.withLock {
                found.answers++
                if (found.answers >= found.patience && found.job == null && !closed) {
                    val executor = baker ?: Executors.newSingleThreadExecutor(::thread).also { baker = it }
                    found.job = executor.submit { promote(found) }
                }
            }
        }
        return result
    }

    private fun thread(work: Runnable) = Thread(work, "edgepatch-bake").apply {
        isDaemon = true
        priority = Thread.MIN_PRIORITY
    }

    /** The bound form for a task's layout; a new one takes the place of those that no task has. */
    private fun bound(found: Loaded): Bound {
        val gone = ArrayList<Bound>()
        val bound = lock.withLock {
            refuseClosed()
            bounds.getOrPut(found.fitted.layout) {
                val layouts = loaded.values.mapTo(HashSet()) { it.fitted.layout }
                gone += (bounds.keys - layouts).map { bounds.remove(it)!! }
                Bound(engine, threads)
            }
        }
        gone.forEach { it.close() }
        return bound
    }

    /** Bakes in the background; whatever goes wrong, the task stays bound. */
    private fun promote(found: Loaded) {
        try {
            bake(found).let { if (!it.stays) it.close() }
        } catch (error: Exception) { // nobody waits for this thread: what it threw would be lost
            lock.withLock { found.problem = error.message ?: error.javaClass.simpleName }
        } catch (error: OutOfMemoryError) {
            lock.withLock { found.problem = "there is no memory for it: ${error.message}" }
        }
    }

    /**
     * A task's baked model, made unless it is there; it stays if the task is still loaded, else its user closes it.
     *
     * Throws [MismatchException]: under [Mode.AUTO], it alone would exceed the budget.
     */
    private fun bake(found: Loaded): Baked {
        val gone = ArrayList<Baked>()
        val task = found.patch.task
        val baked = bakeLock.withLock {
            lock.withLock {
                refuseClosed()
                if (isCurrent(found)) residents[task]?.let { return it }
            }
            val model = Baking.bake(found.fitted)
            val needed = footprint(model, graph)
            if (!mustBake(found) && needed > residents.budget) {
                throw MismatchException(
                    "a baked model would exceed the budget of memory", field = "memory", got = residents.budget,
                    expected = "at least $needed",
                )
            }
            val made = Baked(task, engine, model, threads, graph)
            lock.withLock {
                made.stays = isCurrent(found) && !closed // else it is for this once
                if (made.stays) gone += residents.put(made)
                for (other in gone.mapNotNull { loaded[it.task] }) other.startAgain()
            }
            made
        }
        gone.forEach { it.close() }
        return baked
    }

    /** Whether a task is still loaded, and by this patch. Under the lock. */
    private fun isCurrent(found: Loaded): Boolean = loaded[found.patch.task] === found

    private fun refuseClosed() {
        if (closed) throw UsageException("the runtime is closed")
    }

    companion object {
        /** Predictions of a task, bound, before [Mode.AUTO] bakes it. */
        const val PROMOTE_AFTER = 3

        /** Bytes that baked models take together, if nothing else is said. */
        const val MEMORY = 128_000_000L

        private const val MAX_THREADS = 256
    }
}
