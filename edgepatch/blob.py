"""The patch file, `.epatch`: all that is particular to one task (docs/format.md).

A patch's tensors carry the names of the shared graph's inputs; to bind is to give each input the tensor of its name.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgepatch import container, files, trunk
from edgepatch.container import Tensors
from edgepatch.errors import BadFileError
from edgepatch.feature_statistics import CENTRE, Statistics
from edgepatch.imaging import Preprocessing

FORMAT = 1
MAX_BYTES = 256 * 1024 * 1024
MAX_LABELS = 65_536
MAX_SITES = 4096
LARGEST_RANGE = 1e30  # of an activation: its width is finite in float32
RANGES = "ranges"  # the tensor of activation ranges, which belongs to no kind

_ID = re.compile(r"[0-9a-f]{64}")
_FIELDS = {
    "kind": str,
    "format": int,
    "task": str,
    "version": int,
    "backbone_id": str,
    "kinds": dict,
    "sites": dict,
    "labels": list,
    "input": dict,
    "decode": dict,
    "codec": dict,
    "ranges": dict,
    "statistics": dict,
    "metrics": dict,
    "licence": str,
}


@dataclasses.dataclass(frozen=True)
class Patch:
    """One task on one backbone.

    Attributes:
        task: its name; a runtime holds one patch of a name.
        backbone_id: SHA-256 of the backbone it was trained on.
        kinds: for each patch kind, the names of its tensors.
        labels: class names, by index.
        input: how a picture becomes the network's input.
        tensors: arrays in canonical order and layout, as they are stored; `edgepatch.codec` turns them into values.
        sites: for each effect that is told by site (`trunk.SITES`), the numbers of the sites it is of:
            `{"scale": [0, 1, 2, ...], "bias": [0, 1, 2, ...]}`; empty without any.
        decode: what the head needs to turn outputs into answers.
        codec: for each tensor that is packed, its `bits` and `shape`; empty where values are stored as they are.
        ranges: float32 (activations, 2), the smallest and largest value of each, for graphs that compute in int8; None
            where not calibrated.
        statistics: of the features of its training pictures, for classes that are added on a device; None of patches
            without.
        metrics: what training measured.
        licence: terms of the training data or of the patch; empty if not stated.
        version: grows by one each time the task is trained anew into the same file.
    """

    task: str
    backbone_id: str
    kinds: Mapping[str, tuple[str, ...]]
    labels: tuple[str, ...]
    input: Preprocessing
    tensors: Tensors
    sites: Mapping[str, Sequence[int]] = dataclasses.field(default_factory=dict)
    decode: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    codec: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    ranges: np.ndarray | None = None
    statistics: Statistics | None = None
    metrics: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    licence: str = ""
    version: int = 1

    @property
    def kind(self) -> str:
        """Its kinds in one word: `scale_bias+classifier`."""
        return "+".join(self.kinds)

    @property
    def bindable(self) -> bool:
        """Whether a graph can take it as inputs: one that changes kernels or skips blocks has to be baked."""
        return not any(name in self.tensors for name in (*trunk.KERNELS, trunk.SKIP))


def dump(patch: Patch) -> bytes:
    """The bytes of a patch file. The same patch gives the same bytes.

    Raises:
        BadFileError: the patch would not be accepted by `parse`: a NaN, a tensor that no kind names.
    """
    document = {
        "kind": "patch",
        "format": FORMAT,
        "task": patch.task,
        "version": patch.version,
        "backbone_id": patch.backbone_id,
        "kinds": {kind: list(names) for kind, names in patch.kinds.items()},
        "sites": {effect: list(numbers) for effect, numbers in patch.sites.items()},
        "labels": list(patch.labels),
        "input": patch.input.to_json(),
        "decode": dict(patch.decode),
        "codec": dict(patch.codec),
        "ranges": {} if patch.ranges is None else {"activations": len(patch.ranges)},
        "statistics": {} if patch.statistics is None else patch.statistics.to_json(),
        "metrics": dict(patch.metrics),
        "licence": patch.licence,
    }
    extra = {} if patch.ranges is None else {RANGES: patch.ranges.astype(np.float32)}
    if patch.statistics is not None:
        extra[CENTRE] = patch.statistics.centre
    data = container.dump(document, {**patch.tensors, **extra})
    parse(data, f"patch {patch.task}")
    return data


def parse(data: bytes, file: object) -> Patch:
    """The patch of a file's bytes; its tensors are read-only views into `data`.

    Raises:
        BadFileError: the bytes are not a whole, sound patch of a format this version knows.
    """
    document, tensors = container.parse(data, file)
    for name in ("codec", "statistics"):  # the first patches had none
        document.setdefault(name, {})
    container.check_document(document, "patch", FORMAT, _FIELDS, file)

    def bad(message: str, field: str, got: object, expected: object) -> BadFileError:
        return BadFileError(message, file=file, field=field, got=str(got)[:80], expected=expected)

    if not _text(document["task"], 100):
        raise bad("has a broken document", "task", document["task"], "1 to 100 printable characters")
    if not 1 <= document["version"] < 2**63:
        raise bad("has a broken document", "version", document["version"], "1 or more, in 64 bits")
    if not _ID.fullmatch(document["backbone_id"]):
        raise bad("has a broken document", "backbone_id", document["backbone_id"], "64 hexadecimal digits")

    labels = document["labels"]
    if not all(isinstance(label, str) and _text(label, 200) for label in labels) or len(labels) > MAX_LABELS:
        raise bad("has broken labels", "labels", len(labels), f"at most {MAX_LABELS} printable strings")
    known: set[str] = set()
    for label in labels:
        if label in known:
            raise bad("has a label twice", "labels", label, "each label once")
        known.add(label)
    try:
        preprocessing = Preprocessing.from_json(document["input"])
    except ValueError as error:
        raise bad("has a broken document", "input", error, "size, resize, scale and offset") from error

    sites = document["sites"]
    if "placement" in sites:  # as the first patches had them: of scale and bias alike, all unless they are numbered
        channels = sites.get("channels")
        numbers = sites.get("sites", list(range(len(channels))) if isinstance(channels, list) else None)
        sites = {"scale": numbers, "bias": numbers}
    for effect, numbers in sites.items():
        if effect not in trunk.SITES:
            raise bad("changes its sites in an unknown way", "sites", effect, ", ".join(trunk.SITES))
        if (
            not isinstance(numbers, list)
            or not numbers
            or not all(type(number) is int and 0 <= number < MAX_SITES for number in numbers)
            or numbers != sorted(set(numbers))
        ):
            raise bad("has a broken document", f"sites.{effect}", numbers, "numbers of sites, each once, in order")
        if effect not in tensors:
            raise bad("lacks a tensor", "tensors", ", ".join(tensors) or "none", effect)
    if extra := [name for name in trunk.SITES if name in tensors and name not in sites]:
        raise bad("does not say at which sites", "sites", ", ".join(sites) or "none", extra[0])

    ranges = tensors.pop(RANGES, None)
    if ranges is not None and not (
        ranges.dtype == np.float32
        and ranges.ndim == 2
        and ranges.shape[1] == 2
        and (ranges[:, 0] <= ranges[:, 1]).all()
        and np.abs(ranges).max(initial=0) < LARGEST_RANGE
    ):
        raise bad("has broken activation ranges", RANGES, ranges.shape, "float32 pairs, the smaller one first")
    expected_ranges = {} if ranges is None else {"activations": len(ranges)}
    if not container.alike(document["ranges"], expected_ranges):
        raise bad("has activation ranges at odds with its document", RANGES, document["ranges"], "as many as it holds")

    try:
        statistics = Statistics.from_json(document["statistics"], tensors.pop(CENTRE, None), len(labels))
    except ValueError as error:
        raise bad("has broken statistics", "statistics", error, "as docs/format.md says") from error

    kinds = document["kinds"]
    if not kinds or not all(
        isinstance(names, list) and names and all(isinstance(name, str) for name in names) for names in kinds.values()
    ):
        raise bad("has a broken document", "kinds", kinds, "for each kind the names of its tensors")
    if twice := [names for names in kinds.values() if len(set(names)) != len(names)]:
        raise bad("names a tensor twice", "kinds", ", ".join(twice[0]), "each tensor once in a kind")
    # kinds may share one: what they change adds up
    expected = list(dict.fromkeys(name for names in kinds.values() for name in names))
    if missing := [name for name in expected if name not in tensors]:
        raise bad("lacks a tensor", "tensors", ", ".join(tensors) or "none", missing[0])
    if extra := [name for name in tensors if name not in expected]:
        raise bad("has a tensor that no kind names", "tensors", extra[0], ", ".join(expected))
    if list(tensors) != expected:
        raise bad("has its tensors in another order", "tensors", ", ".join(tensors), ", ".join(expected))

    return Patch(
        task=document["task"],
        version=document["version"],
        backbone_id=document["backbone_id"],
        kinds={kind: tuple(names) for kind, names in kinds.items()},
        sites=sites,
        labels=tuple(labels),
        input=preprocessing,
        decode=document["decode"],
        codec=document["codec"],
        ranges=ranges,
        statistics=statistics,
        metrics=document["metrics"],
        licence=document["licence"],
        tensors=tensors,
    )


def read(path: str | os.PathLike[str]) -> Patch:
    """The patch in a file.

    Raises:
        UsageError: there is no such file.
        BadFileError: it is not a whole, sound patch.
    """
    return parse(files.read(path, limit=MAX_BYTES), path)


def write(patch: Patch, path: str | os.PathLike[str]) -> int:
    """Write a patch whole or not at all; returns its size in bytes."""
    data = dump(patch)
    files.write(path, data)
    return len(data)


def next_version(path: str | os.PathLike[str], task: str) -> int:
    """The version of a patch that is to replace the one at `path`: one more, or 1 for a new task or place."""
    if not Path(path).exists():
        return 1
    try:
        previous = read(path)
    except BadFileError:
        return 1
    return previous.version + 1 if previous.task == task else 1


def _text(value: str, limit: int) -> bool:
    return 0 < len(value) <= limit and value.isprintable()
