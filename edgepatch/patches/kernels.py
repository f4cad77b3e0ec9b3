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

DEPTHWISE_UNIT, DENSE_UNIT = 1.0, 0.2  # of the kernel's root mean square; a dense kernel's many weights add up
# Mallya et al., "Piggyback", section 4.2: real-valued masks start at 1e-2, are cut at 5e-3, and take Adam at 1e-4
MASK_START, MASK_THRESHOLD, MASK_UNIT = 1e-2, 5e-3, 1e-4 / 5e-3


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
    """

    def __init__(self, site: Site, kernel: np.ndarray, padding: str, **options: Any) -> None:
        super().__init__(site, kernel, padding, **options)
        self.real = self.add_weight(shape=kernel.shape, initializer="zeros", name="real")

    def effective(self) -> Any:
        real = MASK_START + self.real * MASK_UNIT
        bits = ops.cast(real > MASK_THRESHOLD, real.dtype)
        return self.kernel * (real + ops.stop_gradient(bits - real))

    def value(self) -> np.ndarray:
        """The mask as it stands, bool HWIO."""
        return np.asarray(MASK_START + np.asarray(self.real) * MASK_UNIT > MASK_THRESHOLD)
