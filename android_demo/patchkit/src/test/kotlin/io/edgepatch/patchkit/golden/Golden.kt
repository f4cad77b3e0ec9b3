package io.edgepatch.patchkit.golden

import io.edgepatch.patchkit.errors.EdgepatchException
import io.edgepatch.patchkit.errors.printable
import io.edgepatch.patchkit.errors.prints
import io.edgepatch.patchkit.file.Container
import io.edgepatch.patchkit.file.Contents
import io.edgepatch.patchkit.file.PatchFile
import io.edgepatch.patchkit.json.Json
import io.edgepatch.patchkit.json.asList
import io.edgepatch.patchkit.json.asNumber
import io.edgepatch.patchkit.json.asObject
import io.edgepatch.patchkit.json.asStrings
import io.edgepatch.patchkit.model.DType
import io.edgepatch.patchkit.model.Patch
import io.edgepatch.patchkit.model.Tensor
import io.edgepatch.patchkit.model.Trunk
import io.edgepatch.patchkit.picture.Picture
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import java.awt.image.BufferedImage
import java.io.ByteArrayInputStream
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.security.MessageDigest
import java.util.Base64
import java.util.zip.GZIPInputStream
import javax.imageio.ImageIO

/** The golden vectors that Python and Kotlin share: tests/golden/README.md says what is there. */
object Golden {
    private val data = File(System.getProperty("golden") ?: "../../tests/golden", "data")

    fun file(path: String): File = File(data, path)

    /** A document by its name without .json: an object. */
    fun document(name: String): Map<String, Any?> =
        Json.parse(ByteBuffer.wrap(file("$name.json").readBytes())).asObject()!!

    /** The bytes of a patch file, by its name without .epatch. */
    fun patchBytes(name: String): ByteArray = file("patches/$name.epatch").readBytes()

    fun patch(name: String): Patch = PatchFile.parse(direct(patchBytes(name)), "$name.epatch")

    /** The bytes of a shared graph, by its file's name without .gz. */
    fun graph(name: String): ByteArray = GZIPInputStream(file("graphs/$name.gz").inputStream()).use { it.readBytes() }

    /** The bytes of a file that broken ones are made of: a patch's or a graph's, by its name. */
    fun source(name: String): ByteArray =
        if (name.endsWith(".epatch")) patchBytes(name.removeSuffix(".epatch")) else graph(name)

    /** A broken file: runs [begin, end) of a sound one, and base64 between them. */
    fun followed(recipe: Any?, old: ByteArray): ByteArray = recipe.asList()!!.map { part ->
        if (part is String) Base64.getDecoder().decode(part)
        else part.asList()!!.let { (begin, end) -> old.copyOfRange((begin as Long).toInt(), (end as Long).toInt()) }
    }.fold(ByteArray(0)) { sum, part -> sum + part }

    fun contents(path: String): Contents = Container.parse(direct(file(path).readBytes()), path)

    /** The sites of the graph gated-fp32.tflite. */
    val trunk: Trunk by lazy {
        val (document, tensors) = contents("trunk.tensors").let { it.document to it.tensors }
        val names = document["names"].asStrings()!!
        Trunk(
            names, document["shapes"].asList()!!.map { ints(it) }, ints(document["channels"]),
            (document["residuals"] as Long).toInt(), tensors.getValue("scale").floats(),
            tensors.getValue("bias").floats(), { tensors.getValue("kernel/${names[it]}").floats() },
        )
    }

    /** A picture's pixels 0xAARRGGBB and its sides, as an app decodes it. */
    fun image(name: String): BufferedImage = ImageIO.read(file("pictures/$name.png"))

    fun picture(name: String, orientation: Int = 1): Picture {
        val image = image(name)
        val argb = image.getRGB(0, 0, image.width, image.height, null, 0, image.width)
        return Picture.of(image.width, image.height, argb, orientation)
    }

    /** The values of a grey PNG in base64, row by row. */
    fun mask(png: Any?): ByteArray {
        val raster = ImageIO.read(ByteArrayInputStream(Base64.getDecoder().decode(png as String))).raster
        return raster.getSamples(0, 0, raster.width, raster.height, 0, null as IntArray?)
            .map { it.toByte() }.toByteArray()
    }

    fun ints(value: Any?): List<Int> = value.asList()!!.map { (it as Long).toInt() }

    fun floats(value: Any?): FloatArray = value.asList()!!.map { it.asNumber()!!.toFloat() }.toFloatArray()

    fun direct(bytes: ByteArray): ByteBuffer =
        ByteBuffer.allocateDirect(bytes.size).order(ByteOrder.LITTLE_ENDIAN).apply { put(bytes); position(0) }

    fun sha256(bytes: ByteArray): String =
        MessageDigest.getInstance("SHA-256").digest(bytes).joinToString("") { "%02x".format(it) }

    fun sha256(data: ByteBuffer): String {
        val digest = MessageDigest.getInstance("SHA-256")
        digest.update(data.duplicate().apply { position(0) })
        return digest.digest().joinToString("") { "%02x".format(it) }
    }

    /** numpy's name of a type. */
    fun numpy(type: DType): String = when (type) {
        DType.F32 -> "float32"
        DType.F16 -> "float16"
        DType.I8 -> "int8"
        DType.U8 -> "uint8"
    }

    /** Type, shape and hash of a tensor, as the documents have them. */
    fun row(tensor: Tensor): Map<String, Any?> = mapOf(
        "dtype" to numpy(tensor.type), "shape" to tensor.shape.map { it.toLong() }, "sha256" to sha256(tensor.data),
    )

    /** Whether an error is the one that broken.json has, and says what words.json has of it; [part] is the latter's. */
    fun assertSaid(part: String, name: Any?, expected: Any?, error: EdgepatchException?) {
        assertEquals(expected, error?.let { row(it) }) { error?.message }
        val words = said.getValue(part).asObject()!![name]
        if (error == null || words == null) return
        assertEquals(words, listOf(error.problem) + listOf(error.got, error.expected).map { it?.let(::printable) })
        assertTrue(error.message.replace("\n", "").codePoints().allMatch(::prints)) { error.message } // one before the mend
    }

    /** What work throws. */
    fun thrown(work: () -> Unit): EdgepatchException? = try {
        work()
        null
    } catch (error: EdgepatchException) {
        error
    }

    private val said by lazy { document("words") }

    /** An error as broken.json has it: what stands behind a colon may be a parser's own words. */
    fun row(error: EdgepatchException): Map<String, Any?> = mapOf(
        "code" to error.code.toLong(), "field" to error.field, "problem" to error.problem.substringBefore(":"),
    )

    /** The hash of many tensors, as the documents have it. */
    fun digest(tensors: Map<String, Tensor>): String = sha256(
        tensors.toSortedMap().entries.joinToString("") { (name, tensor) ->
            "$name ${numpy(tensor.type)} ${tensor.shape} ${sha256(tensor.data)}\n"
        }.toByteArray(),
    )
}
