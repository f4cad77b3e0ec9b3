"""The best patch of at most so many bytes: a search over patch kinds, where they are placed, and codecs.

What a file will weigh is known before anything is trained, so only what fits is. The search is successive halving
(Jamieson and Talwalkar, "Non-stochastic Best Arm Identification", AISTATS 2016; Li et al., "Hyperband", JMLR 2018):
every composition of kinds is trained for a third of the epochs, the best third of them once more for all. Training does
not depend on the codec, so one training gives a patch in each.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
import os
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgepatch import blob, files, patches
from edgepatch.backbones.backbone import Backbone
from edgepatch.backbones.plan import PLACEMENTS, Plan
from edgepatch.blob import Patch
from edgepatch.codec import CODECS
from edgepatch.converters import document
from edgepatch.errors import EdgepatchError, UsageError
from edgepatch.patches import Body, Change, FeatureHead
from edgepatch.patches.base import Counted, Placed
from edgepatch.progress import Reporter, Terminal
from edgepatch.training import budget_picture, statistics, storing, trainer
from edgepatch.training import task as tasks
from edgepatch.training.recipe import Recipe
from edgepatch.training.report import Result
from edgepatch.training.task import Source, Task
from edgepatch.training.trainer import Run, Trained

# what is searched; the head alone always is, too. Not policy: it makes a task faster, and no patch smaller
KINDS = (
    "bias@project",
    "bias",
    "scale_bias@project",
    "scale_bias@depthwise",
    "scale_bias",
    "depthwise",
    "depthwise+bias",
    "scale_bias+depthwise",
    "bottom:2",
    "bottom:4",
    "top:1",
    "mask",
    "mask+scale_bias",
)
BLOCKS = (1, 2, 4, 8)  # tried of a kind that is named without its number
SHARE = 3  # of the epochs, and then of the compositions, one in so many
FINALISTS = 2  # at least
LONGEST = 2.2250738585072014e-308  # no number is longer when it is written


@dataclasses.dataclass(frozen=True)
class Composition:
    """Kinds that are trained together, under the name they have after `--patch`."""

    name: str
    bodies: tuple[Body, ...]
    top: FeatureHead


@dataclasses.dataclass
class Row:
    """A composition in a codec.

    Attributes:
        bytes: of its file; until it is trained, the most that can be.
        run: what training gave; None where it was not trained.
    """

    composition: Composition
    codec: str
    bytes: int
    run: Run | None = None

    @property
    def accuracy(self) -> float | None:
        """On the validation images."""
        return None if self.run is None else self.run.patch.metrics["accuracy"]

    @property
    def merit(self) -> tuple[float, int]:
        """What makes one row better than another: its accuracy, then fewer bytes."""
        return -1.0 if self.accuracy is None else self.accuracy, -self.bytes


def search(
    backbone: Backbone,
    data: str | os.PathLike[str],
    out: str | os.PathLike[str],
    budget: int,
    *,
    kinds: str | None = None,
    codecs: Sequence[str] = CODECS,
    recipe: Recipe | None = None,
    val: str | os.PathLike[str] | None = None,
    task: str | None = None,
    licence: str = "",
    resize: str = "stretch",
    share: Sequence[str | os.PathLike[str]] = (),
    reporter: Reporter | None = None,
) -> Result:
    """Find and write the patch with the best validation accuracy among those whose file is small enough.

    Its report has also `budget` and `frontier`, a row for each composition and codec, and stands beside it with the
    frontier's picture as .frontier.png. Until all of them are written, finished trainings are kept in a folder beside
    the patch, .search, and a killed search that is called again goes on from there; then the folder is removed.

    The winner's validation accuracy is optimistic: it was chosen among many on the same images.

    Args:
        budget: in bytes.
        kinds: search these alone, and the head alone; a kind named without a placement or number is tried with each.
        codecs: search these alone.

    The other arguments are those of `trainer.train`.

    Raises:
        UsageError, BadFileError, MismatchError: the data or an argument is not what it should be, or no patch is as
            small as that; nothing was trained.
    """
    start, recipe, out, reporter = time.monotonic(), recipe or Recipe(), Path(out), reporter or Terminal()
    if unknown := [codec for codec in codecs if codec not in CODECS]:
        raise UsageError("there is no such codec", field="--codec", got=unknown[0], expected=", ".join(CODECS))
    found = compositions(backbone, recipe, kinds)
    others = trainer.policies(backbone, share)
    if share and not any(patches.combine(each.bodies, backbone.plan).skip for each in found):
        raise UsageError("only a policy is drawn to others", field="--share", got=share[0], expected="--patch policy")
    folder = out.with_suffix(".search")
    files.refuse_unwritable(folder / "any")
    source = tasks.source(backbone, data, out, recipe, val=val, task=task, licence=licence, resize=resize)
    version = blob.next_version(out, source.name)

    def measure(patch: Patch) -> int:
        return len(blob.dump(dataclasses.replace(patch, version=version)))

    rows = [
        Row(each, codec, measure(largest(backbone, source, recipe, each, codec))) for each in found for codec in codecs
    ]
    fitting = [row for row in rows if row.bytes <= budget]
    if not fitting:
        smallest = min(rows, key=lambda row: row.bytes)
        raise UsageError(
            "no patch of this task is as small",
            field="--budget",
            got=budget,
            expected=f"at least {smallest.bytes} bytes, which {smallest.composition.name} takes in {smallest.codec}",
        )
    reporter.say(f"{len(fitting)} of {len(rows)} patches fit into {budget:,} bytes")
    ready = tasks.prepare(backbone, source, recipe, reporter)
    _Halving(ready, fitting, budget, folder, others, measure).run()
    best = max(fitting, key=lambda row: row.merit)
    final = trainer.calibrated(ready, best.run) if best.run else None
    if final is None or (size := measure(final.patch)) > budget:
        raise EdgepatchError("every patch became larger than was reckoned, so none was written", file=out)
    best.bytes = size
    result = trainer.write(ready, final, out, start, budget=budget, frontier=frontier(rows))
    files.write(out.with_suffix(".frontier.png"), budget_picture.picture(result.report))
    _clear(folder)
    return result


def compositions(backbone: Backbone, recipe: Recipe, kinds: str | None = None) -> list[Composition]:
    """What is searched on a backbone: the head alone, and what changes the backbone, each change once.

    Args:
        kinds: as `search` takes them; `KINDS` where there are none.

    Raises:
        UsageError: `kinds` are unknown, or the backbone can have none of them.
    """
    names = _placed(kinds) if kinds else list(KINDS)
    alone = patches.parse_features(names[0])[1].name
    found: dict[object, Composition] = {}
    refused: list[UsageError] = []
    for name in dict.fromkeys([alone, *names]):
        bodies, top = patches.parse_features(name)
        try:
            trainer.require_storable(bodies, backbone, recipe)
        except UsageError as error:  # depthwise kernels of a backbone without them, say
            refused.append(error)
        else:
            found.setdefault(patches.combine(bodies, backbone.plan), Composition(name, bodies, top))
    if refused and not any(each.bodies for each in found.values()):
        raise refused[-1]
    return list(found.values())


def largest(backbone: Backbone, source: Source, recipe: Recipe, composition: Composition, codec: str) -> Patch:
    """A patch as large as that composition's can be: before training, and with the longest metrics there are."""
    classes = len(source.classes)
    layer = composition.top.layer(
        np.zeros((backbone.plan.features, classes), np.float32), np.zeros(classes, np.float32)
    )
    values = {**Change(backbone, composition.bodies).start(), **composition.top.tensors(layer)}
    mould = trainer.mould(backbone, source, composition.bodies, composition.top, values)
    metrics = {
        "accuracy": LONGEST,
        "balanced_accuracy": LONGEST,
        "head_accuracy": LONGEST,
        "fell_back_to_head": False,
        "epochs": recipe.epochs_for(0),
        "train_images": len(source.train),
        "val_images": len(source.val),
        "seed": recipe.seed,
    }
    patch = storing.encode(backbone, mould, values, codec)
    return _finished(dataclasses.replace(patch, metrics=metrics), backbone.plan)


