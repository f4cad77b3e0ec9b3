package io.edgepatch.patchkit.heads

import io.edgepatch.patchkit.json.asList
import io.edgepatch.patchkit.json.asNumber
import io.edgepatch.patchkit.json.asObject

/**
 * Boxes from which a detector's answers count, the same ones at every pixel of a map.
 *
 * @property shapes for each map, the width and height of each of its pixels' anchors: 0..1 of the network's input.
 * @property variances of the four codings.
 */
class Anchors(val shapes: List<List<Pair<Double, Double>>>, val variances: List<Double>) {
    /** Anchors of a pixel, by map. */
    val counts: List<Int> = shapes.map { it.size }

    @Volatile
    private var last: Pair<List<Int>, FloatArray>? = null // sides and their boxes: the same ones for every picture

    /**
     * All anchors of maps of these sides, by map, row, column and shape: float32 (anchors, 4), of x0, y0, x1, y1. Not to
     * be written to.
     */
    fun boxes(sides: List<Int>): FloatArray {
        last?.let { (of, boxes) -> if (of == sides) return boxes }
        return laidOut(sides).also { last = sides to it }
    }

    private fun laidOut(sides: List<Int>): FloatArray {
        require(sides.size == shapes.size) { "anchors of ${shapes.size} maps, not ${sides.size}" }
        val found = FloatArray(sides.indices.sumOf { sides[it] * sides[it] * counts[it] } * 4)
        var at = 0
        for ((side, own) in sides.zip(shapes)) for (row in 0 until side) for (column in 0 until side) {
            val x = (column + 0.5) / side
            val y = (row + 0.5) / side
            for ((width, height) in own) {
                found[at++] = (x - width / 2).toFloat()
                found[at++] = (y - height / 2).toFloat()
                found[at++] = (x + width / 2).toFloat()
                found[at++] = (y + height / 2).toFloat()
            }
        }
        return found
    }

    companion object {
        private const val MOST = 64 // anchors of a pixel

        /** Of a patch's `decode.anchors`. Throws [IllegalArgumentException]: it describes no anchors. */
        fun fromJson(value: Any?): Anchors {
            val fields = value.asObject()
            require(fields != null && fields.keys == setOf("shapes", "variances")) {
                "expected the fields shapes and variances"
            }
            val variances = numbers(fields["variances"], 4)
            require(variances != null) { "expected four variances above 0" }
            val maps = fields["shapes"].asList()
            require(!maps.isNullOrEmpty()) { "expected the shapes of each map's anchors" }
            val shapes = maps.map { map ->
                val own = map.asList()?.map { numbers(it, 2) }
                require(own != null && own.size in 1..MOST && null !in own) {
                    "expected the width and height of each anchor, above 0"
                }
                own.filterNotNull().map { (width, height) -> width to height }
            }
            return Anchors(shapes, variances)
        }

        private fun numbers(value: Any?, count: Int): List<Double>? {
            val found = value.asList()?.mapNotNull { item -> item.asNumber()?.takeIf { it > 0 && it < 100 } }
            return found?.takeIf { it.size == count && value.asList()?.size == count }
        }
    }
}
