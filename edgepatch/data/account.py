"""What is done with bad data: each rule by its name, and one account of all that was dropped, changed or doubtful."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgepatch.data.pictures import MAX_UNREADABLE
from edgepatch.errors import BadFileError, EdgepatchError

SHOWN = 100  # problems of a file that are told one by one

# of boxes
CLIPPED = "boxes that reached out of their picture, clipped to it"
DEGENERATE = "boxes dropped: within their picture under 1 pixel wide or high"
IGNORED = "boxes neither trained on nor evaluated: crowds, difficult ones"
NO_BOX = "labels kept that have no box"
NEGATIVE = "pictures kept as negatives: they have no box"
MISSING = "pictures dropped: listed, but not there"
UNLISTED = "pictures not used: there, but not listed"
RENAMED = "annotations that name another picture, taken for the one of their own name"
# of masks
NO_MASK = "pictures not used: they have no mask"
NO_PICTURE = "masks not used: they have no picture"
NO_PIXEL = "labels kept that no mask has"
EMPTY = "pictures kept whose mask says nothing: all of it is 255"
# of both
UNREADABLE = "pictures dropped: cannot be read"
OTHER_SIZE = "pictures dropped: of another size than listed, or than their mask"
TURNED = "pictures dropped: turned by EXIF, and their boxes or mask are not"
UNSURE = "pictures kept that EXIF turns without a change of size: boxes or masks are taken for turned, too"


class Account:
    """What the rules did with some data.

    Attributes:
        counts: of each rule, to how many things it was applied.
        examples: of each rule, the first of them.
    """

    def __init__(self, counts: Mapping[str, int] | None = None, examples: Mapping[str, str] | None = None) -> None:
        self.counts, self.examples = dict(counts or {}), dict(examples or {})

    def add(self, rule: str, example: object) -> None:
        self.counts[rule] = self.counts.get(rule, 0) + 1
        self.examples.setdefault(rule, str(example))

    def without(self, *rules: str) -> Account:
        """A copy that says nothing of these rules."""
        left = {rule: count for rule, count in self.counts.items() if rule not in rules}
        return Account(left, {rule: self.examples[rule] for rule in left})

    def __str__(self) -> str:
        return "".join(f"\n  {rule}: {count} (first: {self.examples[rule]})" for rule, count in self.counts.items())

    def to_json(self) -> dict[str, Any]:
        return {rule: {"count": count, "first": self.examples[rule]} for rule, count in self.counts.items()}


class UnfitError(BadFileError):
    """A picture that a rule drops.

    Args:
        rule: its name.
        message: why, in one sentence.
        file: the picture, or its mask.
    """

    def __init__(self, rule: str, message: str, file: Path) -> None:
        super().__init__(message, file=file)
        self.rule = rule


class Problems:
    """What is wrong with data, gathered so that all of it is told at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.found: list[dict[str, Any]] = []

    def add(self, field: str, message: str, **facts: Any) -> None:
        self.found.append({"field": field, "message": message, **facts})

    def add_error(self, field: str, error: EdgepatchError) -> None:
        """What an error of a part says, as one of the problems of the whole."""
        self.add(
            field, error.message, **{key: error.details[key] for key in ("got", "expected") if key in error.details}
        )

    def raise_if_any(self) -> None:
        """
        Raises:
            BadFileError: there are problems; of more than `SHOWN` the first are told.
        """
        count = len(self.found)
        if count:
            said = f"{count} {'thing is' if count == 1 else 'things are'} wrong with it, so it was not used"
            mend = f"The first {SHOWN} are told here." if count > SHOWN else None
            raise BadFileError(said, file=self.path, problems=self.found[:SHOWN], mend=mend)


def shown(value: Any) -> str:
    """A value as a message has it: of a long one the start."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def refuse_many(dropped: int, count: int, source: Path, examples: Sequence[str]) -> None:
    """Stop where so much of the data is dropped that the whole is in doubt.

    Args:
        dropped: how many pictures are.
        count: of how many.
        source: the data.
        examples: of those dropped; the first three are told.

    Raises:
        BadFileError: more than 5 % are dropped, and more than two, or all of them.
    """
    if dropped and (dropped > max(2, MAX_UNREADABLE * count) or dropped == count):
        raise BadFileError(
            "has too many pictures that cannot be used",
            file=source,
            got=f"{dropped} of {count}",
            expected=f"at most {MAX_UNREADABLE:.0%}",
            mend=f"The first of them: {'; '.join(examples[:3])}",
        )
