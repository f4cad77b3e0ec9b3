"""Broken files, and what is said of each: an accident made them, or someone who computes every checksum anew."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from edgepatch import blob, codec
from edgepatch.blob import Patch
from edgepatch.errors import EdgepatchError, printable
from edgepatch.runtime import baking, fitting, graph_file, heads
from edgepatch.runtime.graph_file import Graph

from . import (
    broken_bytes,
    broken_documents,
    broken_graphs,
    broken_limits,
    broken_values,
    broken_words,
    recipes,
    running,
    source,
)
from .forging import Case


def cases() -> Iterator[Case]:
    """Every broken patch."""
    yield from broken_bytes.raw_bytes()
    yield from broken_bytes.headers()
    yield from broken_documents.documents()
    yield from broken_values.stored()
    yield from broken_values.heads()
    yield from broken_words.patches()


def graphs() -> Iterator[Case]:
    """Every broken graph."""
    yield from broken_graphs.graphs()
    yield from broken_words.graphs()
    yield from broken_limits.graphs()


def fits() -> Iterator[tuple[str, str, bytes, str]]:
    """Graphs and patches that go together, or do not: see `broken_graphs.fits`."""
    yield from broken_graphs.fits()


def binds() -> Iterator[tuple[str, str, bytes, str]]:
    """Graphs that are sound until they are laid out for a patch: see `broken_limits.binds`."""
    yield from broken_limits.binds()


def library_error(data: bytes, trunk: Graph) -> EdgepatchError | None:
    """What is wrong with a patch as far as it can be told without a graph: read, decode against the sites, its head."""

    def work() -> None:
        patch = blob.parse(data, "file")
        heads.of(patch, codec.decode(patch, trunk.trunk, "file"), "file")

    return _error(work)


def runtime_error(data: bytes, graph: Graph) -> EdgepatchError | None:
    """What is wrong with a patch for a graph: read, fit, its head."""

    def work() -> None:
        patch: Patch = blob.parse(data, "file")
        heads.of(patch, fitting.fit(graph, patch, "file").values, "file")

    return _error(work)


def fit_error(data: bytes, patch: str) -> EdgepatchError | None:
    """What is wrong with a patch, by its name, for a graph."""
    return runtime_error(source(f"{patch}.epatch"), graph_file.parse(data, "graph"))


def bind_error(data: bytes, patch: str) -> EdgepatchError | None:
    """What is wrong with a graph when it is laid out for a patch that fits it."""
    graph, name = graph_file.parse(data, "graph"), f"{patch}.epatch"
    fitted = fitting.fit(graph, blob.parse(source(name), name), name)
    return _error(lambda: baking.bind_model(graph, fitted))


def graph_error(data: bytes) -> EdgepatchError | None:
    """What is wrong with a graph."""
    return _error(lambda: graph_file.parse(data, "file"))


def _error(work: Callable[[], object]) -> EdgepatchError | None:
    try:
        work()
    except EdgepatchError as error:
        return error
    return None


def row(error: EdgepatchError | None) -> dict[str, Any] | None:
    """An error as data/broken.json has it."""
    if error is None:
        return None
    # what stands behind a colon may be a parser's own words
    return {"code": error.exit_code, "field": error.details.get("field"), "problem": error.message.partition(":")[0]}


def words(error: EdgepatchError | None) -> list[str | None] | None:
    """All that it says, as data/words.json has it: the sentence, what was got, what was expected.

    None where some of it is not ours: what a parser says, or Python of a missing key.
    """
    if error is None or type(error.__cause__) not in (type(None), ValueError):
        return None
    facts = (error.details.get(name) for name in ("got", "expected"))
    return [error.message, *(None if fact is None else printable(fact) for fact in facts)]


def rows() -> tuple[dict[str, Any], dict[str, Any]]:
    """The cases as data/broken.json has them, and what data/words.json has of each."""
    trunk = graph_file.parse(source(running.GATED[0]), "graph")
    whole = graph_file.parse(source("gated-int8.tflite"), "graph")
    found: dict[str, Any] = {"patches": [], "graphs": [], "fits": [], "binds": []}
    said: dict[str, Any] = {"library": {}, "runtime": {}, "graphs": {}, "fits": {}, "binds": {}}
    for name, of, data in cases():
        told = {"name": name, "of": of, "recipe": recipes.told(data, source(of))}
        library, runtime = library_error(data, trunk), runtime_error(data, whole)
        assert runtime, f"{name} is not refused"
        found["patches"].append({**told, "library": row(library), "runtime": row(runtime)})
        said["library"][name] = words(library)
        said["runtime"][name] = None if row(library) == row(runtime) else words(runtime)
    for name, of, data in graphs():
        error = graph_error(data)
        assert error, f"{name} is not refused"
        told = {"name": name, "of": of, "recipe": recipes.told(data, source(of))}
        found["graphs"].append({**told, "error": row(error)})
        said["graphs"][name] = words(error)
    for part, made, held in (("fits", fits(), fit_error), ("binds", binds(), bind_error)):
        for name, of, data, patch in made:
            told = {"name": name, "of": of, "recipe": recipes.told(data, source(of)), "patch": patch}
            error = held(data, patch)
            found[part].append({**told, "error": row(error)})
            said[part][name] = words(error)
    for part, each in found.items():
        names = [one["name"] for one in each]
        assert len(set(names)) == len(names), (part, sorted(name for name in names if names.count(name) > 1))
    return found, {part: {name: each for name, each in of.items() if each} for part, of in said.items()}
