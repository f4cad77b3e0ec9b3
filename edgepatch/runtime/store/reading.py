"""Reading a store: which state holds, and the objects it names, by their hash."""

from __future__ import annotations

import errno
import hashlib
from pathlib import Path
from typing import Any

from edgepatch import files
from edgepatch.errors import BadFileError, EdgepatchError, UsageError
from edgepatch.runtime.store import disk
from edgepatch.runtime.store import state as states
from edgepatch.runtime.store.disk import OBJECTS, PREVIOUS, STATE
from edgepatch.runtime.store.state import State, Version

_NO_DAMAGE = (errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.ENOMEM)


def load(folder: Path) -> tuple[State, str | None]:
    """The state that holds, and why that is not the one in state.json, if it is not.

    One file is read, two where the first is damaged; no object is.

    Raises:
        UsageError: there is no store.
        EdgepatchError: state.json may not be read.
        BadFileError: it and state.previous.json are damaged, or it is of a newer edgepatch.
    """
    try:
        return load_file(folder / STATE), None
    except BadFileError as error:
        if error.details.get("field") == "format":  # no damage: a newer edgepatch wrote it
            raise
        damage = error
    except FileNotFoundError as error:
        if not (folder / PREVIOUS).exists():
            raise UsageError(
                "is no patch store", file=folder, mend=f"Make one: edgepatch store create {folder} GRAPH"
            ) from error
        damage = BadFileError("is gone", file=folder / STATE)
    try:
        return load_file(folder / PREVIOUS), f"{damage}; the state before it was taken, {PREVIOUS}"
    except FileNotFoundError:
        message, file, problems = f"{damage.message}, and there is no {PREVIOUS}", folder / STATE, [damage]
    except BadFileError as error:
        message, file, problems = "cannot be opened: what is installed is not known any more", folder, [damage, error]
    raise BadFileError(message, file=file, problems=list(map(_problem, problems)), mend=_anew(folder)) from damage


def _problem(error: EdgepatchError) -> dict[str, Any]:
    """What is wrong with a state, as one of several things that are."""
    facts = {name: value for name, value in error.details.items() if name in ("got", "expected")}
    where = [Path(error.details["file"]).name, error.details.get("field")]
    return {"field": ", ".join(filter(None, where)), "message": error.message, **facts}


def _anew(folder: Path) -> str:
    """How to make a store of the files of one that cannot be opened."""
    graphs = [path.name for kind in states.GRAPH_FORMATS for path in (folder / OBJECTS).glob(f"*.{kind}")]
    graph, old = graphs[0] if len(graphs) == 1 else "SHA256.tflite", f"{folder}.damaged"
    update = f"\nOr let an update fill it: mkdir {folder}; mv {old}/{disk.UPDATES} {folder}; edgepatch update {folder}"
    return (
        "Its files are still there, and edgepatch inspect says what each is. Move it away, and make it anew\n"
        f"of its graph and one patch of each task:\n  mv {folder} {old}\n"
        f"  edgepatch store create {folder} {old}/{OBJECTS}/{graph} {old}/{OBJECTS}/SHA256.epatch ..."
        + (update if (folder / disk.UPDATES).is_dir() else "")
    )


def path_of(folder: Path, name: str) -> Path:
    """Where an object lies; `name` is of digits that `state` has checked."""
    return folder / OBJECTS / name


def read_patch(folder: Path, version: Version, what: str) -> bytes:
    """The bytes of a patch, as `read` has them; a message says which version is missing."""
    return read(folder, version.name, version.bytes, what, version.version)


def read(folder: Path, name: str, size: int, what: str, version: int | None = None) -> bytes:
    """The bytes of an object, which are those that its name is the hash of.

    Args:
        size: in bytes.
        what: it is of, for the message: `task digits`, `previous of digits`.
        version: of a patch.

    Raises:
        BadFileError: it is gone, cannot be read, or is not what it was.
    """
    path = path_of(folder, name)
    which = f", version {version}," if version else ""
    mend = f"Install the {what}{which} again: edgepatch store install {folder} FILE"
    try:
        data = files.read(path, limit=size)
    except UsageError as error:
        raise BadFileError(f"is gone from the store, which names it for the {what}", file=path, mend=mend) from error
    digest = hashlib.sha256(data).hexdigest()
    if digest != path.stem:
        raise BadFileError(
            f"was changed since it was installed for the {what}",
            file=path,
            field="sha256",
            got=digest,
            expected=path.stem,
            mend=mend,
        )
    return data


def is_whole(folder: Path, name: str, size: int) -> bool:
    """Whether an object is there and is what its name says."""
    try:
        read(folder, name, size, "object")
    except BadFileError:
        return False
    return True


def damaged(folder: Path, state: State) -> frozenset[str]:
    """The names of a state's objects that are gone, or not what they were."""
    return frozenset(name for name, size in state.objects.items() if not is_whole(folder, name, size))


def load_file(path: Path) -> State:
    """The state in one file.

    Raises:
        FileNotFoundError: there is none.
        BadFileError: the disk cannot read it, or it is damaged.
        EdgepatchError: it may not be read, which is no damage: the state before it is no answer then.
    """
    try:
        data = disk.read(path, states.MAX_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(path) from None
    except OSError as error:
        if error.errno in _NO_DAMAGE:
            mend = disk.whose(error, path)
            raise EdgepatchError(f"cannot be read: {error.strerror}", file=path, mend=mend) from error
        raise BadFileError(f"cannot be read: {error.strerror}", file=path) from error
    return states.parse(data, path)
