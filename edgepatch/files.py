"""Reading and writing files so that nothing is ever half there."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from edgepatch.errors import BadFileError, EdgepatchError, UsageError

_UMASK = os.umask(0o077)  # can only be read by setting it, which is no thing to do while threads write
os.umask(_UMASK)


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file beside `path` for writing; on success sync it and rename it over `path`.

    Raises:
        EdgepatchError: the folder cannot be written to, or the disk is full.
    """
    target = Path(path).resolve()  # through a link, the file it points at is replaced
    if target.exists() and not target.is_file():
        raise UsageError(
            "is not a file that can be replaced", file=path, got="a folder" if target.is_dir() else "a device"
        )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, beside = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
    except OSError as error:
        raise EdgepatchError(f"cannot be written: {error.strerror}", file=target) from error
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream
            stream.flush()
            os.chmod(beside, 0o666 & ~_UMASK)  # mkstemp makes files private; these are meant to be shared
            os.fsync(stream.fileno())
        os.replace(beside, target)
        _sync_folder(target.parent)
    except BaseException as error:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(beside)
        if isinstance(error, OSError):
            raise EdgepatchError(f"cannot be written: {error.strerror}", file=target) from error
        raise


def write(path: str | os.PathLike[str], data: bytes | str) -> None:
    """Write the whole of `data` to `path`, or leave what was there."""
    with replacing(path) as stream:
        stream.write(data.encode() if isinstance(data, str) else data)


def read(path: str | os.PathLike[str], *, limit: int) -> bytes:
    """The bytes of a file of at most `limit` bytes.

    Raises:
        UsageError: there is no such file.
        BadFileError: it is a folder, cannot be read, or is larger than `limit`.
    """
    try:
        if not stat.S_ISREG(Path(path).stat().st_mode):  # opening a pipe would wait for a writer
            raise BadFileError("cannot be read: it is not a file", file=path)
        with open(path, "rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            if size > limit:
                raise BadFileError("is too large", file=path, field="size", got=size, expected=f"at most {limit} bytes")
            return stream.read(size + 1)  # room for `limit` bytes is more than a small device will promise
    except FileNotFoundError as error:
        raise UsageError("there is no such file", file=path) from error
    except OSError as error:
        raise BadFileError(f"cannot be read: {error.strerror}", file=path) from error


def _sync_folder(folder: Path) -> None:
    """Make a rename durable. Folders cannot be opened on Windows, which syncs the rename itself."""
    with contextlib.suppress(PermissionError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def refuse_other(path: str | os.PathLike[str], field: str) -> None:
    """Refuse to replace a .json that is not one of ours: a document without this field.

    Raises:
        UsageError: it is something else, and would be lost.
    """
    try:
        document = json.loads(Path(path).read_bytes())
    except FileNotFoundError:
        return
    except (OSError, ValueError):
        document = None
    if not isinstance(document, dict) or field not in document:
        raise UsageError(
            "would be replaced, and is not what was written there before", file=path, mend="Choose another --out."
        )


def refuse_unwritable(path: str | os.PathLike[str]) -> None:
    """Find out before long work, not after it, that a file cannot be written.

    Raises:
        UsageError: its folder is none, or may not be written to.
    """
    folder = Path(path).resolve().parent
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        problem = "may not be written to" if folder.is_dir() else "is a file"
        raise UsageError(f"cannot be written: {folder} {problem}", file=path, expected="a writable folder")


def format_of(data: bytes) -> str | None:
    """Which kind of model starts like this, `tflite` or `onnx`, or None."""
    if data[4:8] == b"TFL3":
        return "tflite"
    if data[:1] == b"\x08":  # field 1, ir_version: what every ONNX writer puts first
        return "onnx"
    return None
