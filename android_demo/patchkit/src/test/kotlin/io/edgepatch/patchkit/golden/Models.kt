package io.edgepatch.patchkit.golden

import io.edgepatch.patchkit.bake.Model
import io.edgepatch.patchkit.graph.Graph
import io.edgepatch.patchkit.graph.GraphFile
import io.edgepatch.patchkit.json.asObject
import java.io.File

/** A shared graph, with what Python makes of patches by it. */
class GoldenGraph(val name: String) {
    private val document = Golden.document("graphs")[name].asObject()!!

    /** Mapped, as on a device. */
    val graph: Graph by lazy { GraphFile.read(file(name)) }

    /** By patch. */
    val runs: Map<String, Map<String, Any?>> = document["runs"].asObject()!!.mapValues { it.value.asObject()!! }

    companion object {
        private val folder by lazy {
            java.nio.file.Files.createTempDirectory("graphs").toFile().apply { deleteOnExit() }
        }

        val names: List<String> by lazy { Golden.document("graphs").keys.toList() }

        /** A graph's file. */
        fun file(name: String): File = File(folder, name).also { file ->
            if (!file.exists()) {
                file.deleteOnExit()
                file.writeBytes(Golden.graph(name))
            }
        }
    }
}

/** What a model is, as the documents have it. */
fun row(model: Model): Map<String, Any?> {
    val row = mapOf("bytes" to model.data.limit().toLong(), "sha256" to Golden.sha256(model.data))
    if (model.tensors.isEmpty()) return row
    val lines = model.tensors.toSortedMap().map { (name, value) ->
        "$name ${value.type.name.lowercase()} ${value.shape} ${Golden.sha256(value.data)}\n"
    }
    return row + mapOf(
        "tensors" to model.tensors.size.toLong(),
        "tensors_sha256" to Golden.sha256(lines.joinToString("").toByteArray()),
    )
}
