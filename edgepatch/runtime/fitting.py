"""A patch held against a graph: does it fit, and what are its values there?"""

from __future__ import annotations

import dataclasses

import numpy as np

from edgepatch import codec
from edgepatch.blob import Patch
from edgepatch.container import Tensors
from edgepatch.errors import MismatchError
from edgepatch.runtime.graph_file import Graph
from edgepatch.trunk import CHANNELS, SITES, SKIP, Trunk


@dataclasses.dataclass(frozen=True)
class Fitted:
    """A patch that fits a graph.

    Attributes:
        patch, trunk: it, and the graph's sites.
        inputs: the graph's patch inputs, float32: of scale and bias the bound sites alone; None of a patch that has to
            be baked, for it changes kernels or skips blocks.
        ranges: float32 (activations, 2), the lowest and highest value of each; none unless the patch was calibrated.
        kept: decoded values of a patch that can be bound; None of others, whose masks and kernels would take much more
            memory than their file.
    """

    patch: Patch
    trunk: Trunk
    inputs: Tensors | None
    ranges: np.ndarray
    kept: Tensors | None

    @property
    def size(self) -> int:
        """Side of its images in pixels, at which it runs."""
        return self.patch.input.size

    @property
    def values(self) -> Tensors:
        """What is baked, as `codec.decode` gives it."""
        return codec.decode(self.patch, self.trunk) if self.kept is None else self.kept


def fit(graph: Graph, patch: Patch, file: object) -> Fitted:
    """A patch's values for a graph.

    Raises:
        MismatchError: the patch is of another backbone, for an input size that the graph does not take or for other
            sites, has tensors the graph does not take, or lacks the activation ranges of a fully quantised graph.
    """

    def mismatch(message: str, field: str, got: object, expected: object, mend: str | None = None) -> MismatchError:
        return MismatchError(message, file=file, field=field, got=got, expected=expected, mend=mend)

    if patch.backbone_id != graph.backbone_id:
        raise mismatch(
            "is a patch of another backbone",
            "backbone_id",
            patch.backbone_id,
            graph.backbone_id,
            "Export a graph of the backbone it was trained on, or train it on this one.",
        )
    low, high = graph.document["sizes"]
    if not low <= patch.input.size <= high:
        raise mismatch(
            "was trained for another input size than the graph takes",
            "input.size",
            patch.input.size,
            f"{low} to {high}" if low < high else low,
            "If an older edgepatch exported the graph, export it again: it then takes every size that the network "
            f"can be built for. Otherwise: edgepatch train BACKBONE DATA --size {graph.input.size} --out FILE.epatch",
        )
    shapes = codec.check(patch, graph.trunk, file)
    rows = graph.document["sites"]
    changed = sorted({number for numbers in patch.sites.values() for number in numbers})
    if outside := [rows[number]["name"] for number in changed if not rows[number]["bound"]]:
        raise mismatch(
            "changes sites that this graph keeps as they are",
            "sites",
            f"{patch.kind[:40]}, with {outside[0]}",
            f"placement {graph.document['placement']}",
            "Export a graph with --placement all, or train a patch for the graph's placement.",
        )
    head = {name: shape for name, shape in graph.inputs.items() if name not in CHANNELS}
    for name, got in shapes.items():  # before anything is unpacked
        if name not in (*SITES, SKIP, *head):
            raise mismatch("has a tensor that the graph does not take", name, name, ", ".join(graph.inputs))
        shape = head.get(name, got)
        if len(shape) != len(got) or any(side not in (None, mine) for side, mine in zip(shape, got, strict=True)):
            raise mismatch("has a tensor of another shape than the graph takes", name, str(got), str(shape))
    values = codec.decode(patch, graph.trunk, file)
    if missing := [name for name in graph.inputs if name not in values]:
        raise mismatch("lacks a tensor that the graph needs", missing[0], ", ".join(patch.tensors), missing[0])
    ranges = np.zeros((0, 2), np.float32) if patch.ranges is None else patch.ranges
    if graph.precision == "int8":
        expected = 1 + max(row["range"] for row in graph.document["bake"]["activations"])
        if len(ranges) != expected:
            raise mismatch(
                "was not calibrated for an int8 graph: it has no activation ranges"
                if not len(ranges)
                else "has activation ranges of another network",
                "ranges",
                f"{len(ranges)} ranges",
                f"{expected} ranges",
                f"edgepatch calibrate BACKBONE IMAGES --patch {file or 'FILE.epatch'}",
            )
    if not patch.bindable:
        return Fitted(patch, graph.trunk, None, ranges, None)
    bound = graph.trunk.inside(number for number, row in enumerate(rows) if row["bound"])
    inputs = {name: values[name][bound] if name in CHANNELS else values[name] for name in graph.inputs}
    return Fitted(patch, graph.trunk, inputs, ranges, values)
