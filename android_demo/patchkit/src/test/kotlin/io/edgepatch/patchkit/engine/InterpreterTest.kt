package io.edgepatch.patchkit.engine

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.tensorflow.lite.Interpreter
import java.lang.reflect.Modifier
import java.net.URL
import java.net.URLClassLoader

/** The class that stands in for `org.tensorflow.lite.Interpreter` is one that the real one could stand in for. */
class InterpreterTest {
    @Test
    fun `the real class has the constructors and methods of the one that stands in for it`() {
        val own = Interpreter::class.java
        val options = Interpreter.Options::class.java
        val stand = own.protectionDomain.codeSource.location
        val real = roots(own.name).filter { it != stand } + roots("org.tensorflow.lite.Tensor")
        assertTrue(real.size >= 2, "the real classes are on the class path, too: $real")
        URLClassLoader(real.toTypedArray(), null).use { loader ->
            for (type in listOf(own, options)) {
                val theirs = public(Class.forName(type.name, false, loader))
                assertEquals(emptySet<String>(), public(type, own = true) - theirs)
            }
        }
    }

    /** The real class has some of its methods from one that is not public, by way of synthetic ones. */
    private fun public(type: Class<*>, own: Boolean = false): Set<String> {
        val methods = type.methods.filter { it.declaringClass.name.startsWith("org.tensorflow") }
            .filter { Modifier.isPublic(it.modifiers) && !(own && it.isSynthetic) && '$' !in it.name }
            .map { "${it.returnType.typeName} ${it.name}${it.parameterTypes.map { each -> each.typeName }}" }
        return (methods + type.constructors.map { "new ${it.parameterTypes.map { each -> each.typeName }}" }).toSet()
    }

    /** The jars and folders that have a class. */
    private fun roots(name: String): List<URL> {
        val path = name.replace('.', '/') + ".class"
        return javaClass.classLoader.getResources(path).toList().map { url ->
            URL(url.toString().removePrefix("jar:").removeSuffix(path).removeSuffix("!/"))
        }
    }
}
