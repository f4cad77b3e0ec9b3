package io.edgepatch.patchkit.graph

import io.edgepatch.patchkit.errors.quoted
import io.edgepatch.patchkit.json.asObject
import java.nio.ByteBuffer

/** A site in an .onnx: [name] is its operator's, and begins the names of its constants. */
internal class OnnxSite(private val named: Named<String>, kernel: Span) : SiteRow(named.input, named.shift, kernel, false) {
    val name: String get() = named.operator

    fun toJson(): Map<String, Any?> = named.toJson() + ("kernel" to kernel.toJson())
}

/** A quantised value that is no constant; [name] begins the names of its scale and its zero point. */
internal class OnnxActivation(val name: String, override val range: Int) : ActivationRow {
    fun toJson(): Map<String, Any?> = mapOf("tensor" to name, "range" to range.toLong())
}

/** The bake table of an .onnx; its blocks are runs of the nodes of the bake form, which the container holds. */
internal class OnnxTable(
    override val sites: List<OnnxSite>,
    private val head: Named<String>,
    override val activations: List<OnnxActivation>,
    override val blocks: List<Block<String>>,
) : BakeTable {
    val headName: String get() = head.operator
    override val headInput: Int get() = head.input

    override fun toJson(): Map<String, Any?> = mapOf(
        "sites" to sites.map { it.toJson() },
        "head" to head.toJson(),
        "activations" to activations.map { it.toJson() },
        "residuals" to blocks.map {
            mapOf("nodes" to listOf(it.begin.toLong(), it.end.toLong()), "entry" to it.entry, "join" to it.join)
        },
    )

    companion object {
        /** The table with the places of the kernels it names, as the file itself has them; throws as [TfliteLocator]. */
        fun locate(data: ByteBuffer, document: Document, skeleton: ByteBuffer): OnnxTable {
            val kernels = Protobuf.initializers(data)
            val sites = document.rows("sites").map { row ->
                val named = Named.of(row, ::name)
                OnnxSite(named, kernels.getValue("${named.operator}/kernel"))
            }
            return OnnxTable(
                sites,
                Named.of(requireNotNull(document.json["bake"].asObject())["head"], ::name),
                document.rows("activations").map { OnnxActivation(name(it["tensor"]), index(it["range"])) },
                blocks(document, sites, skeleton),
            )
        }

        private fun blocks(document: Document, sites: List<OnnxSite>, skeleton: ByteBuffer): List<Block<String>> {
            val claims = document.claims("nodes")
            if (claims.isEmpty()) return emptyList()
            val wiring = Protobuf.nodes(skeleton)
            val makers = HashMap<String, Int>()
            for ((number, node) in wiring.operators.withIndex()) for (made in node.makes) makers[made] = number
            return wiring.blocks(sites.map { makers.getValue(it.name) }, claims)
        }

        private fun name(value: Any?): String = requireNotNull(value as? String) { "${quoted(value)} is no name" }
    }
}
