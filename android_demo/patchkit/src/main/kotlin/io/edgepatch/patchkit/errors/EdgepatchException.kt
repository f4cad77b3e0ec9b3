package io.edgepatch.patchkit.errors

/**
 * Every error that patchkit raises on purpose; bad input raises one of its subclasses, anything else is a bug.
 *
 * The subclasses are those of Python's `edgepatch.errors`, with the same [code]:
 * ```
 * EdgepatchException         1  the work failed
 * ├── UsageException         2  the call itself is wrong
 * ├── BadFileException       3  a file is damaged, hostile or of another kind
 * ├── MismatchException      4  a sound file, for another backbone or graph
 * └── MissingPackageException 5 something is to be installed
 * ```
 *
 * What they quote of a file is told as Python tells it, and prints: [problem], [field], [got] and [expected] hold no
 * control characters, and no more than 500 characters of any value.
 *
 * @property file the file concerned, as the caller named it.
 * @property mend what the reader can do about it.
 */
open class EdgepatchException(
    problem: String,
    val file: String? = null,
    field: String? = null,
    got: Any? = null,
    expected: Any? = null,
    val mend: String? = null,
    cause: Throwable? = null,
) : Exception(problem, cause) {
    /** The number that the command line exits with. */
    open val code: Int get() = 1

    /** One sentence, without the file. */
    val problem: String = printable(problem)

    /** The part of that file, or of the call. */
    val field: String? = field?.let { printable(it) }

    /** What was found there: a number or a list as it is, all else as text. */
    val got: Any? = fact(got)

    /** What should have been there. */
    val expected: Any? = fact(expected)

    /** The whole of it, for people: `FILE: problem (field F, got G, expected E)`, and what mends it. */
    override val message: String
        get() {
            val facts = listOf("field" to this.field, "got" to got, "expected" to expected)
                .filter { it.second != null }
                .joinToString(", ") { "${it.first} ${printable(it.second)}" }
            val text = if (file == null) problem else "${printable(file, null)}: $problem"
            return text + (if (facts.isEmpty()) "" else " ($facts)") + (if (mend == null) "" else "\n$mend")
        }

    private fun fact(value: Any?): Any? =
        if (value == null || value is Number || value is Boolean || value is List<*>) value else printable(value)
}

/** The call itself is wrong: an unknown name, a value out of range. */
class UsageException(
    problem: String, file: String? = null, field: String? = null, got: Any? = null, expected: Any? = null,
    mend: String? = null, cause: Throwable? = null,
) : EdgepatchException(problem, file, field, got, expected, mend, cause) {
    override val code: Int get() = 2
}

/** A file is damaged, hostile, or not of the kind it should be. */
class BadFileException(
    problem: String, file: String? = null, field: String? = null, got: Any? = null, expected: Any? = null,
    mend: String? = null, cause: Throwable? = null,
) : EdgepatchException(problem, file, field, got, expected, mend, cause) {
    override val code: Int get() = 3
}

/** Two sound files that do not belong together. */
class MismatchException(
    problem: String, file: String? = null, field: String? = null, got: Any? = null, expected: Any? = null,
    mend: String? = null, cause: Throwable? = null,
) : EdgepatchException(problem, file, field, got, expected, mend, cause) {
    override val code: Int get() = 4
}

/** A package that this job needs is not there: an engine's classes, or its native library. */
class MissingPackageException(
    problem: String, file: String? = null, field: String? = null, got: Any? = null, expected: Any? = null,
    mend: String? = null, cause: Throwable? = null,
) : EdgepatchException(problem, file, field, got, expected, mend, cause) {
    override val code: Int get() = 5
}
