"""A backbone: a trunk's plan and tensors, the classifier it came with, and its file."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from edgepatch import codec, container, files
from edgepatch.backbones import efficientnet_lite, mobilenet_v1, mobilenet_v2, mobilenet_v3, plan_json
from edgepatch.backbones.plan import PADDINGS, Plan, Site
from edgepatch.blob import Patch
from edgepatch.container import Tensors
from edgepatch.errors import BadFileError, MismatchError, UsageError
from edgepatch.imaging import Preprocessing
from edgepatch.trunk import Trunk

FORMAT = 1
MAX_BYTES = 1024 * 1024 * 1024
ARCHITECTURES: dict[str, Callable[[float, str, float], Plan]] = {
    "mobilenet_v1": mobilenet_v1.plan,
    "mobilenet_v2": mobilenet_v2.plan,
    "mobilenet_v3_small": mobilenet_v3.small,
    "mobilenet_v3_large": mobilenet_v3.large,
    "efficientnet_lite0": efficientnet_lite.plan,
}
IMPORTED = "keras"  # the architecture of an imported model, whose nodes are in its file
NORM = ("gamma", "beta", "mean", "variance")

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
        tensors: float32; for each site `NAME/kernel` (HWIO), `/gamma`, `/beta`, `/mean`, `/variance` (channels,), or
            `/kernel` and `/bias` where no batch norm follows; then, if it has a classifier, `head_kernel` (features,
            classes) and `head_bias` (classes,).
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
        if p.architecture == IMPORTED:  # the line above says all of the others
            digest.update(json.dumps(plan_json.to_json(p.nodes), separators=(",", ":"), sort_keys=True).encode())
        for name in shapes(p):
            value = self.tensors[name]
            digest.update(f"{name} {value.dtype.name} {list(value.shape)}\n".encode())
            digest.update(np.ascontiguousarray(value, "<f4").tobytes())
        return digest.hexdigest()

    def at(self, size: int) -> Backbone:
        """The same backbone, by its id too, for pictures of another size.

        Raises:
            UsageError: the network cannot be built for it, or it is out of the range of `imaging.SIZES`.
        """
        if size == self.input.size:
            return self
        try:
            resized = dataclasses.replace(self.input, size=size)
            self.plan.sides(size)
        except ValueError as error:
            raise UsageError(f"the input cannot be built: {error}", field="--size", got=size) from error
        return dataclasses.replace(self, input=resized)

    def part(self, site: Site, part: str) -> np.ndarray:
        """A site's `kernel`, `gamma`, `beta`, `mean` or `variance`; of one without a batch norm, those of the identity
        and its bias as `beta`.
        """
        if site.normalised or part == "kernel":
            return self.tensors[f"{site.name}/{part}"]
        bias = self.tensors[f"{site.name}/bias"]
        same = {"gamma": 1, "mean": 0, "variance": 1 - self.plan.epsilon}
        return np.full_like(bias, same[part]) if part in same else bias

    @functools.cached_property
    def has_statistics(self) -> bool:
        """Whether any site has a batch norm with statistics; one that was folded into its kernel is the identity."""
        same = {"mean": 0.0, "variance": 1 - self.plan.epsilon}
        return any(
            not np.allclose(self.part(site, part), value, rtol=0, atol=1e-6)
            for site in self.plan.sites
            if site.normalised
            for part, value in same.items()
        )

    def fold(self, site: Site) -> tuple[np.ndarray, np.ndarray]:
        """The scale and the bias (channels,) that a site's batch norm amounts to."""
        if not site.normalised:
            bias = self.part(site, "beta")
            return np.ones_like(bias), bias
        scale = self.part(site, "gamma") / np.sqrt(self.part(site, "variance") + np.float32(self.plan.epsilon))
        return scale, self.part(site, "beta") - self.part(site, "mean") * scale

    def defaults(self) -> Tensors:
        """The backbone's own values of the graph inputs `scale` and `bias`, all sites in one (sum of channels,)."""
        folded = [self.fold(site) for site in self.plan.sites]
        return {
            "scale": np.concatenate([scale for scale, _ in folded]),
            "bias": np.concatenate([bias for _, bias in folded]),
        }

    @functools.cached_property
    def trunk(self) -> Trunk:
        """Its sites and what they have of their own."""
        sites = self.plan.sites
        return Trunk(
            names=[site.name for site in sites],
            shapes=[site.kernel for site in sites],
            channels=self.plan.channels,
            residuals=len(self.plan.residuals),
            kernel=lambda number: self.part(sites[number], "kernel"),
            **self.defaults(),
        )

    def values(self, patch: Patch) -> Tensors:
        """A patch's values, float32: `scale` and `bias` of all sites (sum of channels,), the backbone's own where it
        has none; the head; `NAME/kernel` (HWIO) of each site whose kernel the patch replaces or masks; and bool `skip`
        (residuals,) if it can skip blocks.

        Raises:
            MismatchError, BadFileError: its tensors do not fit the backbone's sites.
        """
        found = codec.decode(patch, self.trunk)
        for site in self.plan.sites:
            mask = found.pop(f"{site.name}/mask", None)
            if mask is not None:
                found[f"{site.name}/kernel"] = found.get(f"{site.name}/kernel", self.part(site, "kernel")) * mask
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
        with np.errstate(over="ignore"):  # infinity is no patch's, and whoever writes one sees to it
            head = {name: self.tensors[name].astype(np.float16) for name in ("head_kernel", "head_bias")}
        return Patch(
            task=str(self.source.get("task", "pretrained")),
            backbone_id=self.id,
            kinds={"classifier": ("head_kernel", "head_bias")},
            labels=self.labels,
            input=self.input,
            tensors=head,
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


def parts(site: Site) -> tuple[str, ...]:
    """A site's tensors in canonical order."""
    return ("kernel", *(NORM if site.normalised else ("bias",)))


def shapes(plan: Plan) -> dict[str, tuple[int, ...]]:
    """Shapes of the trunk's tensors in canonical order."""
    return {
        f"{site.name}/{part}": site.kernel if part == "kernel" else (site.channels,)
        for site in plan.sites
        for part in parts(site)
    }


def make_plan(architecture: str, alpha: float, padding: str, epsilon: float) -> Plan:
    """The plan of an architecture by name.

    Raises:
        UsageError: there is no such architecture, or its width is out of range.
    """
    if architecture not in ARCHITECTURES:
        raise no_such(architecture)
    return ARCHITECTURES[architecture](alpha, padding, epsilon)


def no_such(architecture: str) -> UsageError:
    """What an unknown architecture is answered with."""
    return UsageError(
        "there is no such architecture", field="architecture", got=architecture, expected=", ".join(ARCHITECTURES)
    )


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
    if plan.architecture == IMPORTED:
        document["plan"] = plan_json.to_json(plan.nodes)
    heads = [name for name in ("head_kernel", "head_bias") if name in backbone.tensors]
    data = container.dump(document, {name: backbone.tensors[name] for name in [*shapes(plan), *heads]})
    parse(data, path)
    files.write(path, data)
    return len(data)


def parse(data: bytes, file: object) -> Backbone:
    """The backbone of a file's bytes.

    Raises:
        BadFileError: the bytes are not a whole, sound backbone of a format this version knows.
    """
    document, tensors = container.parse(data, file)
    imported = document.get("architecture") == IMPORTED
    container.check_document(document, "backbone", FORMAT, _FIELDS | ({"plan": list} if imported else {}), file)

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
    except ValueError as error:
        raise bad("has a broken document", "input", error, "size, resize, scale and offset") from error
    rule = document["architecture"], document["alpha"], document["padding"], document["epsilon"]
    try:
        if imported:
            plan = Plan(*rule, plan_json.from_json(document["plan"], preprocessing.size, document["padding"]))
        else:
            plan = make_plan(*rule)
            plan.sides(preprocessing.size)
    except ValueError as error:
        raise bad("has a broken plan", "plan", error, "a trunk that can be built") from error
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
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is refused
        own = backbone.defaults()
    for name, value in own.items():
        if not np.isfinite(value).all():
            raise bad("has a batch norm whose values overflow", name, "infinity", "finite values")
    return backbone


def read(path: str | os.PathLike[str]) -> Backbone:
    """The backbone in a file.

    Raises:
        UsageError: there is no such file.
        BadFileError: it is not a whole, sound backbone.
    """
    return parse(files.read(path, limit=MAX_BYTES), path)
