"""Zip files, read within bounds: what an entry says of itself is what it may unpack to."""

from __future__ import annotations

import contextlib
import io
import zipfile
from collections.abc import Iterator

METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # bzip2 and LZMA unpack as much as a block holds, asked or not


@contextlib.contextmanager
def opened(data: bytes, limit: int) -> Iterator[zipfile.ZipFile]:
    """A zip file whose entries are each there once, unpack to at most `limit` bytes together, and are of `METHODS`.

    Raises:
        ValueError: it is another one. What `zipfile` raises of broken ones has no common base.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = archive.infolist()
        if sum(entry.file_size for entry in entries) > limit:
            raise ValueError(f"it unpacks to more than {limit} bytes")
        if len({entry.filename for entry in entries}) != len(entries):
            raise ValueError("it has an entry twice")
        if odd := [entry for entry in entries if entry.compress_type not in METHODS]:
            raise ValueError(f"{odd[0].filename[:80]} is packed by method {odd[0].compress_type}, not deflate")
        yield archive


def content(archive: zipfile.ZipFile, name: str, limit: int | None = None) -> bytes:
    """An entry, unpacked no further than it says itself: `ZipFile.read` takes 2 GiB of one that says 10 bytes.

    Raises:
        ValueError: it says that it is longer than `limit`.
    """
    entry = archive.getinfo(name)
    if limit is not None and entry.file_size > limit:
        raise ValueError(f"{name[:80]} is longer than {limit} bytes")
    with archive.open(entry) as stream:
        return stream.read(entry.file_size)
