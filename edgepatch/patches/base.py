"""The interface of a patch kind."""

from __future__ import annotations

import abc
import dataclasses
from typing import Any

import keras
import numpy as np

from edgepatch.backbones.plan import PLACEMENTS, Plan
from edgepatch.container import Tensors
from edgepatch.errors import UsageError
from edgepatch.patches.effects import Effects


class Body(abc.ABC):
    """A kind that changes the backbone for one task.

    It says what it changes; how that is trained, stored, bound and baked is the same for all kinds that do
    (`change.Change`, `edgepatch.codec`, `edgepatch.runtime.folding`).
    """

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """As it is written after `--patch` and in the patch file."""

    @abc.abstractmethod
    def effects(self, plan: Plan) -> Effects:
        """What it changes in a network.

        Raises:
            UsageError: the network has nothing of the kind.
        """

    def placed(self, placement: str) -> Body:
        """The same kind, confined to the sites of a placement: what `KIND@PLACEMENT` means.

        Raises:
            UsageError: there is no such placement, or the kind cannot be confined.
        """
        got = f"{self.name}@{placement}"
        raise UsageError("this kind cannot be confined to a placement", field="--patch", got=got, expected=self.name)

    def counted(self, count: int) -> Body:
        """The same kind, of so many blocks: what `KIND:N` means.

        Raises:
            UsageError: the kind takes no number.
        """
        got = f"{self.name}:{count}"
        raise UsageError("this kind takes no number", field="--patch", got=got, expected=self.name)


@dataclasses.dataclass(frozen=True)
class Placed(Body):
    """A kind that may be confined to a placement, one of `plan.PLACEMENTS`."""

    placement: str = "all"

    base = ""  # its name without a placement

    def __post_init__(self) -> None:
        if self.placement not in PLACEMENTS:
            raise UsageError(
                "there is no such placement", field="--patch", got=self.placement, expected=", ".join(PLACEMENTS)
            )

    @property
    def name(self) -> str:
        return self.base if self.placement == "all" else f"{self.base}@{self.placement}"

    def placed(self, placement: str) -> Body:
        return dataclasses.replace(self, placement=placement)


@dataclasses.dataclass(frozen=True)
class Counted(Body):
    """A kind of so many blocks; the stem is one, and so is each convolution behind the last block."""

    blocks: int = 0

    base = ""  # its name without a number

    @property
    def name(self) -> str:
        return f"{self.base}:{self.blocks}"

    def counted(self, count: int) -> Body:
        return dataclasses.replace(self, blocks=count)

    def chosen(self, plan: Plan) -> list[int]:
        """Numbers of all blocks in forward order, after a look at whether there are enough.

        Raises:
            UsageError: there are not, or no number was given.
        """
        found = list(dict.fromkeys(site.block for site in plan.sites))
        if not 1 <= self.blocks <= len(found):
            raise UsageError(
                "there are not so many blocks" if self.blocks else "this kind needs a number of blocks",
                field="--patch",
                got=self.name if self.blocks else self.base,
                expected=f"{self.base}:1 to {self.base}:{len(found)}",
            )
        return found


class Head(abc.ABC):
    """A kind that turns what the trunk makes of a picture into answers."""

    name: str


class FeatureHead(Head):
    """A kind that reads the features."""

    @abc.abstractmethod
    def layer(self, kernel: np.ndarray, bias: np.ndarray) -> keras.layers.Layer:
        """The layer to train on the features (n, features).

        Args:
            kernel, bias: of the head alone, (features, classes) and (classes,), where training begins.
        """

    @abc.abstractmethod
    def tensors(self, layer: keras.layers.Layer) -> Tensors:
        """What was trained, as the graph's inputs take it: float32, by input name, in canonical order."""

    @abc.abstractmethod
    def decode(self) -> dict[str, Any]:
        """What the runtime needs to turn the graph's outputs into answers, for the patch file's `decode`."""
