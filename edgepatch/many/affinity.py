"""Which tasks help each other: what one task's step on the shared kernels does to another one's loss.

Fifty et al., "Efficiently Identifying Task Groupings for Multi-Task Learning" (NeurIPS 2021, section 3.1).
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from edgepatch.errors import require
from edgepatch.training.report import plain
from edgepatch.training.task import Task

REACH = 0.1  # at its full length a step for a task that is nearly learnt overshoots, and hurts that very task


class Meter:
    """Measures inter-task affinity during one joint training, by looking a step ahead.

    The affinity of task i for task j is 1 - (loss of j after a step for i) / (loss of j before): above 0 where the
    step helps. Losses are added up over all measurements before they are divided, for the paper's mean of quotients is
    at the mercy of batches whose loss is almost nothing. A step is `REACH` of Adam's, without its momentum, for one
    batch of i; nothing of it stays. Batches are drawn from the training images, without augmentation. Needs Keras on
    TensorFlow.
    """

    def __init__(self, tasks: Sequence[Task], *, batch: int = 16, seed: int = 0) -> None:
        self.tasks, self.batch = tasks, batch
        self.random = np.random.default_rng([seed, 0xAFF])
        self.before = np.zeros(len(tasks))
        self.after = np.zeros((len(tasks), len(tasks)))
        self.count = 0
        self._losses: list[Any] = []
        self._slopes: list[Any] = []

    def measure(self, models: Sequence[keras.Model], kernels: Sequence[Any], optimizer: keras.optimizers.Adam) -> None:
        """Look ahead once for each task.

        Args:
            models: of the tasks, from images to logits.
            kernels: the variables they share.
            optimizer: of these.
        """
        if not self._losses:
            self._trace(models, kernels)
        batches = [self._draw(task) for task in self.tasks]
        now = [np.array(kernel) for kernel in kernels]
        before = [float(loss(*batch)) for loss, batch in zip(self._losses, batches, strict=True)]
        rate, decay, step = float(optimizer.learning_rate), optimizer.beta_2, int(optimizer.iterations) + 1
        squares_so_far = [np.array(each) for each in optimizer._velocities]
        after = np.zeros_like(self.after)
        for helper, slope in enumerate(self._slopes):
            for kernel, value, squares, found_slope in zip(
                kernels, now, squares_so_far, slope(*batches[helper]), strict=True
            ):
                gradient = np.asarray(found_slope)
                mean = (decay * squares + (1 - decay) * gradient**2) / (1 - decay**step)
                kernel.assign(value - REACH * rate * gradient / (np.sqrt(mean) + optimizer.epsilon))
            after[helper] = [float(loss(*batch)) for loss, batch in zip(self._losses, batches, strict=True)]
        for kernel, value in zip(kernels, now, strict=True):
            kernel.assign(value)
        if np.isfinite(before).all() and np.isfinite(after).all():
            self.before += before
            self.after += after
            self.count += 1

    def matrix(self) -> np.ndarray:
        """The affinities (tasks, tasks): of the row's task for the column's; NaN before any measurement."""
        return 1 - self.after / np.where(self.before > 0, self.before, np.nan)

    def _draw(self, task: Task) -> tuple[Any, Any]:
        chosen = self.random.choice(len(task.train), min(self.batch, len(task.train)), replace=False)
        images = task.source.preprocessing.normalise(task.train.pixels[np.sort(chosen)])
        labels = np.eye(len(task.source.classes), dtype=np.float32)[task.train.labels[np.sort(chosen)]]
        return images, labels

    def _trace(self, models: Sequence[keras.Model], kernels: Sequence[Any]) -> None:
        import tensorflow as tf

        variables = [kernel.value for kernel in kernels]

        def pair(model: keras.Model) -> tuple[Any, Any]:
            def loss(images: Any, labels: Any) -> Any:
                entropy = keras.losses.categorical_crossentropy(labels, model(images, training=False), from_logits=True)
                return tf.reduce_mean(entropy)

            def slope(images: Any, labels: Any) -> Any:
                with tf.GradientTape() as tape:
                    value = loss(images, labels)
                return tape.gradient(value, variables, unconnected_gradients="zero")

            return tf.function(loss), tf.function(slope)

        for model in models:
            loss, slope = pair(model)
            self._losses.append(loss)
            self._slopes.append(slope)


def heat_map(names: Sequence[str], matrix: np.ndarray, groups: Sequence[Sequence[int]]) -> bytes:
    """A PNG of the affinities, in percent; tasks of a group stand together, within a frame."""
    figure_module = require("matplotlib.figure", extra="train", why="the heat map")
    patches_module = require("matplotlib.patches", extra="train", why="the heat map")
    order = [task for group in groups for task in group]
    shown = 100 * matrix[np.ix_(order, order)]
    side = 2.5 + 0.55 * len(names)
    figure = figure_module.Figure(figsize=(side + 1, side), layout="constrained")
    axis = figure.subplots()
    own = np.eye(len(order), dtype=bool)  # a task helps itself most: its colour would drown the others
    limit = max(float(np.abs(shown[~own]).max(initial=0)), 1e-3)
    axis.set_facecolor("lightgrey")
    image = axis.imshow(np.ma.masked_where(own, shown), cmap="RdBu", vmin=-limit, vmax=limit)
    labels = [plain(names[task]) for task in order]
    axis.set_xticks(range(len(order)), labels, rotation=90)
    axis.set_yticks(range(len(order)), labels)
    axis.set_xlabel("loss of")
    axis.set_ylabel("after a step for")
    axis.set_title("inter-task affinity, % less loss")
    if len(order) <= 20:
        for row in range(len(order)):
            for column in range(len(order)):
                colour = "white" if row != column and abs(shown[row, column]) > 0.6 * limit else "black"
                axis.text(column, row, f"{shown[row, column]:.1f}", ha="center", va="center", color=colour, fontsize=7)
    start = 0
    for group in groups:
        corner = (start - 0.5, start - 0.5)
        frame = patches_module.Rectangle(corner, len(group), len(group), fill=False, linewidth=2.5, edgecolor="black")
        axis.add_patch(frame)
        start += len(group)
    figure.colorbar(image, ax=axis, shrink=0.8)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=100)
    return stream.getvalue()
