"""Holds what a cut left against what a store promises."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

from edgepatch import blob
from edgepatch.blob import Patch
from edgepatch.errors import EdgepatchError, UsageError
from edgepatch.runtime import graph_file
from edgepatch.runtime.graph_file import Graph
from edgepatch.runtime.store import State, Store, reading, state, trial

from .cutting import Disk, Image
from .recording import Recorder
from .script import Step

STORE = "store"  # its folder under the root


@dataclasses.dataclass
class Life:
    """A script that was run through.

    Attributes:
        names, steps: of its changes.
        states: after each of them.
        ends: how many operations were done by the end of each.
        recorder: with all operations.
        images: what was on the disk after each.
    """

    names: list[str]
    steps: list[Step]
    states: list[State]
    ends: list[int]
    recorder: Recorder
    images: list[Image]

    def before(self, number: int) -> State | None:
        return self.states[number - 1] if number else None


def live(root: Path, script: list[tuple[str, Step]]) -> Life:
    """Run a script under a recorder."""
    recorder = Recorder(root)
    life = Life([name for name, _ in script], [step for _, step in script], [], [], recorder, [])
    disk = Disk(recorder)
    for step in life.steps:
        with recorder:
            step(root / STORE)
        for operation in recorder.operations[life.ends[-1] if life.ends else 0 :]:
            disk.do(operation)
        life.states.append(Store.open(root / STORE).state)
        life.ends.append(len(recorder.operations))
        life.images.append(disk.seen())
    return life


@contextlib.contextmanager
def trusting() -> Iterator[None]:
    """Make examining thousands of stores quick: what was parsed, or tried with an interpreter, is not again, by its
    content; and nothing is synced, for nobody cuts the power of the copies."""
    real, tried = trial.bench, set()

    @contextlib.contextmanager
    def bench(graph: Graph, engine: str | None = None) -> Iterator[Callable[[Patch, object], list[str]]]:
        def answers(patch: Patch, file: object) -> list[str]:
            pair = graph.document["graph_sha256"], hashlib.sha256(blob.dump(patch)).hexdigest()
            if pair not in tried:
                with real(graph, engine) as asked:
                    asked(patch, file)
                tried.add(pair)
            return []

        yield answers

    with (
        mock.patch.object(trial, "bench", bench),
        mock.patch.object(graph_file, "parse", functools.lru_cache(graph_file.parse)),
        mock.patch.object(blob, "parse", functools.lru_cache(blob.parse)),
        mock.patch.object(state, "parse", functools.lru_cache(state.parse)),
        mock.patch.object(blob, "dump", _by_identity(blob.dump)),
        mock.patch.object(os, "fsync", lambda handle: None),
    ):
        yield


def _by_identity(dump: Callable[[Patch], bytes]) -> Callable[[Patch], bytes]:
    """Patches that were parsed once are the same objects: no need to write them out again."""
    kept: dict[int, tuple[Patch, bytes]] = {}

    def found(patch: Patch) -> bytes:
        if id(patch) not in kept:
            kept[id(patch)] = patch, dump(patch)
        return kept[id(patch)][1]

    return found


def lay(image: Image, root: Path) -> None:
    """Put an image on a real disk, in a folder that is made anew."""
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    for path, content in sorted(image.items()):
        if content is None:
            (root / path).mkdir()
        else:
            (root / path).write_bytes(content)


class Examiner:
    """Examines images one by one.

    Attributes:
        count: of those that were examined.
    """

    def __init__(self, life: Life, root: Path, *, load: bool = False) -> None:
        """`load`: give every store to a real runtime, not only the first of each state."""
        self.life, self.root, self.load = life, root, load
        self.count = 0
        self._loaded: set[int] = set()

    def examine(self, image: Image, number: int, *, done: bool = False, torn: bool = False) -> None:
        """Look at what a cut within a step left.

        Args:
            number: of the step.
            done: the step was over: the old state is no answer any more.
            torn: a rename had gone halfway: the state may have to come from state.previous.json, and say so.

        Raises:
            AssertionError: the store broke a promise.
        """
        self.count += 1
        life, path = self.life, self.root / STORE
        lay(image, self.root)
        before, after = life.before(number), life.states[number]
        found, warning = _opened(path)
        assert found == after or (found == before and not done), f"state {found and found.serial}"
        assert warning is None or (torn and found is not None), warning
        if found:
            _whole(path, found)
            self._check_previous(path, found, torn)
            if self.load or found.serial not in self._loaded:
                self._loaded.add(found.serial)
                with Store.open(path).runtime() as runtime:
                    assert set(runtime.tasks) == set(found.active)
            for each in (path / "objects").iterdir():  # what bears an object's name is whole, whether needed or not
                assert each.suffix == ".part" or hashlib.sha256(each.read_bytes()).hexdigest() == each.stem, (
                    "half an object"
                )
        self._go_on(path, number if found == before else number + 1)
        assert Store.open(path).warning is None
        store = Store.open(path)
        store.collect()
        assert {each.name for each in path.iterdir()} == {"objects", "lock", "state.json", "state.previous.json"}
        assert {each.name for each in (path / "objects").iterdir()} == store.state.objects.keys(), "garbage"

    def _check_previous(self, path: Path, now: State, torn: bool) -> None:
        """What state.json could fall back to is one change away at most, and as whole.

        It may be the newer one: after a change whose process was killed before its last sync, and a cut while the next
        process was at work.
        """
        try:
            previous = reading.load_file(path / "state.previous.json")
        except FileNotFoundError:
            assert torn or now.serial == 1, "no previous state"
            return
        assert previous in self.life.states and abs(now.serial - previous.serial) <= 1, "too old a previous state"
        _whole(path, previous)

    def _go_on(self, path: Path, number: int) -> None:
        """The next change works: the one that was cut, or the one after it."""
        if number < len(self.life.steps):
            self.life.steps[number](path)
            assert Store.open(path).state == self.life.states[number], "the next change"


def _opened(path: Path) -> tuple[State | None, str | None]:
    try:
        store = Store.open(path)
    except UsageError:
        return None, None
    return store.state, store.warning


def _whole(path: Path, now: State) -> None:
    for name, size in now.objects.items():
        data = (path / "objects" / name).read_bytes()
        assert len(data) == size and hashlib.sha256(data).hexdigest() == name.partition(".")[0], "object"


def cuts(life: Life) -> Iterator[tuple[Image, int, bool, bool]]:
    """Every image that a cut may leave, with its step, whether that was over, and whether a rename was torn."""
    disk, number = Disk(life.recorder), 0
    for count, operation in enumerate(life.recorder.operations, 1):
        disk.do(operation)
        done = count == life.ends[number]
        for image in disk.cuts():
            yield image, number, done, False
        for image in disk.torn():
            yield image, number, done, True
        number += done


def quick_folder(otherwise: Path) -> Path:
    """A new folder in memory, where there is such a thing: thousands of small files are made and removed there."""
    memory = Path("/dev/shm")
    return Path(tempfile.mkdtemp(dir=memory if os.access(memory, os.W_OK) else otherwise))


def tree(root: Path) -> Image:
    """What is below a folder."""
    return {str(path.relative_to(root)): None if path.is_dir() else path.read_bytes() for path in root.rglob("*")}


def damage(path: Path) -> None:
    """Flip a bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def versions(store: Store) -> dict[str, int]:
    """The active version of each task, as the disk says."""
    return {task: patch.version for task, patch in Store.open(store.path).patches().items()}


def examine_all(examiner: Examiner, found: Iterator[tuple[Image, int, bool, bool]]) -> str | None:
    """Examine images up to the first that breaks a promise; says which."""
    for image, number, done, torn in found:
        try:
            examiner.examine(image, number, done=done, torn=torn)
        except (AssertionError, EdgepatchError, OSError) as error:
            return f"{examiner.life.names[number]}: {type(error).__name__} {error}"
    return None
