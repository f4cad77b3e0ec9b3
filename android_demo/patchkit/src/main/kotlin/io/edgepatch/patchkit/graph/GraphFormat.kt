package io.edgepatch.patchkit.graph

import io.edgepatch.patchkit.file.Container
import io.edgepatch.patchkit.model.Tensor
import java.nio.ByteBuffer
import java.util.Base64

/**
 * One form of a graph alone.
 *
 * @property edits those that leave nothing else to be seen.
 * @property subgraph where its subgraph stands in a .tflite.
 */
internal class View(val edits: List<Edit>, val subgraph: Int = 0)

/** The two file formats of a shared graph. */
enum class GraphFormat(val word: String) {
    TFLITE("tflite") {
        override fun find(data: ByteBuffer): Span? {
            val model = Flatbuffer.root(data)
            val buffers = model.tables(Schema.MODEL_BUFFERS)
            val entry = model.tables(Schema.MODEL_METADATA).map { Table(data, it) }
                .find { named(it.span(Schema.METADATA_NAME), data) } ?: return null
            return Table(data, buffers[entry.number(Schema.METADATA_BUFFER)]).span(Schema.BUFFER_DATA)
        }

        private fun named(span: Span?, data: ByteBuffer) = span != null && data.spells(span, KEY)

        override fun unpack(packed: ByteBuffer): ByteBuffer = packed

        override fun requireKnown(data: ByteBuffer, tensors: Map<String, Tensor>) = Operators.requireTflite(data)

        override fun view(data: ByteBuffer, form: Form) =
            View(Flatbuffer.keep(data, form.word), Flatbuffer.subgraph(data, form.word).position)

        override fun locate(data: ByteBuffer, document: Document, tensors: Map<String, Tensor>): BakeTable =
            TfliteLocator(data, document).table()
    },

    ONNX("onnx") {
        override fun find(data: ByteBuffer): Span? = Protobuf.metadata(data, KEY)

        /** ONNX metadata is text. */
        override fun unpack(packed: ByteBuffer): ByteBuffer {
            require(packed.limit() % 4 == 0) { "it is no base64" } // the decoder would do without the end
            return Base64.getDecoder().decode(packed.duplicate()).little()
        }

        override fun requireKnown(data: ByteBuffer, tensors: Map<String, Tensor>) {
            Operators.requireOnnx(data)
            Operators.requireOnnx(tensors.getValue(Graph.SKELETON).data)
        }

        /** No edits: each form is a graph of its own. */
        override fun view(data: ByteBuffer, form: Form) = View(emptyList())

        override fun locate(data: ByteBuffer, document: Document, tensors: Map<String, Tensor>): BakeTable =
            OnnxTable.locate(data, document, tensors.getValue(Graph.SKELETON).data)
    },
    ;

    /**
     * Where edgepatch's container stands, or null; what is no whole file throws [IndexOutOfBoundsException] or
     * [IllegalArgumentException].
     */
    internal abstract fun find(data: ByteBuffer): Span?

    /** The container, of how it stands there; throws [IllegalArgumentException]. */
    internal abstract fun unpack(packed: ByteBuffer): ByteBuffer

    /** Refuses operators that edgepatch does not export; throws as [find]. */
    internal abstract fun requireKnown(data: ByteBuffer, tensors: Map<String, Tensor>)

    /** One form alone. */
    internal abstract fun view(data: ByteBuffer, form: Form): View

    /** The bake table, found in the file. */
    internal abstract fun locate(data: ByteBuffer, document: Document, tensors: Map<String, Tensor>): BakeTable

    companion object {
        /** Of the metadata, in both formats. */
        internal const val KEY = "edgepatch"
        private const val MAGIC = 0x334c4654 // "TFL3"

        /** Which kind of model starts like this, or null. */
        fun of(data: ByteBuffer): GraphFormat? = when {
            Container.isContainer(data) -> null
            data.limit() >= 8 && data.little().getInt(4) == MAGIC -> TFLITE
            data.limit() > 0 && data.get(0) == 8.toByte() -> ONNX // field 1, ir_version: what every ONNX writer puts first
            else -> null
        }
    }
}
