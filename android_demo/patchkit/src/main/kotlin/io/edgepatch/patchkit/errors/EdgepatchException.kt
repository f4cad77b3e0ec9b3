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
 * @property problem one sentence, without the file.
 * @property file the file concerned, as the caller named it.
 * @property field the part of that file, or of the call.
 * @property got what was found there.
 * @property expected what should have been there.
 * @property mend what the reader can do about it.
 */
open class EdgepatchException(
    val problem: String,
    val file: String? = null,
    val field: String? = null,
    val got: Any? = null,
    val expected: Any? = null,
    val mend: String? = null,
    cause: Throwable? = null,
) : Exception(problem, cause) {
    /** The number that the command line exits with. */
    open val code: Int get() = 1

    /** The whole of it, for people: `FILE: problem (field F, got G, expected E)`, and what mends it. */
    override val message: String
        get() {
            val facts = listOf("field" to this.field, "got" to got, "expected" to expected)
                .filter { it.second != null }
                .joinToString(", ") { "${it.first} ${it.second}" }
            val text = (if (file == null) problem else "$file: $problem") + if (facts.isEmpty()) "" else " ($facts)"
            return if (mend == null) text else "$text\n$mend"
        }
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
