"""Simultaneous multi-task training: kernels that all tasks share, and a patch and a head for each.

Mudrakarta et al., "K for the Price of 1" (ICLR 2019, section 3.2): with private patches many tasks of different data
are trained in one network, a batch of one task at a time.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from edgepatch import blob, files, patches
from edgepatch.backbones import backbone as backbones
from edgepatch.backbones import network
from edgepatch.backbones.backbone import Backbone
from edgepatch.errors import EdgepatchError
from edgepatch.many import interleaving
from edgepatch.many.affinity import Meter
from edgepatch.many.interleaving import Balance
from edgepatch.many.sharing import Joined, Kernels, Split
from edgepatch.many.tasks_file import Entry, TasksFile, shared_kernels
from edgepatch.metrics import accuracy, cross_entropy
from edgepatch.patches import Change, Options
from edgepatch.progress import Reporter
from edgepatch.training import checkpoints, head, pipeline, trainer
from edgepatch.training import joint as phase
from edgepatch.training import task as tasks
from edgepatch.training.checkpoints import State
from edgepatch.training.recipe import Recipe
from edgepatch.training.report import Result
from edgepatch.training.task import Source, Task
from edgepatch.training.trainer import Trained

BACKBONE, REPORT, CHECKPOINT = "joint.backbone", "joint.json", "joint.resume"


def sources(file: TasksFile, backbone: Backbone, out: Path) -> list[Source]:
    """Every task's images, listed.

    Raises:
        UsageError: of `task.source`.
    """
    return [
        tasks.source(
            backbone.at(entry.size),
            entry.data,
            out / f"{entry.name}.epatch",
            entry.recipe,
            val=entry.val or None,
            task=entry.name,
            licence=entry.licence,
            resize=entry.resize,
        )
        for entry in file.tasks
    ]


def prepare(file: TasksFile, backbone: Backbone, found: Sequence[Source], reporter: Reporter) -> list[Task]:
    """Every task's images, read, and its head alone on the backbone as it is.

    Raises:
        BadFileError: of `task.prepare`.
    """
    ready = []
    for entry, source in zip(file.tasks, found, strict=True):
        reporter.say(f"{entry.name}:")
        ready.append(tasks.prepare(backbone.at(entry.size), source, entry.recipe, reporter))
    return ready


class _Member:
    """One task of a joint training: its network, its optimizer, its batches."""

    def __init__(self, entry: Entry, task: Task, kernels: Kernels) -> None:
        bodies, self.top = patches.parse_features(entry.patch)
        self.entry, self.task, self.bodies = entry, task, bodies
        recipe = task.recipe
        self.batch = min(recipe.batch, len(task.train))
        self.passes = len(task.train) // self.batch  # steps of one pass over its images
        self.change = Joined(task.basis, bodies, Options(form=recipe.form, rate=recipe.learning_rate), kernels)
        self.trunk = network.build(self.change)
        self.layer = self.top.layer(task.alone.kernel, task.alone.bias)
        self.model = keras.Model(self.trunk.input, self.layer(self.trunk.output))
        self.batches: Iterator[Any] = iter(())

    def compile(self, shared: keras.optimizers.Optimizer, kernels: list[Any], steps: int) -> None:
        """Make it ready for so many steps."""
        ours = {id(variable) for variable in kernels}
        self.own = [variable for variable in self.model.trainable_variables if id(variable) not in ours]
        recipe = self.task.recipe
        self.optimizer = Split(shared, phase.optimizer(recipe, recipe.learning_rate, steps), kernels)
        self.model.compile(
            self.optimizer,
            keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=recipe.label_smoothing),
            metrics=["accuracy"],
            jit_compile=False,
        )
        self.optimizer.build(self.model.trainable_variables)

    def stream(self, done: int) -> None:
        """Go on after so many steps of this task."""

        def endless() -> Iterator[Any]:
            epoch, skip = divmod(done, self.passes)
            while True:
                data = pipeline.batches(
                    self.task.train,
                    self.task.source.preprocessing,
                    batch=self.batch,
                    classes=len(self.task.source.classes),
                    weights=self.task.weights,
                    augmentation=self.task.augmentation,
                    seed=self.task.recipe.seed,
                    epoch=epoch,
                    skip=skip,
                )
                yield from data.as_numpy_iterator()
                epoch, skip = epoch + 1, 0

        self.batches = endless()

    def step(self, weight: float) -> tuple[float, float, float]:
        """One step; returns loss, accuracy and the norm of the shared kernels' gradient."""
        self.optimizer.weight.assign(weight)
        self.model.reset_metrics()
        logs = self.model.train_on_batch(*next(self.batches), return_dict=True)
        return float(logs["loss"]), float(logs["accuracy"]), float(self.optimizer.norm.value)

    def validate(self) -> tuple[float, float]:
        """Accuracy and cross entropy on the validation images."""
        logits = head.predict(self.model, self.task.val.pixels, self.task.source.preprocessing)
        return accuracy(logits, self.task.val.labels), phase.finite(cross_entropy(logits, self.task.val.labels))


