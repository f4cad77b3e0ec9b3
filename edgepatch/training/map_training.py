"""A patch whose head is a network on the trunk's maps: the head is trained alone, then with the patch."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from edgepatch import blob, files, patches
from edgepatch.backbones import network
from edgepatch.backbones.backbone import Backbone
from edgepatch.blob import Patch
from edgepatch.container import Tensors
from edgepatch.converters import parity
from edgepatch.errors import UsageError
from edgepatch.head_network import Network
from edgepatch.imaging import Preprocessing
from edgepatch.patches import Body, Change, Options
from edgepatch.patches.map_head import Examples, HeadLayers, MapHead
from edgepatch.progress import Reporter
from edgepatch.training import calibration, checkpoints, joint, storing
from edgepatch.training import report as report_files
from edgepatch.training.checkpoints import NOTHING, State
from edgepatch.training.recipe import Recipe
from edgepatch.training.report import Result
from edgepatch.training.two_rates import TwoRates

HEAD_RATE, JOINT_RATE = 1e-2, 3e-3  # peaks, of the head's weights: alone, where they start from nothing, and then


@dataclasses.dataclass(frozen=True)
class Work:
    """What is trained, read and ready.

    Attributes:
        backbone: of the input size that is trained at.
        network: the head, for this backbone and these labels.
    """

    name: str
    licence: str
    backbone: Backbone
    top: MapHead
    network: Network
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    recipe: Recipe
    train: Examples
    val: Examples
    reporter: Reporter

    @property
    def sides(self) -> list[int]:
        """Of the head's outputs."""
        plan = self.backbone.plan
        numbers = {node.site.name: number for number, node in enumerate(plan.nodes) if node.site}
        sides = plan.sides(self.backbone.input.size)
        found = self.network.sides({name: sides[numbers[name]] for name in self.network.maps})
        return [found[name] for name in self.network.outputs]


def require_trainable(bodies: Sequence[Body], backbone: Backbone, recipe: Recipe, resize: str) -> None:
    """Find out whether kinds can be trained with a head on maps.

    Raises:
        UsageError: they cannot.
    """

    def refuse(message: str, field: str, got: str, expected: str) -> UsageError:
        return UsageError(f"a head on the trunk's maps {message}", field=field, got=got, expected=expected)

    if recipe.stats == "adapt":
        raise refuse("is trained on the backbone's own statistics", "--stats", recipe.stats, "frozen")
    if resize != "stretch":
        raise refuse("is of the whole picture", "--resize", resize, "stretch")
    if wrong := [body.name for body in bodies if body.effects(backbone.plan).skip]:
        raise refuse("needs every block", "--patch", wrong[0], "kinds that skip none")


def prepare(
    backbone: Backbone, data: Path, top: MapHead, out: Path, recipe: Recipe, reporter: Reporter, **options: Any
) -> Work:
    """Read the pictures and what is true of them.

    Raises:
        UsageError, BadFileError: the data is not what the head's kind reads.
    """
    if out.suffix != ".epatch":
        raise UsageError("is not the name of a patch file", file=out, expected="a name ending in .epatch")
    files.refuse_unwritable(out)
    files.refuse_other(out.with_suffix(".json"), "trained_parameters")
    keras.utils.set_random_seed(recipe.seed)
    preprocessing = dataclasses.replace(backbone.input, resize="stretch")
    val = options.get("val")
    train, chosen, labels = top.splits(data, Path(val) if val else None, recipe.seed)
    reporter.say(
        f"{len(labels)} {'class' if len(labels) == 1 else 'classes'}, {len(train)} pictures to train on, "
        f"{len(chosen)} to choose on"
    )
    ready = top.read(train, preprocessing, reporter)
    top = top.fitted(ready)
    return Work(
        name=options.get("task") or out.stem,
        licence=options.get("licence", ""),
        backbone=backbone,
        top=top,
        network=top.network(backbone.plan, len(labels)),
        labels=labels,
        preprocessing=preprocessing,
        recipe=recipe,
        train=ready,
        val=top.read(chosen, preprocessing, reporter),
        reporter=reporter,
    )


@dataclasses.dataclass(frozen=True)
class Trained:
    """What training gave, before any codec.

    Attributes:
        mould: the patch without its tensors.
        alone: the values of the head alone, on the frozen trunk.
        values: of the patch and the head together; None where there is a head only.
        states: of the phases.
    """

    mould: Patch
    alone: Tensors
    values: Tensors | None
    states: tuple[State, ...]


def train(work: Work, bodies: Sequence[Body], out: Path, codec: str = "fp16") -> Result:
    """Train the head on the frozen trunk, then the patch's kinds and the head together; write the better of the two."""
    start = time.monotonic()
    checkpoint = out.with_suffix(".resume")
    result = write(work, fit(work, bodies, checkpoint), out, codec, start)
    for phase in (checkpoint, _of_head(checkpoint)):
        phase.unlink(missing_ok=True)
    return result


