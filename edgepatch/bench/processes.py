"""Work in a process of its own: memory starts from nothing there, and what crashes takes nothing with it."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def apart(work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """The result of a module's function, run in a fresh process; its exceptions are raised here.

    Raises:
        BrokenProcessPool: the process died.
    """
    # not a Pool: that one waits for ever for a process that died
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *arguments, **named).result()
