plugins {
    alias(libs.plugins.android.application)
    alias(libs.plugins.kotlin.android)
}

val repository = rootProject.projectDir.parentFile

android {
    namespace = "io.edgepatch.demo"
    compileSdk = 35

    defaultConfig {
        applicationId = "io.edgepatch.demo"
        minSdk = 26
        targetSdk = 35
        versionCode = 1
        versionName = "0.1.0"
        ndk { abiFilters += listOf("arm64-v8a", "armeabi-v7a", "x86_64") }
    }

    buildTypes {
        release { isMinifyEnabled = false }
    }

    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_1_8
        targetCompatibility = JavaVersion.VERSION_1_8
    }

    // graphs and patches are read in place
    androidResources { noCompress += listOf("tflite", "onnx", "epatch") }

    testOptions {
        unitTests {
            isIncludeAndroidResources = true
            all {
                it.useJUnitPlatform()
                it.systemProperty("golden", "$repository/tests/golden")
                it.systemProperty("demo", "$repository/build/demo")
                it.systemProperty("shots", layout.buildDirectory.dir("shots").get().asFile.path)
                it.systemProperty("robolectric.graphicsMode", "NATIVE")
            }
        }
    }
}

kotlin {
    compilerOptions { jvmTarget = org.jetbrains.kotlin.gradle.dsl.JvmTarget.JVM_1_8 }
}

// What the app begins with: the graph and the patches of `make demo`, where they are.
val seeds by tasks.registering(Sync::class) {
    from("$repository/build/demo") {
        include("mobilenet_v2.tflite", "*.epatch")
        exclude("*.head.epatch")
    }
    into(layout.buildDirectory.dir("seeds/seeds"))
}
android.sourceSets["main"].assets.srcDir(layout.buildDirectory.dir("seeds"))
tasks.named("preBuild") { dependsOn(seeds) }

dependencies {
    implementation(project(":patchkit"))
    implementation(libs.tflite)
    implementation(libs.onnxruntime.android)

    testImplementation(libs.onnxruntime)
    testImplementation(libs.junit.jupiter)
    testImplementation(libs.robolectric)
    testRuntimeOnly(libs.junit.vintage)
    testRuntimeOnly(libs.junit.launcher)
}
