"""From a backbone and a folder of images to a patch file and a report."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import os
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from edgepatch import blob, metrics, patches
from edgepatch import codec as codecs
from edgepatch.backbones import network
from edgepatch.backbones.backbone import Backbone
from edgepatch.blob import Patch
from edgepatch.container import Tensors
from edgepatch.errors import EdgepatchError, UsageError
from edgepatch.patches import Body, Change, FeatureHead, Head, Options
from edgepatch.patches.effects import placed
from edgepatch.patches.map_head import MapHead
from edgepatch.progress import Reporter, Terminal
from edgepatch.training import calibration, head, joint, map_training, statistics, storing
from edgepatch.training import report as report_files
from edgepatch.training import task as tasks
from edgepatch.training.checkpoints import State
from edgepatch.training.recipe import Recipe
from edgepatch.training.report import Result
from edgepatch.training.task import Source, Task
from edgepatch.trunk import SKIP, left_out


@dataclasses.dataclass(frozen=True)
class Trained:
    """What training gave, before any codec.

    Attributes:
        mould: the patch without its tensors.
        start: values under the head alone, float32.
        values: values as trained; None where there is nothing to train but the head.
        state: of the joint phase.
        head: which one it is, as `head.settle` says.
    """

    mould: Patch
    start: Tensors
    values: Tensors | None
    state: State
    head: str = "trained"


@dataclasses.dataclass(frozen=True)
class Run:
    """What training gave, in a codec.

    Attributes:
        patch: the better of what was trained and the head alone on the validation images, with its metrics.
        head_alone: the same task with its head only.
        confusion: of the validation images by the patch: rows are the true class, columns the predicted one.
    """

    trained: Trained
    patch: Patch
    head_alone: Patch
    confusion: np.ndarray


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
    share: Sequence[str | os.PathLike[str]] = (),
    reporter: Reporter | None = None,
) -> Result:
    """Train a patch for the task of a folder of images.

    The head is trained first, on features computed once; then the patch kinds and the head together. The better of
    the two on the validation images is written, so a patch is never worse there than its head alone.

    Args:
        backbone: stays as it is, and is proven to.
        data: a folder with one folder of images a class, or with train/ and val/ of that form; for a detector a folder
            of COCO JSONs, one of them, or a Pascal VOC folder; for a segmenter pictures with masks beside them.
        kinds: patch kinds joined by `+` (`scale_bias`, `bottom:2+policy+classifier`), or the kinds themselves.
        out: the patch file; its report stands beside it as .json and .png, and while training runs its checkpoint
            as .resume.
        val: a folder to choose on, instead of DATA/val or a share of the training images.
        task: the task's name, by default that of the file.
        licence: terms of the data, kept in the patch.
        resize: how pictures are brought to the network's size; `imaging.RESIZES`.
        codec: how the patch stores its values; `codec.CODECS`.
        share: patches of other tasks whose skipped blocks a policy is drawn to.

    Raises:
        UsageError, BadFileError, MismatchError: the data or an argument is not what it should be; nothing was trained.
    """
    start, recipe, out = time.monotonic(), recipe or Recipe(), Path(out)
    bodies, top = patches.parse(kinds) if isinstance(kinds, str) else patches.sort(kinds)
    require_storable(bodies, backbone, recipe)
    others = policies(backbone, share)
    if share and not patches.combine(bodies, backbone.plan).skip:
        raise UsageError("only a policy is drawn to others", field="--share", got=share[0], expected="--patch policy")
    if codec not in codecs.CODECS:
        raise UsageError("there is no such codec", field="--codec", got=codec, expected=", ".join(codecs.CODECS))
    if isinstance(top, MapHead):
        map_training.require_trainable(bodies, backbone, recipe, resize)
        work = map_training.prepare(
            backbone, Path(data), top, out, recipe, reporter or Terminal(), val=val, task=task, licence=licence
        )
        return map_training.train(work, bodies, out, codec)
    assert isinstance(top, FeatureHead)
    origin = tasks.source(backbone, data, out, recipe, val=val, task=task, licence=licence, resize=resize)
    ready = tasks.prepare(backbone, origin, recipe, reporter or Terminal())
    checkpoint = out.with_suffix(".resume")
    run = choose(ready, fit(ready, bodies, top, checkpoint, others=others), codec)
    if run.patch.metrics["fell_back_to_head"]:
        ready.reporter.say(
            "training did not improve on the head alone on the validation images: the head alone is kept, in a file as "
            "large as any of these kinds; --patch classifier makes a smaller one"
        )
    result = write(ready, calibrated(ready, run), out, start)
    checkpoint.unlink(missing_ok=True)
    return result


def require_storable(bodies: Sequence[Body], backbone: Backbone, recipe: Recipe) -> None:
    """Find out whether patch kinds go together, and with the recipe.

    Raises:
        UsageError: they do not.
    """
    effects = patches.combine(bodies, backbone.plan)
    if recipe.stats == "adapt" and not backbone.has_statistics:
        raise UsageError(
            f"the batch norms of {backbone.source.get('name', 'this backbone')} were folded into its convolutions: it "
            "has no statistics, and those of the task's images alone would make another network of it",
            field="--stats",
            got=recipe.stats,
            expected="frozen",
            mend="Train it with --stats frozen, or take a backbone of other weights.",
        )
    if recipe.stats == "adapt" and not effects.scale & effects.bias == placed(backbone.plan, "all"):
        raise UsageError(
            "adapted statistics have no place in a patch without a scale and a bias at every site",
            field="--stats",
            got=recipe.stats,
            expected="frozen, or kinds that store them all: --patch scale_bias",
        )


def mould(
    backbone: Backbone, source: Source, bodies: Sequence[Body], top: FeatureHead, values: Collection[str]
) -> Patch:
    """A patch without its tensors.

    Args:
        values: names of its values.
    """
    return Patch(
        source.name,
        backbone.id,
        patches.manifest(bodies, top, backbone.plan, values),
        source.classes,
        source.preprocessing,
        {},
        sites=patches.combine(bodies, backbone.plan).sites,
        decode=top.decode(),
        licence=source.licence,
    )


def fit(
    task: Task,
    bodies: Sequence[Body],
    top: FeatureHead,
    checkpoint: Path,
    *,
    epochs: int | None = None,
    others: Sequence[np.ndarray] = (),
) -> Trained:
    """Train patch kinds and the head together.

    Args:
        checkpoint: the joint phase goes on from there, and leaves there what it came to.
        epochs: instead of the recipe's.
        others: other tasks' choices of blocks to skip, as `policies` gives them.
    """
    recipe = task.recipe if epochs is None else dataclasses.replace(task.recipe, epochs=epochs)
    options = Options(
        form=recipe.form,
        rate=recipe.learning_rate,
        steps=recipe.epochs_for(len(task.train)) * (len(task.train) // min(recipe.batch, len(task.train))),
        sparsity=recipe.sparsity,
        sharing=recipe.sharing,
        others=others,
    )
    # statistics of the task's own change the backbone's scales, even under a head alone
    change = Change(task.basis, bodies, options)
    start = {**change.start(), **task.alone.tensors}
    patch = mould(task.backbone, task.source, bodies, top, start)
    if not bodies:
        return Trained(patch, start, None, State())
    trunk, layer = network.build(change), top.layer(task.alone.kernel, task.alone.bias)
    model = keras.Model(trunk.input, layer(trunk.output))
    state = joint.fit(
        model,
        task.train,
        task.val,
        task.source.preprocessing,
        recipe,
        augmentation=task.augmentation,
        class_weights=task.weights,
        checkpoint=checkpoint,
        fingerprint=_fingerprint(dataclasses.replace(task, recipe=recipe), [*bodies, top], others),
        reporter=task.reporter,
        skips=change.skips,
    )
    prove_frozen(model, task.backbone)
    values, which = settled(task, change, trunk, top, layer)
    return Trained(patch, start, values, state, which)


def settled(
    task: Task, change: Change, trunk: keras.Model, top: FeatureHead, layer: keras.Layer
) -> tuple[Tensors, str]:
    """What a joint phase has trained, with the best head for where the features came to.

    Args:
        change, trunk: what was trained in the backbone, and the network that it is in.
        layer: the head that was trained with it.

    Returns:
        The values, and which head it is, as `head.settle` says.
    """
    values = {**change.tensors(), **top.tensors(layer)}
    trained = dataclasses.replace(task.alone, kernel=values["head_kernel"], bias=values["head_bias"])
    train, val = (head.predict(trunk, images.pixels, task.source.preprocessing) for images in (task.train, task.val))
    labels = task.train.labels, task.val.labels
    best, which = head.settle(trained, train, labels[0], val, labels[1], task.weights, task.recipe.seed)
    return {**values, **best.tensors}, which


def choose(task: Task, trained: Trained, codec: str) -> Run:
    """What would be written in a codec."""

    def useless(patch: Patch) -> _Candidate:
        return _Candidate(patch, np.zeros((len(task.val), len(task.source.classes))), task.val.labels, usable=False)

    def deployed(values: Tensors) -> _Candidate:
        """A patch, and what it says of the validation images."""
        # packed, a NaN would not show; beyond the largest value nothing can be decoded
        if not all((np.abs(value) <= codecs.LARGEST).all() for value in values.values()):
            return useless(storing.encode(task.backbone, trained.mould, values, "fp16"))
        patch = storing.store(task.backbone, trained.mould, values, codec, task.trunk, task.few)
        if not all(np.isfinite(value).all() for value in patch.tensors.values()):
            return useless(patch)
        logits = storing.logits(task.trunk, task.backbone, task.backbone.values(patch), patch, task.val.pixels)
        return _Candidate(patch, logits, task.val.labels)

    baseline = best = deployed(trained.start)
    if trained.values is not None:  # the head alone where they are equal
        best = max(baseline, deployed(trained.values), key=lambda candidate: candidate.score)
    figures = {
        "accuracy": best.score[0],
        "balanced_accuracy": metrics.balanced_accuracy(best.logits, task.val.labels),
        "head_accuracy": baseline.score[0],
        "fell_back_to_head": trained.values is not None and best is baseline,
        "epochs": trained.state.epoch,
        "train_images": len(task.train),
        "val_images": len(task.val),
        "seed": task.recipe.seed,
    }
    confusion = metrics.confusion(best.logits, task.val.labels, len(task.source.classes))
    return Run(trained, dataclasses.replace(best.patch, metrics=figures), baseline.patch, confusion)


def calibrated(task: Task, run: Run) -> Run:
    """The same with the ranges of its activations, without, and a sentence why, where they cannot be found; and with
    statistics of its features."""
    task.reporter.say("calibrating activation ranges, for int8 graphs")
    try:
        ranges = calibration.calibrate(task.backbone, run.patch, task.few, seed=task.recipe.seed)
    except Exception as error:  # hours of training are not to be lost with it
        task.reporter.say(f"the patch is not calibrated, so int8 graphs will not take it: {error}")
        ranges = None
    return statistics.added(task, dataclasses.replace(run, patch=dataclasses.replace(run.patch, ranges=ranges)))


def write(task: Task, run: Run, out: Path, start: float, **more: Any) -> Result:
    """Write a patch file and its report.

    Args:
        start: when work began, in seconds of `time.monotonic`.
        more: what else the report says.
    """
    backbone, trained = task.backbone, run.trained
    version = blob.next_version(out, task.source.name)
    patch = dataclasses.replace(run.patch, version=version)
    size = blob.write(patch, out)
    report = {
        **patch.metrics,
        "patch": str(out),
        "task": patch.task,
        "kinds": patch.kind,
        "bytes": size,
        "seconds": round(time.monotonic() - start, 2),
        "backbone_id": backbone.id,
        "trained_parameters": sum(value.size for value in trained.start.values()),
        "skipped_blocks": [each.block for each in left_out(backbone.plan.residuals, backbone.values(patch))],
        "backbone_parameters": sum(backbone.part(site, "kernel").size for site in backbone.plan.sites),
        "recipe": task.recipe.to_json(),
        "augmentation": dataclasses.asdict(task.augmentation),
        "classes": list(task.source.classes),
        "class_images": task.train.files.counts().tolist(),
        "skipped": [*task.train.skipped, *task.val.skipped],
        "history": trained.state.history,
        "kept_share": trained.state.share,
        "head": trained.head,
        "confusion": run.confusion.tolist(),
        **more,
    }
    report_files.write(report, out)
    return Result(patch, dataclasses.replace(run.head_alone, version=version), out, report)


@dataclasses.dataclass(frozen=True)
class _Candidate:
    """A patch that might be written, if its values can be stored, and its logits on the validation images."""

    patch: Patch
    logits: np.ndarray
    labels: np.ndarray
    usable: bool = True

    @functools.cached_property
    def score(self) -> tuple[float, float]:
        """Accuracy, then the lower cross entropy; less than any where a value cannot be stored."""
        if not self.usable:
            return -1.0, -math.inf
        return metrics.accuracy(self.logits, self.labels), -metrics.cross_entropy(self.logits, self.labels)


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


def policies(backbone: Backbone, share: Sequence[str | os.PathLike[str]]) -> list[np.ndarray]:
    """The choices of blocks to skip that other patches hold, bool (residuals,).

    Raises:
        UsageError: one has none.
        MismatchError: one is of another backbone.
    """
    found = []
    for path in share:
        patch = blob.read(path)
        backbone.require_own(patch, path)
        if SKIP not in patch.tensors:
            raise UsageError("has no policy to be drawn to", file=path, field="--share", got=patch.kind)
        found.append(backbone.values(patch)[SKIP])
    return found


def _fingerprint(task: Task, kinds: Sequence[Body | Head], others: Sequence[np.ndarray]) -> str:
    """Everything the joint phase depends on: another backbone, recipe or image starts it anew."""
    facts = [digest(task), [kind.name for kind in kinds], [other.tolist() for other in others]]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def digest(task: Task) -> str:
    """SHA-256 of all that a training of the task depends on but its kinds: backbone, recipe, images."""
    facts = [task.backbone.id, task.backbone.input.to_json(), task.recipe.to_json()]
    found = hashlib.sha256(json.dumps(facts).encode())
    for images in (task.train, task.val):
        found.update(images.labels.tobytes())
        for row in images.pixels:
            found.update(row.tobytes())
    return found.hexdigest()
