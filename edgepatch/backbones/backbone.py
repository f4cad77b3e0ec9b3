"""A backbone: a trunk's plan and tensors, the classifier it came with, and its file."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from edgepatch import codec, container, files
from edgepatch.backbones import mobilenet_v2
from edgepatch.backbones.plan import PADDINGS, Plan, Site
from edgepatch.blob import Patch
from edgepatch.container import Tensors
from edgepatch.errors import BadFileError, MismatchError, UsageError
from edgepatch.imaging import Preprocessing

FORMAT = 1
MAX_BYTES = 1024 * 1024 * 1024
ARCHITECTURES = {"mobilenet_v2": mobilenet_v2.plan}
PARTS = ("kernel", "gamma", "beta", "mean", "variance")  # of a site, in canonical order

_FIELDS = {
    "kind": str,
    "format": int,
    "architecture": str,
    "alpha": float,
    "padding": str,
    "epsilon": float,
    "input": dict,
    "labels": list,
    "source": dict,
    "backbone_id": str,
}


@dataclasses.dataclass(frozen=True)
class Backbone:
    """A pretrained trunk, self-describing.

    Attributes:
        plan: what it computes.
        tensors: float32; for each site `NAME/kernel` (HWIO), `/gamma`, `/beta`, `/mean`, `/variance` (channels,), then,
            if it has a classifier, `head_kernel` (features, classes) and `head_bias` (classes,).
        input: how pictures are prepared for it; the size is the one it is built for.
        labels: class names of its classifier, or none.
        source: where the weights come from, their licence, the file's SHA-256.
    """

    plan: Plan
    tensors: Tensors
    input: Preprocessing
    labels: tuple[str, ...] = ()
    source: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def id(self) -> str:
        """SHA-256 of the trunk: what its plan says and its tensors in canonical order, without the classifier."""
        p = self.plan
        digest = hashlib.sha256(f"{p.architecture} {p.alpha!r} {p.padding} {p.epsilon!r}\n".encode())
        for name in trunk_names(p):
            value = self.tensors[name]
            digest.update(f"{name} {value.dtype.name} {list(value.shape)}\n".encode())
            digest.update(np.ascontiguousarray(value, "<f4").tobytes())
        return digest.hexdigest()

    def part(self, site: Site, part: str) -> np.ndarray:
        """A site's `kernel`, `gamma`, `beta`, `mean` or `variance`."""
        return self.tensors[f"{site.name}/{part}"]

    def fold(self, site: Site) -> tuple[np.ndarray, np.ndarray]:
        """The scale and the bias (channels,) that a site's batch norm amounts to."""
        scale = self.part(site, "gamma") / np.sqrt(self.part(site, "variance") + np.float32(self.plan.epsilon))
        return scale, self.part(site, "beta") - self.part(site, "mean") * scale

    def defaults(self) -> Tensors:
        """The backbone's own values of the graph inputs `scale` and `bias`, all sites in one (sum of channels,)."""
        folded = [self.fold(site) for site in self.plan.sites]
        return {
            "scale": np.concatenate([scale for scale, _ in folded]),
            "bias": np.concatenate([bias for _, bias in folded]),
        }

    def values(self, patch: Patch) -> Tensors:
        """A patch's values, float32: `scale` and `bias` of all sites, the backbone's own where it has none; the head.

        Raises:
            BadFileError: its tensors do not fit its sites.
        """
        channels = self.plan.channels
        found, inside = self.defaults(), codec.inside(patch, channels)
        own = {name: value[inside] for name, value in found.items()}
        chosen = patch.sites.get("sites", range(len(channels)))
        for name, value in codec.decode(patch, own, [channels[number] for number in chosen]).items():
            if name in found:
                found[name][inside] = value
            else:
                found[name] = value
        return found

    def own_patch(self) -> Patch:
        """The task it was pretrained for, as a patch: its classifier on its own scales and biases.

        Raises:
            UsageError: it has no classifier.
        """
        if not self.labels:
            raise UsageError(
                "the backbone has no classifier of its own, so it is not a task", field="labels", got="none"
            )
        return Patch(
            task=str(self.source.get("task", "pretrained")),
            backbone_id=self.id,
            kinds={"classifier": ("head_kernel", "head_bias")},
            labels=self.labels,
            input=self.input,
            tensors={
                "head_kernel": self.tensors["head_kernel"].astype(np.float16),
                "head_bias": self.tensors["head_bias"].astype(np.float16),
            },
            decode={"head": "classifier", "activation": "softmax"},
            licence=str(self.source.get("licence", "")),
        )

    def require_own(self, patch: Patch, file: object) -> None:
        """Refuse a patch of another backbone.

        Raises:
            MismatchError: its backbone id is another one.
        """
        if patch.backbone_id != self.id:
            raise MismatchError(
                "is a patch of another backbone",
                file=file,
                field="backbone_id",
                got=patch.backbone_id,
                expected=self.id,
                mend="Train it on this backbone, or use the backbone it was trained on.",
            )


