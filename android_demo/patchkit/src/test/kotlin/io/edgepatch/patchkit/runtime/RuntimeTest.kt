package io.edgepatch.patchkit.runtime

import io.edgepatch.patchkit.engine.OnnxRuntime
import io.edgepatch.patchkit.errors.BadFileException
import io.edgepatch.patchkit.errors.MismatchException
import io.edgepatch.patchkit.errors.UsageException
import io.edgepatch.patchkit.golden.Golden
import io.edgepatch.patchkit.golden.GoldenGraph
import io.edgepatch.patchkit.heads.Classification
import io.edgepatch.patchkit.model.Tensor
import org.junit.jupiter.api.Assertions.assertArrayEquals
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir
import org.junit.jupiter.params.ParameterizedTest
import org.junit.jupiter.params.provider.ValueSource
import java.io.File
import java.util.concurrent.atomic.AtomicReference
import kotlin.concurrent.thread

/** One graph, many tasks: which is used, bound or baked; what is kept, what goes; from many threads. */
class RuntimeTest {
    private val noise = Golden.picture("noise")

    @ParameterizedTest
    @ValueSource(strings = ["gated-fp32.tflite", "gated-fp32.onnx"])
    fun `a task that stays is baked in the background and answers the same`(name: String) {
        runtime(name).use { runtime ->
            runtime.add(Golden.patch("scale_bias"))
            val bound = List(Runtime.PROMOTE_AFTER) { logits(runtime) }
            assertTrue(runtime.await(WAIT))
            assertEquals(emptyMap<String, String>(), runtime.problems)
            assertEquals(listOf("scale_bias"), runtime.baked)
            assertTrue(runtime.bakedBytes > 0)
            assertArrayEquals(bound[0], logits(runtime), 1e-3f)
        }
    }

    @ParameterizedTest
    @ValueSource(strings = ["gated-fp32.tflite", "gated-fp32.onnx"])
    fun `switching to and fro gives each task's own answers, whatever its classes and size`(name: String) {
        val tasks = listOf("scale_bias", "many_classes", "cropped", "head_only", "bias_int8")
        for (mode in listOf(Mode.BIND, Mode.BAKE)) {
            runtime(name, mode).use { runtime ->
                tasks.forEach { runtime.add(Golden.patch(it)) }
                val first = tasks.map { task -> runtime.use(task).let { logits(runtime) } }
                repeat(2) {
                    for ((task, expected) in tasks.zip(first).shuffled()) {
                        runtime.use(task)
                        assertArrayEquals(expected, logits(runtime), 1e-6f)
                    }
                }
                assertEquals(if (mode == Mode.BAKE) tasks.toSet() else emptySet(), runtime.baked.toSet())
                assertEquals(listOf(3, 40, 3, 3, 3), first.map { it.size })
            }
        }
    }

    @Test
    fun `what changes kernels is baked at once, or refused where it may only be bound`() {
        runtime(TFLITE).use { runtime ->
            runtime.add(Golden.patch("everything"))
            logits(runtime)
            assertEquals(listOf("everything"), runtime.baked)
        }
        runtime(TFLITE, Mode.BIND).use { runtime ->
            val error = assertThrows(UsageException::class.java) { runtime.add(Golden.patch("mask"), "mask.epatch") }
            assertEquals("mask.epatch", error.file)
            assertThrows(UsageException::class.java) { logits(runtime) }
        }
    }

    @Test
    fun `within the budget the least recently used task goes first`() {
        val one = runtime(TFLITE, Mode.BAKE).use { runtime ->
            runtime.add(Golden.patch("scale_bias"))
            runtime.use("scale_bias")
            runtime.bakedBytes
        }
        runtime(TFLITE, Mode.BAKE, one * 5 / 2).use { runtime ->
            for (task in listOf("scale_bias", "bias", "depthwise")) runtime.add(Golden.patch(task))
            runtime.use("scale_bias")
            runtime.use("bias")
            runtime.use("scale_bias")
            runtime.use("depthwise")
            assertEquals(listOf("scale_bias", "depthwise"), runtime.baked)
            assertTrue(runtime.bakedBytes <= one * 5 / 2)
            runtime.use("bias")
            assertEquals(listOf("depthwise", "bias"), runtime.baked)
        }
    }

    @Test
    fun `a task that alone would exceed the budget stays bound, and says why`() {
        runtime(TFLITE, memory = 1000).use { runtime ->
            runtime.add(Golden.patch("scale_bias"))
            repeat(Runtime.PROMOTE_AFTER + 2) { logits(runtime) }
            assertTrue(runtime.await(WAIT))
            assertEquals(emptyList<String>(), runtime.baked)
            assertTrue("budget" in runtime.problems.getValue("scale_bias"))
            logits(runtime)
        }
    }

    @Test
    fun `a task let go has to be used twice as long before it is baked again`() {
        val one = runtime(TFLITE, Mode.BAKE).use { it.add(Golden.patch("scale_bias")); it.use("scale_bias"); it.bakedBytes }
        runtime(TFLITE, memory = one * 3 / 2).use { runtime ->
            for (task in listOf("scale_bias", "bias")) {
                runtime.add(Golden.patch(task))
                repeat(Runtime.PROMOTE_AFTER) { logits(runtime, task) }
                assertTrue(runtime.await(WAIT))
                assertEquals(listOf(task), runtime.baked)
            }
            repeat(2 * Runtime.PROMOTE_AFTER - 1) { logits(runtime, "scale_bias") }
            assertTrue(runtime.await(WAIT))
            assertEquals(listOf("bias"), runtime.baked)
            logits(runtime, "scale_bias")
            assertTrue(runtime.await(WAIT))
            assertEquals(listOf("scale_bias"), runtime.baked)
        }
    }

