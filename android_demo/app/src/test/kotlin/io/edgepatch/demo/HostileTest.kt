package io.edgepatch.demo

import io.edgepatch.demo.folder.PatchFolder
import io.edgepatch.demo.session.Notice
import io.edgepatch.demo.session.PatchkitTasks
import io.edgepatch.demo.session.Session
import io.edgepatch.patchkit.heads.Classification
import io.edgepatch.patchkit.json.asList
import io.edgepatch.patchkit.json.asObject
import java.io.File
import java.io.FilterInputStream
import java.io.IOException
import java.io.InputStream
import java.util.concurrent.Executor
import org.junit.jupiter.api.Assertions.assertArrayEquals
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.BeforeEach
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir

/** Files that mean no good, brought in as the app brings them in, with patchkit and real inference behind. */
class HostileTest {
    @TempDir
    lateinit var top: File
    private val root get() = File(top, "app/edgepatch")
    private val session by lazy { Session(PatchFolder(root), PatchkitTasks::open, AT_ONCE, AT_ONCE, AT_ONCE) }
    private lateinit var before: Map<String, ByteArray>
    private lateinit var answer: FloatArray

    @BeforeEach
    fun furnish() {
        session.start()
        session.install({ "gated.onnx" }) { Golden.graph(GRAPH) }
        session.install({ "scale_bias.epatch" }) { Golden.patch("scale_bias").inputStream() }
        assertTrue(session.state.notice is Notice.Installed, "${session.state.notice}")
        session.show { Golden.picture("square") }
        before = files()
        answer = (session.state.answer as Classification).logits
    }

    @Test
    fun `every broken patch of the golden vectors is refused as patchkit words it, and the old one answers on`() {
        val rows = Golden.document("broken")["patches"].asList()!!.map { it.asObject()!! }
        assertTrue(rows.size > 200)
        for (row in rows) {
            val expected = row["runtime"].asObject()!!["problem"] as String // by this graph's twin in the other format
            val graph = row["name"] == "a_graph" // which the app takes for one, and refuses as such
            refuse("${row["name"]}", Golden.broken(row).inputStream()) { it.startsWith(expected) || graph }
        }
        assertAnswers()
    }

    @Test
    fun `every broken graph is refused, and the old one answers on`() {
        val rows = Golden.document("broken")["graphs"].asList()!!.map { it.asObject()!! }
            .filter { !(it["of"] as String).endsWith(".epatch") } // a sound patch, which is no graph
        assertTrue(rows.size > 50)
        for (row in rows) refuse("${row["name"]}", Golden.broken(row).inputStream()) { true }
        assertAnswers()
    }

    @Test
    fun `streams that break off anywhere leave nothing behind`() {
        val sound = Golden.patch("bias").readBytes()
        for (end in listOf(0, 1, 7, 8, 100, sound.size / 2, sound.size - 1, sound.size)) {
            for (error in listOf(IOException("No space left on device"), SecurityException("taken back"), NullPointerException())) {
                val broken = sound.copyOf(end).inputStream().then { throw error }
                refuse("bias.epatch", broken) { it == (error.message ?: error.javaClass.simpleName) }
            }
        }
        assertAnswers()
    }

    @Test
    fun `an endless stream is cut off`() {
        val sound = Golden.patch("bias").readBytes().inputStream()
        var given = 0L
        val endless = sound.then { buffer -> buffer.size.also { given += it } }
        refuse("bias.epatch", endless) { it.startsWith("is too large") }
        assertTrue(given <= PatchFolder.LARGEST + (1 shl 17), "$given bytes were read")
        assertAnswers()
    }

    @Test
    fun `a name with a path in it leads nowhere`() {
        val outside = File(top, "app/outside.epatch").apply { writeText("mine") }
        for (name in listOf("../outside.epatch", outside.path, "../../app/outside.epatch", "a/b", "..", "", "nul\u0000")) {
            session.install({ name }) { Golden.patch("bias").inputStream() }
            assertEquals("bias", (session.state.notice as Notice.Installed).task)
            session.remove(session.state.rows.first { it.task == "bias" })
        }
        assertEquals("mine", outside.readText())
        assertEquals(setOf("edgepatch", "outside.epatch"), outside.parentFile.list()!!.toSet())
        assertAnswers()
    }

    @Test
    fun `a patch for another backbone is refused beside the graph`() {
        refuse("other.epatch", Golden.patch("mobilenet_int8").inputStream()) { "backbone" in it }
        assertAnswers()
    }

    private fun refuse(name: String, stream: InputStream, worded: (String) -> Boolean) {
        session.install({ name }) { stream }
        val notice = session.state.notice
        assertTrue(notice is Notice.Refused && notice.name == name && worded(notice.problem), "$name: $notice")
        assertFalse(root.path in "$notice", "$notice tells of the app's own folders")
        assertEquals(listOf("scale_bias"), session.state.rows.map { it.task }, name)
        val after = files()
        assertEquals(before.keys, after.keys, name)
        before.forEach { (file, bytes) -> assertArrayEquals(bytes, after[file], "$name: $file") }
    }

    /** The task runs, to the bit as before. */
    private fun assertAnswers() {
        session.use("scale_bias")
        session.show { Golden.picture("square") }
        assertTrue(session.state.notice !is Notice.Failed, "${session.state.notice}")
        assertArrayEquals(answer, (session.state.answer as Classification).logits)
    }

    private fun files(): Map<String, ByteArray> =
        root.walk().filter { it.isFile }.associate { it.relativeTo(root).path to it.readBytes() }

    /** What comes where a stream would end. */
    private fun InputStream.then(end: (ByteArray) -> Int): InputStream = object : FilterInputStream(this) {
        override fun read(buffer: ByteArray, at: Int, size: Int): Int =
            super.read(buffer, at, size).let { if (it < 0) end(buffer) else it }
    }

    private companion object {
        const val GRAPH = "gated-int8.onnx"
        val AT_ONCE = Executor { it.run() }
    }
}
