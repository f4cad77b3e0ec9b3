"""How the choice of blocks to skip is trained.

Sun et al., "AdaShare" (NeurIPS 2020), section 3. One logit a block with an identity shortcut; while the choice is being
searched a block's branch counts with a random weight that leans to 0 or 1 (Gumbel-softmax of two classes, which is
logistic noise under a sigmoid), afterwards with 0 or 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from edgepatch.backbones.backbone import Backbone

START = 2.0  # logit of keeping a block: 88 %, for the backbone was trained with all of them
TEMPERATURES = (5.0, 0.5)  # at the first epoch of the search and at its last
EPSILON = 1e-6


class Skips(keras.layers.Layer):
    """The logits of all blocks, and how far the search is.

    Args:
        backbone: whose blocks.
        sparsity: weight of the loss that grows with the chance of keeping a block, section 3.3.
        sharing: weight of the loss that draws the choice to those of other tasks, the lower blocks more.
        others: choices of other tasks, 1 where a block is skipped, each (residuals,).
    """

    def __init__(
        self, backbone: Backbone, sparsity: float, sharing: float, others: Sequence[np.ndarray], **options: Any
    ) -> None:
        super().__init__(**options)
        count = len(backbone.plan.residuals)
        self.count, self.sparsity, self.sharing = count, sparsity, sharing
        self.others = [1 - np.asarray(other, np.float32) for other in others]  # 1 where the block is kept
        self.logits = self.add_weight(shape=(count,), initializer=keras.initializers.Constant(START), name="logits")
        self.open = self.add_weight(shape=(count,), initializer="zeros", trainable=False, name="open")
        self.temperature = self.add_weight(
            shape=(), initializer=keras.initializers.Constant(TEMPERATURES[0]), trainable=False, name="temperature"
        )
        self.searching = self.add_weight(shape=(), initializer="zeros", trainable=False, name="searching")
        self.noise = keras.random.SeedGenerator(0)

    def at(self, epoch: int, search: int, seed: int) -> bool:
        """Set what an epoch needs; returns whether it is one of the first `search`, in which the choice is searched.

        The search opens the blocks from the last to the first, so that it need not choose among all at once.
        """
        searching = epoch < search
        share = min(1.0, (epoch + 1) / max(1, round(search * 0.6)))
        opened = np.arange(self.count) >= self.count - round(share * self.count)
        self.open.assign(opened.astype(np.float32) if searching else np.ones(self.count, np.float32))
        first, last = TEMPERATURES
        self.temperature.assign(first * (last / first) ** (epoch / max(1, search - 1)) if searching else last)
        self.searching.assign(float(searching))
        # each epoch a stream of its own, and the same one in a run that is resumed
        stream = int(np.random.default_rng([seed, epoch]).integers(2**31))
        self.noise.state.assign(np.array([stream, 0], np.asarray(self.noise.state).dtype))
        return searching

    def keep(self, number: int, training: bool) -> Any:
        """The weight of a block's branch, 0 to 1: random while searching, else 0 or 1."""
        logit, opened = self.logits[number], self.open[number]
        hard = ops.cast(logit > 0, logit.dtype)
        if training:
            uniform = keras.random.uniform((), EPSILON, 1 - EPSILON, seed=self.noise)
            soft = ops.sigmoid((logit + ops.log(uniform) - ops.log(1 - uniform)) / self.temperature)
            hard = self.searching * soft + (1 - self.searching) * hard
        return opened * hard + (1 - opened)

    def loss(self, number: int) -> Any:
        """What a block adds to the loss while its choice is being searched."""
        kept = ops.sigmoid(self.logits[number])
        found = self.sparsity * ops.log(kept + EPSILON)
        lower = (self.count - number) / self.count
        for other in self.others:
            found = found + self.sharing * lower * ops.abs(kept - float(other[number]))
        return self.searching * self.open[number] * found

    def value(self) -> np.ndarray:
        """Which blocks are skipped as it stands, bool (residuals,)."""
        return np.asarray(self.logits) <= 0


class Gate(keras.layers.Layer):
    """The sum at the end of a block: its shortcut, and its branch as far as it is kept."""

    def __init__(self, skips: Skips, number: int, **options: Any) -> None:
        super().__init__(**options)
        self.skips, self.number = skips, number

    def build(self, shapes: Any) -> None:
        self.built = True  # its weights are the Skips'

    def call(self, sources: Any, training: bool = False) -> Any:
        shortcut, branch = sources
        if training:
            self.add_loss(self.skips.loss(self.number))
        return shortcut + self.skips.keep(self.number, training) * branch
