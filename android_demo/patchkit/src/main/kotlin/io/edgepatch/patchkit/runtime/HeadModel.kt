package io.edgepatch.patchkit.runtime

import io.edgepatch.patchkit.bake.Fitted
import io.edgepatch.patchkit.bake.model
import io.edgepatch.patchkit.engine.Engine
import io.edgepatch.patchkit.engine.EngineKind
import io.edgepatch.patchkit.engine.refusals
import io.edgepatch.patchkit.engine.start
import io.edgepatch.patchkit.model.HeadNetwork
import io.edgepatch.patchkit.model.Tensor
import java.io.Closeable
import java.util.concurrent.locks.ReentrantLock
import kotlin.concurrent.withLock

/**
 * A task's head as a model of its own, behind the trunk's, with its weights: opened when the first maps come, for their
 * sizes. Threads take turns.
 */
internal class HeadModel(
    private val kind: EngineKind,
    private val threads: Int,
    private val fitted: Fitted,
    private val network: HeadNetwork,
) : Closeable {
    private val lock = ReentrantLock()
    private var closed = false
    private var engine: Engine? = null

    /**
     * What [read] makes of its answers, by name, (1, side, side, channels).
     *
     * @param outputs the graph's, of which the last ones are the maps; they are read where they lie.
     *
     * Throws [io.edgepatch.patchkit.errors.MismatchException], [io.edgepatch.patchkit.errors.BadFileException]: the
     * engine refuses it, or the maps are not those that it was made for.
     */
    fun <Result : Any> run(outputs: Map<String, Tensor>, read: Read<Result>): Result {
        val names = network.maps
        val maps = names.zip(outputs.values.toList().takeLast(names.size)).toMap()
        return lock.withLock {
            val found = kind.refusals(fitted.patch.task) {
                val opened = engine ?: open(maps).also { engine = it }
                opened.bind(maps - names[0])
                opened.run(maps.getValue(names[0]))
            }
            read(network.outputs.zip(found.values).toMap()).also { if (closed) release() }
        }
    }

    /** Gives back its memory. A prediction that has begun, on the trunk or here, is still answered. */
    override fun close() = lock.withLock {
        closed = true
        release()
    }

    private fun release() {
        engine?.close()
        engine = null
    }

    private fun open(maps: Map<String, Tensor>): Engine {
        val weights = fitted.values.filterKeys { it.startsWith(HeadNetwork.PREFIX) }
        return kind.start(network.model(fitted.graph.format, weights, maps.mapValues { it.value.shape }), threads)
    }
}
