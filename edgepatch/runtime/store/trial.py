"""Does a patch work with a graph? What `edgepatch verify` asks: it fits, and it answers in every form."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from edgepatch.blob import Patch
from edgepatch.runtime.graph_file import Graph
from edgepatch.runtime.runtime import Runtime


@contextlib.contextmanager
def bench(graph: Graph, engine: str | None = None) -> Iterator[Callable[[Patch, object], list[str]]]:
    """Gives a function that lets a patch answer a grey picture, bound (if it can be) and baked.

    The function takes the patch and the file it is from, returns the forms it answered in, and raises BadFileError or
    MismatchError where it does not fit the graph or does not answer.

    Args:
        graph: as it was read and checked.
        engine: by default the first installed one that runs the graph.

    Raises:
        MissingPackageError: no engine for the graph is installed.
    """
    grey: Any = np.full((64, 64, 3), 128, np.uint8)
    with contextlib.ExitStack() as stack:
        runtimes = [stack.enter_context(Runtime(graph, engine=engine, mode=form)) for form in graph.forms]

        def answers(patch: Patch, file: object) -> list[str]:
            able = [runtime for runtime in runtimes if runtime.mode == "bake" or patch.bindable]
            for runtime in able:
                task = runtime.add(patch, file=file)
                runtime.predict(grey, task)  # refuses an answer that is not finite
                runtime.unload(task)
            return [runtime.mode for runtime in able]

        yield answers
