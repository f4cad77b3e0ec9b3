"""Breaks edgepatch/runtime/store/disk.py on purpose, a line at a time: the tests have to see each."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType, ModuleType
from unittest import mock

from edgepatch.runtime.store import disk

_STATE_IN_PLACE = """\
        handle = os.open(folder / STATE, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        os.write(handle, after)
        os.fsync(handle)
        os.close(handle)
        os.unlink(part)
"""
_OBJECT_IN_PLACE = """\
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(handle, rest) :]
            os.fsync(handle)
            os.close(handle)
"""
_LAST = "        os.replace(part, folder / STATE)\n"
_COPY = "            os.replace(copy, folder / PREVIOUS)\n"
_OBJECTS = "        for name, data in objects.items():\n"

# what a power cut shows: name -> the text, and what it becomes
CUTS = {
    "no sync of files": ("        os.fsync(handle)\n    finally:\n        os.close(handle)\n    return part", None),
    "no sync of objects/": ("        sync(folder / OBJECTS)\n", None),
    "no sync between the two states": (
        "            os.replace(copy, folder / PREVIOUS)\n            sync(folder)\n",
        None,
    ),
    "no sync at the end": (f"{_LAST}        sync(folder)\n", _LAST),
    "no sync of any folder": ("    try:\n        os.fsync(handle)\n    finally:\n        os.close(handle)\n\n", None),
    "no sync of a new store's folder": ("        sync(folder)  # lest the state be found, and objects/ not\n", None),
    "no sync of the folder it is in": ("            sync(folder.parent)\n", "            pass\n"),
    "no sync in collect": ("        sync(folder)  # always", "        # always"),
    "state before objects": (_OBJECTS, f"        os.replace(stage(folder, after, made), folder / STATE)\n{_OBJECTS}"),
    "state written in place": (_LAST, _STATE_IN_PLACE),
    "objects written in place": (
        "            part = stage(folder / OBJECTS, data, made)\n            os.replace(part, path)\n",
        _OBJECT_IN_PLACE,
    ),
    "no previous state": ("        if before is not None:\n", "        if False:\n"),
    "previous state forgotten by collect": ("for name in (STATE, PREVIOUS):", "for name in (STATE,):"),
    "short writes taken for whole ones": ("        while rest:\n", "        if rest:\n"),
}
# what a failing disk shows
FAILURES = {
    "nothing undone": ("if _inode(folder / STATE) != there:", "if False:"),
    "nothing discarded": ("    _discard(made)\n    return True\n", "    return True\n"),
    "parts left behind by collect": ("        _discard(made)\n        if", "        if"),
    "objects discarded that the state may need": (
        "path for path in made if path.suffix == PART",
        "path for path in made",
    ),
    "errors of the system let through": ("raise _failed(error, folder, certain) from error", "raise"),
}


@contextlib.contextmanager
def mutant(name: str) -> Iterator[None]:
    """Put a broken disk.py in the place of the real one."""
    source = Path(inspect.getsourcefile(disk) or "").read_text()
    old, new = (CUTS | FAILURES)[name]
    assert source.count(old) == 1, f"{name}: the text is not there once"
    broken = ModuleType(disk.__name__)
    text = source.replace(old, _without_sync(old) if new is None else new)
    exec(compile(text, "broken disk.py", "exec"), broken.__dict__)  # noqa: S102
    functions = {key: value for key, value in vars(broken).items() if isinstance(value, FunctionType)}
    with mock.patch.multiple(disk, **{key: value for key, value in functions.items() if hasattr(disk, key)}):
        yield


def _without_sync(text: str) -> str:
    return "".join(line.replace("os.fsync(handle)", "pass") for line in text.splitlines(True) if "  sync(" not in line)
