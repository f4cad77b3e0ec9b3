"""Every error edgepatch raises on purpose.

EdgepatchError            1  the work failed
├── UsageError            2  the call itself is wrong
├── BadFileError          3  a file is damaged, hostile or of another kind
├── MismatchError         4  a sound file, for another backbone or graph
└── MissingPackageError   5  something is to be installed

The number is the exit code of the command line. Bad input raises one of these; anything else is a bug.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from types import ModuleType
from typing import Any

LONGEST = 500  # characters of what an error quotes


class EdgepatchError(Exception):
    """What went wrong, where, and what mends it.

    Args:
        message: one sentence.
        file: the file concerned.
        field: the part of that file, or of the call.
        got: what was found there.
        expected: what should have been there.
        mend: what the reader can do about it.
        problems: where several things are wrong: for each `field`, `message` and what else of the above there is.
    """

    exit_code = 1

    def __init__(
        self,
        message: str,
        *,
        file: object = None,
        field: str | None = None,
        got: object = None,
        expected: object = None,
        mend: str | None = None,
        problems: Sequence[dict[str, Any]] = (),
    ) -> None:
        self.message = printable(message)
        facts = {"field": field, "got": got, "expected": expected}
        self.details: dict[str, Any] = {
            **({} if file is None else {"file": str(file)}),
            **{
                name: value if isinstance(value, int | float | list) else printable(value)
                for name, value in facts.items()
                if value is not None
            },
            **({} if mend is None else {"mend": str(mend)}),
        }
        if problems:
            self.details["problems"] = list(problems)
        super().__init__(str(self))

    def __str__(self) -> str:
        d = self.details
        text = f"{printable(d['file'], None)}: {self.message}" if "file" in d else self.message
        text += _facts(d, "field", "got", "expected")
        for problem in d.get("problems", []):
            what = f"{printable(problem['field'])}: {printable(problem['message'])}"
            text += f"\n  {what}" + _facts(problem, "file", "got", "expected")
        if "mend" in d:
            text += f"\n{d['mend']}"
        return text

    def to_json(self) -> dict[str, Any]:
        """The document that `--json` prints: `{"error": {"code", "message", ...}}`."""
        return {"error": {"code": self.exit_code, "type": type(self).__name__, "message": self.message, **self.details}}


def _facts(details: dict[str, Any], *names: str) -> str:
    facts = ", ".join(f"{name} {printable(details[name])}" for name in names if name in details)
    return f" ({facts})" if facts else ""


def printable(value: object, longest: int | None = LONGEST) -> str:
    """A value for a terminal: of what a file says, nothing moves the cursor, starts a line or runs on for pages."""
    text = str(value)
    if longest is not None and len(text) > longest:
        text = text[: longest - 3] + "..."
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


class UsageError(EdgepatchError):
    """The call itself is wrong: an unknown name, a value out of range."""

    exit_code = 2


class BadFileError(EdgepatchError):
    """A file is damaged, hostile, or not of the kind it should be."""

    exit_code = 3


class MismatchError(EdgepatchError):
    """Two sound files that do not belong together."""

    exit_code = 4


class MissingPackageError(EdgepatchError):
    """A package that this job needs is not installed."""

    exit_code = 5


def require(module: str, *, extra: str, why: str) -> ModuleType:
    """Import `module`, or say in one line which extra brings it.

    Raises:
        MissingPackageError: it is not installed, or cannot be loaded here.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        missing = isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] == package
        problem = "is not installed" if missing else f"does not load ({error})"
        raise MissingPackageError(
            f"{why} needs {package}, which {problem}",
            mend=f'pip install "edgepatch[{extra}]"',
        ) from error
