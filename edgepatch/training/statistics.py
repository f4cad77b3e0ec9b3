"""What a patch is given to take with it of its training pictures' features: `edgepatch.feature_statistics`."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import keras
import numpy as np

from edgepatch.backbones import network
from edgepatch.backbones.backbone import Backbone
from edgepatch.blob import Patch
from edgepatch.feature_statistics import LARGEST, Statistics, rounded, short
from edgepatch.training import head

if TYPE_CHECKING:
    from edgepatch.training.task import Task
    from edgepatch.training.trainer import Run

SMALLEST_SPREAD = 1e-6  # of the squared norm: pictures that are all alike
SMALLEST_NORM = 1e-9


def added(task: Task, run: Run) -> Run:
    """The same with statistics of its features on some training images."""
    found = of(run.patch, task.backbone, task.trunk, task.few)
    return dataclasses.replace(run, patch=dataclasses.replace(run.patch, statistics=found))


def of(patch: Patch, backbone: Backbone, trunk: keras.Model, pixels: np.ndarray) -> Statistics | None:
    """A patch's statistics.

    Args:
        trunk: the backbone in deployment form; its weights are overwritten.
        pixels: uint8 (n, size, size, 3); what they show need not be said.

    Returns:
        None as `measure`, and for a head that does not read the features.
    """
    values = backbone.values(patch)
    if "head_kernel" not in values:
        return None
    network.set_values(trunk, backbone, values)
    return measure(head.predict(trunk, pixels, patch.input), values["head_kernel"], values["head_bias"])


def measure(features: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> Statistics | None:
    """The statistics of some features under a head.

    A picture counts for the class that the head takes it for: no labels are needed, and the measurements in
    docs/decisions/0011-enrolling.md find no difference.

    Args:
        features: float32 (n, features).
        kernel, bias: of the head, float32 (features, classes) and (classes,).

    Returns:
        None where nothing can be told: of no picture, of features that are zeros, or of a head beyond all bounds.
    """
    features = features.astype(np.float64)
    if not len(features):
        return None
    centre, low, step = rounded(features.mean(axis=0))
    centred = features - (low + step * centre.astype(np.float64))
    said = (features @ kernel + bias).argmax(axis=1)
    seen, place = np.unique(said, return_inverse=True)
    means = np.stack([features[said == label].mean(axis=0) for label in seen])
    norm = float(np.linalg.norm(means, axis=1).mean())
    if norm < SMALLEST_NORM:
        return None
    spread = float(((features - means[place]) ** 2).sum()) / max(1, len(features) - len(seen))
    spread = max(spread, SMALLEST_SPREAD * norm**2)
    # the trained columns are laid over those of the nearest mean, by least squares over the logits of these pictures
    common = kernel.mean(axis=1, dtype=np.float64)
    own = kernel[:, seen] - common[:, None]
    moved = means - (low + step * centre.astype(np.float64))
    theirs, ours = centred @ own, centred @ moved.T
    ours -= ours.mean(axis=1, keepdims=True)
    power = float((ours**2).sum())
    gain = float((theirs * ours).sum()) / power if power > 0 else 0.0
    if not gain > 0:  # a head of one class, or one that answers at random
        gain = features.shape[1] / spread
    heights = [means[row] @ own[:, row] + bias[label] for row, label in enumerate(seen)]
    far = (moved**2).sum(axis=1) - spread / np.bincount(place)  # a mean of few pictures lies too far out
    level = float(np.mean(heights - 0.5 * gain * far))
    if not max(gain, abs(level), spread, norm) <= LARGEST:
        return None
    return Statistics(centre, short(gain), short(level), short(spread), short(norm), low, step)


def longest(features: int) -> Statistics:
    """Statistics that take as many bytes as any: a patch's size is reckoned with them before it is trained."""
    widest = 1.23457e-100
    return Statistics(np.zeros(features, np.uint8), widest, widest, widest, widest, widest, widest)
