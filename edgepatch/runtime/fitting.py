"""A patch held against a graph: does it fit, and what are its values there?"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from edgepatch import codec
from edgepatch.blob import Patch
from edgepatch.container import Tensors
from edgepatch.errors import BadFileError, MismatchError, UsageError
from edgepatch.head_network import Network
from edgepatch.runtime.graph_file import Graph
from edgepatch.trunk import CHANNELS, SITES, SKIP, Trunk, left_out

NETWORK = "network"  # where a patch's `decode` describes a head that is more than a dense layer


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
        network: the head, where it is one of its own behind the graph; None of a dense layer, which is in the graph.
        idle: what the graph's own dense layer is given then: zeros, for nobody looks at what it answers.
    """

    patch: Patch
    trunk: Trunk
    inputs: Tensors | None
    ranges: np.ndarray
    kept: Tensors | None
    network: Network | None = None
    idle: Tensors = dataclasses.field(default_factory=dict)

    @property
    def size(self) -> int:
        """Side of its images in pixels, at which it runs."""
        return self.patch.input.size

    @property
    def maps(self) -> tuple[str, ...]:
        """Sites whose outputs the graph is to answer beside its own."""
        return self.network.maps if self.network else ()

    @property
    def layout(self) -> tuple[int, tuple[str, ...]]:
        """What tasks must have in common to be bound to one interpreter."""
        return self.size, self.maps

    @property
    def values(self) -> Tensors:
        """What is baked, as `codec.decode` gives it."""
        if self.kept is not None:
            return self.kept
        return {**codec.decode(self.patch, self.trunk), **self.idle}


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
    network = _network(graph, patch, file)
    dense = {name: shape for name, shape in graph.inputs.items() if name not in CHANNELS}
    head: Mapping[str, tuple[int | None, ...]] = dense
    if network:
        widths = {row["name"]: row["channels"] for row in rows}
        head = network.tensors(widths)
        if missing := [name for name in head if name not in shapes]:
            raise mismatch("lacks a tensor of its head", missing[0], ", ".join(shapes), missing[0])
    for name, got in shapes.items():  # before anything is unpacked
        if name not in (*SITES, SKIP, *head):
            raise mismatch("has a tensor that the graph does not take", name, name, ", ".join(graph.inputs))
        shape = head.get(name, got)
        if len(shape) != len(got) or any(side not in (None, mine) for side, mine in zip(shape, got, strict=True)):
            raise mismatch("has a tensor of another shape than the graph takes", name, str(got), str(shape))
    if not network and (shape := shapes.get("head_kernel", ())) and shape[-1] != len(patch.labels):
        raise BadFileError(  # packed, four classes take a byte; unpacked, sixteen
            "has labels for another head",
            file=file,
            field="head_kernel",
            got=str(shape),
            expected=f"{len(patch.labels)} classes, one or more",
        )
    values = codec.decode(patch, graph.trunk, file)
    idle: Tensors = {}
    if network:
        idle = {name: np.zeros([side or 1 for side in shape], np.float32) for name, shape in dense.items()}
        values |= idle
        gone = {number for block in left_out(graph.document["residuals"], values) for number in block["sites"]}
        if lost := [name for name in network.maps if graph.trunk.names.index(name) in gone]:
            raise mismatch("skips a block whose output its head reads", "decode.network.maps", lost[0], "others")
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
        return Fitted(patch, graph.trunk, None, ranges, None, network, idle)
    bound = graph.trunk.inside(number for number, row in enumerate(rows) if row["bound"])
    inputs = {name: values[name][bound] if name in CHANNELS else values[name] for name in graph.inputs}
    return Fitted(patch, graph.trunk, inputs, ranges, values, network, idle)


def require_dense(fitted: Fitted, file: object, what: str) -> None:
    """Refuse a head that is a network of its own, where only the graph's dense layer will do.

    Args:
        what: that cannot be done with it.

    Raises:
        UsageError: it is one.
    """
    if fitted.network:
        raise UsageError(
            f"has a head on maps of the trunk, of which {what}",
            file=file,
            field="decode.head",
            got=fitted.patch.decode.get("head"),
            expected="classifier",
        )


def _network(graph: Graph, patch: Patch, file: object) -> Network | None:
    """The head's network, if it has one, after a look at whether the graph has its maps.

    Raises:
        BadFileError: it is broken.
        MismatchError: it reads maps that the graph does not have.
    """
    if NETWORK not in patch.decode:
        return None
    field = f"decode.{NETWORK}"
    try:
        network = Network.from_json(patch.decode[NETWORK])
    except ValueError as error:
        raise BadFileError(f"has a broken head: {error}", file=file, field=field) from error
    if unknown := [name for name in network.maps if name not in graph.trunk.names]:
        raise MismatchError(
            "has a head on sites that the graph does not have",
            file=file,
            field=f"{field}.maps",
            got=unknown[0],
            expected=", ".join(graph.trunk.names[-5:]) + ", ...",
        )
    try:
        network.widths(dict(zip(graph.trunk.names, graph.trunk.channels, strict=True)))
    except ValueError as error:
        raise MismatchError(f"has a head for other maps: {error}", file=file, field=field) from error
    return network
