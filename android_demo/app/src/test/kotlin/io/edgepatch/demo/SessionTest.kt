package io.edgepatch.demo

import io.edgepatch.demo.folder.PatchFolder
import io.edgepatch.demo.session.Notice
import io.edgepatch.demo.session.Session
import io.edgepatch.demo.session.Switch
import io.edgepatch.patchkit.file.PatchFile
import io.edgepatch.patchkit.runtime.Mode
import java.io.File
import java.io.IOException
import java.io.InputStream
import java.util.concurrent.Executor
import org.junit.jupiter.api.Assertions.assertArrayEquals
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertNull
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.BeforeEach
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir

class SessionTest {
    @TempDir
    lateinit var root: File
    private val runtimes = ArrayList<FakeTasks>()
    private lateinit var folder: PatchFolder
    private lateinit var session: Session
    private var clock = 0L
    private val seeds = mapOf(
        "graph.onnx" to { Golden.graph("gated-fp32.onnx") }, "a.epatch" to { Golden.patch("scale_bias").inputStream() },
    )

    @BeforeEach
    fun start() {
        folder = PatchFolder(root)
        session = made()
        session.start { seeds }
    }

    @Test
    fun `what the app came with is there at the first start, and only then`() {
        assertEquals(listOf("scale_bias"), session.state.rows.map { it.task })
        assertEquals("scale_bias", session.state.task)
        session.remove(session.state.rows.single())
        val again = made()
        again.start { throw AssertionError("the folder has a graph") }
        assertEquals(emptyList<String>(), again.state.rows.map { it.task })
        assertNull(again.state.notice)
    }

    @Test
    fun `a new patch is installed, listed and loaded`() {
        install("bias")
        assertEquals(Notice.Installed("bias", PatchFile.read(Golden.patch("bias")).version, null), session.state.notice)
        assertEquals(listOf("bias", "scale_bias"), session.state.rows.map { it.task })
        assertArrayEquals(Golden.patch("bias").readBytes(), folder.place("bias").readBytes())
        assertEquals("scale_bias", session.state.task)
        install("bias")
        assertEquals(1L, (session.state.notice as Notice.Installed).former)
    }

    @Test
    fun `a damaged patch is refused in patchkit's words, and the old one stays`() {
        val old = folder.place("scale_bias").readBytes()
        val damaged = old.clone().also { it[it.size - 1] = (it[it.size - 1] + 1).toByte() }
        session.install({ "mail.epatch" }) { damaged.inputStream() }
        val refused = session.state.notice as Notice.Refused
        assertEquals("mail.epatch", refused.name)
        assertTrue("sha256" in refused.problem || "checksum" in refused.problem, refused.problem)
        assertUnchanged(old)
    }

    @Test
    fun `a sound patch that the graph refuses changes nothing either`() {
        val old = folder.place("scale_bias").readBytes()
        runtimes.last().refuse = "bias"
        install("bias")
        assertEquals(Notice.Refused("bias.epatch", "is of another backbone"), session.state.notice)
        assertUnchanged(old)
    }

    @Test
    fun `what was installed is not said to be refused when it does not run`() {
        runtimes.last().unusable = "scale_bias"
        install("scale_bias")
        assertEquals(Notice.Failed("the engine does not run it"), session.state.notice)
        assertEquals(listOf("scale_bias"), session.state.rows.map { it.task })
        assertFalse(session.state.busy)
    }

    @Test
    fun `when the disk refuses, the runtime goes back to what it had`() {
        val place = folder.place("bias")
        place.mkdirs()
        File(place, "in the way").createNewFile() // a folder that is not empty cannot be replaced
        install("bias")
        assertTrue(session.state.notice is Notice.Refused)
        assertFalse("bias" in session.state.rows.map { it.task })
        assertEquals(listOf("in the way"), place.list()!!.toList())
    }

