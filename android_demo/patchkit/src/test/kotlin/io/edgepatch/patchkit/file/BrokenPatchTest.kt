package io.edgepatch.patchkit.file

import io.edgepatch.patchkit.codec.Codec
import io.edgepatch.patchkit.golden.Golden
import io.edgepatch.patchkit.heads.Head
import io.edgepatch.patchkit.json.asList
import io.edgepatch.patchkit.json.asObject
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.DynamicTest
import org.junit.jupiter.api.DynamicTest.dynamicTest
import org.junit.jupiter.api.TestFactory

/** Broken patches are refused as Python refuses them: the same code, the same field, the same words. */
class BrokenPatchTest {
    @TestFactory
    fun `without a graph`(): List<DynamicTest> = Golden.document("broken")["patches"].asList()!!.map { value ->
        val row = value.asObject()!!
        dynamicTest(row["name"] as String) {
            val data = Golden.followed(row["recipe"], Golden.source(row["of"] as String))
            val error = Golden.thrown {
                val patch = PatchFile.parse(Golden.direct(data), "file")
                Head.of(patch, Codec.decode(patch, Golden.trunk, "file"), "file")
            }
            if (error != null) assertEquals("file", error.file)
            Golden.assertSaid("library", row["name"], row["library"], error)
        }
    }.also { assertTrue(it.size > 200) }
}
