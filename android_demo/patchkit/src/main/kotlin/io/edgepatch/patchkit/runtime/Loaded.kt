package io.edgepatch.patchkit.runtime

import io.edgepatch.patchkit.bake.Fitted
import io.edgepatch.patchkit.heads.Head
import io.edgepatch.patchkit.model.DType
import io.edgepatch.patchkit.model.Patch
import io.edgepatch.patchkit.model.Tensor
import java.util.concurrent.Future

/**
 * A task: its patch, and how far it is on its way from bound to baked. Its runtime's lock guards what changes.
 *
 * @property network the head, where it is a network of its own.
 */
internal class Loaded(val fitted: Fitted, val head: Head, val network: HeadModel?) {
    val patch: Patch get() = fitted.patch

    /** Bound, since it was loaded or last let go. */
    var answers = 0

    /** Answers after which it is baked; doubles each time it is let go, lest tasks push each other out all the time. */
    var patience = Runtime.PROMOTE_AFTER

    /** Its being baked in the background. */
    var job: Future<*>? = null

    /** Why it cannot be baked. */
    var problem: String? = null

    /** It was let go, and has to earn it again. */
    fun startAgain() {
        answers = 0
        job = null
        patience *= 2
    }
}

/** Buffers for images, used again: a camera would have one made for each of its frames. */
internal class Images {
    private val idle = ArrayList<Tensor>()

    fun <Result> use(size: Int, work: (Tensor) -> Result): Result {
        val shape = listOf(1, size, size, 3)
        val image = synchronized(idle) { idle.find { it.shape == shape }?.also { idle.remove(it) } }
            ?: Tensor(DType.F32, shape, Tensor.direct(4 * Tensor.count(shape)))
        try {
            return work(image)
        } finally {
            synchronized(idle) {
                if (idle.size == LIMIT) idle.removeAt(0)
                idle += image
            }
        }
    }

    private companion object {
        const val LIMIT = 4
    }
}