    @Test
    fun `streams of other apps may fail in any way`() {
        val old = folder.place("scale_bias").readBytes()
        val ways = listOf<() -> InputStream>({ throw IOException("gone") }, { throw SecurityException("not yours") }, { throw NullPointerException() })
        for (way in ways) {
            session.install({ "x" }, way)
            assertTrue(session.state.notice is Notice.Refused)
            assertUnchanged(old)
        }
    }

    @Test
    fun `a switch is timed and shown, and answers for the picture`() {
        install("bias")
        session.show { Golden.picture("square") }
        assertEquals("scale_bias", session.state.answer?.task)
        session.use("bias")
        assertEquals(Switch("bias", 1000, baked = false), session.state.switched)
        assertEquals("bias", session.state.answer?.task)
        assertEquals(1000L, session.state.latency.bound)
        assertNull(session.state.latency.baked)
    }

    @Test
    fun `what is predicted while something is being baked is not counted`() {
        runtimes.last().quiet = false
        session.show { Golden.picture("square") }
        assertEquals("scale_bias", session.state.answer?.task)
        assertNull(session.state.latency.bound)
        runtimes.last().quiet = true
        session.repeat(1)
        assertEquals(1000L, session.state.latency.bound)
    }

    @Test
    fun `another mode opens the graph anew with all patches and the same task`() {
        install("bias")
        session.use("bias")
        session.run(Mode.BAKE)
        assertEquals(Mode.BAKE to "bias", session.state.mode to session.state.task)
        assertEquals("close", runtimes[runtimes.size - 2].log.last())
        assertEquals(setOf("bias", "scale_bias"), runtimes.last().loaded.keys)
        assertTrue(session.state.switched!!.baked)
    }

    @Test
    fun `the task in use can be removed, and the next one takes over`() {
        install("bias")
        session.use("bias")
        session.remove(session.state.rows.first { it.task == "bias" })
        assertEquals("scale_bias", session.state.task)
        assertFalse(folder.place("bias").exists())
        session.remove(session.state.rows.single())
        assertNull(session.state.task)
        session.show { Golden.picture("square") }
        assertNull(session.state.answer)
    }

    @Test
    fun `patches that no longer fit are listed with what is wrong`() {
        install("bias")
        folder.place("bias").writeText("no patch at all")
        val again = made()
        again.start()
        val row = again.state.rows.first { it.problem != null }
        assertEquals(0L, row.version)
        assertEquals("scale_bias", again.state.task)
        again.remove(row)
        assertEquals(listOf("scale_bias"), again.state.rows.map { it.task })
    }

    @Test
    fun `a picture that cannot be read is said, and the one before stays`() {
        session.show { Golden.picture("square") }
        val before = session.state.picture
        session.show { throw io.edgepatch.patchkit.errors.BadFileException("is not a picture that can be read", file = "x") }
        assertEquals(Notice.Failed("x: is not a picture that can be read"), session.state.notice)
        assertTrue(session.state.picture === before)
        assertFalse(session.state.busy)
    }

    @Test
    fun `frames are dropped while one is being answered`() {
        val waiting = ArrayDeque<Runnable>()
        val slow = made(Executor { waiting.add(it) })
        slow.start()
        assertTrue(slow.offer { Golden.picture("square") })
        assertFalse(slow.idle)
        assertFalse(slow.offer { throw AssertionError("not wanted") })
        while (waiting.isNotEmpty()) waiting.removeFirst().run()
        assertTrue(slow.idle)
        assertEquals("scale_bias", slow.state.answer?.task)
    }

    @Test
    fun `a seed that the disk has no room for is taken at the next start`() {
        val other = File(root, "other")
        folder = PatchFolder(other)
        val full = seeds + ("a.epatch" to { throw IOException("No space left on device") })
        made().apply { start { full } }.let {
            assertEquals(Notice.Failed("No space left on device"), it.state.notice)
            assertNull(it.state.graph)
        }
        assertNull(folder.graph)
        val again = made().apply { start { seeds } }
        assertNull(again.state.notice)
        assertEquals(listOf("scale_bias"), again.state.rows.map { it.task })
        assertEquals(setOf("graph.onnx", "patches"), other.list()!!.toSet())
    }

