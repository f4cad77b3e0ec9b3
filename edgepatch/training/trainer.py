"""From a backbone and a folder of images to a patch file and a report."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from edgepatch import blob, files, metrics, patches
from edgepatch import codec as codecs
from edgepatch.backbones import network
from edgepatch.backbones.backbone import Backbone
from edgepatch.blob import Patch
from edgepatch.container import Tensors
from edgepatch.data import folder, pictures
from edgepatch.data.pictures import Pictures
from edgepatch.errors import BadFileError, EdgepatchError, UsageError
from edgepatch.imaging import Preprocessing
from edgepatch.patches import Body, Head
from edgepatch.progress import Reporter, Terminal
from edgepatch.training import calibration, head, joint, storing
from edgepatch.training import report as report_files
from edgepatch.training.joint import State
from edgepatch.training.pipeline import Augmentation
from edgepatch.training.recipe import Recipe


@dataclasses.dataclass(frozen=True)
class Result:
    """What training made and measured.

    Attributes:
        patch: the patch as written.
        head_alone: the same task with its head only: the baseline.
        path: of the patch file.
        report: what the report file says.
    """

    patch: Patch
    head_alone: Patch
    path: Path
    report: dict[str, Any]


def train(
    backbone: Backbone,
    data: str | os.PathLike[str],
    kinds: str | Sequence[Body | Head],
    out: str | os.PathLike[str],
    *,
    recipe: Recipe | None = None,
    val: str | os.PathLike[str] | None = None,
    task: str | None = None,
    licence: str = "",
    resize: str = "stretch",
    codec: str = "fp16",
    reporter: Reporter | None = None,
) -> Result:
    """Train a patch for the task of a folder of images.

    The head is trained first, on features computed once; then the patch kinds and the head together. The better of
    the two on the validation images is written, so a patch is never worse there than its head alone.

    Args:
        backbone: stays as it is, and is proven to.
        data: a folder with one folder of images a class, or with train/ and val/ of that form.
        kinds: patch kinds joined by `+` (`scale_bias`, `scale_bias+classifier`, `classifier`), or the kinds themselves.
        out: the patch file; its report stands beside it as .json and .png, and while training runs its checkpoint
            as .resume.
        val: a folder to choose on, instead of DATA/val or a share of the training images.
        task: the task's name, by default that of the file.
        licence: terms of the data, kept in the patch.
        resize: how pictures are brought to the network's size; `imaging.RESIZES`.
        codec: how the patch stores its values; `codec.CODECS`.

    Raises:
        UsageError, BadFileError: the data or an argument is not what it should be; nothing was trained.
    """
    start = time.monotonic()
    recipe, reporter, out = recipe or Recipe(), reporter or Terminal(), Path(out)
    bodies, top = patches.parse(kinds) if isinstance(kinds, str) else patches.sort(kinds)
    if len(bodies) > 1:
        raise UsageError("these kinds cannot be combined", field="--patch", got="+".join(body.name for body in bodies))
    if recipe.stats == "adapt" and not bodies:
        raise UsageError(
            "adapted statistics have no place in a patch of a head alone",
            field="--stats",
            got=recipe.stats,
            expected="frozen, or a kind that stores scales: --patch scale_bias",
        )
    if recipe.stats == "adapt" and len(bodies[0].sites(backbone)["channels"]) != len(backbone.plan.sites):
        raise UsageError("adapted statistics need all sites", field="--stats", got=recipe.stats, expected="frozen")
    if codec not in codecs.CODECS:
        raise UsageError("there is no such codec", field="--codec", got=codec, expected=", ".join(codecs.CODECS))
    if out.suffix != ".epatch" or len(out.stem) > 200:
        raise UsageError("is not the name of a patch file", file=out, expected="a name ending in .epatch")
    files.refuse_unwritable(out)
    files.refuse_other(out.with_suffix(".json"), "trained_parameters")
    name = task or out.stem
    keras.utils.set_random_seed(recipe.seed)
    preprocessing = dataclasses.replace(backbone.input, resize=resize)
    train_files, val_files = folder.training_splits(data, val, seed=recipe.seed)
    classes = train_files.classes
    _refuse_unstorable(backbone, name, classes, preprocessing, licence)
    reporter.say(f"{len(classes)} classes, {len(train_files)} images to train on, {len(val_files)} to choose on")
    train_set = pictures.load(train_files, preprocessing, reporter)
    val_set = pictures.load(val_files, preprocessing, reporter)
    weights = metrics.class_weights(train_set.files.counts())

    basis = adapt(backbone, train_set, preprocessing, recipe, reporter) if recipe.stats == "adapt" else backbone
    trunk = network.deployment_form(basis)
    inputs = [
        head.predict(trunk, images.pixels, preprocessing, lambda starts, count: reporter.bar(starts, count, "features"))
        for images in (train_set, val_set)
    ]
    alone = head.fit(inputs[0], train_set.labels, inputs[1], val_set.labels, weights, recipe.seed)
    reporter.say(f"head alone: validation {metrics.accuracy(alone.val_logits, val_set.labels):.3f}")
    mirrors = head.harmless_mirrors(trunk, alone, val_set, preprocessing) if recipe.flips else {}
    augmentation = Augmentation(recipe.zoom, recipe.light, **mirrors)

    sites = bodies[0].sites(backbone) if bodies else {}
    mould = Patch(name, backbone.id, {}, classes, preprocessing, {}, sites=sites, decode=top.decode(), licence=licence)
    few = train_set.pixels[:: max(1, len(train_set) // calibration.IMAGES)]

    def deployed(tensors: Tensors) -> _Candidate:
        """What would be written, and what it says of the validation images."""
        named = dataclasses.replace(mould, kinds=_manifest(bodies, top, tensors))
        whole = all(np.isfinite(value).all() for value in tensors.values())  # packed, a NaN would not show
        patch = storing.store(backbone, named, tensors, codec if whole else "fp16", trunk, few)
        if not all(np.isfinite(value).all() for value in patch.tensors.values()):
            return _Candidate(patch, np.zeros((len(val_set), len(classes))), val_set.labels)
        logits = storing.logits(trunk, backbone, backbone.values(patch), patch, val_set.pixels)
        return _Candidate(patch, logits, val_set.labels)

    # statistics of the task's own change the backbone's scales, even under a head alone
    own = bodies[0].start(basis) if bodies else {}
    baseline = best = deployed({**own, "head_kernel": alone.kernel, "head_bias": alone.bias})
    state = State()
    checkpoint = out.with_suffix(".resume")
    if bodies:
        model = _joint_model(basis, bodies[0], top, len(classes), alone)
        state = joint.fit(
            model,
            train_set,
            val_set,
            preprocessing,
            recipe,
            augmentation=augmentation,
            class_weights=weights,
            checkpoint=checkpoint,
            fingerprint=_fingerprint(backbone, recipe, [*bodies, top], train_set, val_set),
            reporter=reporter,
        )
        prove_frozen(model, backbone)
        trained = deployed({**bodies[0].tensors(model, basis), **top.tensors(model.get_layer("head"))})
        best = max(baseline, trained, key=lambda candidate: candidate.score)  # the head alone where they are equal
        if best is baseline:
            reporter.say("training did not improve on the head alone on the validation images: the head alone is kept")

    figures = {
        "accuracy": best.score[0],
        "balanced_accuracy": metrics.balanced_accuracy(best.logits, val_set.labels),
        "head_accuracy": baseline.score[0],
        "fell_back_to_head": bool(bodies) and best is baseline,
        "epochs": state.epoch,
        "train_images": len(train_set),
        "val_images": len(val_set),
        "seed": recipe.seed,
    }
    reporter.say("calibrating activation ranges, for int8 graphs")
    try:
        ranges = calibration.calibrate(backbone, best.patch, few, seed=recipe.seed)
    except Exception as error:  # hours of training are not to be lost with it
        reporter.say(f"the patch is not calibrated, so int8 graphs will not take it: {error}")
        ranges = None
    version = blob.next_version(out, name)
    patch = dataclasses.replace(best.patch, ranges=ranges, metrics=figures, version=version)
    size = blob.write(patch, out)
    report = {
        **figures,
        "patch": str(out),
        "task": patch.task,
        "kinds": patch.kind,
        "bytes": size,
        "seconds": round(time.monotonic() - start, 2),
        "backbone_id": backbone.id,
        "trained_parameters": 2 * sum(sites.get("channels", [])) + (backbone.plan.features + 1) * len(classes),
        "backbone_parameters": sum(backbone.part(site, "kernel").size for site in backbone.plan.sites),
        "recipe": recipe.to_json(),
        "augmentation": dataclasses.asdict(augmentation),
        "classes": list(classes),
        "class_images": train_set.files.counts().tolist(),
        "skipped": [*train_set.skipped, *val_set.skipped],
        "history": state.history,
        "confusion": metrics.confusion(best.logits, val_set.labels, len(classes)).tolist(),
    }
    report_files.write(report, out)
    checkpoint.unlink(missing_ok=True)
    head_alone = dataclasses.replace(baseline.patch, version=version)
    return Result(patch, head_alone, out, report)


@dataclasses.dataclass(frozen=True)
class _Candidate:
    """A patch that might be written, and its logits on the validation images."""

    patch: Patch
    logits: np.ndarray
    labels: np.ndarray

    @functools.cached_property
    def score(self) -> tuple[float, float]:
        """Accuracy, then the lower cross entropy; less than any where a value is not finite as it is stored."""
        if not all(np.isfinite(value).all() for value in self.patch.tensors.values()):
            return -1.0, -math.inf
        return metrics.accuracy(self.logits, self.labels), -metrics.cross_entropy(self.logits, self.labels)


def adapt(
    backbone: Backbone, images: Pictures, preprocessing: Preprocessing, recipe: Recipe, reporter: Reporter
) -> Backbone:
    """The backbone with batch norm statistics of these images: the means over batches of what each layer sees.

    Li et al., "Revisiting Batch Normalization for Practical Domain Adaptation", 2016. Kernels, gamma and beta stay.
    """
    model = network.training_form(backbone)
    norms = {site: model.get_layer(f"{site.name}_BN") for site in backbone.plan.sites}
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


def prove_frozen(model: keras.Model, backbone: Backbone) -> None:
    """Hash the kernels of a trained model again: with them the backbone must still have its id.

    Raises:
        EdgepatchError: a kernel was changed, which is a bug.
    """
    after = dataclasses.replace(backbone, tensors={**backbone.tensors, **network.kernels(model, backbone)})
    if after.id != backbone.id:
        raise EdgepatchError(
            "training changed the backbone's kernels, so the patch was not written",
            field="backbone_id",
            got=after.id,
            expected=backbone.id,
        )


def _refuse_unstorable(
    backbone: Backbone, task: str, classes: tuple[str, ...], preprocessing: Preprocessing, licence: str
) -> None:
    """Find out now, not after an hour, that a name or the licence cannot stand in a patch file.

    Raises:
        UsageError: the task's name, a class folder's or the licence is too long or not printable.
    """
    tensors = {"head_bias": np.zeros(1, np.float16)}
    try:
        kinds = {"classifier": tuple(tensors)}
        blob.dump(Patch(task, backbone.id, kinds, classes, preprocessing, tensors, licence=licence))
    except BadFileError as error:
        details = {key: error.details.get(key) for key in ("field", "got", "expected")}
        raise UsageError("has a name that a patch file cannot hold", **details) from error


def _joint_model(basis: Backbone, body: Body, top: Head, classes: int, alone: head.LinearHead) -> keras.Model:
    trunk = network.build(basis, body.behind(basis))
    layer = top.layer(classes)
    model = keras.Model(trunk.input, layer(trunk.output))
    layer.set_weights([alone.kernel, alone.bias])
    return model


def _manifest(bodies: tuple[Body, ...], top: Head, tensors: Tensors) -> dict[str, tuple[str, ...]]:
    heads = tuple(name for name in tensors if name.startswith("head_"))
    manifest = {body.name: tuple(name for name in tensors if name not in heads) for body in bodies}
    return {**manifest, top.name: heads}


def _fingerprint(backbone: Backbone, recipe: Recipe, kinds: Sequence[Body | Head], *sets: Pictures) -> str:
    """Everything the joint phase depends on: another backbone, recipe or image starts it anew."""
    digest = hashlib.sha256(json.dumps([backbone.id, backbone.input.to_json(), repr(kinds), recipe.to_json()]).encode())
    for images in sets:
        digest.update(images.labels.tobytes())
        for row in images.pixels:
            digest.update(row.tobytes())
    return digest.hexdigest()