def fit(work: Work, bodies: Sequence[Body], checkpoint: Path) -> Trained:
    """Train; a checkpoint of the same work is taken up where it stands.

    A head alone is trained for as long as one with a patch is in both of its phases.
    """
    recipe, plan = work.recipe, work.backbone.plan
    change = Change(work.backbone, bodies, Options(form=recipe.form, rate=recipe.learning_rate))
    built = _Built(work, change)
    epochs = recipe.epochs_for(len(work.train))
    before = max(1, epochs // 2)
    states = [_phase(built, "head", _of_head(checkpoint), before if bodies else before + epochs)]
    alone, values = {**change.start(), **built.head.tensors()}, None
    if bodies:
        states.append(_phase(built, "all", checkpoint, epochs))
        values = {**change.tensors(), **built.head.tensors()}
    mould = Patch(
        work.name,
        work.backbone.id,
        patches.manifest(bodies, work.top, plan, alone),
        work.labels,
        work.preprocessing,
        {},
        sites=patches.combine(bodies, plan).sites,
        decode={"network": work.network.to_json(), **work.top.decode(plan)},
        licence=work.licence,
    )
    return Trained(mould, alone, values, tuple(states))


def write(work: Work, trained: Trained, out: Path, codec: str, start: float) -> Result:
    """Write the patch and its report.

    The head alone is written where the patch is no better, by what the head's `measure` says first, on the validation
    images, as the files would hold them.

    Args:
        start: when the work began, by `time.monotonic`.
    """
    found = []
    for values in (trained.alone, trained.values):
        if values is not None:
            encoded = storing.encode(work.backbone, trained.mould, values, codec)
            outputs = _deployed(work, encoded)
            tuned = {**encoded.decode, **work.top.tuned(outputs, work.val, work.labels)}
            encoded = dataclasses.replace(encoded, decode=tuned)
            found.append((encoded, work.top.measure(outputs, work.val, work.labels)))
    (alone, before), (patch, after) = found[0], max(found, key=lambda each: next(iter(each[1].values())))
    few = work.train.pixels[:: max(1, len(work.train) // calibration.IMAGES)]
    work.reporter.say("calibrating activation ranges, for int8 graphs")
    patch = dataclasses.replace(
        patch,
        metrics={**after, "train_images": len(work.train), "val_images": len(work.val), "seed": work.recipe.seed},
        ranges=calibration.calibrate(work.backbone, patch, few, seed=work.recipe.seed),
        version=blob.next_version(out, work.name),
    )
    size = blob.write(patch, out)
    deciding = next(iter(after))
    report = {
        "accuracy": after[deciding],
        "head_accuracy": before[deciding],
        "deciding": deciding,
        **after,
        **{f"head_{name}": value for name, value in before.items()},
        "fell_back_to_head": len(found) == 2 and patch.tensors is alone.tensors,
        "epochs": sum(state.epoch for state in trained.states),
        "patch": str(out),
        "task": work.name,
        "kinds": patch.kind,
        "bytes": size,
        "seconds": round(time.monotonic() - start, 2),
        "backbone_id": work.backbone.id,
        "trained_parameters": sum(value.size for value in trained.alone.values()),
        "backbone_parameters": sum(work.backbone.part(site, "kernel").size for site in work.backbone.plan.sites),
        "recipe": work.recipe.to_json(),
        "classes": list(work.labels),
        "dropped": {"train": dict(work.train.dropped), "val": dict(work.val.dropped)},
        "history": [entry for state in trained.states for entry in state.history],
    }
    report_files.write(report, out)
    return Result(patch, dataclasses.replace(alone, version=patch.version), out, report)


def _of_head(checkpoint: Path) -> Path:
    return checkpoint.with_suffix(".head.resume")


class _Built:
    """The network in training: from images to the head's outputs, joined."""

    def __init__(self, work: Work, change: Change) -> None:
        self.work, self.change = work, change
        trunk = network.build(change)
        maps = [network.behind_activation(trunk, work.backbone, name) for name in work.network.maps]
        self.head = HeadLayers(work.network)
        self.outputs = keras.Model(trunk.input, self.head(maps))
        self.model = keras.Model(trunk.input, work.top.joined(self.outputs.outputs, len(work.labels)))
        self.own = [variable for variable in self.model.trainable_variables if variable.path.startswith("head_")]
        self.body = [variable for variable in self.model.trainable_variables if not variable.path.startswith("head_")]
        statistics = [v for v in self.model.non_trainable_variables if v.path.startswith("head_")]
        self.variables = [*self.own, *self.body, *statistics]

    def compile(self, what: str, steps: int) -> TwoRates:
        """Make it ready for so many steps of the head alone, or of all."""
        for variable in self.body:
            variable.trainable = what == "all"
        recipe = self.work.recipe
        optimizer = TwoRates(
            joint.optimizer(recipe, HEAD_RATE if what == "head" else JOINT_RATE, steps),
            joint.optimizer(recipe, recipe.learning_rate, steps),
            self.own,
        )
        self.model.compile(optimizer, self.work.top.loss(len(self.work.labels)), jit_compile=False)
        optimizer.build(self.model.trainable_variables)
        return optimizer

    def measure(self) -> dict[str, float]:
        work = self.work
        return work.top.measure(_predict(self.outputs, work.val.pixels, work.preprocessing), work.val, work.labels)


def _phase(built: _Built, what: str, checkpoint: Path, epochs: int) -> State:
    """Train, and leave the network with the weights of its best epoch on the validation images."""
    work = built.work
    batch = min(work.recipe.batch, len(work.train))
    steps = len(work.train) // batch
    optimizer = built.compile(what, epochs * steps)
    optimizers = [optimizer.first, *([optimizer.second] if what == "all" else [])]
    start = [np.array(variable) for variable in built.variables]
    fingerprint = _fingerprint(work, what, built.change)
    state = checkpoints.restore(checkpoint, fingerprint, built.variables, optimizers) or State(best_weights=start)

    def score(found: Mapping[str, float]) -> tuple[float, float]:
        first, *others = (value for name, value in found.items() if name != "loss")
        return first, sum(others)

    if state.epoch:
        work.reporter.say(f"going on after epoch {state.epoch} of {epochs}, {what} ({checkpoint.name})")
    patience = work.recipe.patience if what == "all" else 0
    while state.epoch < epochs and not joint.stalled([score(entry) for entry in state.history], patience):
        began = time.monotonic()
        losses = []
        data = _batches(work, batch, epoch=state.epoch + (1000 if what == "all" else 0))
        for images, truth in work.reporter.bar(data, steps, f"epoch {state.epoch + 1}/{epochs}, {what}"):
            losses.append(float(built.model.train_on_batch(images, truth)))
            work.reporter.status(f"loss {np.mean(losses):.3f}")
        found = built.measure()
        state.epoch += 1
        deciding = next(iter(found.values()))
        state.history.append({"loss": joint.finite(np.mean(losses)), **found})
        left = (time.monotonic() - began) * (epochs - state.epoch)
        figures = ", ".join(f"{name} {value:.3f}" for name, value in found.items() if np.isscalar(value))
        work.reporter.say(
            f"epoch {state.epoch}/{epochs}, {what}: loss {np.mean(losses):.3f}, validation {figures}"
            + (f", about {left:.0f} s left" if left else "")
        )
        if np.isfinite(losses).all() and score(found) > state.best:
            state.best, state.best_weights = score(found), [np.array(variable) for variable in built.variables]
        checkpoints.save(checkpoint, fingerprint, built.variables, optimizers, state)
        work.reporter.epoch(state.epoch, epochs, {"val_accuracy": deciding})
    if what == "all":
        state.share = joint.step_back(built.variables, start, state, lambda: score(built.measure()))
    elif state.best > NOTHING:
        for variable, value in zip(built.variables, state.best_weights, strict=True):
            variable.assign(value)
    return state


def _batches(work: Work, batch: int, epoch: int) -> Any:
    """One epoch of (images, truths), whole batches only, each picture changed on its own."""
    order = np.random.default_rng([work.recipe.seed, epoch]).permutation(len(work.train))
    sides, classes = work.sides, len(work.labels)

    def make(index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        number = int(index)
        rng = np.random.default_rng([work.recipe.seed, epoch, number])
        pixels, truth = work.top.example(
            work.train.pixels[number], work.train.truth[number], sides, classes, rng, work.recipe.flips
        )
        return work.preprocessing.normalise(pixels).astype(np.float32), truth

    def both(index: Any) -> Any:
        return tf.numpy_function(make, [index], (tf.float32, tf.float32))

    data = tf.data.Dataset.from_tensor_slices(order).map(both, num_parallel_calls=2, deterministic=True)
    return data.batch(batch, drop_remainder=True).prefetch(2).as_numpy_iterator()


def _deployed(work: Work, patch: Patch) -> list[np.ndarray]:
    """What a patch answers to the validation images, as a device runs it: in Keras' deployment form."""
    model, _ = parity.deployed(work.backbone, patch)
    return _predict(model, work.val.pixels, work.preprocessing)


def _predict(model: keras.Model, pixels: np.ndarray, preprocessing: Preprocessing) -> list[np.ndarray]:
    """A model's outputs for uint8 images (n, size, size, 3)."""
    found = []
    for start in range(0, len(pixels), 16):
        outputs = model.predict_on_batch(preprocessing.normalise(pixels[start : start + 16]))
        found.append([np.asarray(each) for each in (outputs if isinstance(outputs, list | tuple) else [outputs])])
    return [np.concatenate(each) for each in zip(*found, strict=True)]


def _fingerprint(work: Work, what: str, change: Change) -> str:
    """Everything a phase depends on."""
    facts = [
        work.backbone.id,
        work.preprocessing.to_json(),
        work.recipe.to_json(),
        work.network.to_json(),
        work.top.decode(work.backbone.plan),
        what,
        sorted(change.start()),
    ]
    found = hashlib.sha256(json.dumps(facts).encode())
    for examples in (work.train, work.val):
        for row, truth in zip(examples.pixels, examples.truth, strict=True):
            found.update(row.tobytes())
            for part in truth if isinstance(truth, tuple) else (truth,):
                found.update(np.ascontiguousarray(part).tobytes())
    return found.hexdigest()
