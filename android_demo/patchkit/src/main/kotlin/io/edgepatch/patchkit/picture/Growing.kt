package io.edgepatch.patchkit.picture

/**
 * The largest of several maps at each pixel, after each was brought to a picture's size bilinearly: as Pillow resizes
 * float32 pictures, to the bit.
 *
 * [maps] are float32 (side, side, count), their last axis the map; the answer is uint8 (height, width), the number of
 * the largest, the first of equals. One row at a time, for a large picture of many maps would not fit into memory.
 */
internal fun largestAfterGrowing(maps: FloatArray, side: Int, count: Int, width: Int, height: Int): ByteArray {
    val across = Resampling.of(side, 0, side, width)
    val down = Resampling.of(side, 0, side, height)
    val rowOf: (map: Int, y: Int, row: FloatArray) -> Unit
    if (heightFirst(side, side, width, height)) {
        val column = FloatArray(side)
        rowOf = { map, y, row ->
            for (x in 0 until side) column[x] = down.at(y) { maps[(it * side + x) * count + map] }
            for (x in 0 until width) row[x] = across.at(x) { column[it] }
        }
    } else {
        val grown = FloatArray(count * side * width) // (maps, rows, columns)
        for (map in 0 until count) for (y in 0 until side) for (x in 0 until width) {
            grown[(map * side + y) * width + x] = across.at(x) { maps[(y * side + it) * count + map] }
        }
        rowOf = { map, y, row ->
            for (x in 0 until width) row[x] = down.at(y) { grown[(map * side + it) * width + x] }
        }
    }
    val found = ByteArray(width * height)
    val best = FloatArray(width)
    val row = FloatArray(width)
    for (y in 0 until height) {
        best.fill(Float.NEGATIVE_INFINITY)
        for (map in 0 until count) {
            rowOf(map, y, row)
            for (x in 0 until width) if (row[x] > best[x]) {
                best[x] = row[x]
                found[y * width + x] = map.toByte()
            }
        }
    }
    return found
}

/** One output of the inputs that [value] gives: summed in float64, rounded once. */
private inline fun Resampling.at(output: Int, value: (Int) -> Float): Float {
    var sum = 0.0
    val start = starts[output]
    for (i in 0 until counts[output]) sum += value(start + i) * weights[output * width + i]
    return sum.toFloat()
}
