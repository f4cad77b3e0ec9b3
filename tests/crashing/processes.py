"""Real processes: killed by strace at every call that changes the disk, or many of them at once.

Run as a program of its own, so that it forks from a process without threads.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import shutil
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

from edgepatch import blob
from edgepatch.runtime.store import Store, trial

from .examining import STORE
from .recording import Create, Mkdir, Operation, Rename, Sync, SyncFolder, Unlink, Write
from .script import GOLDEN, material, paths, steps

CALLS = "write,pwrite64,fsync,ftruncate,?rename,?renameat,?renameat2,?unlink,?unlinkat,?mkdir,?mkdirat"
DUMMIES: dict[str, Callable[[], object]] = {  # of the calls that are counted, such as do nothing
    "write": lambda: os.write(9999, b""),
    "pwrite": lambda: os.pwrite(9999, b"", 0),
    "fsync": lambda: os.fsync(9999),
    "rename": lambda: os.replace("/nowhere/a", "/nowhere/b"),
    "unlink": lambda: os.unlink("/nowhere/a"),
    "mkdir": lambda: Path("/nowhere/a/b").mkdir(),
}
STRACE = shutil.which("strace")
NTH = 100  # of the calls of one kind that a process makes, its last
WRITERS, ROUNDS, READERS = 4, 3, 2
ROOT = Path(__file__).resolve().parents[2]


def why_no_strace(folder: Path) -> str | None:
    """Why processes cannot be killed by strace here; None if they can."""
    if not STRACE:
        return "strace is not installed"
    tried = subprocess.run([STRACE, "-o", folder / "tried", "true"], capture_output=True, text=True, check=False)
    return f"strace may not trace here: {tried.stderr.strip()}" if tried.returncode else None


def killed(root: Path, name: str, calls: list[str], runs: list[Path]) -> int:
    """Run a step in copies of a store, each time ended before another of these calls; how many were ended.

    Args:
        calls: kinds of call, in their order; strace counts each kind for itself, and each process anew.
        runs: folders with the copies, one a call.
    """
    inject = ["-e", f"trace={CALLS}", "-e", f"inject={CALLS}:signal=SIGKILL:when={NTH}"]
    places = [f"{kind}:{calls[:position].count(kind)}" for position, kind in enumerate(calls)]
    ends = _strace([*inject, "-o", os.devnull], "kill", root, name, *places, *runs)
    return ends.split().count("-9")


def seen(root: Path, name: str, run: Path) -> list[str]:
    """The calls of a step, as the kernel has them."""
    log = root / "strace"
    _strace(["-y", "-s", "0", "-e", f"trace=?open,openat,{CALLS}", "-o", str(log)], "kill", root, name, "fsync:-1", run)
    lines = [_call(line, run) for line in log.read_text().splitlines()]
    return [line for line in lines if line]


def recorded(operations: list[Operation]) -> list[str]:
    """The same calls, as the recorder has them."""
    names: dict[int, str] = {}
    found: list[str] = []
    for operation in operations:
        match operation:
            case Create(folder, name, inode):
                names[inode] = f"{folder}/{name}"
                found.append(f"create {names[inode]}")
            case Write(inode, _, data):
                *path, size = found[-1].split() if found else ["", ""]
                name = names.get(inode, f"{STORE}/lock")
                what = f"{'pwrite' if name.endswith('lock') else 'write'} {name}"
                if " ".join(path) == what:  # the recorder cuts what is long in two
                    found[-1] = f"{what} {int(size) + len(data)}"
                else:
                    found.append(f"{what} {len(data)}")
            case Sync(_, path):
                found.append(f"fsync {path}")
            case SyncFolder(folder):
                found.append(f"fsync {folder}")
            case Rename(folder, old, new):
                found.append(f"rename {folder}/{old} {folder}/{new}")
            case Unlink(folder, name):
                found.append(f"unlink {folder}/{name}")
            case Mkdir(folder, name):
                found.append(f"mkdir {folder}/{name}".replace(" /", " "))
    return [_plain(line) for line in found]


def race(root: Path) -> str:
    """Writers that install pairs of tasks, in growing versions; readers; one that collects. What went wrong, if any."""
    done = subprocess.run(_python("race", root), cwd=ROOT, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def _strace(options: list[str], *arguments: object) -> str:
    done = subprocess.run(
        [STRACE or "strace", "-f", "-qq", *options, *_python(*arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _python(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "tests.crashing.processes", *map(str, arguments)]


def _call(line: str, root: Path) -> str:
    """One line of strace's, in the recorder's words; empty of what changes nothing below the root."""
    call = line.partition(" ")[2].strip()
    paths = [path[len(str(root)) + 1 :] for path in re.findall(r'["<]([^">]*)[">]', call) if path.startswith(str(root))]
    name = call.partition("(")[0]
    if not paths or " = -1 " in call or (name.startswith("open") and "O_CREAT" not in call):
        return ""
    name = "create" if name.startswith("open") else re.sub("(at2?|64)$", "", name)
    if name == "create" and paths[0].endswith("lock") and (root / STORE / "state.previous.json").exists():
        return ""  # it was there
    wrote = [call.rpartition(" = ")[2]] if name.endswith("write") else []
    return _plain(" ".join([name, *paths[: 2 if name == "rename" else 1], *wrote]))


def _plain(line: str) -> str:
    return re.sub(r"\.[0-9a-f]{16}\.part", ".part", line)


def _kill(root: Path, name: str, *arguments: str) -> None:
    """One child a run, with so many calls of a kind behind it that strace ends it at the one that is meant."""
    step = dict(steps(paths(root)))[name]
    half = len(arguments) // 2
    with mock.patch.object(trial, "bench", _believe):
        for place, run in zip(arguments[:half], arguments[half:], strict=True):
            print(_fork(lambda place=place, run=run: _at(step, place, Path(run))))  # type: ignore[misc]


def _at(step: Callable[[Path], object], place: str, run: Path) -> None:
    kind, number = place.split(":")
    for _ in range(NTH - 1 - int(number) if int(number) >= 0 else 0):
        with contextlib.suppress(OSError):
            DUMMIES[kind]()
    step(run / STORE)


@contextlib.contextmanager
def _believe(*_: object) -> Iterator[Callable[..., list[str]]]:
    """Patches that are known to work need no interpreter here."""
    yield lambda *_: []


def _fork(work: Callable[[], None], *, wait: bool = True) -> int:
    """Do work in a child; its end as `os.waitstatus_to_exitcode` has it, or its process id."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) if wait else child


