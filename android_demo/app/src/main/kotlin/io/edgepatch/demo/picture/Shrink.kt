package io.edgepatch.demo.picture

/** How far a picture is shrunk while it is decoded. */
object Shrink {
    /** The power of two by which the longer side comes down to at most [longest]; 1 if it is. */
    fun of(width: Int, height: Int, longest: Int): Int {
        var by = 1
        while (maxOf(width, height) / by > longest) by *= 2
        return by
    }
}
