package io.edgepatch.patchkit.model

import io.edgepatch.patchkit.picture.Preprocessing

/**
 * One task on one backbone: what an `.epatch` holds (docs/format.md).
 *
 * @property task its name; a runtime holds one patch of a name.
 * @property version grows by one each time the task is trained anew into the same file; 1 or more.
 * @property backboneId SHA-256 of the backbone it was trained on, 64 hexadecimal digits.
 * @property kinds for each patch kind, the names of its tensors.
 * @property sites for each effect that is told by site, the numbers of the sites it is of, in forward order.
 * @property labels class names, by index.
 * @property input how a picture becomes the network's input.
 * @property decode what the head needs to turn outputs into answers: JSON values as `json.Json` gives them.
 * @property codec for each tensor that is packed, its `bits` and `shape`, JSON values not yet looked at: `codec.shapes`
 *   does that.
 * @property tensors in canonical order and layout, as they are stored; `codec.decode` turns them into values.
 * @property ranges F32 (activations, 2), the smallest and largest value of each; null where not calibrated.
 * @property statistics of the features of its training pictures; null of patches without.
 * @property metrics what training measured: JSON values.
 * @property licence terms of the training data or of the patch; empty if not stated.
 */
class Patch(
    val task: String,
    val version: Long,
    val backboneId: String,
    val kinds: Map<String, List<String>>,
    val sites: Map<String, List<Int>>,
    val labels: List<String>,
    val input: Preprocessing,
    val decode: Map<String, Any?>,
    val codec: Map<String, Any?>,
    val tensors: Map<String, Tensor>,
    val ranges: Tensor?,
    val statistics: Statistics?,
    val metrics: Map<String, Any?>,
    val licence: String,
) {
    /** Its kinds in one word: `scale_bias+classifier`. */
    val kind: String get() = kinds.keys.joinToString("+")

    /** Whether a graph can take it as inputs: one that changes kernels or skips blocks has to be baked. */
    val bindable: Boolean get() = (Effects.KERNELS + Effects.SKIP).none { it in tensors }
}
