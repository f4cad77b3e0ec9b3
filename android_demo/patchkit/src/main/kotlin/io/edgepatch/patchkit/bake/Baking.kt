package io.edgepatch.patchkit.bake

import io.edgepatch.patchkit.errors.BadFileException

/** Models an engine opens, made of a shared graph and a patch that fits it. */
object Baking {
    /**
     * The form that takes a patch as inputs, for images of the patch's size: the graph itself where that is its own.
     *
     * Throws [BadFileException]: the graph cannot be laid out for that size, whatever it says.
     */
    fun bindModel(fitted: Fitted): Model = forgeries("laid out for ${fitted.layout.size} pixels", "sizes") {
        fitted.graph.bindModel(fitted.layout.size, fitted.layout.maps)
    }

    /**
     * A dedicated model of one task: the patch written into the constants of a copy of the graph, and its size.
     *
     * Throws [BadFileException]: the bake table leads out of the file, or into itself.
     */
    fun bake(fitted: Fitted): Model = forgeries("baked", "bake") {
        fitted.graph.bakeModel(fitted.values, fitted.ranges, fitted.layout.size, fitted.layout.maps)
    }

    /** What comes of a graph that was forged beyond our checks, as an error of ours. */
    private fun forgeries(done: String, field: String, make: () -> Model): Model = try {
        make()
    } catch (error: RuntimeException) { // whatever hostile bytes lead to
        throw BadFileException("the graph cannot be $done: ${error.message}", field = field, cause = error)
    }
}
