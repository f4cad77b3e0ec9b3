package io.edgepatch.patchkit.runtime

import io.edgepatch.patchkit.bake.Baking
import io.edgepatch.patchkit.bake.Fitted
import io.edgepatch.patchkit.bake.Model
import io.edgepatch.patchkit.engine.Engine
import io.edgepatch.patchkit.engine.EngineKind
import io.edgepatch.patchkit.engine.refusals
import io.edgepatch.patchkit.engine.start
import io.edgepatch.patchkit.errors.BadFileException
import io.edgepatch.patchkit.graph.Graph
import io.edgepatch.patchkit.graph.GraphFormat
import io.edgepatch.patchkit.graph.Precision
import io.edgepatch.patchkit.model.DType
import io.edgepatch.patchkit.model.Tensor
import java.io.Closeable
import java.util.concurrent.locks.ReentrantLock
import kotlin.concurrent.withLock

/** Outputs by name, in the engine's memory: what is read of them is read before its next run. */
internal typealias Read<Result> = (Map<String, Tensor>) -> Result

/**
 * The bound form for one layout: opened by the first task of it, and kept.
 *
 * Threads take turns; one that comes after it was closed gets no answer.
 */
internal class Bound(private val kind: EngineKind, private val threads: Int) : Closeable {
    private val lock = ReentrantLock()
    private var closed = false
    private var engine: Engine? = null
    private var fitted: Fitted? = null

    /**
     * Binds a patch unless it is bound already; false when closed.
     *
     * Throws [BadFileException], [io.edgepatch.patchkit.errors.MismatchException]: the engine refuses the graph or the
     * patch.
     */
    fun use(fitted: Fitted): Boolean = lock.withLock { bind(fitted) != null }

    /** What [read] makes of a patch's outputs for an image, or null when closed; throws as [use] does. */
    fun <Result : Any> run(fitted: Fitted, image: Tensor, read: Read<Result>): Result? = lock.withLock {
        val engine = bind(fitted) ?: return null
        read(kind.refusals(fitted.patch.task) { engine.run(image) })
    }

    override fun close() = lock.withLock {
        closed = true
        engine?.close()
        engine = null
        fitted = null
    }

    private fun bind(fitted: Fitted): Engine? {
        if (closed) return null
        val opened = engine ?: open(kind, Baking.bindModel(fitted), threads).also { engine = it }
        if (this.fitted !== fitted) {
            this.fitted = null // should binding fail half-way, nothing is taken for bound
            kind.refusals(fitted.patch.task) { opened.bind(fitted.inputs!!) }
            this.fitted = fitted
        }
        return opened
    }
}

/**
 * A baked model, open and run once: the first run takes several times as long as the others.
 *
 * Threads take turns; one that comes after it was closed gets no answer. Throws as [Bound.use] when it is made.
 */
internal class Baked(
    val task: String, private val kind: EngineKind, model: Model, threads: Int, graph: Graph,
) : Closeable {
    /** What it is taken to keep resident, in bytes. */
    val nbytes: Long = footprint(model, graph)

    /** Whether it stays when who asked for it is done. */
    @Volatile
    var stays = false
    private val lock = ReentrantLock()
    private var engine: Engine? = open(kind, model, threads)

    init {
        try {
            kind.refusals(task) { engine!!.run(zeros(engine!!.imageShape!!)) }
        } catch (error: Exception) {
            close()
            throw error
        }
    }

    /** What [read] makes of the outputs for an image, or null when closed. */
    fun <Result : Any> run(image: Tensor, read: Read<Result>): Result? = lock.withLock {
        val engine = engine ?: return null
        read(kind.refusals(task) { engine.run(image) })
    }

    override fun close() = lock.withLock {
        engine?.close()
        engine = null
    }

    private fun zeros(shape: List<Int>) = Tensor(DType.F32, shape, Tensor.direct(4 * Tensor.count(shape)))
}

/** A model of a shared graph, open. Throws [BadFileException]: it takes other images than the graph's document says. */
private fun open(kind: EngineKind, model: Model, threads: Int): Engine {
    val opened = kind.start(model, threads)
    val expected = listOf(1, model.size!!, model.size, 3)
    if (opened.imageShape == expected) return opened
    val got = opened.imageShape ?: "another type"
    opened.close()
    throw BadFileException(
        "takes other images than it says", field = "input.size", got = got, expected = "float32 $expected",
    )
}

/**
 * Bytes that a baked model keeps resident, estimated: its own, what the interpreter packs of it, activations.
 *
 * The figures are fitted to what MobileNetV2 keeps in each precision (docs/benchmarks.md): packed weights are float32
 * unless the graph computes in int8, and then padded; activations grow with the task's images.
 */
internal fun footprint(model: Model, graph: Graph): Long {
    val integer = graph.precision == Precision.INT8
    val weights = graph.document.sites.sumOf { it.weights.toLong() }
    val side = (model.size ?: graph.document.input.size).toLong()
    var activations = 12 * side * side * 3 * if (integer) 1 else 4
    if (graph.format == GraphFormat.ONNX) activations = 2 * activations + 2_000_000 // its arena grows by doubling
    return model.nbytes + (if (integer) 2 else 4) * weights + activations
}

/** Baked models by task, the least recently used first to go. Its user holds a lock. */
internal class Residents(val budget: Long) {
    private val kept = LinkedHashMap<String, Baked>(16, 0.75f, true)

    /** The least recently used first. */
    val tasks: List<String> get() = kept.keys.toList()

    val nbytes: Long get() = kept.values.sumOf { it.nbytes }

    /** The model of a task, which is now the most recently used. */
    operator fun get(task: String): Baked? = kept[task]

    /** Keeps a model; returns those that had to go, for the caller to close. */
    fun put(baked: Baked): List<Baked> {
        val gone = ArrayList(drop(baked.task))
        kept[baked.task] = baked
        while (nbytes > budget && kept.size > 1) gone += kept.remove(kept.keys.first())!!
        return gone
    }

    /** Lets a task go; returns it as [put] does. */
    fun drop(task: String): List<Baked> = listOfNotNull(kept.remove(task))

    /** Lets all go; returns them as [put] does. */
    fun clear(): List<Baked> = kept.values.toList().also { kept.clear() }
}
