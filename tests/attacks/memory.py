"""The memory that hostile files take: `python -m tests.attacks.memory`.

Each is read in a process of its own, as `trying` does, and as is each file that goes to a limit of the readers. What is
told is the most that was resident beyond what was before the file was touched.
"""

from __future__ import annotations

import contextlib
import functools
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from fuzz import guard

from edgepatch import container

from . import attacks, weights
from .attack import Attack, document_of, tensors_of
from .graphs import names

ROWS = 12


def limits() -> Iterator[Attack]:
    """Files as costly as the readers' limits let them be."""
    empty = {**document_of(), "metrics": {"a": [[] for _ in range(80_000)]}}
    yield Attack(
        "empty_lists.epatch",
        "80,000 empty lists in the document",
        "",
        functools.partial(container.dump, empty, tensors_of()),
    )
    labels = {**document_of(), "labels": [format(number, "x") for number in range(25_000)]}
    yield Attack("labels.epatch", "25,000 labels", "", functools.partial(container.dump, labels, tensors_of()))
    yield Attack("tables.tflite", "65,000 entries of metadata upon one name", "", lambda: names(65_000))
    lists = b"\x80\x02" + b"]" * 499_000 + b"."
    yield Attack("lists.pth", "499,000 empty lists in a pickle", "", lambda: weights._zip("m/data.pkl", lists))


def measured(attack: Attack, folder: Path) -> int:
    """Bytes that trying a file takes, in a process of its own."""
    from . import trying

    trying.laid_out(attack, folder)
    call = [sys.executable, "-m", __spec__.name if __spec__ else __name__, "--one", attack.name, str(folder)]
    done = subprocess.run(call, capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1])


def one(name: str, folder: str) -> None:
    """Try a file, after another one, so that all is imported."""
    from . import trying

    os.chdir(folder)
    tried = Attack(name, "", "", lambda: b"")
    work: Callable[[Attack], object] = trying.loaded if name.endswith(("epatch", "tflite", "onnx")) else trying.answer
    first = Path(f"sound.{name.rpartition('.')[2]}")
    if not first.exists():
        first.write_bytes(b"nothing")
    with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):
        work(Attack(first.name, "", "", lambda: b""))
    memory = guard.Memory()
    before = memory.reset()
    with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):
        work(tried)
    print(memory.peak() - before)


def main() -> None:
    if sys.argv[1:2] == ["--one"]:
        one(*sys.argv[2:])
        return
    rows = []
    for attack in [*attacks(), *limits()]:
        with tempfile.TemporaryDirectory() as folder:
            taken, size = measured(attack, Path(folder)), len(attack.data)
        rows.append((taken, taken / size, size, attack.name, attack.threat))
    print("| file | bytes | memory, KiB | times its size |\n|---|---|---|---|")
    most = sorted(rows, reverse=True)[:ROWS]
    for taken, times, size, name, threat in most:
        print(f"| `{name}`: {threat} | {size:,} | {taken / 1024:,.0f} | {times:,.1f} |")
    print(f"\nthe other {len(rows) - len(most)}: at most {sorted(rows, reverse=True)[ROWS][0] / 1024:,.0f} KiB")


if __name__ == "__main__":
    main()