def trunk_names(plan: Plan) -> list[str]:
    """Names of the trunk's tensors in canonical order."""
    return [f"{site.name}/{part}" for site in plan.sites for part in PARTS]


def shapes(plan: Plan) -> dict[str, tuple[int, ...]]:
    """Shapes of the trunk's tensors in canonical order."""
    return {
        f"{site.name}/{part}": site.kernel if part == "kernel" else (site.channels,)
        for site in plan.sites
        for part in PARTS
    }


def make_plan(architecture: str, alpha: float, padding: str, epsilon: float) -> Plan:
    """The plan of an architecture by name.

    Raises:
        UsageError: there is no such architecture, or its width is out of range.
    """
    if architecture not in ARCHITECTURES:
        raise UsageError(
            "there is no such architecture", field="architecture", got=architecture, expected=", ".join(ARCHITECTURES)
        )
    return ARCHITECTURES[architecture](alpha, padding, epsilon)


def check_tensors(plan: Plan, tensors: Tensors, file: object) -> None:
    """Refuse tensors that are not exactly this plan's trunk, with or without a classifier.

    Raises:
        BadFileError: one is missing, of another shape, negative where it is a variance, or not known.
    """
    expected = shapes(plan)
    if "head_kernel" in tensors or "head_bias" in tensors:
        classes = tensors["head_bias"].shape[0] if tensors.get("head_bias", np.zeros(())).ndim == 1 else 0
        expected |= {"head_kernel": (plan.features, classes), "head_bias": (classes,)}
    for name, shape in expected.items():
        got = tensors[name].shape if name in tensors else "nothing"
        if got != shape:
            raise BadFileError(
                "has other tensors than the backbone needs", file=file, field=name, got=got, expected=shape
            )
        if not np.isfinite(tensors[name]).all():
            raise BadFileError("holds NaN or infinity", file=file, field=name)
        if name.endswith("/variance") and tensors[name].min() < 0:
            raise BadFileError(
                "has a negative variance", file=file, field=name, got=float(tensors[name].min()), expected="0 or more"
            )
    if extra := [name for name in tensors if name not in expected]:
        raise BadFileError("has a tensor that the backbone does not know", file=file, field=extra[0])


def write(backbone: Backbone, path: str | os.PathLike[str]) -> int:
    """Write a backbone file whole or not at all; returns its size in bytes."""
    plan = backbone.plan
    document = {
        "kind": "backbone",
        "format": FORMAT,
        "architecture": plan.architecture,
        "alpha": plan.alpha,
        "padding": plan.padding,
        "epsilon": plan.epsilon,
        "input": backbone.input.to_json(),
        "labels": list(backbone.labels),
        "source": dict(backbone.source),
        "backbone_id": backbone.id,
    }
    heads = [name for name in ("head_kernel", "head_bias") if name in backbone.tensors]
    data = container.dump(document, {name: backbone.tensors[name] for name in [*trunk_names(plan), *heads]})
    parse(data, path)
    files.write(path, data)
    return len(data)


def parse(data: bytes, file: object) -> Backbone:
    """The backbone of a file's bytes.

    Raises:
        BadFileError: the bytes are not a whole, sound backbone of a format this version knows.
    """
    document, tensors = container.parse(data, file)
    container.check_document(document, "backbone", FORMAT, _FIELDS, file)

    def bad(message: str, field: str, got: object, expected: object) -> BadFileError:
        return BadFileError(message, file=file, field=field, got=str(got)[:80], expected=expected)

    if document["padding"] not in PADDINGS:
        raise bad("has a broken document", "padding", document["padding"], " or ".join(PADDINGS))
    if not 0 < document["epsilon"] < 1:
        raise bad("has a broken document", "epsilon", document["epsilon"], "between 0 and 1")
    if not all(isinstance(label, str) for label in document["labels"]):
        raise bad("has a broken document", "labels", "something else", "strings")
    try:
        preprocessing = Preprocessing.from_json(document["input"])
        plan = make_plan(document["architecture"], document["alpha"], document["padding"], document["epsilon"])
    except ValueError as error:
        raise bad("has a broken document", "input", error, "size, resize, scale and offset") from error
    except UsageError as error:
        raise bad(error.message, error.details["field"], error.details["got"], error.details["expected"]) from error
    for name, value in tensors.items():
        if value.dtype != np.float32:
            raise bad("has a tensor of another type", name, value.dtype, "float32")
    check_tensors(plan, tensors, file)
    classes = len(tensors["head_bias"]) if "head_bias" in tensors else 0
    if len(document["labels"]) != classes:
        raise bad("has labels for another classifier", "labels", len(document["labels"]), classes)
    backbone = Backbone(plan, tensors, preprocessing, tuple(document["labels"]), document["source"])
    if backbone.id != document["backbone_id"]:
        raise bad("has other tensors than it says", "backbone_id", backbone.id, document["backbone_id"])
    return backbone


def read(path: str | os.PathLike[str]) -> Backbone:
    """The backbone in a file.

    Raises:
        UsageError: there is no such file.
        BadFileError: it is not a whole, sound backbone.
    """
    return parse(files.read(path, limit=MAX_BYTES), path)
