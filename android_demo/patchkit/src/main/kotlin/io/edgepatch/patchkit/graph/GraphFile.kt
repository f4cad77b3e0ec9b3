package io.edgepatch.patchkit.graph

import io.edgepatch.patchkit.errors.BadFileException
import io.edgepatch.patchkit.errors.MismatchException
import io.edgepatch.patchkit.file.Container
import io.edgepatch.patchkit.file.Files
import io.edgepatch.patchkit.model.DType
import io.edgepatch.patchkit.model.Tensor
import java.io.File
import java.io.IOException
import java.io.RandomAccessFile
import java.nio.ByteBuffer
import java.nio.channels.FileChannel
import java.security.MessageDigest

/**
 * The shared graph's own file: what edgepatch wrote into it, found and checked without an interpreter.
 *
 * A .tflite (a flatbuffer) and an .onnx (a protobuf) both carry one container as metadata: a document that says what the
 * graph is, with the bake table, and the backbone's own values of its inputs. The document holds the hash of all other
 * bytes of the file, so that a damaged graph is refused before any interpreter sees it: they do not all survive one.
 */
object GraphFile {
    private const val MAX_BYTES = 1024L * 1024 * 1024
    private val OLDER = mapOf("residuals" to emptyList<Any?>(), "sizes" to emptyList<Any?>())

    /**
     * The shared graph in a file, which is mapped into memory and stays so; it must not be written over in place.
     *
     * Throws [io.edgepatch.patchkit.errors.UsageException]: there is no such file. [BadFileException]: it is no graph,
     * or was changed since it was exported. [MismatchException]: edgepatch did not export it.
     */
    fun read(file: File): Graph {
        val readOnly = Files.map(file, MAX_BYTES)
        val ours = privately(file, readOnly.limit())
        return Parser((ours ?: readOnly).little(), file.path, ours != null).graph()
    }

    /** The shared graph of a file's bytes, from 0 to their limit; [file] is what errors call it. See [read]. */
    fun parse(data: ByteBuffer, file: String?): Graph = Parser(data.little(), file, ours = false).graph()

    /** A map whose bytes can be changed for ourselves alone: a page that is, is copied, and no other. */
    private fun privately(file: File, size: Int): ByteBuffer? = try {
        RandomAccessFile(file, "rw").use { opened ->
            if (size == 0 || opened.length() != size.toLong()) null
            else opened.channel.map(FileChannel.MapMode.PRIVATE, 0, size.toLong())
        }
    } catch (_: IOException) {
        null // it is not ours to write to; then it is copied where it has to be changed
    }

    /** SHA-256 of everything but the container, in hexadecimal. */
    internal fun hashAround(data: ByteBuffer, span: Span): String {
        val digest = MessageDigest.getInstance("SHA-256")
        digest.update(data.slice(Span(0, span.begin)))
        digest.update(data.slice(Span(span.end, data.limit())))
        return Container.hex(digest)
    }

    /** [ours]: whether the bytes may be changed. */
    private class Parser(private val data: ByteBuffer, private val file: String?, private val ours: Boolean) {
        fun graph(): Graph {
            val format = GraphFormat.of(data) ?: throw notAGraph()
            val span = found(format)
            val contents = contents(format, span)
            val json = OLDER + contents.document
            Container.checkDocument(json, "graph", Document.FORMAT, Document.FIELDS, file)
            val digest = hashAround(data, span)
            if (digest != json["graph_sha256"]) {
                throw bad("was changed after it was exported", "graph_sha256", digest, json["graph_sha256"], AGAIN)
            }
            val document: Document
            val views: Map<Form, View>
            try {
                document = Document(json)
                checkTensors(document, format, contents.tensors)
                views = document.forms.associateWith { format.view(data, it) }
            } catch (error: RuntimeException) { // whatever hostile bytes lead to: out of bounds, absent, of another type
                throw bad("has a broken document: ${error.message}", "input, inputs or sites", cause = error)
            }
            try {
                format.requireKnown(data, contents.tensors)
            } catch (error: RuntimeException) {
                throw bad(
                    "has what edgepatch does not export: ${error.message}", "operators",
                    mend = "Export the graph again, or if a newer edgepatch did, update this app.", cause = error,
                )
            }
            val table = try {
                document.requireCounts()
                format.locate(data, document, contents.tensors).also { TableCheck(document, it).check() }
            } catch (error: RuntimeException) {
                throw bad(
                    "has a bake table that does not fit the file: ${error.message}", "bake",
                    mend = "Export the graph again.", cause = error,
                )
            }
            return Graph(seen(views.getValue(document.forms[0]).edits), format, document, contents.tensors, table, views)
        }

        private fun found(format: GraphFormat): Span = try {
            format.find(data)
        } catch (error: RuntimeException) {
            throw bad("is damaged or cut short", "size", "${data.limit()} bytes", "a whole graph", AGAIN, error)
        } ?: throw MismatchException(
            "is not a shared graph: it was not exported by edgepatch",
            file = file,
            field = "metadata ${GraphFormat.KEY}",
            got = "nothing",
            expected = "what edgepatch export writes there",
            mend = "Make one: edgepatch export BACKBONE --to ${format.word} --out FILE",
        )

        private fun contents(format: GraphFormat, span: Span) = Container.parse(
            try {
                format.unpack(data.slice(span))
            } catch (error: IllegalArgumentException) {
                throw bad("has broken metadata: ${error.message}", "metadata ${GraphFormat.KEY}", cause = error)
            },
            file,
        )

        private fun checkTensors(document: Document, format: GraphFormat, tensors: Map<String, Tensor>) {
            val needed = listOfNotNull("scale", "bias", Graph.KERNEL_MAX.takeIf { document.precision.quantised })
            for (name in needed) {
                val tensor = tensors[name]
                require(tensor != null && tensor.type == DType.F32 && tensor.shape == listOf(document.channels)) {
                    "the backbone's own $name is not of ${document.channels} values"
                }
            }
            require(format != GraphFormat.ONNX || tensors[Graph.SKELETON]?.type == DType.U8) {
                "the nodes of the form bake are absent"
            }
        }

        /** The bytes laid out for the first form: changed in place where they are ours alone. */
        private fun seen(edits: List<Edit>): ByteBuffer {
            if (edits.isEmpty()) return data
            if (!ours) return splice(data, edits)
            for (edit in edits) edit.write(data.slice(Span(edit.begin, edit.begin + edit.size)))
            return data
        }

        private fun notAGraph(): BadFileException {
            val container = Container.isContainer(data)
            return bad(
                "is neither a .tflite nor an .onnx graph",
                null,
                if (container) "a backbone or a patch" else "something else",
                mend = "Export one: edgepatch export BACKBONE --to tflite --out FILE.tflite; patches go beside it.",
            )
        }

        private fun bad(
            problem: String, field: String?, got: Any? = null, expected: Any? = null, mend: String? = null,
            cause: Throwable? = null,
        ) = BadFileException(problem, file, field, got, expected, mend, cause)
    }

    private const val AGAIN = "Copy or export it again."
}
