"""What an attack is."""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the tests' own helpers

from fuzz import common

from edgepatch import container
from edgepatch.container import Tensors

HERE = Path(__file__).resolve().parent
FILES = HERE / "files"
SOUND = {"sound.tflite": "tiny-fp32.tflite", "sound.onnx": "tiny-fp32.onnx", "sound.epatch": "tiny-scale_bias.epatch"}
LARGEST = 40_000  # bytes of a file that is kept; larger ones are made when they are tried
Document = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Attack:
    """A hostile file.

    Attributes:
        name: of the file.
        threat: what it tries.
        elsewhere: what it does, or would do, to whoever reads it in another way.
        make: makes its bytes, the same ones each time.
        slow: whether that takes longer than a test should.
    """

    name: str
    threat: str
    elsewhere: str
    make: Callable[[], bytes]
    slow: bool = False

    @property
    def path(self) -> Path:
        """Where it is kept, if it is."""
        return FILES / self.name

    @property
    def data(self) -> bytes:
        return self.path.read_bytes() if self.path.exists() else self.make()


def sound(name: str) -> bytes:
    """A file of `SOUND`, or another of the seeds."""
    return common.own("")[SOUND.get(name, name)]


@functools.cache
def _parts(name: str) -> tuple[Document, Tensors]:
    return container.parse(sound(name), name)


def document_of(name: str = "sound.epatch") -> Document:
    """A copy of a sound container's document."""
    import copy

    return copy.deepcopy(_parts(name)[0])


def tensors_of(name: str = "sound.epatch") -> Tensors:
    """A sound container's tensors, by name."""
    return dict(_parts(name)[1])
