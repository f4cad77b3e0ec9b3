"""What a store costs, in milliseconds, the best of several: `python -m tests.crashing.costs GRAPH PATCH`.

Others use the machine too, and slow down all but the best."""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from edgepatch import blob
from edgepatch.runtime import Runtime
from edgepatch.runtime.store import State, Store, disk, state


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.crashing.costs", description=__doc__.partition(":")[0])
    parser.add_argument("graph", metavar="GRAPH", type=Path, help="a .tflite or .onnx of edgepatch export")
    parser.add_argument("patch", metavar="PATCH", type=Path, help="an .epatch that fits it")
    options = parser.parse_args(arguments)
    for path in (options.graph, options.patch):
        if not path.is_file():
            parser.error(f"{path}: there is no such file")
    with tempfile.TemporaryDirectory() as place:
        measure(options.graph, options.patch, Path(place))


def measure(graph: Path, patch: Path, folder: Path) -> None:
    """Print a line for each thing a store does."""
    read = blob.read(patch)
    versions = [folder / f"{number}.epatch" for number in range(2, 9)]
    for number, path in enumerate(versions, 2):
        blob.write(dataclasses.replace(read, version=number), path)
    first = folder / "1.epatch"
    blob.write(dataclasses.replace(read, version=1), first)
    store = Store.create(folder / "store", graph, first)
    print(f"graph {graph.stat().st_size / 1e6:.1f} MB, patch {patch.stat().st_size / 1e3:.1f} kB")
    _time("open, 1 task", lambda: Store.open(store.path), 200)
    for tasks in (10, 100, 1000):
        _time(f"open, {tasks} tasks", _many(store, folder / str(tasks), tasks), 20)
    _time("verify", store.verify, 20)
    _time("runtime", lambda: store.runtime().close(), 20)
    _time("Runtime and load, without a store", lambda: _plain(graph, patch), 20)
    rest = iter(versions)
    _time("install a new version: checked, tried, written", lambda: store.install(next(rest)), 5)
    data = first.read_bytes()
    before = state.dump(store.state)
    _time("writing alone", lambda: disk.commit(store.path, before, before, {f"{_digest(data)}.epatch": data}), 20)
    _time("collect, nothing to remove", store.collect, 20)


def _many(store: Store, path: Path, tasks: int) -> Callable[[], Store]:
    """A store that says to hold so many tasks; open looks at no object."""
    (task,) = store.state.tasks.values()
    path.mkdir()
    many = State(1, store.state.graph, {f"task {number}": task for number in range(tasks)})
    (path / disk.STATE).write_bytes(state.dump(many))
    return lambda: Store.open(path)


def _plain(graph: Path, patch: Path) -> None:
    with Runtime(graph) as runtime:
        runtime.load(patch)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _time(what: str, work: Callable[[], object], repeats: int) -> None:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    print(f"{what}: {1000 * min(times):.3g} ms", flush=True)


if __name__ == "__main__":
    main()
