"""Dedicated models as files: the user's own, looked at before they are trusted, and those made of the graph itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool

import numpy as np

from edgepatch import files
from edgepatch.bench import model_bytes
from edgepatch.bench.processes import apart
from edgepatch.errors import BadFileError
from edgepatch.progress import hushed
from edgepatch.runtime import engines, graph_file
from edgepatch.runtime.formats import format_of
from edgepatch.runtime.model import Model


@dataclasses.dataclass(frozen=True)
class Dedicated:
    """A model of one task.

    Attributes:
        precision: as a graph's; None where the file does not tell.
        source: `converter`, `standalone` (the graph, baked, as a file of its own), or the user's path.
    """

    path: str
    format: str
    precision: str | None
    source: str


def own(path: str, names: Sequence[str]) -> Dedicated:
    """A model of the user's, run once in a process of its own: not every damaged file leaves an interpreter alive.

    Args:
        names: engines to measure with; one of them has to run it.

    Raises:
        UsageError: there is no such file.
        BadFileError: no engine runs it, it is of another format than the graphs, or a shared graph itself.
    """
    data = files.read(path, limit=graph_file.MAX_BYTES)
    kind = format_of(data)
    if kind is None:
        raise BadFileError("is neither a .tflite nor an .onnx model", file=path, field="--against")
    if graph_file.find(data, kind):
        raise BadFileError("is a shared graph, not a dedicated model", file=path, field="--against")
    fitting = [name for name in names if engines.ENGINES[name][1] == kind]
    if not fitting:
        expected = " or ".join(sorted({f".{engines.ENGINES[name][1]}" for name in names}))
        raise BadFileError(
            "is of another format than the graphs measured", file=path, field="--against", got=kind, expected=expected
        )
    problems: list[BadFileError] = []
    crashed = False
    for name in fitting:
        try:
            apart(_try, name, path)
        except BadFileError as error:
            problems.append(error)
        except BrokenProcessPool:
            problems.append(BadFileError(f"crashes {name}", file=path, field="--against"))
            crashed = True
    if crashed or len(problems) == len(
        fitting
    ):  # what one engine cannot run, another may; but a crash would end us all
        raise problems[0]
    return Dedicated(path, kind, model_bytes.precision(data, kind), path)


def _try(name: str, path: str) -> None:
    """Open a model and run it once.

    Raises:
        BadFileError: it takes something else than one image, or does not run.
    """
    with hushed():
        try:
            opened = engines.start(name, Model(files.read(path, limit=graph_file.MAX_BYTES)), 1)
        except BadFileError as error:
            raise BadFileError(error.message, file=path, field="--against") from error
        if opened.image_type not in (np.float32, np.uint8, np.int8):
            raise BadFileError(
                "takes another type of input than images come in",
                file=path,
                field="input",
                got=opened.image_type,
                expected="float32, uint8 or int8",
            )
        try:
            opened.bind({})
            opened.run(picture(opened))
        except Exception as error:  # ONNX Runtime's exceptions share no base of their own
            raise BadFileError(f"cannot be run by {name}: {error}", file=path, field="--against") from error


def picture(opened: engines.Engine) -> np.ndarray:
    """Noise, of the shape and type a model takes."""
    rng = np.random.default_rng(0)
    if opened.image_type == np.float32:
        return rng.normal(size=opened.image_shape).astype(np.float32)
    limits = np.iinfo(opened.image_type)
    return rng.integers(limits.min, limits.max, opened.image_shape, opened.image_type, endpoint=True)
