"""What targets share: what a refusal has to be, and the seeds."""

from __future__ import annotations

import atexit
import functools
import json
import lzma
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

from edgepatch.errors import EdgepatchError
from edgepatch.runtime import graph_file
from edgepatch.runtime.graph_file import Graph

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))  # the tests' own helpers

import golden  # noqa: E402
from golden import recipes  # noqa: E402

LONGEST = 2000  # characters of a refusal


@contextmanager
def refusals() -> Iterator[None]:
    """Lets a target be refused, in one sentence that can be printed anywhere; whatever else is raised is a bug."""
    try:
        yield
    except EdgepatchError as error:
        text = str(error)
        assert len(text) <= LONGEST, f"a refusal of {len(text)} characters: {text[:200]}"
        odd = [each for each in text if not each.isprintable() and each != "\n"]
        assert not odd, f"a refusal with {odd[0]!r} in it: {text[:200]!r}"
        assert text.count("\n") <= text.count("mend") + 1, f"a refusal of several lines: {text!r}"
        json.dumps(error.to_json()).encode()


def scratch() -> Path:
    """A folder for as long as this process lives, in memory where there is such a place: writers sync to it."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="edgepatch-fuzz-", dir=memory if memory.is_dir() else None))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def read_archive(path: Path) -> dict[str, bytes]:
    """The files of a .tar.xz, by name."""
    found = {}
    with tarfile.open(fileobj=BytesIO(lzma.decompress(path.read_bytes()))) as archive:
        for entry in archive:
            stream = archive.extractfile(entry)
            found[entry.name] = stream.read() if stream else b""
    return found


def write_archive(path: Path, parts: dict[str, bytes]) -> None:
    """The inverse of `read_archive`; the same bytes of the same files."""
    stream = BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in sorted(parts.items()):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, BytesIO(content))
    path.write_bytes(lzma.compress(stream.getvalue(), preset=9 | lzma.PRESET_EXTREME))


@functools.cache
def own(suffix: str) -> dict[str, bytes]:
    """The seeds that were made for fuzzing (`seeds.py`), of one kind of file."""
    found = read_archive(HERE / "seeds.tar.xz")
    return {name: data for name, data in found.items() if name.endswith(suffix)}


@functools.cache
def graph(name: str) -> Graph:
    """A sound graph, of the seeds or the golden vectors."""
    data = own(name)[name] if name in own("") else golden.graph(name)
    return graph_file.parse(data, name)


def broken_patches() -> dict[str, bytes]:
    """The golden vectors' broken patches."""
    return {
        row["name"]: recipes.followed(row["recipe"], golden.source(row["of"]))
        for row in golden.document("broken")["patches"]
        if row["of"].endswith(".epatch")
    }
