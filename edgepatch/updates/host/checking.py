"""Nothing is signed that a device would refuse: files read whole, and each patch held against each graph."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable

from edgepatch import blob, files
from edgepatch.blob import Patch
from edgepatch.runtime import fitting, graph_file, heads
from edgepatch.runtime.graph_file import Graph


@dataclasses.dataclass(frozen=True)
class CheckedPatch:
    """A patch and the bytes that were checked, which are those that are published."""

    patch: Patch
    data: bytes
    file: str


@dataclasses.dataclass(frozen=True)
class CheckedGraph:
    """A graph, and its file's bytes."""

    graph: Graph
    data: bytes
    file: str


def patch(path: str | os.PathLike[str]) -> CheckedPatch:
    """A patch file, read whole.

    Raises:
        UsageError, BadFileError: as `blob.read`.
    """
    data = files.read(path, limit=blob.MAX_BYTES)
    return CheckedPatch(blob.parse(data, path), data, str(path))


def graph(path: str | os.PathLike[str]) -> CheckedGraph:
    """A graph file, read whole.

    Raises:
        UsageError, BadFileError, MismatchError: as `graph_file.read`.
    """
    data = files.read(path, limit=graph_file.MAX_BYTES)
    return CheckedGraph(graph_file.parse(data, path), data, str(path))


def fit(graphs: Iterable[CheckedGraph], patches: Iterable[CheckedPatch]) -> None:
    """Refuse a patch that a graph does not take. No interpreter is needed, so a publisher needs none.

    Raises:
        MismatchError, BadFileError: of the first that does not fit.
    """
    patches = list(patches)
    for each in graphs:
        for checked in patches:
            fitted = fitting.fit(each.graph, checked.patch, checked.file)
            heads.of(checked.patch, fitted.values, checked.file)
