package io.edgepatch.demo

import io.edgepatch.patchkit.json.Json
import io.edgepatch.patchkit.json.asList
import io.edgepatch.patchkit.json.asObject
import io.edgepatch.patchkit.picture.Picture
import java.io.File
import java.io.InputStream
import java.nio.ByteBuffer
import java.util.Base64
import java.util.zip.GZIPInputStream
import javax.imageio.ImageIO

/** The files that Python made and both languages are tested with. */
object Golden {
    private val data = File(System.getProperty("golden"), "data")

    fun patch(name: String): File = File(data, "patches/$name.epatch")

    /** A graph, unpacked while it is read. */
    fun graph(name: String): InputStream = GZIPInputStream(File(data, "graphs/$name.gz").inputStream())

    /** A document of them by its name. */
    fun document(name: String): Map<String, Any?> =
        Json.parse(ByteBuffer.wrap(File(data, "$name.json").readBytes())).asObject()!!

    /** A broken file by its row of broken.json: runs of the sound one, and base64 between them. */
    fun broken(row: Map<String, Any?>): ByteArray {
        val of = row["of"] as String
        val old = if (of.endsWith(".epatch")) patch(of.removeSuffix(".epatch")).readBytes() else graph(of).use { it.readBytes() }
        val parts = row["recipe"].asList()!!.map { part ->
            if (part is String) Base64.getDecoder().decode(part)
            else part.asList()!!.let { (begin, end) -> old.copyOfRange((begin as Long).toInt(), (end as Long).toInt()) }
        }
        return parts.fold(ByteArray(0)) { sum, part -> sum + part }
    }

    fun pictureFile(name: String): File = File(data, "pictures/$name.png")

    fun picture(name: String): Picture {
        val image = ImageIO.read(pictureFile(name))
        return Picture.of(image.width, image.height, image.getRGB(0, 0, image.width, image.height, null, 0, image.width))
    }
}
