"""The nodes of a plan as JSON: how an imported model's plan, which no function here can make again, is in its file."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from edgepatch.backbones.plan import ACTIVATIONS, IMAGE, PARTS, Node, Plan, Site

MAX_NODES = 2000
MAX_CHANNELS = 65536
MAX_KERNEL = 31
SITE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,79}")

_OPERANDS = {"add": 2, "multiply": 2, "mean": 1}
_SITE = {"name", "block", "placement", "kernel", "stride", "activation", "normalised", "pads"}
# what layers around sites and nodes are called in network.py, and inputs, outputs and constants of graphs
_LAYERS = re.compile(
    r"image|features|(add|multiply|mean)_\d+|join_\d+|affine|skips|"
    r"scale|bias|head|head_kernel|head_bias|logits|channels|column|sixth"
)
_SUFFIXES = ("", "_pad", "_BN", "_fixed", "_scale_bias", *(f"_{name}" for name in ACTIVATIONS))


def to_json(nodes: Iterable[Node]) -> list[dict[str, Any]]:
    """Nodes as a list of documents: `inputs` (-1 is the image) and `op`, or `inputs` and a site's attributes."""
    return [_to_json(node) for node in nodes]


def from_json(value: Any, size: int, padding: str) -> tuple[Node, ...]:
    """The inverse of `to_json`, for pictures of `size` pixels.

    Raises:
        ValueError: it is not a trunk that can be built: a field is missing, unknown or out of range, a node reads a
            later one or is read by none, shapes do not fit, a name is taken.
    """
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_NODES:
        raise ValueError(f"the plan is not a list of 1 to {MAX_NODES} nodes")
    nodes: list[Node] = []
    widths: list[int] = []
    for number, entry in enumerate(value):
        try:
            node = _node(entry, number, sum(node.site is not None for node in nodes), widths)
        except ValueError as error:
            raise ValueError(f"node {number}: {error}") from error
        nodes.append(node)
        widths.append(node.site.channels if node.site else widths[node.inputs[0]])
    read = {source for node in nodes for source in node.inputs}
    if lost := set(range(len(nodes) - 1)) - read:
        raise ValueError(f"node {min(lost)} is read by none")
    taken: set[str] = set()
    for node in nodes:
        if node.site:
            claim(node.site.name, taken)
    Plan("", 1.0, padding, 0.0, tuple(nodes)).sides(size)
    return tuple(nodes)


def claim(name: str, taken: set[str]) -> None:
    """Take a site's name, and those of the layers around it.

    Raises:
        ValueError: it has other characters than layers, tensors and graph inputs may be named with, or is in `taken`.
    """
    if not SITE_NAME.fullmatch(name) or _LAYERS.fullmatch(name):
        raise ValueError(f"{name[:80]!r} is not a name for a site")
    mine = {f"{name}{suffix}" for suffix in _SUFFIXES}
    if both := taken & mine:
        raise ValueError(f"the site's name {name!r} is taken: there are two {min(both)!r}")
    taken |= mine


def _to_json(node: Node) -> dict[str, Any]:
    site = node.site
    if site is None:
        return {"inputs": list(node.inputs), "op": node.op}
    return {
        "inputs": list(node.inputs),
        "name": site.name,
        "block": site.block,
        "placement": site.placement,
        "kernel": list(site.kernel),
        "stride": site.stride,
        "activation": site.activation,
        "normalised": site.normalised,
        "pads": None if site.pads is None else list(site.pads),
    }


def _node(entry: Any, number: int, index: int, widths: list[int]) -> Node:
    """Node `number`, whose site, if it is one, is the `index`th, behind nodes of `widths` channels."""
    if not isinstance(entry, dict) or set(entry) not in ({"inputs", "op"}, {"inputs", *_SITE}):
        raise ValueError("expected `inputs` and `op`, or `inputs` and a site's fields")
    if "op" not in entry:
        inputs = _numbers(entry["inputs"], "inputs", 1, IMAGE, number - 1)
        return Node(inputs, _site(entry, index, 3 if inputs[0] == IMAGE else widths[inputs[0]]))
    op = entry["op"]
    if not isinstance(op, str) or op not in _OPERANDS:
        raise ValueError(f"op is {str(op)[:40]!r}, not one of {', '.join(_OPERANDS)}")
    inputs = _numbers(entry["inputs"], "inputs", _OPERANDS[op], 0, number - 1)
    if len(set(inputs)) != len(inputs) or len({widths[source] for source in inputs}) != 1:
        raise ValueError(f"{op} of nodes {inputs}, which are the same or differ in channels")
    return Node(inputs, op=op)


def _site(entry: dict[str, Any], index: int, channels: int) -> Site:
    for name, known in (("placement", PARTS), ("activation", ACTIVATIONS)):
        if entry[name] not in known:
            raise ValueError(f"{name} is {str(entry[name])[:40]!r}, not one of {', '.join(known)}")
    if not isinstance(entry["name"], str) or not isinstance(entry["normalised"], bool):
        raise ValueError("name is not a string, or normalised not true or false")
    kernel = _numbers(entry["kernel"], "kernel", 4, 1, MAX_CHANNELS)
    height, width, fan_in, out = kernel
    depthwise = entry["placement"] == "depthwise"
    if height != width or height > MAX_KERNEL or fan_in != channels or (depthwise and out != 1):
        raise ValueError(f"kernel {kernel} does not fit {channels} channels, or is not square")
    (block,) = _numbers([entry["block"]], "block", 1, 0, MAX_NODES)
    (stride,) = _numbers([entry["stride"]], "stride", 1, 1, MAX_KERNEL)
    pads = None if entry["pads"] is None else _numbers(entry["pads"], "pads", 2, 0, MAX_KERNEL)
    return Site(
        index,
        entry["name"],
        block,
        entry["placement"],
        (height, width, fan_in, out),
        stride,
        entry["activation"],
        entry["normalised"],
        None if pads is None else (pads[0], pads[1]),
    )


def _numbers(value: Any, name: str, count: int, low: int, high: int) -> tuple[int, ...]:
    whole = isinstance(value, list) and len(value) == count and all(type(number) is int for number in value)
    if not whole or not all(low <= number <= high for number in value):
        raise ValueError(f"{name} is {str(value)[:40]}, not {count} whole numbers from {low} to {high}")
    return tuple(value)