    @Test
    fun `a patch that is refused leaves the old one at work`(@TempDir folder: File) {
        runtime(TFLITE).use { runtime ->
            runtime.add(Golden.patch("scale_bias"))
            val before = logits(runtime)
            val file = File(folder, "bad.epatch").apply { writeBytes(Golden.patchBytes("scale_bias").copyOf(1000)) }
            assertThrows(BadFileException::class.java) { runtime.load(file) }
            assertThrows(MismatchException::class.java) { runtime.add(Golden.patch("mobilenet_int8")) }
            assertEquals(listOf("scale_bias"), runtime.tasks)
            assertArrayEquals(before, logits(runtime), 1e-6f)
        }
    }

    @Test
    fun `a task loaded again is replaced, unloaded it is gone`() {
        runtime(TFLITE, Mode.BAKE).use { runtime ->
            runtime.add(Golden.patch("scale_bias"))
            runtime.add(Golden.patch("bias"))
            assertEquals("scale_bias", runtime.task)
            val before = logits(runtime)
            runtime.add(Golden.patch("scale_bias"))
            assertEquals(emptyList<String>(), runtime.baked)
            assertArrayEquals(before, logits(runtime), 1e-6f)
            runtime.unload("scale_bias")
            assertEquals("bias", runtime.task)
            assertThrows(UsageException::class.java) { runtime.use("scale_bias") }
            runtime.unload("bias")
            assertThrows(UsageException::class.java) { logits(runtime) }
            assertEquals(null, runtime.task)
        }
    }

    @ParameterizedTest
    @ValueSource(strings = ["gated-fp32.tflite", "gated-fp32.onnx"])
    fun `threads get the answers of the tasks they name, while tasks come and go`(name: String) {
        val tasks = listOf("scale_bias", "bias", "finder", "painter", "depthwise")
        val expected = runtime(name).use { runtime ->
            tasks.associateWith { runtime.add(Golden.patch(it)).let { task -> print(runtime, task) } }
        }
        runtime(name, memory = 4_000_000).use { runtime ->
            tasks.forEach { runtime.add(Golden.patch(it)) }
            val failed = AtomicReference<Throwable>()
            val threads = List(4) { number ->
                thread {
                    try {
                        repeat(12) { round ->
                            val task = tasks[(number + round) % tasks.size]
                            assertArrayEquals(expected[task], print(runtime, task), 2e-2f) { task }
                            if (number == 0) runtime.add(Golden.patch(tasks[2 * (round % 2)])) // a head of its own, too
                            if (number == 1) runtime.use(task)
                        }
                    } catch (error: Throwable) {
                        failed.compareAndSet(null, error)
                    }
                }
            }
            threads.forEach { it.join() }
            failed.get()?.let { throw it }
            assertTrue(runtime.await(WAIT))
            assertEquals(emptyMap<String, String>(), runtime.problems)
        }
    }

    @Test
    fun `a runtime that was closed says so, and closes twice`() {
        val runtime = runtime(TFLITE)
        runtime.add(Golden.patch("scale_bias"))
        repeat(Runtime.PROMOTE_AFTER) { logits(runtime) }
        runtime.close()
        runtime.close()
        assertThrows(UsageException::class.java) { logits(runtime) }
        assertThrows(UsageException::class.java) { runtime.use("scale_bias") }
        assertThrows(UsageException::class.java) { runtime.add(Golden.patch("bias")) }
        assertFalse(runtime.baked.contains("scale_bias"))
    }

    @Test
    fun `calls that make no sense are refused`() {
        val graph = GoldenGraph("gated-int8.tflite").graph
        assertThrows(UsageException::class.java) { Runtime(graph, Mode.BIND) }
        assertThrows(UsageException::class.java) { Runtime(graph, threads = 0) }
        assertThrows(UsageException::class.java) { Runtime(graph, memory = -1) }
        assertThrows(UsageException::class.java) { Runtime(graph, engine = OnnxRuntime) }
        runtime(TFLITE).use { runtime ->
            runtime.add(Golden.patch("scale_bias"))
            val small = Tensor.of(listOf(1, 16, 16, 3), FloatArray(16 * 16 * 3))
            assertThrows(UsageException::class.java) { runtime.run(small) { it.size } }
        }
    }

    private fun runtime(name: String, mode: Mode = Mode.AUTO, memory: Long = Runtime.MEMORY) =
        Runtime(GoldenGraph(name).graph, mode, memory = memory)

    private fun logits(runtime: Runtime, task: String? = null): FloatArray =
        (runtime.predict(noise, task) as Classification).logits

    /** The outputs of a task for one image, whatever its head, as so many numbers. */
    private fun print(runtime: Runtime, task: String): FloatArray {
        val size = runtime.patch(task).input.size
        val image = Tensor.of(listOf(1, size, size, 3), FloatArray(3 * size * size) { (it % 17) / 17f - 0.5f })
        return runtime.run(image, task) { outputs -> outputs.values.flatMap { it.floats().toList() } }.toFloatArray()
    }

    private companion object {
        const val TFLITE = "gated-fp32.tflite"
        const val WAIT = 60_000L
    }
}
