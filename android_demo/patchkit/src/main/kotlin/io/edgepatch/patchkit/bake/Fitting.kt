package io.edgepatch.patchkit.bake

import io.edgepatch.patchkit.codec.Codec
import io.edgepatch.patchkit.errors.BadFileException
import io.edgepatch.patchkit.errors.MismatchException
import io.edgepatch.patchkit.errors.begin
import io.edgepatch.patchkit.errors.tuple
import io.edgepatch.patchkit.graph.Dense
import io.edgepatch.patchkit.graph.Graph
import io.edgepatch.patchkit.graph.Precision
import io.edgepatch.patchkit.model.Effects
import io.edgepatch.patchkit.model.HeadNetwork
import io.edgepatch.patchkit.model.Patch
import io.edgepatch.patchkit.model.Tensor
import io.edgepatch.patchkit.model.leftOut

/** What tasks must have in common to be bound to one interpreter: the side of their images, and the maps they read. */
data class Layout(val size: Int, val maps: List<String>)

/**
 * A patch that fits a graph.
 *
 * @property inputs the graph's patch inputs, F32 in direct buffers: of scale and bias the bound sites alone; null of a
 *   patch that has to be baked, for it changes kernels or skips blocks.
 * @property ranges (activations, 2), the lowest and highest value of each; none unless the patch was calibrated.
 * @property network the head, where it is one of its own behind the graph; null of a dense layer, which is in the graph.
 */
class Fitted internal constructor(
    val graph: Graph,
    val patch: Patch,
    internal val inputs: Map<String, Tensor>?,
    internal val ranges: FloatArray,
    private val kept: Map<String, Tensor>?,
    val network: HeadNetwork?,
    private val idle: Map<String, Tensor>,
) {
    /** Whether a graph can take it as inputs, if it has the form for it. */
    val bindable: Boolean get() = inputs != null

    /** Side of its images in pixels, at which it runs, and the sites whose outputs the graph is to answer. */
    val layout = Layout(patch.input.size, network?.maps.orEmpty())

    /**
     * What is baked, as [Codec.decode] gives it. Decoded values of a patch that can be bound are kept; those of others,
     * whose masks and kernels take much more memory than their file, are decoded anew.
     */
    internal val values: Map<String, Tensor> get() = kept ?: (Codec.decode(patch, graph.trunk, null) + idle)
}

/** A patch held against a graph: does it fit, and what are its values there? */
class Fitting private constructor(private val graph: Graph, private val patch: Patch, private val file: String?) {
    private val document = graph.document

    private fun fitted(): Fitted {
        if (patch.backboneId != graph.backboneId) {
            throw mismatch(
                "is a patch of another backbone", "backbone_id", patch.backboneId, graph.backboneId,
                "Export a graph of the backbone it was trained on, or train it on this one.",
            )
        }
        if (patch.input.size !in document.sizes) throw otherSize()
        val shapes = Codec.check(patch, graph.trunk, file)
        refuseOutside()
        val network = network()
        checkShapes(shapes, network)
        if (network == null) checkLabels(shapes[Dense.KERNEL].orEmpty())
        var values = Codec.decode(patch, graph.trunk, file)
        var idle = emptyMap<String, Tensor>()
        if (network != null) {
            // nobody looks at what the graph's own dense layer answers
            idle = mapOf(
                Dense.KERNEL to Tensor.of(listOf(document.features, 1), FloatArray(document.features)),
                Dense.BIAS to Tensor.of(listOf(1), FloatArray(1)),
            )
            values = values + idle
            refuseSkipped(network, values)
        }
        INPUTS.find { it !in values }?.let {
            throw mismatch("lacks a tensor that the graph needs", it, patch.tensors.keys.joinToString(", "), it)
        }
        val ranges = patch.ranges?.floats() ?: FloatArray(0)
        checkRanges(ranges.size / 2)
        if (!patch.bindable) return Fitted(graph, patch, null, ranges, null, network, idle)
        val bound = graph.trunk.inside(document.sites.indices.filter { document.sites[it].bound })
        val inputs = INPUTS.associateWith { name ->
            val value = values.getValue(name)
            if (name in Effects.CHANNELS) picked(value, bound) else value
        }
        return Fitted(graph, patch, inputs, ranges, values, network, idle)
    }

    private fun otherSize(): MismatchException {
        val sizes = document.sizes
        return mismatch(
            "was trained for another input size than the graph takes",
            "input.size",
            patch.input.size,
            if (sizes.first < sizes.last) "${sizes.first} to ${sizes.last}" else sizes.first,
            "If an older edgepatch exported the graph, export it again: it then takes every size that the network can " +
                "be built for. Otherwise: edgepatch train BACKBONE DATA --size ${document.input.size} --out FILE.epatch",
        )
    }

