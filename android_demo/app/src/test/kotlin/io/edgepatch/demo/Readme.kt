package io.edgepatch.demo

import android.graphics.Bitmap
import io.edgepatch.patchkit.graph.GraphFile
import io.edgepatch.patchkit.heads.Classification
import io.edgepatch.patchkit.heads.Detections
import io.edgepatch.patchkit.picture.Picture
import io.edgepatch.patchkit.runtime.Runtime
import java.io.File

// What README.md shows, word for word; ReadmeTest compares the two and runs this.

fun look(folder: File, bitmap: Bitmap): String {
    val argb = IntArray(bitmap.width * bitmap.height)
    bitmap.getPixels(argb, 0, bitmap.width, 0, 0, bitmap.width, bitmap.height)
    val picture = Picture.of(bitmap.width, bitmap.height, argb)
    Runtime(GraphFile.read(File(folder, "backbone.onnx"))).use { runtime -> // mapped into memory, once for all tasks
        val digits = runtime.load(File(folder, "digits.epatch")) // verified, or refused with what is wrong
        val pages = runtime.load(File(folder, "digit-pages.epatch"))
        runtime.use(digits) // in microseconds
        val best = (runtime.predict(picture) as Classification).best
        runtime.use(pages)
        val boxes = (runtime.predict(picture) as Detections).boxes // in pixels of the picture
        return "${best.label}: ${best.score}, and ${boxes.size} digits on the page"
    }
}