    @Test
    fun `a seed that is damaged is left out and said, and the graph is there`() {
        folder = PatchFolder(File(root, "other"))
        val bad = made().apply { start { seeds + ("a.epatch" to { "no patch at all".byteInputStream() }) } }
        assertEquals("a.epatch", (bad.state.notice as Notice.Refused).name)
        assertEquals("fake", bad.state.graph?.architecture)
        assertEquals(emptyList<String>(), File(root, "other/patches").list()!!.toList())
    }

    @Test
    fun `a graph that cannot run as the one before did runs as it can`() {
        session.run(Mode.BIND)
        FakeTasks.modes = listOf(Mode.AUTO, Mode.BAKE)
        try {
            session.install({ "other.onnx" }) { Golden.graph("gated-int8.onnx") }
            assertEquals(Notice.NewGraph("fake") to Mode.AUTO, session.state.notice to session.state.mode)
            assertEquals("scale_bias", session.state.task)
        } finally {
            FakeTasks.modes = Mode.values().toList()
        }
    }

    @Test
    fun `while another app takes its time to give a file, the tasks go on`() {
        val waiting = ArrayDeque<Runnable>()
        val patient = made(outside = { waiting.add(it) })
        patient.start()
        patient.install({ "slow.epatch" }) { Golden.patch("bias").inputStream() }
        patient.show { Golden.picture("square") }
        assertTrue(patient.state.busy)
        patient.use("scale_bias")
        assertEquals("scale_bias", patient.state.switched?.task)
        assertTrue(patient.state.busy, "two files are still to come")
        while (waiting.isNotEmpty()) waiting.removeFirst().run()
        assertFalse(patient.state.busy)
        assertTrue(patient.resting)
        assertEquals(listOf("bias", "scale_bias"), patient.state.rows.map { it.task })
        assertEquals("scale_bias", patient.state.answer?.task)
    }

    @Test
    fun `a patch that cannot be deleted stays in the list`() {
        install("bias")
        val place = folder.place("bias")
        val row = session.state.rows.first { it.task == "bias" }
        place.delete()
        File(place, "in the way").mkdirs() // a folder that is not empty
        folder.patches().forEach { assertTrue(it.exists()) }
        session.remove(row)
        assertTrue(session.state.notice is Notice.Failed)
        assertEquals(listOf("bias", "scale_bias"), session.state.rows.map { it.task })
        assertTrue("bias" in runtimes.last().tasks)
    }

    @Test
    fun `a picture of an app that throws what it likes does not end this one`() {
        session.show { throw IllegalArgumentException("Unknown URI") }
        assertEquals(Notice.Failed("Unknown URI"), session.state.notice)
        session.show { throw OutOfMemoryError() }
        assertEquals(Notice.Failed("there is not enough memory for it"), session.state.notice)
        session.show { Golden.picture("square") }
        assertEquals("scale_bias", session.state.answer?.task)
    }

    private fun made(worker: Executor = AT_ONCE, outside: Executor = AT_ONCE) = Session(
        folder = folder,
        open = { file, mode -> FakeTasks(mode, file.length()).also(runtimes::add) },
        worker = worker,
        outside = outside,
        screen = { it.run() },
        now = { clock.also { clock += 1000 } },
    )

    private fun install(name: String) = session.install({ "$name.epatch" }) { Golden.patch(name).inputStream() }

    private fun assertUnchanged(old: ByteArray) {
        assertEquals(listOf("scale_bias"), session.state.rows.map { it.task })
        assertArrayEquals(old, folder.place("scale_bias").readBytes())
        assertEquals(listOf("scale_bias"), runtimes.last().tasks)
        assertEquals(1, File(root, "patches").list()!!.size)
    }

    private companion object {
        val AT_ONCE = Executor { it.run() }
    }
}
