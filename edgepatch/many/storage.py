"""Folders and files that may be anywhere: on this machine, or on any filesystem that fsspec knows.

Local paths need no fsspec. A file is written whole under another name and then moved, as far as its filesystem moves.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgepatch import files
from edgepatch.data.folder import SUFFIXES
from edgepatch.errors import EdgepatchError, MissingPackageError, UsageError, require

URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
CACHE = "EDGEPATCH_CACHE"  # the environment variable that names another folder for fetched images
STAMPS = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified", "updated", "created")  # of a remote file


def is_remote(path: str) -> bool:
    """Whether a path names its filesystem, as `s3://bucket/photos` does."""
    return URL.match(path) is not None


def filesystem(url: str) -> tuple[Any, str]:
    """The filesystem that a URL names, and the path in it.

    Raises:
        MissingPackageError: fsspec, or the package that it needs for this filesystem, is not installed.
        UsageError: fsspec knows no such filesystem.
    """
    core = require("fsspec.core", extra="ray", why="reading and writing anywhere but on this machine")
    try:
        return core.url_to_fs(url)
    except ValueError as error:
        raise UsageError("names no filesystem that there is", got=url, expected=str(error)) from error
    except ImportError as error:
        raise MissingPackageError(f"{url} needs a package that is not installed", mend=str(error)) from error


def require_folder(url: str) -> None:
    """Find out whether a URL is a folder.

    Raises:
        UsageError: it is not, or its filesystem does not answer.
    """
    system, path = filesystem(url)
    try:
        found = system.isdir(path)
    except Exception as error:  # each filesystem has errors of its own
        raise UsageError("cannot be looked at", file=url, got=f"{type(error).__name__}: {error}") from error
    if not found:
        raise UsageError("there is no such folder", file=url)


def join(folder: str, *names: str) -> str:
    """The path of a file in a folder."""
    return "/".join([folder.rstrip("/"), *names]) if is_remote(folder) else str(Path(folder, *names))


def names(folder: str) -> set[str]:
    """What is in a folder; nothing where there is none."""
    with _answers(folder):
        try:
            if not is_remote(folder):
                return {entry.name for entry in Path(folder).iterdir()}
            system, path = filesystem(folder)
            system.invalidate_cache()
            return {str(each).rstrip("/").rpartition("/")[2] for each in system.ls(path, detail=False)}
        except FileNotFoundError:
            return set()


def read(path: str) -> bytes | None:
    """The bytes of a file, or None where there is none."""
    with _answers(path):
        try:
            if not is_remote(path):
                return Path(path).read_bytes()
            system, inner = filesystem(path)
            return bytes(system.cat_file(inner))
        except FileNotFoundError:
            return None


def write(path: str, data: bytes | str) -> None:
    """Write a whole file, or leave what was there."""
    if not is_remote(path):
        files.write(path, data)
        return
    system, inner = filesystem(path)
    folder, _, name = inner.rpartition("/")
    beside = f"{folder}/.{name}.{uuid.uuid4().hex[:8]}.part"
    with _answers(path):
        try:
            system.makedirs(folder, exist_ok=True)
            system.pipe_file(beside, data.encode() if isinstance(data, str) else data)
            system.mv(beside, inner)
        except BaseException:
            with contextlib.suppress(Exception):
                system.rm_file(beside)
            raise


def remove(path: str) -> None:
    """Remove a file, if there is one."""
    with _answers(path), contextlib.suppress(FileNotFoundError):
        if is_remote(path):
            system, inner = filesystem(path)
            system.rm_file(inner)
        else:
            Path(path).unlink()


def cache() -> Path:
    """Where images from elsewhere are kept on this machine; all of it may be deleted."""
    if own := os.environ.get(CACHE):
        return Path(own)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgepatch"
    except RuntimeError:  # a user without a home, as in some containers
        return Path(tempfile.gettempdir()) / "edgepatch-cache"


def local(folder: str) -> Path:
    """A folder of images on this machine: itself, or a copy that is fetched once.

    The copy's name is made of what the folder lists, so that a folder that has changed is fetched anew. Of two workers
    that want it at the same time one fetches and the other waits.

    Raises:
        UsageError: there are no images in it.
        EdgepatchError: its filesystem refuses, or it changed while it was fetched.
    """
    if not is_remote(folder):
        return Path(folder)
    system, root = filesystem(folder)
    with _answers(folder):
        wanted = _images(system, root)
    if not wanted:
        raise UsageError("holds no images", file=folder, expected=f"files ending in {' '.join(SUFFIXES)}")
    key = hashlib.sha256(json.dumps([folder, sorted(wanted.values())]).encode()).hexdigest()[:20]
    name = re.sub(r"[^\w.-]", "-", folder.rstrip("/").rpartition("/")[2])[:60]
    place = cache() / "data" / f"{name}-{key}"
    if place.is_dir():
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    with _alone(place.with_name(f"{place.name}.lock")):
        if not place.is_dir():
            _fetch(system, wanted, place, folder)
    return place


def _images(system: Any, root: str) -> dict[str, tuple[str, int, str]]:
    """The images to train on below a remote folder: for each path its name below the folder, its size, its stamp."""
    system.invalidate_cache()
    found = {}
    for path, facts in system.find(root, detail=True).items():
        name = str(path).removeprefix(root.rstrip("/")).lstrip("/")
        parts = name.split("/")
        if parts[-1].lower().endswith(SUFFIXES) and not any(part in ("", "..") or part[0] == "." for part in parts):
            stamp = next((str(facts[key]) for key in STAMPS if facts.get(key) is not None), "")
            found[str(path)] = (name, int(facts.get("size") or 0), stamp)
    if any(name.startswith("train/") for name, _, _ in found.values()):
        found = {path: each for path, each in found.items() if each[0].split("/")[0] in ("train", "val")}
    return found


def _fetch(system: Any, wanted: dict[str, tuple[str, int, str]], place: Path, folder: str) -> None:
    for stale in place.parent.glob(f".{place.name}.*.part"):  # of a worker that was killed, or it would hold the lock
        shutil.rmtree(stale, ignore_errors=True)
    beside = Path(tempfile.mkdtemp(dir=place.parent, prefix=f".{place.name}.", suffix=".part"))
    try:
        targets = [beside / name for name, _, _ in wanted.values()]
        for parent in {target.parent for target in targets}:
            parent.mkdir(parents=True, exist_ok=True)
        with _answers(folder):
            system.get(list(wanted), [str(target) for target in targets])
        for target, (name, size, _) in zip(targets, wanted.values(), strict=True):
            got = target.stat().st_size if target.is_file() else 0
            if got != size:
                raise EdgepatchError("was not fetched whole", file=folder, field=name, got=got, expected=size)
        beside.chmod(0o755)
        beside.rename(place)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep other processes of this machine out; the operating system lets go where one is killed."""
    with open(path, "wb") as stream:
        with contextlib.suppress(ImportError, OSError):  # without locks a folder is fetched twice, and is as whole
            import fcntl

            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _answers(path: str) -> Iterator[None]:
    """What a filesystem raises, as an error of ours; each has errors of its own.

    Raises:
        EdgepatchError: it raised something.
    """
    try:
        yield
    except EdgepatchError:
        raise
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
        raise EdgepatchError("cannot be reached as it should", file=path, got=said[:300]) from error
