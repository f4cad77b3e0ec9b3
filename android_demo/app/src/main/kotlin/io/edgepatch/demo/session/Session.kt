package io.edgepatch.demo.session

import io.edgepatch.demo.folder.Incoming
import io.edgepatch.demo.folder.PatchFolder
import io.edgepatch.demo.folder.Sort
import io.edgepatch.patchkit.errors.EdgepatchException
import io.edgepatch.patchkit.picture.Picture
import io.edgepatch.patchkit.runtime.Mode
import java.io.File
import java.io.InputStream
import java.util.concurrent.Executor
import java.util.concurrent.atomic.AtomicBoolean
import java.util.concurrent.atomic.AtomicInteger
import java.util.logging.Level
import java.util.logging.Logger

/**
 * The app without its screen: one runtime over the folder's graph and patches, and what became of what was asked of it.
 *
 * It outlives the activity, so that turning the phone opens nothing anew. Any thread may call it; the work is done one
 * after the other on [worker], and [listener] is called on [screen]. Whatever goes wrong is said in [State.notice], and
 * what was there before stays.
 *
 * @param open makes a runtime of a graph's file.
 * @param outside reads other apps' files, which may take as long as those apps like; the work goes on meanwhile.
 * @param memory of the process, in bytes.
 * @param now a clock in nanoseconds.
 */
