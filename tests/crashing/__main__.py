"""All crash points of a store, counted: `python -m tests.crashing --help`."""

from __future__ import annotations

import argparse
import collections
import errno
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from . import failing, processes, recording, script
from .cutting import Image
from .examining import Examiner, Life, cuts, examine_all, lay, live, quick_folder, tree, trusting

FINE = 512  # bytes: writes above are cut in two


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.crashing", description=__doc__.partition(":")[0])
    parser.add_argument(
        "folder",
        nargs="?",
        type=Path,
        help="an empty one to work in; by default one in memory, if there is such a thing",
    )
    folder = parser.parse_args(arguments).folder
    if folder is None:
        place = quick_folder(Path(tempfile.gettempdir()))
        try:
            everything(place)
        finally:
            shutil.rmtree(place)
    elif not folder.is_dir() or any(folder.iterdir()):
        parser.error(f"{folder}: is not an empty folder")
    else:
        everything(folder)


def everything(folder: Path) -> None:
    """Every part in turn, in an empty folder."""
    recording.LEAST = FINE
    (folder / "files").mkdir()
    (folder / "life").mkdir()
    files = script.material(folder / "files")
    with trusting():
        life = live(folder / "life", script.steps(files))
        calls = [type(operation).__name__ for operation in life.recorder.operations]
        print(f"a life of {len(life.steps)} changes: {len(calls)} calls,", dict(collections.Counter(calls)), flush=True)
        total = 0
        total += _examined("power cuts at each call, each store loaded", cuts(life), life, folder, load=True)
        later = "power cuts while a store was used on after its process was ended, or its disk failed, at each call"
        total += _examined(later, _later(life, folder), life, folder)
        total += _failures(life, folder)
        total += _killed(life, folder)
        print(f"{total} crash points in all")
    race = Path(tempfile.mkdtemp(dir=folder))
    problem = processes.race(race)
    reads = [int(path.read_text()) for path in race.glob("reads.*")]
    print(
        problem
        or f"{processes.WRITERS} writers, a collector and {len(reads)} readers at once: {sum(reads)} whole reads"
    )


def _examined(
    what: str, found: Iterator[tuple[Image, int, bool, bool]], life: Life, folder: Path, *, load: bool = False
) -> int:
    start, examiner = time.monotonic(), Examiner(life, folder / "cut", load=load)
    problem = examine_all(examiner, found)
    print(f"{examiner.count} {what}: {problem or 'all well'} ({time.monotonic() - start:.0f} s)", flush=True)
    if problem:
        sys.exit(1)
    return examiner.count


def _later(life: Life, folder: Path) -> Iterator[tuple[Image, int, bool, bool]]:
    work = folder / "calls"
    for name in ("upgrade", "collect"):
        number = life.names.index(name)
        for call in range(2, failing.count(life, number, work)):
            for end in (failing.Killed(), OSError(errno.EIO, "Input/output error")):
                for again in (True, False):
                    recorder = failing.for_good(life, number, call, end, work)
                    yield from failing.cut_later(life, number, recorder, again=again)


def _failures(life: Life, folder: Path) -> int:
    """Each call fails with each error, or is interrupted."""
    start, count, work = time.monotonic(), 0, folder / "calls"
    errors = [OSError(code, errno.errorcode[code]) for code in failing.CODES]
    for number in range(len(life.steps)):
        for call in range(failing.count(life, number, work)):
            for error in (*errors, KeyboardInterrupt()):
                count += failing.once(life, number, call, error, work)
    print(f"{count} failures of a call: the store as it was ({time.monotonic() - start:.0f} s)", flush=True)
    return count


def _killed(life: Life, folder: Path) -> int:
    """Real processes, ended at each call of each step."""
    if why := processes.why_no_strace(folder):
        print(f"no real processes: {why}")
        return 0
    start, count, examiner = time.monotonic(), 0, Examiner(life, folder / "cut")
    for number, name in enumerate(life.names):
        before = life.images[number - 1] if number else {}
        work = Path(tempfile.mkdtemp(dir=folder))
        lay(before, work / "seen")
        seen = processes.seen(folder / "files", name, work / "seen")
        kinds = [line.split()[0] for line in seen if not line.startswith("create")]
        runs = [work / str(place) for place in range(len(kinds))]
        for run in runs:
            lay(before, run)
        assert processes.killed(folder / "files", name, kinds, runs) == len(kinds)
        for run in runs:
            examiner.examine(tree(run), number)
        count += len(kinds)
    print(f"{count} processes ended by strace at each call: all well ({time.monotonic() - start:.0f} s)", flush=True)
    return count


if __name__ == "__main__":
    main()