def frontier(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The rows of a search as the report has them, the smallest first.

    `on_frontier` are those that are better than all that are as small; `chosen` is the last of them.
    """
    ordered = sorted(rows, key=lambda row: (row.bytes, -row.merit[0]))
    steps: list[Row] = []
    for row in ordered:
        if row.run and (not steps or row.merit[0] > steps[-1].merit[0]):
            steps.append(row)
    return [
        {
            "kinds": row.composition.name,
            "codec": row.codec,
            "bytes": row.bytes,
            "accuracy": row.accuracy,
            "epochs": row.run and row.run.patch.metrics["epochs"],
            "fell_back_to_head": bool(row.run and row.run.patch.metrics["fell_back_to_head"]),
            "on_frontier": any(row is step for step in steps),
            "chosen": row is steps[-1],
        }
        for row in ordered
    ]


class _Halving:
    """Trains what fits, twice what is worth it.

    Args:
        rows: what fits.
        budget: in bytes.
        folder: of the checkpoints.
        others: choices of blocks to skip, as `trainer.fit` takes them.
        measure: gives the bytes of a patch's file.
    """

    def __init__(
        self,
        task: Task,
        rows: Sequence[Row],
        budget: int,
        folder: Path,
        others: Sequence[np.ndarray],
        measure: Callable[[Patch], int],
    ) -> None:
        self.task, self.rows, self.budget, self.folder = task, rows, budget, folder
        self.others, self.measure = others, measure
        self.number = self.total = self.left = 0  # trainings begun, trainings in all, epochs ahead
        self.seconds = self.epochs = 0.0  # that have been trained, and how long they took

    def run(self) -> None:
        epochs = self.task.recipe.epochs_for(len(self.task.train))
        few = max(1, round(epochs / SHARE))
        everything = list({row.composition.name: row.composition for row in self.rows}.values())
        candidates = [each for each in everything if each.bodies]
        kept = max(FINALISTS, math.ceil(len(candidates) / SHARE))
        halved = few < epochs and kept < len(candidates)
        kept = kept if halved else len(candidates)
        self.total = kept + (len(candidates) if halved else 0)
        self.left = kept * epochs + (len(candidates) * few if halved else 0)
        for each in everything:
            if not each.bodies:
                self._score(each, trainer.fit(self.task, each.bodies, each.top, self.folder))
        if halved:
            for each in candidates:
                self._train(each, few)
            candidates.sort(key=self._merit, reverse=True)
        for each in candidates[:kept]:
            self._train(each, epochs)

    def _train(self, composition: Composition, epochs: int) -> None:
        self.number += 1
        guess = self.left * self.seconds / self.epochs if self.epochs else None
        self.task.reporter.say(
            f"candidate {self.number} of {self.total}: {composition.name}, {epochs} epochs"
            + ("" if guess is None else f", about {math.ceil(guess / 60)} min left for all")
        )
        checkpoint = self.folder / f"{re.sub(r'[^a-z0-9_@+]', '-', composition.name)}.{epochs}.resume"
        fresh, start = not checkpoint.exists(), time.monotonic()
        trained = trainer.fit(
            self.task, composition.bodies, composition.top, checkpoint, epochs=epochs, others=self.others
        )
        self._score(composition, trained)
        self.left -= epochs
        if fresh:
            self.seconds, self.epochs = self.seconds + time.monotonic() - start, self.epochs + epochs

    def _score(self, composition: Composition, trained: Trained) -> None:
        """Store what was trained in each codec that fits; of two trainings the better one counts, or the later."""
        for row in self.rows:
            if row.composition is composition:
                run = trainer.choose(self.task, trained, row.codec)
                size = self.measure(_finished(run.patch, self.task.backbone.plan))
                if size <= self.budget and run.patch.metrics["accuracy"] >= row.merit[0]:
                    row.run, row.bytes = run, size

    def _merit(self, composition: Composition) -> tuple[float, int]:
        return max(row.merit for row in self.rows if row.composition is composition)


def _finished(patch: Patch, plan: Plan) -> Patch:
    """The patch with as many ranges as calibration gives, and statistics as long as any."""
    ranges = np.zeros((document.range_count(plan), 2), np.float32)
    return dataclasses.replace(patch, ranges=ranges, statistics=statistics.longest(plan.features))


def _placed(kinds: str) -> list[str]:
    """Every composition that is meant by kinds some of which lack a placement or a number."""
    each = []
    for part in kinds.split("+"):
        kind = patches.kinds().get(part)
        if isinstance(kind, Placed):
            each.append([part, *(f"{part}@{placement}" for placement in PLACEMENTS if placement != "all")])
        elif isinstance(kind, Counted):
            each.append([f"{part}:{blocks}" for blocks in BLOCKS])
        else:
            each.append([part])
    return ["+".join(chosen) for chosen in itertools.product(*each)]


def _clear(folder: Path) -> None:
    """Remove a search's checkpoints, and the folder if nothing else is in it."""
    for path in [*folder.glob("*.resume"), *folder.glob(".*.resume.*.part")]:
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()
