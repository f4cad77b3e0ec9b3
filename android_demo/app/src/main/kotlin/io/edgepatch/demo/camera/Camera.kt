package io.edgepatch.demo.camera

import android.annotation.SuppressLint
import android.content.Context
import android.graphics.ImageFormat
import android.hardware.camera2.CameraAccessException
import android.hardware.camera2.CameraCaptureSession
import android.hardware.camera2.CameraCharacteristics
import android.hardware.camera2.CameraDevice
import android.hardware.camera2.CameraManager
import android.hardware.camera2.CaptureRequest
import android.media.Image
import android.media.ImageReader
import android.os.Handler
import android.os.HandlerThread
import android.os.Looper
import android.util.Size
import io.edgepatch.patchkit.picture.Picture

/**
 * The back camera's frames, as pictures, for as long as it is open.
 *
 * Frames are read from the camera directly, without a preview: what is on the screen is then the very frame that was
 * answered, with its boxes in place. Use it from the main thread, on which it also says what failed; frames are read on
 * a thread of its own.
 *
 * @param degrees how far the screen is turned from its natural way, now.
 * @param wanted whether a frame would be taken now; the others are dropped before they cost anything.
 * @param failed what went wrong, in one sentence; the camera is closed then.
 */
class Camera(
    context: Context,
    private val degrees: () -> Int,
    private val wanted: () -> Boolean,
    private val frame: (() -> Picture) -> Boolean,
    private val failed: (String) -> Unit,
) {
    private val manager = context.getSystemService(Context.CAMERA_SERVICE) as CameraManager
    private val main = Handler(Looper.getMainLooper())
    private var thread: HandlerThread? = null
    private var device: CameraDevice? = null
    private var reader: ImageReader? = null

    val isOpen: Boolean get() = reader != null

    /** Opens it; the permission was given. */
    @SuppressLint("MissingPermission") // the activity asks for it before
    fun open() {
        if (isOpen) return
        try {
            val id = choose() ?: return failed("there is none")
            val about = manager.getCameraCharacteristics(id)
            val own = HandlerThread("camera").apply { start() }
            thread = own
            val size = size(about)
            val front = about[CameraCharacteristics.LENS_FACING] == CameraCharacteristics.LENS_FACING_FRONT
            val sensor = about[CameraCharacteristics.SENSOR_ORIENTATION] ?: 0
            val images = ImageReader.newInstance(size.width, size.height, ImageFormat.YUV_420_888, 2)
            images.setOnImageAvailableListener({ take(it, sensor, front) }, Handler(own.looper))
            reader = images
            manager.openCamera(id, Opening(images), main)
        } catch (error: CameraAccessException) {
            stop(error.message)
        } catch (error: RuntimeException) { // the permission was taken back; and drivers throw what they like
            stop(error.message)
        }
    }

    fun close() {
        device?.close()
        device = null
        val (own, images) = thread to reader
        thread = null
        reader = null
        if (own == null) return
        // on its own thread, for a frame that is being read must not be taken from under it
        if (images != null) Handler(own.looper).post(images::close)
        own.quitSafely()
    }

    private fun stop(problem: String?) {
        close()
        failed(problem ?: "it does not open")
    }

    /** The first one that looks away from the user, or else the first one. */
    private fun choose(): String? {
        val ids = manager.cameraIdList
        return ids.firstOrNull {
            manager.getCameraCharacteristics(it)[CameraCharacteristics.LENS_FACING] == CameraCharacteristics.LENS_FACING_BACK
        } ?: ids.firstOrNull()
    }

    /** The smallest frames with room for the largest common network input; more pixels only cost time. */
    private fun size(about: CameraCharacteristics): Size {
        val sizes = about[CameraCharacteristics.SCALER_STREAM_CONFIGURATION_MAP]
            ?.getOutputSizes(ImageFormat.YUV_420_888).orEmpty()
        return sizes.filter { minOf(it.width, it.height) >= SHORTEST }.minByOrNull { it.width.toLong() * it.height }
            ?: sizes.maxByOrNull { it.width.toLong() * it.height } ?: Size(640, SHORTEST)
    }

    private fun take(images: ImageReader, sensor: Int, front: Boolean) {
        val image = try {
            images.acquireLatestImage()
        } catch (_: IllegalStateException) {
            null // closed meanwhile
        } ?: return
        image.use {
            if (!wanted()) return
            val pixels = pixels(it)
            val (width, height) = it.width to it.height
            val orientation = Yuv.orientation(Yuv.turn(sensor, degrees(), front))
            frame { Picture.of(width, height, pixels, orientation) }
        }
    }

    private fun pixels(image: Image): IntArray {
        val (y, u, v) = image.planes.map { Plane(it.buffer, it.rowStride, it.pixelStride) }
        return Yuv.toArgb(image.width, image.height, y, u, v)
    }

    /** Of the camera that was asked for; what comes after [close] is of no interest. */
    private inner class Opening(private val images: ImageReader) : CameraDevice.StateCallback() {
        override fun onOpened(camera: CameraDevice) {
            if (reader !== images) return camera.close() // closed before it was open
            device = camera
            try {
                val request = camera.createCaptureRequest(CameraDevice.TEMPLATE_PREVIEW)
                request.addTarget(images.surface)
                request.set(CaptureRequest.CONTROL_AF_MODE, CaptureRequest.CONTROL_AF_MODE_CONTINUOUS_PICTURE)
                @Suppress("DEPRECATION") // what took its place came with API 28
                camera.createCaptureSession(listOf(images.surface), Running(images, request.build()), main)
            } catch (error: CameraAccessException) {
                onProblem(camera, error.message)
            } catch (error: IllegalStateException) { // it was disconnected meanwhile
                onProblem(camera, error.message)
            }
        }

        override fun onDisconnected(camera: CameraDevice) = onProblem(camera, "another app took it")

        override fun onError(camera: CameraDevice, error: Int) = onProblem(camera, "error $error")

        private fun onProblem(camera: CameraDevice, problem: String?) {
            camera.close()
            if (reader === images) stop(problem)
        }
    }

    private inner class Running(
        private val images: ImageReader, private val request: CaptureRequest,
    ) : CameraCaptureSession.StateCallback() {
        override fun onConfigured(session: CameraCaptureSession) {
            if (reader !== images) return
            try {
                session.setRepeatingRequest(request, null, main)
            } catch (_: CameraAccessException) {
                stop("it does not run")
            } catch (_: IllegalStateException) {
                stop("it does not run")
            }
        }

        override fun onConfigureFailed(session: CameraCaptureSession) {
            if (reader === images) stop("it does not run")
        }
    }

    private companion object {
        const val SHORTEST = 480
    }
}
