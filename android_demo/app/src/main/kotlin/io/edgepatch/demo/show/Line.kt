package io.edgepatch.demo.show

/**
 * Words on a line of their own.
 *
 * @property share how long the bar below them is, 0..1 of the line; null without one.
 */
data class Line(val text: String, val share: Double? = null)