def _race(root: Path) -> None:
    files = material(root)
    Store.create(root / STORE, files["fp32"])
    patch = blob.read(GOLDEN / "patches" / "bias.epatch")
    for writer in range(WRITERS):
        for half in "ab":
            for version in range(1, ROUNDS + 1):
                made = dataclasses.replace(patch, task=f"{writer}{half}", version=version)
                (root / f"{writer}{half}{version}.epatch").write_bytes(blob.dump(made))
    over = root / "over"
    workers = [_fork(lambda number=number: _write(root, number), wait=False) for number in range(WRITERS)]
    others = [_fork(lambda: _read(root, over), wait=False) for _ in range(READERS)]
    others.append(_fork(lambda: _collect(root, over), wait=False))
    ends = [os.waitpid(worker, 0)[1] for worker in workers]
    over.touch()
    ends += [os.waitpid(other, 0)[1] for other in others]
    assert not any(ends), ends
    store = Store.open(root / STORE)
    store.collect()
    assert {name: version.version for name, version in store.state.active.items()} == {
        f"{writer}{half}": ROUNDS for writer in range(WRITERS) for half in "ab"
    }
    assert store.state.serial == 1 + WRITERS * ROUNDS
    assert not [row for row in store.verify() if row.error]
    reads = sum(int(path.read_text()) for path in root.glob("reads.*"))
    print(f"{WRITERS} writers, {WRITERS * ROUNDS} changes, {reads} runtimes loaded meanwhile")


def _write(root: Path, writer: int) -> None:
    for version in range(1, ROUNDS + 1):
        Store.open(root / STORE).install(*(root / f"{writer}{half}{version}.epatch" for half in "ab"))


def _collect(root: Path, over: Path) -> None:
    while not over.exists():
        Store.open(root / STORE).collect()


def _read(root: Path, over: Path) -> None:
    """Both halves of a pair are there in one version, or none is."""
    count = 0
    while not over.exists():
        with Store.open(root / STORE).runtime(mode="bind") as runtime:
            found = {task: runtime.patch(task).version for task in runtime.tasks}
        for writer in range(WRITERS):
            assert found.get(f"{writer}a") == found.get(f"{writer}b"), found
        count += 1
    (root / f"reads.{os.getpid()}").write_text(str(count))


if __name__ == "__main__":
    {"kill": _kill, "race": _race}[sys.argv[1]](Path(sys.argv[2]), *sys.argv[3:])
