package io.edgepatch.demo.session

import io.edgepatch.patchkit.heads.Answer
import io.edgepatch.patchkit.picture.Picture
import io.edgepatch.patchkit.runtime.Mode

/**
 * A patch in the folder, as the list shows it.
 *
 * @property file its name in the folder, by which it is removed.
 * @property problem why it cannot be used with this graph or in this mode; null if it can.
 */
data class Row(
    val task: String, val file: String, val bytes: Long, val version: Long, val kind: String, val labels: Int,
    val side: Int, val problem: String?,
) {
    /** The sort of answers that it gives, which is the last of what its kind names. */
    val head: String get() = kind.substringAfterLast('+')
}

/** How long a switch to a task took, and whether that was by a baked copy. */
data class Switch(val task: String, val nanoseconds: Long, val baked: Boolean)

/** The middle one of the last predictions' times, bound and baked, in nanoseconds; null where there were none. */
data class Latency(val bound: Long?, val baked: Long?) {
    /** How many times as long a bound prediction takes. */
    val ratio: Double? get() = if (bound != null && baked != null) bound.toDouble() / baked else null
}

/** Something to be told once, in the app's words. */
sealed class Notice {
    /** @property former the version that was replaced; null of a new task. */
    data class Installed(val task: String, val version: Long, val former: Long?) : Notice()

    data class NewGraph(val architecture: String) : Notice()

    data class Removed(val task: String) : Notice()

    /** @property problem what is wrong with the file, in patchkit's words. Nothing was changed. */
    data class Refused(val name: String, val problem: String) : Notice()

    /** A prediction, a switch or the camera failed; the app goes on. */
    data class Failed(val problem: String) : Notice()
}

/**
 * All that the screen shows.
 *
 * @property picture that [answer] is of; a null answer means that there is none yet.
 * @property memory of the whole process, in bytes; 0 where unknown.
 */
data class State(
    val graph: GraphFacts? = null,
    val rows: List<Row> = emptyList(),
    val task: String? = null,
    val mode: Mode = Mode.AUTO,
    val picture: Picture? = null,
    val answer: Answer? = null,
    val switched: Switch? = null,
    val latency: Latency = Latency(null, null),
    val baked: Set<String> = emptySet(),
    val bakedBytes: Long = 0,
    val memory: Long = 0,
    val busy: Boolean = false,
    val notice: Notice? = null,
) {
    val row: Row? get() = rows.find { it.task == task && it.problem == null }
}
