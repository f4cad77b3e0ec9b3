"""Parts of tests that run here and on devices alike: each has a conftest.py of its own, which gives them on."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np


def pictures(count: int, size: int = 40, seed: int = 0) -> list[np.ndarray]:
    """Noise pictures, uint8 (size, size, 3)."""
    return list(np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), np.uint8))


def in_threads(work: Callable[[int], None], count: int) -> None:
    """`work(0)` to `work(count - 1)`, each in a thread of its own, to the end."""
    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
