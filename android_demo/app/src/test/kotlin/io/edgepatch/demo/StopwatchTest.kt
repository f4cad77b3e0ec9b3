package io.edgepatch.demo

import io.edgepatch.demo.session.Latency
import io.edgepatch.demo.session.Stopwatch
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertNull
import org.junit.jupiter.api.Test

class StopwatchTest {
    @Test
    fun `the middle one counts, without the first, which warms up`() {
        val watch = Stopwatch()
        watch.add("a", baked = false, 900)
        assertEquals(Latency(900, null), watch.latency("a"))
        listOf(30L, 10, 20).forEach { watch.add("a", baked = false, it) }
        listOf(50L, 10).forEach { watch.add("a", baked = true, it) }
        assertEquals(Latency(20, 10), watch.latency("a"))
        assertEquals(2.0, watch.latency("a").ratio)
        assertEquals(Latency(null, null), watch.latency("b"))
        watch.forget("a")
        assertNull(watch.latency("a").bound)
    }
}
