"""What the bake tables of both formats have in common: rows of sites, and of blocks that a task may skip.

A block is a run of operators that reads one value, its entry, and makes one, its join. Without the block, whatever
reads the join reads the entry.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepatch.container import Tensors
from edgepatch.trunk import left_out

if TYPE_CHECKING:
    from edgepatch.runtime.graph_file import Graph

Operator = tuple[Sequence[Any], Sequence[Any]]  # what it reads and makes: numbers in a .tflite, names in an .onnx


@dataclasses.dataclass(frozen=True)
class Block:
    """A block as the file has it: the half-open run of its operators, its entry and its join."""

    begin: int
    end: int
    entry: Any
    join: Any


def index(value: Any) -> int:
    """A number that counts from the start; other readers have 32 bits for it.

    Raises:
        ValueError: it is none.
    """
    if type(value) is not int or not 0 <= value < 2**31:
        raise ValueError(f"{value!r} is no index")
    return value


def named(row: dict[str, Any]) -> dict[str, Any]:
    """What a table says of a site or the head that no file can tell: operator, input's range, shift of the bias.

    Raises:
        ValueError, KeyError: it is broken.
    """
    if "shift" in row and type(row["shift"]) is not float:
        raise ValueError(f"{row['shift']!r} is no shift of a bias")
    found = {"operator": row["operator"], "input": index(row["input"])}
    return found | {"shift": row["shift"]} if "shift" in row else found


def shifted(graph: Graph, values: Tensors) -> Tensors:
    """A task's values with what rows add to their sites' biases."""
    shifts = [row.get("shift", 0.0) for row in graph.document["bake"]["sites"]]
    if not any(shifts):
        return values
    return values | {"bias": values["bias"] + np.repeat(np.array(shifts, np.float32), graph.trunk.channels)}


def skipped(rows: Sequence[dict[str, Any]], values: Tensors) -> tuple[list[dict[str, Any]], dict[Any, Any]]:
    """The rows of the blocks that a task skips, and what is read in place of each one's join.

    Raises:
        ValueError: the task's `skip` is of other blocks.
    """
    gone = left_out(rows, values)
    instead: dict[Any, Any] = {}
    for row in gone:  # in forward order, so that a chain leads to its first entry
        instead[row["join"]] = instead.get(row["entry"], row["entry"])
    return gone, instead


def claims(document: dict[str, Any], run: str) -> list[tuple[Any, Any]]:
    """What a document and its bake table say of each block: its `run` of operators, and the numbers of its sites."""
    table = document["bake"]["residuals"]
    if not all(isinstance(row[run], list) for row in table):
        raise ValueError("a block has no run of operators")
    return [
        ([index(each) for each in row[run]], said["sites"])
        for row, said in zip(table, document["residuals"], strict=True)
    ]


def blocks(
    operators: Sequence[Operator],
    inputs: Iterable[Hashable],
    outputs: Collection[Hashable],
    sites: Sequence[int],
    claimed: Iterable[tuple[Any, Any]],
) -> list[Block]:
    """The blocks that a document claims, found sound.

    Args:
        operators: of the whole graph, in its order.
        inputs, outputs: values that the graph takes and answers; what neither comes in nor is made is a constant.
        sites: which operator is each site's.
        claimed: as `claims` gives it.

    Raises:
        ValueError: they are out of bounds or of order, overlap, have other sites, read more than one value from
            outside, or make more than one that is read there.
    """
    makers: dict[Hashable, int] = dict.fromkeys(inputs, -1)
    readers: dict[Hashable, list[int]] = {}
    for number, (reads, makes) in enumerate(operators):
        makers |= dict.fromkeys(makes, number)
        for value in reads:
            readers.setdefault(value, []).append(number)
    found: list[Block] = []
    for run, numbers in claimed:
        if len(run) != 2:
            raise ValueError("a run of operators has no begin and end")
        begin, end = run
        first = found[-1].end if found else 0
        if not first <= begin < end <= len(operators):
            raise ValueError(f"the block of operators {run} overlaps another or leads out of the graph")
        if numbers != [number for number, operator in enumerate(sites) if begin <= operator < end]:
            raise ValueError(f"the block of operators {run} has other sites than {numbers}")
        inner = operators[begin:end]
        made = {value for _, makes in inner for value in makes}
        entries = {
            value for reads, _ in inner for value in reads if value in makers and not begin <= makers[value] < end
        }
        joins = {value for value in made if not all(begin <= reader < end for reader in readers.get(value, ()))}
        if len(entries) != 1 or len(joins) != 1 or not joins <= set(inner[-1][1]) or made & set(outputs):
            raise ValueError(f"operators {run} are no block with one entry and, at its end, one join")
        found.append(Block(begin, end, entries.pop(), joins.pop()))
    return found