def train(
    file: TasksFile,
    backbone: Backbone,
    ready: Sequence[Task],
    out: Path,
    reporter: Reporter,
    *,
    preferences: Sequence[float] | None = None,
    meter: Meter | None = None,
) -> dict[str, Any]:
    """Train the shared kernels, and each task's patch and head, together.

    A step is one batch of one task; `interleaving.order` says which task's. What the task's gradient on the shared
    kernels weighs, `interleaving.Balance` says. The best epoch counts: the one whose validation accuracies, weighted by
    preference, are highest.

    Args:
        ready: the file's tasks, prepared.
        out: folder of the new backbone, the patches and the report; a training that was stopped there goes on.
        preferences: of each task; by default those of the file.
        meter: measures inter-task affinity on the way.

    Returns:
        The report, as written to `out`.

    Raises:
        UsageError: a task's kinds cannot be trained over kernels that move.
    """
    start, joint = time.monotonic(), file.joint
    preferences = [entry.preference for entry in file.tasks] if preferences is None else list(preferences)
    keras.utils.set_random_seed(file.tasks[0].recipe.seed)
    kernels = Kernels(backbone, shared_kernels(joint.kernels, backbone))
    members = [_Member(entry, task, kernels) for entry, task in zip(file.tasks, ready, strict=True)]
    images = [len(task.train) for task in ready]
    epochs = joint.epochs or max(1, round(float(np.mean([task.recipe.epochs_for(len(task.train)) for task in ready]))))
    parts = interleaving.shares(images, joint.mix)
    sequence = interleaving.order(parts, epochs * sum(member.passes for member in members))
    per_epoch = len(sequence) // epochs
    shared = phase.optimizer(Recipe(), joint.learning_rate * Recipe().learning_rate, len(sequence), clipped=False)
    shared.build(kernels.variables)
    for number, member in enumerate(members):
        member.compile(shared, kernels.variables, sequence.count(number))
    balance = Balance(joint.balance, preferences)
    variables = [*kernels.variables, *(variable for member in members for variable in member.own)]
    optimizers = [shared, *(member.optimizer.second for member in members)]
    checkpoint = out / CHECKPOINT
    fingerprint = _fingerprint(file, preferences, [trainer.digest(task) for task in ready])
    start_weights = [np.array(variable) for variable in variables]
    state = checkpoints.restore(checkpoint, fingerprint, variables, optimizers) or State(best_weights=start_weights)
    if state.epoch:
        balance.means = list(state.history[-1]["balance"])
        reporter.say(f"going on after epoch {state.epoch} of {epochs} ({checkpoint.name})")

    def look() -> tuple[float, float]:
        accuracies, losses = zip(*(member.validate() for member in members), strict=True)
        return phase.score(accuracies, losses, preferences)

    done = sequence[: state.epoch * per_epoch]
    for number, member in enumerate(members):
        member.stream(done.count(number))
    while state.epoch < epochs:
        began = time.monotonic()
        seen: list[list[tuple[float, float]]] = [[] for _ in members]
        now = sequence[state.epoch * per_epoch : (state.epoch + 1) * per_epoch]
        for place, number in enumerate(reporter.bar(now, len(now), f"epoch {state.epoch + 1}/{epochs}")):
            loss, right, norm = members[number].step(balance.weight(number))
            balance.seen(number, loss, norm)
            seen[number].append((loss, right))
            reporter.status(f"{members[number].entry.name}: loss {_mean(each for each, _ in seen[number]):.3f}")
            if meter and (state.epoch * per_epoch + place) % joint.affinity_every == 0:
                meter.measure([member.model for member in members], kernels.variables, shared)
        state.epoch += 1
        found = [member.validate() for member in members]
        entry: dict[str, Any] = {
            "loss": [phase.finite(_mean(loss for loss, _ in rows)) for rows in seen],
            "accuracy": [_mean(right for _, right in rows) for rows in seen],
            "val_loss": [loss for _, loss in found],
            "val_accuracy": [right for right, _ in found],
            "balance": list(balance.means),
        }
        state.history.append(entry)
        left = (time.monotonic() - began) * (epochs - state.epoch)
        reporter.say(
            f"epoch {state.epoch}/{epochs}: validation "
            + ", ".join(f"{member.entry.name} {right:.3f}" for member, (right, _) in zip(members, found, strict=True))
            + (f", about {left:.0f} s left" if left else "")
        )
        score = phase.score(entry["val_accuracy"], entry["val_loss"], preferences)
        if score > state.best:
            state.best, state.best_weights = score, [np.array(variable) for variable in variables]
        checkpoints.save(checkpoint, fingerprint, variables, optimizers, state)
    state.share = phase.step_back(variables, start_weights, state, look)
    report = _write(file, backbone, kernels, members, out, state, preferences, reporter, start)
    checkpoint.unlink(missing_ok=True)
    return report