class Session(
    private val folder: PatchFolder,
    private val open: (File, Mode) -> Tasks,
    private val worker: Executor,
    private val outside: Executor,
    private val screen: Executor,
    private val memory: () -> Long = { 0 },
    private val now: () -> Long = System::nanoTime,
) {
    private val library = Library(folder)
    private val stopwatch = Stopwatch()
    private val frames = AtomicBoolean()
    private val jobs = AtomicInteger() // asked for and not done
    private var tasks: Tasks? = null
    private var looked: Long? = null // when the memory was last asked for: the system counts pages for it

    /** What the screen shows. Changed on the worker alone. */
    @Volatile
    var state = State()
        private set

    /** Called on [screen] after each change. */
    @Volatile
    var listener: ((State) -> Unit)? = null

    /** Opens what is in the folder; [seeds] are the files that the app came with, for a folder without a graph. */
    fun start(task: String? = null, seeds: () -> Map<String, () -> InputStream> = { emptyMap() }) = work {
        if (tasks != null) return@work
        if (folder.graph == null) plant(seeds())
        reopen(task)
    }

    /** Switches to a task and, where there is a picture, says what it shows. */
    fun use(task: String) = work {
        switch(task)
        answer()
    }

    /** Says what a picture shows. */
    fun show(read: () -> Picture) = fetch(read) { found ->
        val picture = found.getOrThrow()
        change { copy(picture = picture, answer = null) }
        answer()
    }

    /** A camera's frame, taken only while nothing else is to be done. Whether it was. */
    fun offer(frame: () -> Picture): Boolean {
        if (!frames.compareAndSet(false, true)) return false
        work {
            try {
                change { copy(picture = frame(), answer = null) }
                answer()
            } finally {
                frames.set(false)
            }
        }
        return true
    }

    /** Whether all that was asked for is done. */
    val resting: Boolean get() = jobs.get() == 0

    /** Whether [offer] would take a frame. */
    val idle: Boolean get() = !frames.get()

    fun run(mode: Mode) = work {
        if (mode == state.mode) return@work
        change { copy(mode = mode) }
        reopen(state.task)
        answer()
    }

    /** Says what the picture shows some times over, so that the times are of more than one prediction. */
    fun repeat(count: Int) = work {
        repeat(count) { answer() }
        tasks?.settle()
        repeat(count) { answer() }
    }

    /** Takes a patch or a graph in. [name] is what people know the file as; it is asked where [stream] is, once. */
    fun install(name: () -> String, stream: () -> InputStream) {
        var called = ""
        fetch({ called = name(); folder.receive(stream(), called) }) { received ->
            val notice = try {
                install(called, received.getOrThrow())
            } catch (error: Throwable) { // a stranger's file must not end the app
                refused(called, error)
            }
            change { copy(notice = notice, rows = library.rows) }
            // it is installed: what goes wrong from here on is no refusal
            if (notice is Notice.NewGraph) reopen(state.task)
            if (notice is Notice.Installed && notice.task == (state.task ?: notice.task)) switch(notice.task)
            if (notice !is Notice.Refused) answer()
        }
    }

    fun remove(row: Row) = work {
        val runtime = tasks
        library.remove(row)
        if (row.problem == null && runtime != null && row.task in runtime.tasks) runtime.unload(row.task)
        stopwatch.forget(row.task)
        val next = state.task.takeIf { it != row.task } ?: library.rows.firstOrNull { it.problem == null }?.task
        change { copy(rows = library.rows, notice = Notice.Removed(row.task)) }
        if (next != state.task) {
            if (next == null) change { copy(task = null, answer = null, switched = null) } else switch(next)
            answer()
        }
    }

    /** Something outside went wrong that the screen should say. */
    fun fail(problem: String) = work { change { copy(notice = Notice.Failed(problem)) } }

    /** The notice was read. */
    fun dismiss() = work { change { copy(notice = null) } }

    private fun install(name: String, incoming: Incoming): Notice {
        try {
            val sort = PatchFolder.sort(incoming.file)
            if (sort != Sort.PATCH) return installGraph(incoming, sort)
            val former = state.rows
            val row = library.install(incoming, name, tasks)
            stopwatch.forget(row.task)
            return Notice.Installed(row.task, row.version, former.find { it.task == row.task }?.version)
        } finally {
            incoming.discard() // nothing is there any more where it took its place
        }
    }

    /** In its place, but not opened there yet. */
    private fun installGraph(incoming: Incoming, sort: Sort): Notice {
        val graph = open(incoming.file, Mode.AUTO).use { it.graph } // refuses what no engine here runs, too
        folder.installGraph(incoming, sort)
        if (state.mode !in graph.modes) change { copy(mode = Mode.AUTO) }
        return Notice.NewGraph(graph.architecture)
    }

    /**
     * Files that the app came with; a bad one is left out, and said. The graph is the last: while it is not there, as
     * when the disk was full, the next start begins again.
     */
    private fun plant(seeds: Map<String, () -> InputStream>) {
        for ((name, stream) in seeds.entries.sortedBy { !it.key.endsWith(".epatch") }) {
            val incoming = folder.receive(stream(), name)
            try {
                val sort = PatchFolder.sort(incoming.file)
                if (sort == Sort.PATCH) library.install(incoming, name, null) else folder.installGraph(incoming, sort)
            } catch (error: EdgepatchException) {
                change { copy(notice = refused(name, error)) }
            } finally {
                incoming.discard()
            }
        }
    }

    /** A runtime anew, of the folder's graph and in the mode wanted; patches that do not fit stay in the list. */
    private fun reopen(task: String?) {
        tasks?.close()
        tasks = null
        stopwatch.clear()
        change { copy(graph = null, task = null, switched = null, answer = null) } // should the graph be refused
        val runtime = folder.graph?.let { open(it, state.mode) }
        tasks = runtime
        library.load(runtime)
        change { copy(graph = runtime?.graph, rows = library.rows) }
        val usable = library.rows.filter { it.problem == null }.map { it.task }
        (task.takeIf { it in usable } ?: usable.firstOrNull())?.let(::switch)
    }

    private fun switch(task: String) {
        val runtime = tasks ?: return
        val begin = now()
        runtime.use(task)
        val took = now() - begin
        change { copy(task = task, answer = null, switched = Switch(task, took, task in runtime.baked)) }
    }

    private fun answer() {
        val runtime = tasks ?: return
        val picture = state.picture ?: return
        val task = state.task ?: return
        val before = task in runtime.baked
        val quiet = runtime.quiet
        val begin = now()
        val answer = runtime.predict(picture)
        val took = now() - begin
        val baked = runtime.baked
        if (quiet && before == task in baked) stopwatch.add(task, before, took) // else it moved over meanwhile
        val memory = memoryNow()
        change {
            copy(
                answer = answer, latency = stopwatch.latency(task), baked = baked.toSet(),
                bakedBytes = runtime.bakedBytes, memory = memory,
            )
        }
    }

    private fun memoryNow(): Long {
        val time = now()
        if (looked?.let { time - it < SECOND } == true) return state.memory
        looked = time
        return memory()
    }

    private fun change(how: State.() -> State) {
        state = state.how()
        screen.execute { listener?.invoke(state) }
    }

    private fun work(job: () -> Unit) {
        jobs.incrementAndGet()
        worker.execute { finish(job) }
    }

    /** Reads something of another app's [outside], then goes on with it, or with what went wrong, on the worker. */
    private fun <Found> fetch(read: () -> Found, job: (Result<Found>) -> Unit) {
        jobs.incrementAndGet()
        worker.execute { change { copy(busy = true) } }
        outside.execute {
            val found = runCatching(read)
            worker.execute { finish { job(found) } }
        }
    }

    private fun finish(job: () -> Unit) {
        change { copy(busy = true) }
        try {
            job()
        } catch (error: Throwable) {
            change { copy(notice = Notice.Failed(problem(error))) }
        } finally {
            change { copy(busy = jobs.get() > 1, latency = stopwatch.latency(state.task)) }
            jobs.decrementAndGet()
        }
    }

    /** Of a file known as [name], whatever it is called while it is taken in. */
    private fun refused(name: String, error: Throwable) =
        Notice.Refused(name, problem(error).removePrefix("${(error as? EdgepatchException)?.file}: "))

    /** What went wrong, in one sentence. Other apps throw what they like, so that any exception is taken for an answer. */
    private fun problem(error: Throwable): String {
        if (error is EdgepatchException) return error.message
        LOG.log(Level.WARNING, "a job failed", error)
        return when (error) {
            is Exception -> error.message ?: error.javaClass.simpleName
            is OutOfMemoryError -> "there is not enough memory for it"
            else -> throw error
        }
    }

    private companion object {
        const val SECOND = 1_000_000_000L
        val LOG: Logger = Logger.getLogger("edgepatch") // Android's log, on Android
    }
}
