"""The head alone, on features computed once: the first phase, and the baseline every patch must beat."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np

from edgepatch.container import Tensors
from edgepatch.data.pictures import Pictures
from edgepatch.imaging import Preprocessing
from edgepatch.metrics import accuracy, cross_entropy, log_sum_exp

DECAYS = (1e-4, 1e-3, 1e-2, 1e-1)  # L2 on the weights; validation chooses
STEPS = 600
BATCH = 256
LEARNING_RATE = 0.01
LARGEST = 1e6  # features beyond are of a training that went astray


@dataclasses.dataclass(frozen=True)
class LinearHead:
    """A dense layer on features: kernel (features, classes), bias (classes,); its logits on the validation images."""

    kernel: np.ndarray
    bias: np.ndarray
    val_logits: np.ndarray
    decay: float

    @property
    def tensors(self) -> Tensors:
        """As a patch names them."""
        return {"head_kernel": self.kernel, "head_bias": self.bias}

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Logits (n, classes) of features (n, features)."""
        return features @ self.kernel + self.bias


def predict(model: keras.Model, pixels: np.ndarray, preprocessing: Preprocessing, bar: Any = None) -> np.ndarray:
    """A model's outputs for uint8 images (n, size, size, 3).

    Args:
        bar: wraps the batches to show progress: `bar(starts, count)`.
    """
    starts = range(0, len(pixels), 64)
    return np.concatenate(
        [
            np.asarray(model.predict_on_batch(preprocessing.normalise(pixels[start : start + 64])))
            for start in (bar(starts, len(starts)) if bar else starts)
        ]
    )


def fit(
    train: np.ndarray, train_labels: np.ndarray, val: np.ndarray, val_labels: np.ndarray, weights: np.ndarray, seed: int
) -> LinearHead:
    """Multinomial logistic regression, its weight decay chosen on the validation images.

    Features are centred and brought to one common scale for the fit, and that is folded into the result. Not to a
    scale of each its own: features that hardly vary would get huge weights, and the joint phase, which moves them,
    would start by forgetting the task (docs/recipe.md).

    Args:
        train, val: features (n, features).
        train_labels, val_labels: int64 (n,).
        weights: float32 (classes,), the weight of each class in the loss.
    """
    mean, spread = train.mean(axis=0), train.std(axis=0).mean() + 1e-6
    normal_train, normal_val = (train - mean) / spread, (val - mean) / spread
    best: tuple[float, float, LinearHead] | None = None
    for decay in DECAYS:
        kernel, bias = _descend(normal_train, train_labels, weights, decay, seed)
        logits = normal_val @ kernel + bias
        head = LinearHead(kernel / spread, bias - (mean / spread) @ kernel, logits, decay)
        score = (accuracy(logits, val_labels), -cross_entropy(logits, val_labels))
        if best is None or score > best[:2]:
            best = (*score, head)
    assert best is not None
    return best[2]


def settle(
    trained: LinearHead,
    train: np.ndarray,
    train_labels: np.ndarray,
    val: np.ndarray,
    val_labels: np.ndarray,
    weights: np.ndarray,
    seed: int,
) -> tuple[LinearHead, str]:
    """The best on the validation images of three heads for features that have moved: the one that was trained while
    they did, one fitted anew to where they came to, and the mean of the two.

    Args:
        trained: its `val_logits` count for nothing.

    Returns:
        The head, and which it is: `trained`, `fitted` or `mean`.
    """
    found = {"trained": dataclasses.replace(trained, val_logits=trained.logits(val))}
    if all(np.isfinite(features).all() and np.abs(features).max() < LARGEST for features in (train, val)):
        fitted = fit(train, train_labels, val, val_labels, weights, seed)
        kernel, bias = (trained.kernel + fitted.kernel) / 2, (trained.bias + fitted.bias) / 2
        mean = LinearHead(kernel, bias, val @ kernel + bias, fitted.decay)
        found |= {"fitted": fitted, "mean": mean}

    def score(name: str) -> tuple[float, float]:
        logits = found[name].val_logits
        return (
            (accuracy(logits, val_labels), -cross_entropy(logits, val_labels)) if np.isfinite(logits).all() else (-1, 0)
        )

    best = max(found, key=score)
    return found[best], best


def _descend(
    features: np.ndarray, labels: np.ndarray, weights: np.ndarray, decay: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Adam in numpy: the problem is small and convex, and no graph needs to be traced for it."""
    rng = np.random.default_rng([seed, 0xAD])
    classes = len(weights)
    theta = [np.zeros((features.shape[1], classes), np.float32), np.zeros(classes, np.float32)]
    first, second = [np.zeros_like(t) for t in theta], [np.zeros_like(t) for t in theta]
    onehot = np.eye(classes, dtype=np.float32)
    batch = min(BATCH, len(features))
    for step in range(1, STEPS + 1):
        chosen = rng.choice(len(features), batch, replace=False)
        x, y = features[chosen], onehot[labels[chosen]]
        logits = x @ theta[0] + theta[1]
        error = (np.exp(logits - log_sum_exp(logits)) - y) * weights[labels[chosen], None] / batch
        slopes = [x.T @ error + decay * theta[0], error.sum(axis=0)]
        rate = LEARNING_RATE * 0.5 * (1 + np.cos(np.pi * step / STEPS))
        for index, slope in enumerate(slopes):
            first[index] = 0.9 * first[index] + 0.1 * slope
            second[index] = 0.999 * second[index] + 0.001 * slope**2
            theta[index] -= (
                rate * (first[index] / (1 - 0.9**step)) / (np.sqrt(second[index] / (1 - 0.999**step)) + 1e-8)
            )
    return theta[0].astype(np.float32), theta[1].astype(np.float32)


def harmless_mirrors(
    trunk: keras.Model, head: LinearHead, val: Pictures, preprocessing: Preprocessing
) -> dict[str, bool]:
    """Which mirror images leave the label as it is, as far as the head can tell: it loses less than 4 points on them.

    A digit upside down is another digit; a fault in a steel plate is not. At most 256 validation images are looked at,
    on which less than 4 points may well be chance.
    """
    chosen = np.random.default_rng(0).permutation(len(val))[:256]
    pixels, labels = val.pixels[chosen], val.labels[chosen]
    needed = accuracy(head.val_logits[chosen], labels) - 0.04
    changes = {
        "mirror": pixels[:, :, ::-1],
        "flip": pixels[:, ::-1],
        "transpose": pixels.transpose(0, 2, 1, 3),
    }
    return {
        name: accuracy(head.logits(predict(trunk, changed, preprocessing)), labels) > needed
        for name, changed in changes.items()
    }
