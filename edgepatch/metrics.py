"""Figures of a classifier, from its logits."""

from __future__ import annotations

import numpy as np


def log_sum_exp(logits: np.ndarray) -> np.ndarray:
    """log(sum(exp(logits))) along the last axis, kept as an axis of length 1."""
    top = logits.max(axis=-1, keepdims=True)
    return top + np.log(np.exp(logits - top).sum(axis=-1, keepdims=True))


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Share of rows whose largest logit is the label's, 0..1."""
    return float((logits.argmax(axis=1) == labels).mean())


def balanced_accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean over the classes present of the share of their images that are right."""
    right = logits.argmax(axis=1) == labels
    return float(np.mean([right[labels == label].mean() for label in np.unique(labels)]))


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean negative log likelihood, in nats."""
    picked = np.take_along_axis(logits, labels[:, None], axis=1)
    return float((log_sum_exp(logits) - picked).mean())


def confusion(logits: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Counts (classes, classes): rows are the true class, columns the predicted one."""
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (labels, logits.argmax(axis=1)), 1)
    return counts


def class_weights(counts: np.ndarray) -> np.ndarray:
    """Weights of the classes in the loss, mean 1 over the images: rarer classes count more, by the root of rarity.

    The root is between no correction, which forgets rare classes, and the full one, which lets a handful of images
    outweigh the rest.
    """
    rarity = np.where(counts > 0, counts.sum() / np.maximum(counts, 1), 0.0) ** 0.5
    return (rarity * counts.sum() / max(float((rarity * counts).sum()), 1e-12)).astype(np.float32)
