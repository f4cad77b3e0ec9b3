"""What things are called in a repository: tasks, graphs, teams.

A task may be called anything printable. Its file is called so that every server, file system and URL takes the name as
it is: bytes other than letters, digits and `_.-` as `=` and two hexadecimal digits, and long names end in a hash.
"""

from __future__ import annotations

import hashlib
import re

from edgepatch.errors import UsageError

METADATA = "metadata"  # folder of the signed documents
TARGETS = "targets"  # folder of what they vouch for
PATCHES = "patches"
GRAPHS = "graphs"
MAX_METADATA = 4 * 1024 * 1024  # bytes of one signed document: a device holds some 40 times as much while it reads it
ROLES = ("root", "targets", "snapshot", "timestamp")  # of The Update Framework; teams are called otherwise

_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")
_LONGEST = 150  # with a SHA-256 before it and .epatch behind it still below the 255 bytes of a file name
_TEAM = re.compile(r"[a-z0-9][a-z0-9_-]{0,49}")
_GRAPH = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}\.(tflite|onnx)")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def patch_path(task: str) -> str:
    """Where the patch of a task stands: `patches/flowers.epatch`. No two tasks share a path."""
    name = _escape(task.encode(errors="surrogatepass"))
    if len(name) > _LONGEST:
        name = f"{name[:80]}=~{hashlib.sha256(task.encode(errors='surrogatepass')).hexdigest()[:40]}"
    return f"{PATCHES}/{name}.epatch"


def pattern_path(pattern: str) -> str:
    """The paths of the tasks that match a pattern, in which `*` stands for anything: `patches/bird-*.epatch`.

    Raises:
        UsageError: it is empty, too long, or not printable.
    """
    if not pattern or not pattern.isprintable():
        raise UsageError("is no pattern of task names", field="--tasks", got=repr(pattern), expected="such as 'bird-*'")
    name = "*".join(_escape(part.encode(errors="surrogatepass")) for part in pattern.split("*"))
    if len(name) > _LONGEST:
        raise UsageError("is too long a pattern", field="--tasks", got=len(name), expected=f"at most {_LONGEST} bytes")
    return f"{PATCHES}/{name}.epatch"


def pattern_text(path: str) -> str:
    """A pattern of paths for reading, as far as it is one of tasks: `bird-*`."""
    return path.removeprefix(f"{PATCHES}/").removesuffix(".epatch")


def graph_path(name: str) -> str:
    """Where a graph stands: `graphs/mobilenet.tflite`.

    Raises:
        UsageError: the name is not one that every server and file system takes.
    """
    if not _GRAPH.fullmatch(name):
        raise UsageError(
            "is no name for a published graph",
            field="--graph",
            got=name[:120],
            expected="up to 100 letters, digits and _.- before .tflite or .onnx",
        )
    return f"{GRAPHS}/{name}"


def check_team(name: str) -> str:
    """The name of a team, if it is one.

    Raises:
        UsageError: it is one of the framework's own roles, or not plain.
    """
    if name in ROLES or not _TEAM.fullmatch(name):
        raise UsageError(
            "is no name for a team",
            field="team",
            got=name[:80],
            expected=f"up to 50 small letters, digits, _ and -; not {', '.join(ROLES)}",
        )
    return name


def hosted_path(path: str, sha256: str) -> str:
    """Where a file stands under `targets/`: with its hash in its name, so that a new one never replaces an old one."""
    folder, _, name = path.rpartition("/")
    return f"{folder}/{sha256}.{name}"


def is_sha256(text: object) -> bool:
    """Whether it is 64 small hexadecimal digits, and so harmless as a file name."""
    return isinstance(text, str) and _SHA256.fullmatch(text) is not None


def _escape(data: bytes) -> str:
    # a leading dot would hide the file
    return "".join(
        chr(byte) if byte in _PLAIN and not (place == 0 and byte == ord(".")) else f"={byte:02X}"
        for place, byte in enumerate(data)
    )
