"""A task before it is trained: its images, and all that does not depend on patch kinds."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import keras
import numpy as np

from edgepatch import blob, files, metrics
from edgepatch.backbones import network
from edgepatch.backbones.backbone import Backbone
from edgepatch.data import folder, pictures
from edgepatch.data.folder import Files
from edgepatch.data.pictures import Pictures
from edgepatch.errors import BadFileError, UsageError
from edgepatch.imaging import Preprocessing
from edgepatch.progress import Reporter
from edgepatch.training import calibration, head
from edgepatch.training.pipeline import Augmentation
from edgepatch.training.recipe import Recipe


@dataclasses.dataclass(frozen=True)
class Source:
    """What a task is trained from, before any of it is read.

    Attributes:
        name: the task's.
    """

    name: str
    licence: str
    preprocessing: Preprocessing
    train: Files
    val: Files

    @property
    def classes(self) -> tuple[str, ...]:
        return self.train.classes


@dataclasses.dataclass(frozen=True)
class Task:
    """A task that is ready to be trained: all that does not depend on patch kinds.

    Attributes:
        basis: the backbone, with the batch norm statistics that training starts from.
        weights: float32 (classes,), of each class in the loss.
        alone: the head without any other change.
        trunk: the backbone in deployment form; its weights are overwritten.
    """

    source: Source
    backbone: Backbone
    basis: Backbone
    recipe: Recipe
    train: Pictures
    val: Pictures
    weights: np.ndarray
    alone: head.LinearHead
    augmentation: Augmentation
    trunk: keras.Model
    reporter: Reporter

    @property
    def few(self) -> np.ndarray:
        """Training images to calibrate on, uint8 (n, size, size, 3)."""
        return self.train.pixels[:: max(1, len(self.train) // calibration.IMAGES)]


def source(
    backbone: Backbone,
    data: str | os.PathLike[str],
    out: Path,
    recipe: Recipe,
    *,
    val: str | os.PathLike[str] | None = None,
    task: str | None = None,
    licence: str = "",
    resize: str = "stretch",
) -> Source:
    """List the images, after a look at whether a patch can be written; arguments and errors are those of `train`."""
    if out.suffix != ".epatch" or len(out.stem) > 200:
        raise UsageError("is not the name of a patch file", file=out, expected="a name ending in .epatch")
    files.refuse_unwritable(out)
    files.refuse_other(out.with_suffix(".json"), "trained_parameters")
    preprocessing = dataclasses.replace(backbone.input, resize=resize)
    train_files, val_files = folder.training_splits(data, val, seed=recipe.seed)
    found = Source(task or out.stem, licence, preprocessing, train_files, val_files)
    _refuse_unstorable(backbone, found)
    return found


def prepare(backbone: Backbone, source: Source, recipe: Recipe, reporter: Reporter) -> Task:
    """Read the images and fit the head alone."""
    keras.utils.set_random_seed(recipe.seed)
    preprocessing = source.preprocessing
    reporter.say(
        f"{len(source.classes)} classes, {len(source.train)} images to train on, {len(source.val)} to choose on"
    )
    train_set = pictures.load(source.train, preprocessing, reporter)
    val_set = pictures.load(source.val, preprocessing, reporter)
    weights = metrics.class_weights(train_set.files.counts())

    basis = adapt(backbone, train_set, preprocessing, recipe, reporter) if recipe.stats == "adapt" else backbone
    trunk = network.deployment_form(basis)
    alone = _alone(trunk, train_set, val_set, weights, preprocessing, recipe, reporter)
    reporter.say(f"head alone: validation {metrics.accuracy(alone.val_logits, val_set.labels):.3f}")
    mirrors = head.harmless_mirrors(trunk, alone, val_set, preprocessing) if recipe.flips else {}
    return Task(
        source=source,
        backbone=backbone,
        basis=basis,
        recipe=recipe,
        train=train_set,
        val=val_set,
        weights=weights,
        alone=alone,
        augmentation=Augmentation(recipe.zoom, recipe.light, **mirrors),
        trunk=trunk,
        reporter=reporter,
    )


def move(task: Task, backbone: Backbone) -> Task:
    """The same task on another backbone, with statistics as they are there, and its head fitted anew."""
    trunk = network.deployment_form(backbone)
    preprocessing = task.source.preprocessing
    alone = _alone(trunk, task.train, task.val, task.weights, preprocessing, task.recipe, task.reporter)
    return dataclasses.replace(task, backbone=backbone, basis=backbone, trunk=trunk, alone=alone)


def _alone(
    trunk: keras.Model,
    train: Pictures,
    val: Pictures,
    weights: np.ndarray,
    preprocessing: Preprocessing,
    recipe: Recipe,
    reporter: Reporter,
) -> head.LinearHead:
    """The head alone on a trunk's features."""
    inputs = [
        head.predict(trunk, images.pixels, preprocessing, lambda starts, count: reporter.bar(starts, count, "features"))
        for images in (train, val)
    ]
    return head.fit(inputs[0], train.labels, inputs[1], val.labels, weights, recipe.seed)


def adapt(
    backbone: Backbone, images: Pictures, preprocessing: Preprocessing, recipe: Recipe, reporter: Reporter
) -> Backbone:
    """The backbone with batch norm statistics of these images: the means over batches of what each layer sees.

    Li et al., "Revisiting Batch Normalization for Practical Domain Adaptation", 2016. Kernels, gamma and beta stay.
    """
    model = network.training_form(backbone)
    norms = {site: model.get_layer(f"{site.name}_BN") for site in backbone.plan.sites if site.normalised}
    order = np.random.default_rng([recipe.seed, 0xADA]).permutation(len(images))
    batch = min(64, len(images))
    starts = range(0, len(images) - batch + 1, batch)
    for step, start in enumerate(reporter.bar(starts, len(starts), "adapting statistics")):
        for norm in norms.values():
            norm.momentum = 0.0 if step == 0 else step / (step + 1)  # a plain mean over the batches
        pixels = images.pixels[np.sort(order[start : start + batch])]
        model(preprocessing.normalise(pixels), training=True)
    tensors = dict(backbone.tensors)
    for site, norm in norms.items():
        tensors[f"{site.name}/mean"] = np.array(norm.moving_mean)
        tensors[f"{site.name}/variance"] = np.array(norm.moving_variance)
    return dataclasses.replace(backbone, tensors=tensors)


def _refuse_unstorable(backbone: Backbone, source: Source) -> None:
    """Find out now, not after an hour, that a name or the licence cannot stand in a patch file.

    Raises:
        UsageError: the task's name, a class folder's or the licence is too long or not printable.
    """
    tensors = {"head_bias": np.zeros(1, np.float16)}
    kinds = {"classifier": tuple(tensors)}
    patch = blob.Patch(source.name, backbone.id, kinds, source.classes, source.preprocessing, tensors)
    try:
        blob.dump(dataclasses.replace(patch, licence=source.licence))
    except BadFileError as error:
        details: dict[str, Any] = {key: error.details.get(key) for key in ("field", "got", "expected")}
        raise UsageError("has a name that a patch file cannot hold", **details) from error
