package io.edgepatch.demo

import android.app.Application
import android.os.Debug
import android.os.Handler
import android.os.Looper
import io.edgepatch.demo.folder.PatchFolder
import io.edgepatch.demo.session.PatchkitTasks
import io.edgepatch.demo.session.Session
import java.io.File
import java.io.InputStream
import java.util.concurrent.Executor
import java.util.concurrent.Executors

/** Keeps the session for as long as the process lives: an activity goes with each turn of the phone. */
class DemoApp : Application() {
    val session: Session by lazy {
        val main = Handler(Looper.getMainLooper())
        Session(
            folder = PatchFolder(File(filesDir, "edgepatch")),
            open = PatchkitTasks::open,
            worker = Executors.newSingleThreadExecutor { Thread(it, "edgepatch") },
            outside = Executors.newSingleThreadExecutor { Thread(it, "other apps' files") },
            screen = Executor { main.post(it) },
            memory = { 1024 * Debug.getPss() },
        )
    }

    /** The graph and the patches that were packed into the app, if any. */
    fun seeds(): Map<String, () -> InputStream> =
        assets.list(SEEDS).orEmpty().sorted().associateWith { { assets.open("$SEEDS/$it") } }

    private companion object {
        const val SEEDS = "seeds"
    }
}
