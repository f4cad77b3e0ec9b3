"""Broken files, and what is said of each: an accident made them, or someone who computes every checksum anew."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from edgepatch import blob, codec
from edgepatch.blob import Patch
from edgepatch.errors import EdgepatchError
from edgepatch.runtime import fitting, graph_file, heads
from edgepatch.runtime.graph_file import Graph

from . import broken_bytes, broken_documents, broken_graphs, broken_values, recipes, running, source
from .forging import Case


def cases() -> Iterator[Case]:
    """Every broken patch."""
    yield from broken_bytes.raw_bytes()
    yield from broken_bytes.headers()
    yield from broken_documents.documents()
    yield from broken_values.stored()
    yield from broken_values.heads()


def graphs() -> Iterator[Case]:
    """Every broken graph."""
    yield from broken_graphs.graphs()


def fits() -> Iterator[tuple[str, str, bytes, str]]:
    """Graphs and patches that go together, or do not: see `broken_graphs.fits`."""
    yield from broken_graphs.fits()


def library_outcome(data: bytes, trunk: Graph) -> dict[str, Any] | None:
    """What is wrong with a patch as far as it can be told without a graph: read, decode against the sites, its head."""

    def work() -> None:
        patch = blob.parse(data, "file")
        heads.of(patch, codec.decode(patch, trunk.trunk, "file"), "file")

    return _outcome(work)


def runtime_outcome(data: bytes, graph: Graph) -> dict[str, Any] | None:
    """What is wrong with a patch for a graph: read, fit, its head."""

    def work() -> None:
        patch: Patch = blob.parse(data, "file")
        heads.of(patch, fitting.fit(graph, patch, "file").values, "file")

    return _outcome(work)


def fit_outcome(data: bytes, patch: str) -> dict[str, Any] | None:
    """What is wrong with a patch, by its name, for a graph."""
    return runtime_outcome(source(f"{patch}.epatch"), graph_file.parse(data, "graph"))


def graph_outcome(data: bytes) -> dict[str, Any] | None:
    """What is wrong with a graph."""
    return _outcome(lambda: graph_file.parse(data, "file"))


def _outcome(work: Callable[[], object]) -> dict[str, Any] | None:
    try:
        work()
    except EdgepatchError as error:
        # what stands behind a colon is a parser's own words
        return {
            "code": error.exit_code,
            "field": error.details.get("field"),
            "problem": error.message.partition(":")[0],
        }
    return None


def rows() -> dict[str, Any]:
    """The cases as data/broken.json has them."""
    trunk = graph_file.parse(source(running.GATED[0]), "graph")
    whole = graph_file.parse(source("gated-int8.tflite"), "graph")
    found: dict[str, Any] = {"patches": [], "graphs": [], "fits": []}
    for name, of, data in cases():
        row = {"name": name, "of": of, "recipe": recipes.told(data, source(of))}
        library, runtime = library_outcome(data, trunk), runtime_outcome(data, whole)
        assert runtime, f"{name} is not refused"
        found["patches"].append({**row, "library": library, "runtime": runtime})
    for name, of, data in graphs():
        outcome = graph_outcome(data)
        assert outcome, f"{name} is not refused"
        found["graphs"].append({"name": name, "of": of, "recipe": recipes.told(data, source(of)), "error": outcome})
    for name, of, data, patch in fits():
        row = {"name": name, "of": of, "recipe": recipes.told(data, source(of)), "patch": patch}
        found["fits"].append({**row, "error": fit_outcome(data, patch)})
    for part, each in found.items():
        names = [row["name"] for row in each]
        assert len(set(names)) == len(names), (part, sorted(name for name in names if names.count(name) > 1))
    return found
