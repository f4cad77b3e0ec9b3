package io.edgepatch.demo

import android.app.Activity
import android.view.View
import android.view.ViewGroup
import android.widget.ImageButton
import android.widget.LinearLayout
import android.widget.RadioButton
import android.widget.RadioGroup
import android.widget.ScrollView
import android.widget.TextView
import io.edgepatch.demo.session.Row
import io.edgepatch.demo.session.Session
import io.edgepatch.demo.session.State
import io.edgepatch.patchkit.runtime.Mode

/** The views, brought to what the session's state says; only what differs is touched, for TalkBack reads changes aloud. */
class Screen(private val activity: Activity, private val session: Session, private val onRemove: (Row) -> Unit) {
    private val words = Words(activity.resources)
    private val styling = Styling(activity)
    private val view: AnswerView = activity.findViewById(R.id.picture)
    private val answer: TextView = activity.findViewById(R.id.answer)
    private val switched: TextView = activity.findViewById(R.id.switched)
    private val tasks: LinearLayout = activity.findViewById(R.id.tasks)
    private val panel: LinearLayout = activity.findViewById(R.id.panel)
    private val modes: RadioGroup = activity.findViewById(R.id.modes)
    private var watching = false

    init {
        view.caption = words::boxed
        MODES.forEach { (mode, id) ->
            activity.findViewById<RadioButton>(id).setOnClickListener { session.run(mode) }
        }
    }

    fun show(state: State) {
        view.show(state.picture, state.answer)
        view.contentDescription = words.picture(state)
        val lines = words.answer(state)
        set(answer, lines) { styling.answer(lines) }
        set(switched, words.switched(state))
        showNotice(state)
        showTasks(state)
        showModes(state)
        showPanel(state)
        activity.findViewById<View>(R.id.busy).visibility = if (state.busy && !watching) View.VISIBLE else View.INVISIBLE
        activity.findViewById<View>(R.id.measure).isEnabled = state.picture != null && state.row != null && !watching
    }

    /** While the camera runs its answers come many times a second: TalkBack is not to read each. */
    fun watching(on: Boolean) {
        watching = on
        val button = activity.findViewById<TextView>(R.id.camera)
        set(button, activity.getString(if (on) R.string.camera_stop else R.string.camera))
        answer.accessibilityLiveRegion =
            if (on) View.ACCESSIBILITY_LIVE_REGION_NONE else View.ACCESSIBILITY_LIVE_REGION_POLITE
    }

    private fun showNotice(state: State) {
        val text = state.notice?.let(words::notice)
        activity.findViewById<View>(R.id.notice).visibility = if (text == null) View.GONE else View.VISIBLE
        val field = activity.findViewById<TextView>(R.id.notice_text)
        if (text != null && field.text.toString() != text) activity.findViewById<ScrollView>(R.id.controls).scrollTo(0, 0)
        set(field, text.orEmpty())
    }

    private fun showTasks(state: State) {
        activity.findViewById<View>(R.id.no_tasks).visibility = if (state.rows.isEmpty()) View.VISIBLE else View.GONE
        matched(tasks, state.rows.size, R.layout.row_task)
        state.rows.forEachIndexed { at, row ->
            val line = tasks.getChildAt(at)
            val button = line.findViewById<RadioButton>(R.id.task)
            val about = words.row(row, row.task in state.baked)
            set(button, row.task to about) { styling.task(row.task, about, row.problem == null) }
            button.isEnabled = row.problem == null
            button.isChecked = row.problem == null && row.task == state.task // a tap has checked it before it is so
            button.setOnClickListener { session.use(row.task) }
            val remove = line.findViewById<ImageButton>(R.id.remove)
            remove.contentDescription = activity.getString(R.string.remove_task, row.task)
            remove.setOnClickListener { onRemove(row) }
        }
    }

    private fun showModes(state: State) {
        modes.check(MODES.getValue(state.mode))
        MODES.forEach { (mode, id) ->
            activity.findViewById<View>(id).isEnabled = mode == Mode.AUTO || state.graph?.modes.orEmpty().contains(mode)
        }
    }

    private fun showPanel(state: State) {
        val lines = words.panel(state)
        matched(panel, lines.size, R.layout.row_panel)
        lines.forEachIndexed { at, (name, value) ->
            val line = panel.getChildAt(at)
            set(line.findViewById(R.id.name), name)
            set(line.findViewById(R.id.value), value) { styling.value(value) }
            line.contentDescription = "$name: ${value.text}"
        }
    }

    /** As many children of a layout as there are to be shown. */
    private fun matched(parent: ViewGroup, count: Int, layout: Int) {
        while (parent.childCount > count) parent.removeViewAt(parent.childCount - 1)
        while (parent.childCount < count) activity.layoutInflater.inflate(layout, parent, true)
    }

    private fun set(view: TextView, text: String) = set(view, text) { text }

    /** Words made of [content], unless it is what they were made of before. */
    private fun set(view: TextView, content: Any, words: () -> CharSequence) {
        if (view.tag == content) return
        view.tag = content
        view.text = words()
    }

    private companion object {
        val MODES = mapOf(Mode.AUTO to R.id.auto, Mode.BIND to R.id.bind, Mode.BAKE to R.id.bake)
    }
}
