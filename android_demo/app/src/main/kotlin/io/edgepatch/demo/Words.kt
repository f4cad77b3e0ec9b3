package io.edgepatch.demo

import android.content.res.Resources
import io.edgepatch.demo.session.Latency
import io.edgepatch.demo.session.Notice
import io.edgepatch.demo.session.Row
import io.edgepatch.demo.session.State
import io.edgepatch.demo.show.Formatting
import io.edgepatch.demo.show.Line
import io.edgepatch.patchkit.heads.Answer
import io.edgepatch.patchkit.heads.Classification
import io.edgepatch.patchkit.heads.Detections
import io.edgepatch.patchkit.heads.Segmentation

/** What the screen says, in the reader's language and way of writing numbers. */
class Words(private val resources: Resources) {
    private val numbers = Formatting(resources.configuration.locales[0])

    /** On a box. */
    fun boxed(label: String, score: Float): String = text(R.string.boxed, label, numbers.whole(score.toDouble()))

    /** The answer's lines, the first one being the one that counts; or what is to be done next. */
    fun answer(state: State): List<Line> {
        val answer = state.answer
        if (answer != null) return answer(answer)
        val next = when {
            state.graph == null && state.busy -> R.string.opening
            state.graph == null -> R.string.no_graph
            state.row == null -> R.string.no_task
            state.picture == null -> R.string.no_picture
            state.busy -> R.string.looking
            else -> return emptyList()
        }
        return listOf(Line(text(next)))
    }

    private fun answer(answer: Answer): List<Line> = when (answer) {
        is Classification -> answer.top(SHOWN).map {
            val score = it.score.toDouble()
            Line(text(R.string.scored, it.label, numbers.percent(score)), score)
        }
        is Detections -> {
            val counts = answer.boxes.groupingBy { it.label }.eachCount().toSortedMap()
            val each = counts.map { (label, count) -> if (count == 1) label else text(R.string.counted, label, count) }
            if (each.isEmpty()) listOf(Line(text(R.string.nothing_found)))
            else listOf(Line(count(R.plurals.found, answer.boxes.size)), Line(each.joinToString(", ")))
        }
        is Segmentation -> answer.shares().withIndex().filter { it.value > 0 }.sortedByDescending { it.value }
            .map { Line(text(R.string.shared, answer.labels[it.index], numbers.percent(it.value)), it.value) }
    }

    /** For those who do not see it. */
    fun picture(state: State): String = when {
        state.picture == null -> text(R.string.picture_none)
        state.answer == null -> text(R.string.picture_plain)
        else -> text(R.string.picture_answered, answer(state).joinToString(", ") { it.text })
    }

    fun switched(state: State): String {
        val switch = state.switched ?: return ""
        val how = if (switch.baked) R.string.switched_baked else R.string.switched_bound
        return text(how, switch.task, numbers.time(switch.nanoseconds))
    }

    /** A task's second line. */
    fun row(row: Row, baked: Boolean): String {
        if (row.problem != null) return text(R.string.row_refused, row.problem)
        val line = text(R.string.row, row.head, count(R.plurals.labels, row.labels), numbers.bytes(row.bytes), row.version)
        return if (baked) text(R.string.row_baked, line) else line
    }

    fun notice(notice: Notice): String = when (notice) {
        is Notice.Installed ->
            if (notice.former == null) text(R.string.installed, notice.task, notice.version)
            else text(R.string.replaced, notice.task, notice.version, notice.former)
        is Notice.NewGraph -> text(R.string.new_graph, notice.architecture)
        is Notice.Removed -> text(R.string.removed, notice.task)
        is Notice.Refused -> text(R.string.refused, notice.name, notice.problem)
        is Notice.Failed -> notice.problem
    }

    /** Names and values of the panel's lines; what can be compared has its share of the largest. */
    fun panel(state: State): List<Pair<String, Line>> {
        val graph = state.graph ?: return emptyList()
        val row = state.row
        val patches = state.rows.sumOf { it.bytes }
        val largest = maxOf(graph.bytes, patches)
        val memory =
            if (state.memory == 0L) text(R.string.memory_baked, numbers.bytes(state.bakedBytes))
            else text(R.string.memory_value, numbers.bytes(state.memory), numbers.bytes(state.bakedBytes))
        return listOfNotNull(
            R.string.graph_size to Line(
                text(R.string.graph_value, numbers.bytes(graph.bytes), graph.architecture, graph.precision),
                share(graph.bytes, largest),
            ),
            row?.let {
                val share = numbers.percent(it.bytes.toDouble() / graph.bytes)
                R.string.patch_size to Line(text(R.string.patch_value, numbers.bytes(it.bytes), share), share(it.bytes, largest))
            },
            R.string.all_patches to Line(numbers.bytes(patches), share(patches, largest)),
            R.string.latency_bound to latency(state.latency, baked = false),
            R.string.latency_baked to latency(state.latency, baked = true),
            R.string.memory to Line(memory),
            row?.let { R.string.kind to Line(it.kind) },
            R.string.engine to Line(graph.engine),
        ).map { (name, value) -> text(name) to value }
    }

    /** A form's time; beside a baked one, how many times as long a bound one takes. */
    private fun latency(both: Latency, baked: Boolean): Line {
        val own = (if (baked) both.baked else both.bound) ?: return Line(text(R.string.not_measured))
        val time = numbers.time(own)
        val ratio = both.ratio ?: return Line(time)
        val longest = maxOf(both.bound ?: own, both.baked ?: own)
        return Line(if (baked) text(R.string.baked_value, time, numbers.ratio(ratio)) else time, share(own, longest))
    }

    private fun share(part: Long, largest: Long): Double = part.toDouble() / largest

    private fun count(id: Int, number: Int): String = resources.getQuantityString(id, number, number)

    private fun text(id: Int, vararg values: Any): String = resources.getString(id, *values)

    private companion object {
        const val SHOWN = 3 // of a classifier's classes
    }
}