def _write(
    file: TasksFile,
    backbone: Backbone,
    kernels: Kernels,
    members: Sequence[_Member],
    out: Path,
    state: State,
    preferences: Sequence[float],
    reporter: Reporter,
    start: float,
) -> dict[str, Any]:
    """Write the new backbone, each task's patch of it, and the report."""
    source = {**backbone.source, "weights": f"{backbone.source.get('weights', '')} + joint"[:200]}
    new = dataclasses.replace(backbone, tensors={**backbone.tensors, **kernels.tensors()}, source=source)
    results = []
    for number, member in enumerate(members):
        reporter.say(f"{member.entry.name}:")
        before = accuracy(member.task.alone.val_logits, member.task.val.labels)
        task = tasks.move(member.task, new.at(member.entry.size))
        change = Change(task.basis, member.bodies)
        values, which = trainer.settled(member.task, member.change, member.trunk, member.top, member.layer)
        own = State(state.epoch, _history(state.history, number), state.best, [], state.share)
        patch = trainer.mould(task.backbone, task.source, member.bodies, member.top, values)
        begun = {**change.start(), **task.alone.tensors}
        run = trainer.choose(task, Trained(patch, begun, values, own, which), member.entry.codec)
        path = out / f"{member.entry.name}.epatch"
        more = {"joint_with": [other.entry.name for other in members if other is not member]}
        results.append(
            trainer.write(task, trainer.calibrated(task, run), path, start, head_accuracy_before=before, **more)
        )
    backbones.write(new, out / BACKBONE)
    report = {
        "backbone": str(out / BACKBONE),
        "backbone_id": new.id,
        "from_backbone_id": backbone.id,
        "epochs": state.epoch,
        "seconds": round(time.monotonic() - start, 2),
        "fingerprint": _fingerprint(file, preferences, _listed(backbone, [each.task.source for each in members])),
        "joint": dataclasses.asdict(file.joint),
        "preferences": list(preferences),
        "shared_sites": len(kernels.sites),
        "tasks": [_row(result) for result in results],
        "history": state.history,
    }
    text = json.dumps(report, indent=1, allow_nan=False)
    files.write(out / REPORT, text + "\n")
    found: dict[str, Any] = json.loads(text)  # as `finished` reads it
    return found


def _mean(values: Iterable[float]) -> float:
    """Of a task's steps; 0 of none, which a small share of few steps may come to."""
    found = list(values)
    return float(np.mean(found)) if found else 0.0


def _row(result: Result) -> dict[str, Any]:
    keys = ("task", "kinds", "accuracy", "head_accuracy", "head_accuracy_before", "fell_back_to_head", "bytes")
    return {**{key: result.report[key] for key in keys}, "patch": str(result.path)}


def _history(history: Sequence[dict[str, Any]], number: int) -> list[dict[str, float]]:
    """One task's part of it."""
    names = ("loss", "accuracy", "val_loss", "val_accuracy")
    return [{name: entry[name][number] for name in names} for entry in history]


def finished(
    file: TasksFile, backbone: Backbone, found: Sequence[Source], preferences: Sequence[float], out: Path
) -> dict[str, Any] | None:
    """The report of a joint training of just these tasks that is there already, whole; None if there is none.

    Images count by their names and sizes: to read them all would take long where nothing is left to do.
    """
    try:
        report: dict[str, Any] = json.loads((out / REPORT).read_bytes())
        whole = all(blob.read(row["patch"]).backbone_id == report["backbone_id"] for row in report["tasks"])
        same = report["fingerprint"] == _fingerprint(file, preferences, _listed(backbone, found))
        return report if whole and same and backbones.read(report["backbone"]).id == report["backbone_id"] else None
    except (OSError, ValueError, KeyError, TypeError, EdgepatchError):  # missing, damaged or not ours: train anew
        return None


def _listed(backbone: Backbone, found: Sequence[Source]) -> list[Any]:
    """What tasks are trained on, as far as it can be told without reading images."""
    listed: list[Any] = [backbone.id]
    for source in found:
        images = [(path.parent.name, path.name, path.stat().st_size) for path in source.train.paths + source.val.paths]
        listed.append([source.preprocessing.to_json(), source.classes, len(source.train), images])
    return listed


def _fingerprint(file: TasksFile, preferences: Sequence[float], facts: Sequence[Any]) -> str:
    """Of everything a training depends on: another task, recipe or image, of which `facts` tell, starts it anew."""
    joint = dataclasses.asdict(file.joint)
    for name in ("preferences", "affinity_every", "groups"):  # these change nothing in it
        del joint[name]
    entries = [[entry.name, entry.patch, entry.codec, entry.recipe.to_json()] for entry in file.tasks]
    return hashlib.sha256(json.dumps([joint, list(preferences), entries, list(facts)]).encode()).hexdigest()
