"""Classes added to a patch on the device, from a few pictures: a head in closed form, without a gradient.

The mean feature of a class's pictures becomes its column of the head, as the patch's statistics say how: nearest class
mean, that is linear discriminant analysis whose covariance is shrunk all the way to a multiple of the identity, laid
over a head that was trained. Only that column is written; no picture is kept.

- Mensink, Verbeek, Perronnin, Csurka: "Distance-Based Image Classification: Generalizing to New Classes at Near-Zero
  Cost", TPAMI 2013: nearest class means.
- Qi, Brown, Lowe: "Low-Shot Learning with Imprinted Weights", CVPR 2018: means brought to one norm, in a trained head.
- Snell, Swersky, Zemel: "Prototypical Networks for Few-shot Learning", NeurIPS 2017: section 2.3, why it is linear.
- Ledoit, Wolf: "A well-conditioned estimator for large-dimensional covariance matrices", 2004: the target shrunk to.

docs/decisions/0011-enrolling.md says what was measured and why not more.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable
from typing import Any

import numpy as np

from edgepatch import codec
from edgepatch.blob import MAX_LABELS, RANGES, Patch
from edgepatch.container import Tensors
from edgepatch.errors import BadFileError, EdgepatchError, MismatchError, UsageError
from edgepatch.feature_statistics import Statistics
from edgepatch.runtime.runtime import Runtime

TRAINED = 20  # pictures that a trained column counts for when pictures of its class are added
LEAST = 0.25  # of a squared distance that is left when that of the pictures' own spread is taken off
MARGIN = 0.1  # of the logits' range, beyond what the pictures reach
MAX_LABEL = 200  # characters


@dataclasses.dataclass(frozen=True)
class Enrolled:
    """What enrolling made.

    Attributes:
        patch: the patch with the class; its version is the old one's.
        label: the class.
        new: whether the patch did not know it.
        images: how many pictures were learned from.
        pictures: how many the class has been enrolled from, all told; 0 where it was trained.
        skipped: of pictures that could not be read, the reasons.
        engine: that ran the graph.
    """

    patch: Patch
    label: str
    new: bool
    images: int
    pictures: int
    skipped: tuple[EdgepatchError, ...]
    engine: str


def enroll(
    graph: str | os.PathLike[str],
    patch: Patch,
    label: str,
    pictures: Iterable[Any],
    *,
    fresh: bool = False,
    task: str | None = None,
    mode: str = "auto",
    engine: str | None = None,
    threads: int = 1,
    file: object = None,
) -> Enrolled:
    """Teach a patch a class from pictures of it, or teach it more pictures of a class.

    A class that it does not know becomes its last one. Of one that was enrolled before, the mean goes on over old and
    new pictures: in several calls it becomes what it would have become in one. A trained class moves towards the
    pictures as if it had been made of `TRAINED`. All other values stay, bit for bit.

    Args:
        graph: a shared .tflite or .onnx that takes the patch; in any precision.
        patch: has statistics: training and calibrating give them.
        label: of the class, 1 to 200 printable characters.
        pictures: one or more, as `Runtime.predict` takes them: paths, PIL images, arrays (height, width, 3). Those that
            cannot be read are skipped.
        fresh: forget the patch's own classes: the label becomes its only one. Its body and statistics stay.
        task: the task's name, instead of the patch's.
        mode, engine, threads: as `Runtime` takes them.
        file: of the patch, for errors.

    Raises:
        UsageError: the label or the task's name cannot be one, there is no picture, a picture is not there or the patch
            is full.
        BadFileError: no picture can be read, or the graph is damaged.
        MismatchError: the patch does not fit the graph, has no statistics, or no head that takes classes.
        EdgepatchError: the network answers nothing that could be learned.

    Example:
        >>> patch = blob.read("flowers.epatch")
        >>> patch = enroll("mobilenet.tflite", patch, "tulip", ["1.jpg", "2.jpg", "3.jpg"]).patch
        >>> runtime.add(patch)
        'flowers'
    """
    _require_enrollable(patch, label, task, fresh, file)
    found: list[np.ndarray] = []
    skipped: list[EdgepatchError] = []
    with Runtime(graph, mode=mode, engine=engine, threads=threads) as runtime:
        features = int(runtime.graph["inputs"]["head_kernel"][0])
        logits = int(runtime.graph["bake"]["head"]["input"]) + 1  # its range; that of the features comes before it
        runtime.add(patch, file=file)  # its own head is to be sound, too
        runtime.add(_bare(patch, features, logits, file), file=file)
        for picture in pictures:
            try:
                found.append(runtime.predict(picture).logits)
            except (BadFileError, UsageError) as error:
                skipped.append(error)
        if not found:
            raise skipped[0] if skipped else UsageError("there is no picture to learn from", field="IMAGE", got=0)
        learned = learn(patch, label, np.stack(found), fresh=fresh, logits=logits)
        learned = dataclasses.replace(learned, task=task or patch.task)
        runtime.add(learned, file=file)  # what the graph would refuse is not to be written
        used = runtime.engine
    assert learned.statistics is not None
    index = learned.labels.index(label) - _trained(learned)
    return Enrolled(
        learned,
        label,
        fresh or label not in patch.labels,
        len(found),
        learned.statistics.pictures[index] if index >= 0 else 0,
        tuple(skipped),
        used,
    )


def learn(patch: Patch, label: str, features: np.ndarray, *, fresh: bool = False, logits: int | None = None) -> Patch:
    """As `enroll`, from features that are there already.

    Args:
        patch: has statistics and a head that fits them.
        features: float (n, features), of n pictures of the class.
        logits: the number of their range in the patch's `ranges`, which is widened to take the pictures in; the last
            one unless it is given.

    Raises:
        EdgepatchError: the features are zeros, or the patch cannot hold what they give.
    """
    known = patch.statistics
    assert known is not None
    seen = features.astype(np.float64)
    if fresh:
        patch = _emptied(patch)
        known = dataclasses.replace(known, level=0.0, pictures=())
    trained, spread = len(patch.labels) - len(known.pictures), known.spread
    kernel, bias = (value.astype(np.float64) for value in _head(patch))
    common = kernel[:, :trained].mean(axis=1) if trained else np.zeros(len(kernel))
    if not trained:  # means are all of few pictures then, and none is to gain on the others by it: the cosine decides
        known = dataclasses.replace(known, spread=0.0)
    mean, count, counts = seen.mean(axis=0), len(seen), list(known.pictures)
    index = patch.labels.index(label) if label in patch.labels else len(patch.labels)
    if index >= trained:
        if index < len(patch.labels):  # the mean so far stands in the column
            before = counts[index - trained]
            old = known.mean + (kernel[:, index] - common) / known.gain
            mean = (before * old + count * _scaled(mean, known)) / (before + count)
            count, counts[index - trained] = before + count, before + count
        else:
            counts.append(count)
        column, height = _column(mean, count, known, common)
    else:
        share = count / (TRAINED + count)
        column, height = _column(mean, count, known, common)
        column = (1 - share) * kernel[:, index] + share * column
        height = (1 - share) * bias[index] + share * height
    labels = patch.labels if index < len(patch.labels) else (*patch.labels, label)
    learned = dataclasses.replace(
        _with_column(patch, index, column, height),
        labels=labels,
        statistics=dataclasses.replace(known, spread=spread, pictures=tuple(counts)),
    )
    if patch.ranges is None:
        return learned
    kernel, bias = _head(learned)
    return dataclasses.replace(learned, ranges=_widened(patch.ranges, logits, seen @ kernel + bias, fresh))


def _column(mean: np.ndarray, count: int, known: Statistics, common: np.ndarray) -> tuple[np.ndarray, float]:
    """A class's column of the head and its bias, of the mean feature of `count` pictures.

    With centre m, gain g, level h, the mean p brought to the usual norm, and c the mean of the trained columns:
    logit(x) = c.x + g ((p - m).(x - m) - |p - m|^2 / 2) + h. Less is taken off than that: the mean of n pictures lies
    farther from m than the class's own does, by the n-th part of their spread, where the others' means are well known.
    """
    place = _scaled(mean, known) - known.mean
    square = float(place @ place)
    own = max(square - known.spread / count, LEAST * square)
    return common + known.gain * place, known.level - known.gain * float(place @ known.mean + 0.5 * own)


def _scaled(mean: np.ndarray, known: Statistics) -> np.ndarray:
    """A mean brought to the norm that means have: bright or plain pictures are not to win or lose for it.

    Raises:
        EdgepatchError: it is nothing.
    """
    norm = float(np.linalg.norm(mean))
    if not 0 < norm < np.inf:
        raise EdgepatchError("the network finds nothing in the pictures: all features are 0", field="IMAGE")
    scaled: np.ndarray = mean * (known.norm / norm)
    return scaled


def _head(patch: Patch) -> tuple[np.ndarray, np.ndarray]:
    """Kernel (features, classes) and bias (classes,), float32, as graphs are given them."""
    stored = patch.tensors["head_kernel"]
    if "head_kernel" in patch.codec:
        stored = codec.unpack(stored, tuple(patch.codec["head_kernel"]["shape"])) * patch.tensors["head_kernel_step"]
    return stored.astype(np.float32), patch.tensors["head_bias"].astype(np.float32)


def _emptied(patch: Patch) -> Patch:
    """The patch without a class; no file can hold it."""
    tensors = dict(patch.tensors)
    tensors["head_bias"] = tensors["head_bias"][:0]
    how = dict(patch.codec)
    if "head_kernel" in how:
        features = how["head_kernel"]["shape"][0]
        how["head_kernel"] = {**how["head_kernel"], "shape": [features, 0]}
        tensors["head_kernel"] = tensors["head_kernel"][:, :0]
        tensors["head_kernel_step"] = tensors["head_kernel_step"][:0]
    else:
        tensors["head_kernel"] = tensors["head_kernel"][:, :0]
    return dataclasses.replace(patch, tensors=tensors, codec=how, labels=(), metrics={})


def _with_column(patch: Patch, index: int, column: np.ndarray, height: float) -> Patch:
    """The patch with another column of the head, or one more, as it stores them; other columns stay as they are."""
    tensors, how = dict(patch.tensors), dict(patch.codec)
    if "head_kernel" in how:
        bits, shape = how["head_kernel"]["bits"], how["head_kernel"]["shape"]
        step = codec.steps(np.abs(column).max(), bits)
        planes = _placed(codec.unpack(tensors["head_kernel"], tuple(shape)), index, np.rint(column / step))
        tensors["head_kernel"] = codec.pack(planes, bits)
        tensors["head_kernel_step"] = _placed(tensors["head_kernel_step"], index, step)
        how["head_kernel"] = {**how["head_kernel"], "shape": list(planes.shape)}
    else:
        tensors["head_kernel"] = _placed(tensors["head_kernel"], index, column)
    tensors["head_bias"] = _placed(tensors["head_bias"], index, np.float64(height))
    if not all(np.isfinite(tensors[name]).all() for name in ("head_kernel", "head_bias")):
        raise EdgepatchError("the pictures give a head with values that the patch cannot hold", field="head_kernel")
    return dataclasses.replace(patch, tensors=tensors, codec=how)


def _placed(values: np.ndarray, index: int, value: Any) -> np.ndarray:
    """A copy, in the same type, with another entry along the last axis, or one more."""
    with np.errstate(over="ignore"):  # whoever calls looks for infinity
        own = np.asarray(value).astype(values.dtype)[..., None]
    return np.ascontiguousarray(np.concatenate([values[..., :index], own, values[..., index + 1 :]], axis=-1))


def _widened(ranges: np.ndarray, number: int | None, logits: np.ndarray, fresh: bool) -> np.ndarray:
    """Ranges in which that of the logits takes these in, with a margin; that of a fresh head is theirs alone."""
    found = ranges.copy()
    low, high = float(logits.min()), float(logits.max())
    margin = MARGIN * (high - low) or MARGIN * abs(high) or MARGIN
    row = found[-1 if number is None else number]
    row[:] = (low - margin, high + margin) if fresh else (min(row[0], low - margin), max(row[1], high + margin))
    return found


def _bare(patch: Patch, features: int, logits: int, file: object) -> Patch:
    """The patch with the features themselves as its logits: the kernel of its head is the identity.

    In an int8 graph the logits then have the features' range, so that they come through as they are.

    Raises:
        MismatchError: its ranges are of another network.
    """
    head: Tensors = {"head_kernel": np.eye(features, dtype=np.float32), "head_bias": np.zeros(features, np.float32)}
    ranges = patch.ranges
    if ranges is not None:
        if not 0 < logits < len(ranges):
            raise MismatchError(
                "has activation ranges of another network",
                file=file,
                field=RANGES,
                got=f"{len(ranges)} ranges",
                expected=f"more than {logits}",
            )
        ranges = ranges.copy()
        ranges[logits] = ranges[logits - 1]
    return dataclasses.replace(
        patch,
        labels=tuple(map(str, range(features))),
        tensors={name: value for name, value in patch.tensors.items() if not name.startswith("head_")} | head,
        codec={name: how for name, how in patch.codec.items() if name not in head},
        ranges=ranges,
    )


def _trained(patch: Patch) -> int:
    """How many of its classes were trained; those that were enrolled come behind them."""
    return len(patch.labels) - (len(patch.statistics.pictures) if patch.statistics else 0)


def _require_enrollable(patch: Patch, label: str, task: str | None, fresh: bool, file: object) -> None:
    """Find out before any picture is read whether a class can be added.

    Raises:
        UsageError, MismatchError: it cannot; see `enroll`.
    """
    for name, text, most in (("--label", label, MAX_LABEL), ("--task", task, 100)):
        if text is not None and not (0 < len(text) <= most and text.isprintable()):
            raise UsageError(
                "this cannot stand in a patch",
                field=name,
                got=repr(text[:40]) + (f"... of {len(text)} characters" if len(text) > 40 else ""),
                expected=f"1 to {most} printable characters",
            )
    if patch.decode.get("head") != "classifier":
        raise MismatchError(
            "has a head that no class can be added to",
            file=file,
            field="decode.head",
            got=str(patch.decode.get("head"))[:40],
            expected="classifier",
        )
    if patch.statistics is None:
        raise MismatchError(
            "was made without statistics of its features, so no class can be added to it",
            file=file,
            field="statistics",
            got="none",
            expected="what training writes",
            mend=f"On the host, with pictures of its task: edgepatch calibrate BACKBONE IMAGES --patch "
            f"{file or 'FILE.epatch'}",
        )
    if not fresh and label not in patch.labels and len(patch.labels) >= MAX_LABELS:
        raise UsageError("has no room for another class", file=file, field="--label", got=MAX_LABELS)