    private fun refuseOutside() {
        val changed = patch.sites.values.flatten().toSortedSet()
        val outside = changed.find { !document.sites[it].bound } ?: return
        throw mismatch(
            "changes sites that this graph keeps as they are",
            "sites",
            "${begin(patch.kind, 40)}, with ${document.sites[outside].name}",
            "placement ${document.placement}",
            "Export a graph with --placement all, or train a patch for the graph's placement.",
        )
    }

    /** The head's network, if it has one, after a look at whether the graph has its maps. */
    private fun network(): HeadNetwork? {
        if (NETWORK !in patch.decode) return null
        val field = "decode.$NETWORK"
        val network = try {
            HeadNetwork.fromJson(patch.decode[NETWORK])
        } catch (error: IllegalArgumentException) {
            throw BadFileException("has a broken head: ${error.message}", file = file, field = field, cause = error)
        }
        val names = graph.trunk.names
        network.maps.find { it !in names }?.let {
            val some = names.takeLast(5).joinToString(", ") + ", ..."
            throw mismatch("has a head on sites that the graph does not have", "$field.maps", it, some)
        }
        try {
            network.widths(channels())
        } catch (error: IllegalArgumentException) {
            throw mismatch("has a head for other maps: ${error.message}", field, null, null)
        }
        return network
    }

    /** Before anything is unpacked. */
    private fun checkShapes(shapes: Map<String, List<Int>>, network: HeadNetwork?) {
        val head: Map<String, List<Int?>> = network?.tensors(channels())
            ?: mapOf(Dense.KERNEL to listOf(document.features, null), Dense.BIAS to listOf(null))
        if (network != null) {
            head.keys.find { it !in shapes }?.let {
                throw mismatch("lacks a tensor of its head", it, shapes.keys.joinToString(", "), it)
            }
        }
        for ((name, got) in shapes) {
            if (name !in Effects.SITES && name != Effects.SKIP && name !in head) {
                throw mismatch("has a tensor that the graph does not take", name, name, INPUTS.joinToString(", "))
            }
            val shape = head[name] ?: got
            if (shape.size != got.size || shape.zip(got).any { (side, mine) -> side != null && side != mine }) {
                throw mismatch("has a tensor of another shape than the graph takes", name, tuple(got), tuple(shape))
            }
        }
    }

    /** Packed, four classes take a byte; unpacked, sixteen. */
    private fun checkLabels(shape: List<Int>) {
        if (shape.isEmpty() || shape.last() == patch.labels.size) return
        throw BadFileException(
            "has labels for another head", file = file, field = Dense.KERNEL, got = tuple(shape),
            expected = "${patch.labels.size} classes, one or more",
        )
    }

    private fun refuseSkipped(network: HeadNetwork, values: Map<String, Tensor>) {
        val gone = leftOut(document.residuals, values[Effects.SKIP]).flatMap { it.sites }
        val lost = network.maps.find { graph.trunk.names.indexOf(it) in gone } ?: return
        throw mismatch("skips a block whose output its head reads", "decode.network.maps", lost, "others")
    }

    private fun checkRanges(count: Int) {
        if (graph.precision != Precision.INT8) return
        val expected = 1 + graph.table.activations.maxOf { it.range }
        if (count == expected) return
        val problem = if (count == 0) {
            "was not calibrated for an int8 graph: it has no activation ranges"
        } else {
            "has activation ranges of another network"
        }
        throw mismatch(
            problem, "ranges", "$count ranges", "$expected ranges",
            "edgepatch calibrate BACKBONE IMAGES --patch ${file ?: "FILE.epatch"}",
        )
    }

    private fun channels(): Map<String, Int> = graph.trunk.names.zip(graph.trunk.channels).toMap()

    private fun picked(value: Tensor, places: IntArray): Tensor =
        Tensor.of(listOf(places.size), FloatArray(places.size) { value.float(places[it]) })

    private fun mismatch(problem: String, field: String, got: Any?, expected: Any?, mend: String? = null) =
        MismatchException(problem, file, field, got, expected, mend)

    companion object {
        /** Where a patch's `decode` describes a head that is more than a dense layer. */
        private const val NETWORK = "network"

        /** Of the form `bind`, beside the image. */
        private val INPUTS = Effects.CHANNELS + Dense.NAMES

        /**
         * A patch's values for a graph; [file] is what errors call the patch.
         *
         * Throws [MismatchException]: the patch is of another backbone, for an input size that the graph does not take
         * or for other sites, has tensors the graph does not take, or lacks the activation ranges of a graph that
         * computes in int8. [BadFileException]: its head is broken, or has other labels.
         */
        fun fit(graph: Graph, patch: Patch, file: String?): Fitted = Fitting(graph, patch, file).fitted()
    }
}
