"""The store's state.json: read, written again, and opened in a store whose state before it is sound."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from edgepatch.errors import BadFileError
from edgepatch.runtime.store import SharedGraph, State, Store, Task, Version, disk, reading
from edgepatch.runtime.store import state as states
from edgepatch.runtime.store.state import Newest

from . import common, documents
from .dice import Dice

LIMIT = 1 << 16


def one(data: bytes) -> None:
    folder = store()
    (folder / disk.STATE).write_bytes(data)
    try:
        opened = Store.open(folder)
    except BadFileError as error:  # a damaged state is not the end of a store: the one before it is there
        assert error.details["field"] == "format" and signed(json.loads(data))  # a newer one is, to an older program
        return
    assert opened.warning is None or opened.state == sound()
    with common.refusals():
        found = states.parse(data, "file")
        assert states.parse(states.dump(found), "file") == found
        assert opened.state == found and opened.warning is None
    for name, active in opened.patches().items():
        assert active.path.parent == folder / disk.OBJECTS
        with common.refusals():
            version = opened.state.active[name]
            reading.read(folder, version.name, version.bytes, f"task {name}")
    with common.refusals():
        reading.read(folder, opened.graph.name, opened.state.graph.bytes, "graph")


def signed(document: dict[str, Any]) -> bool:
    """Whether a state's hash is its own."""
    return document.pop("sha256", None) == states._digest(document)


@functools.cache
def sound() -> State:
    """A store of two tasks, one of which was rolled back once, and one removed."""
    graph = SharedGraph("a" * 64, 9_000_000, "tflite", "fp32", "b" * 64)
    first, second = Version("c" * 64, 36_000, 1), Version("d" * 64, 36_100, 2)
    tasks = {
        "digits": Task(first, second, Newest(2, "d" * 64)),
        "flowers": Task(second, None, Newest(2, "d" * 64)),
        "birds": Task(None, None, Newest(7, "e" * 64)),
    }
    return State(5, graph, tasks)


@functools.cache
def store() -> Path:
    """A store's folder, for as long as this process lives."""
    folder = common.scratch()
    (folder / disk.OBJECTS).mkdir()
    (folder / disk.PREVIOUS).write_bytes(states.dump(sound()))
    return folder


def mutate(data: bytes, dice: Dice, limit: int) -> bytes:
    if dice.one_in(6):
        return dice.blind(data, limit)
    document = json.loads(data)
    document.pop("sha256", None)
    changed = documents.changed(document, dice)
    if isinstance(changed, dict) and not dice.one_in(10):
        changed["sha256"] = states._digest(json.loads(documents.text(changed)))
    return documents.text(changed).encode(errors="surrogatepass")[:limit]


def seeds() -> dict[str, bytes]:
    whole = states.dump(sound())
    many = dict.fromkeys((f"task {number}" for number in range(8)), sound().tasks["digits"])
    others = {"bare": State(1, sound().graph, {}), "many": State(9, sound().graph, many)}
    return {"state": whole, **{name: states.dump(each) for name, each in others.items()}}
