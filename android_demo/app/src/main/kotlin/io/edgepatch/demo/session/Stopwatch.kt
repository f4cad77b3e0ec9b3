package io.edgepatch.demo.session

/** The times of each task's last predictions, bound and baked apart. For one thread. */
class Stopwatch {
    private val times = HashMap<Pair<String, Boolean>, ArrayDeque<Long>>()

    fun add(task: String, baked: Boolean, nanoseconds: Long) {
        val kept = times.getOrPut(task to baked) { ArrayDeque() }
        kept.addLast(nanoseconds)
        if (kept.size > KEPT) kept.removeFirst()
    }

    /** A task's patch is another one now. */
    fun forget(task: String) {
        times.keys.removeAll { it.first == task }
    }

    fun clear() = times.clear()

    fun latency(task: String?): Latency = Latency(middle(task, baked = false), middle(task, baked = true))

    /** The first of a kind warms caches up, so that it counts only while it is the only one. */
    private fun middle(task: String?, baked: Boolean): Long? {
        val kept = times[(task ?: return null) to baked] ?: return null
        val sorted = kept.toList().let { if (it.size > 1) it.drop(1) else it }.sorted()
        return sorted[sorted.size / 2]
    }

    private companion object {
        const val KEPT = 31
    }
}
