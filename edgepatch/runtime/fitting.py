"""A patch held against a graph: does it fit, and what are its values there?"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from edgepatch import codec
from edgepatch.blob import Patch
from edgepatch.container import Tensors
from edgepatch.errors import MismatchError
from edgepatch.runtime.graph_file import Graph


@dataclasses.dataclass(frozen=True)
class Fitted:
    """A patch's values as a graph needs them, float32.

    Attributes:
        values: `scale` and `bias` of all sites (sum of channels,), the backbone's own where the patch has none, and the
            head: what is baked.
        inputs: the graph's patch inputs: of scale and bias the bound sites alone.
        ranges: float32 (activations, 2), the lowest and highest value of each; none unless the patch was calibrated.
    """

    values: Tensors
    inputs: Tensors
    ranges: np.ndarray


def fit(graph: Graph, patch: Patch, file: object) -> Fitted:
    """A patch's values for a graph.

    Raises:
        MismatchError: the patch is of another backbone, for another input size or other sites, has tensors the graph
            does not take, or lacks the activation ranges of a fully quantised graph.
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
    if patch.input.size != graph.input.size:
        raise mismatch(
            "was trained for another input size",
            "input.size",
            patch.input.size,
            graph.input.size,
            "Export a graph of a backbone created with its --size.",
        )
    rows = graph.document["sites"]
    chosen = _sites(patch, graph, mismatch)
    channels = [row["channels"] for row in rows]
    inside = codec.inside(patch, channels)
    bound = np.repeat([row["bound"] for row in rows], channels)
    values = {name: np.array(value, np.float32) for name, value in graph.defaults.items()}
    for name, got in codec.shapes(patch, file).items():  # before anything is unpacked
        if name not in graph.inputs:
            raise mismatch("has a tensor that the graph does not take", name, name, ", ".join(graph.inputs))
        shape = (int(inside.sum()),) if name in codec.SITES else graph.inputs[name]
        if len(shape) != len(got) or any(side not in (None, mine) for side, mine in zip(shape, got, strict=True)):
            raise mismatch("has a tensor of another shape than the graph takes", name, str(got), str(shape))
    own = {name: value[inside] for name, value in values.items()}
    for name, value in codec.decode(patch, own, [channels[number] for number in chosen], file).items():
        if name in codec.SITES:
            values[name][inside] = value
        else:
            values[name] = value
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
    inputs = {name: values[name][bound] if name in codec.SITES else values[name] for name in graph.inputs}
    return Fitted(values, inputs, ranges)


def _sites(patch: Patch, graph: Graph, mismatch: Callable[..., MismatchError]) -> list[int]:
    """Numbers of the sites that a patch changes, in forward order."""
    rows = graph.document["sites"]
    if not patch.sites:
        return []
    chosen, channels = patch.sites.get("sites", list(range(len(rows)))), patch.sites.get("channels")
    if (
        not isinstance(chosen, list)
        or not all(type(index) is int and 0 <= index < len(rows) for index in chosen)
        or chosen != sorted(set(chosen))
    ):
        expected = f"numbers from 0 to {len(rows) - 1}, each once, in order"
        raise mismatch("changes sites that the graph does not have", "sites.sites", str(chosen)[:60], expected)
    own = [rows[index]["channels"] for index in chosen]
    if channels != own:
        raise mismatch(
            "changes sites of other channels than the graph's", "sites.channels", str(channels)[:60], str(own)[:60]
        )
    if outside := [rows[index]["name"] for index in chosen if not rows[index]["bound"]]:
        raise mismatch(
            "changes sites that this graph keeps as they are",
            "sites",
            f"placement {str(patch.sites.get('placement'))[:40]}, with {outside[0]}",
            f"placement {graph.document['placement']}",
            "Export a graph with --placement all, or train a patch for the graph's placement.",
        )
    return list(chosen)
