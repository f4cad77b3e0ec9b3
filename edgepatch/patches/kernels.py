"""How a kernel of the task's own, and a mask over the backbone's, are trained.

Both in units that suit one learning rate, the recipe's: Adam's steps do not depend on the gradient's size, so a unit
is a learning rate of its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from edgepatch.backbones.network import Convolution
from edgepatch.backbones.plan import Site

DEPTHWISE_UNIT, DENSE_UNIT = 0.5, 0.1  # of the kernel's root mean square; a dense kernel's many weights add up
# Mallya et al., "Piggyback", section 4.2: real-valued masks start at 1e-2, are cut at 5e-3, and take Adam at 1e-4
MASK_START, MASK_THRESHOLD, MASK_RATE = 1e-2, 5e-3, 1e-4
MASK_REACH = 16  # how often all steps together could take a weight from the start to the threshold, at least


class Private(Convolution):
    """A kernel of the task's own: the backbone's, and a change from zero."""

    def __init__(self, site: Site, kernel: np.ndarray, padding: str, **options: Any) -> None:
        super().__init__(site, kernel, padding, **options)
        share = DEPTHWISE_UNIT if site.depthwise else DENSE_UNIT
        self.unit = share * float(np.sqrt(np.mean(kernel**2)))
        self.change = self.add_weight(shape=kernel.shape, initializer="zeros", name="change")

    def effective(self) -> Any:
        return self.kernel + self.change * self.unit

    def value(self) -> np.ndarray:
        """The kernel as it stands, float32 HWIO."""
        return np.asarray(self.kernel) + np.asarray(self.change) * np.float32(self.unit)


class Masked(Convolution):
    """The backbone's kernel under a mask: 1 where a real value lies above a threshold.

    The gradient passes the threshold as if it were not there (straight-through estimator).

    Args:
        unit: what the real values move by where the trained ones move by 1; see `mask_unit`.
    """

    def __init__(self, site: Site, kernel: np.ndarray, padding: str, unit: float, **options: Any) -> None:
        super().__init__(site, kernel, padding, **options)
        self.unit = unit
        self.real = self.add_weight(shape=kernel.shape, initializer="zeros", name="real")

    def effective(self) -> Any:
        real = MASK_START + self.real * self.unit
        bits = ops.cast(real > MASK_THRESHOLD, real.dtype)
        return self.kernel * (real + ops.stop_gradient(bits - real))

    def value(self) -> np.ndarray:
        """The mask as it stands, bool HWIO."""
        return np.asarray(MASK_START + np.asarray(self.real) * np.float32(self.unit) > MASK_THRESHOLD)


def mask_unit(rate: float, steps: int) -> float:
    """The unit that gives masks Piggyback's learning rate, or a higher one where there are few steps.

    Args:
        rate: of everything else, at its peak.
        steps: of the whole training.
    """
    return max(MASK_RATE, MASK_REACH * (MASK_START - MASK_THRESHOLD) / max(steps, 1)) / rate
