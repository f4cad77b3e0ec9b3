plugins {
    alias(libs.plugins.kotlin.jvm)
}

// A library for any JVM cannot depend on Android archives, so it is compiled against the classes inside of them.
val tfliteInterpreter: Configuration by configurations.creating { isTransitive = false }
val tfliteApi: Configuration by configurations.creating { isTransitive = false }
val tfliteClasses by tasks.registering(Sync::class) {
    into(layout.buildDirectory.dir("tflite"))
    from({ zipTree(tfliteInterpreter.singleFile) }) {
        include("classes.jar")
        into("interpreter")
    }
    from({ zipTree(tfliteApi.singleFile) }) {
        include("classes.jar")
        into("api")
    }
}

val tflite = files(
    layout.buildDirectory.file("tflite/interpreter/classes.jar"),
    layout.buildDirectory.file("tflite/api/classes.jar"),
) { builtBy(tfliteClasses) }

dependencies {
    tfliteInterpreter(variantOf(libs.tflite) { artifactType("aar") })
    tfliteApi(variantOf(libs.tflite.api) { artifactType("aar") })
    compileOnly(tflite)
    compileOnly(libs.onnxruntime)

    testImplementation(tflite)
    testImplementation(libs.onnxruntime)
    testImplementation(libs.bytedeco.tflite)
    testRuntimeOnly(variantOf(libs.bytedeco.tflite) { classifier("linux-x86_64") })
    testRuntimeOnly(variantOf(libs.bytedeco.javacpp) { classifier("linux-x86_64") })
    testImplementation(libs.junit.jupiter)
    testRuntimeOnly(libs.junit.launcher)
}

kotlin {
    compilerOptions { jvmTarget = org.jetbrains.kotlin.gradle.dsl.JvmTarget.JVM_1_8 }
}

java {
    sourceCompatibility = JavaVersion.VERSION_1_8
    targetCompatibility = JavaVersion.VERSION_1_8
}

tasks.test {
    useJUnitPlatform()
    systemProperty("golden", "${rootProject.projectDir.parentFile}/tests/golden")
}
