"""One model, two optimizers: one for some of its variables, one for all others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras


class TwoRates(keras.optimizers.Optimizer):
    """Trains some variables with one optimizer and the rest with another, each clipping and scheduling its own.

    Args:
        first, second: the optimizers. The first one may be built already, where several models share it.
        chosen: the variables of the first one.
    """

    def __init__(
        self, first: keras.optimizers.Optimizer, second: keras.optimizers.Optimizer, chosen: Sequence[Any]
    ) -> None:
        super().__init__(learning_rate=1.0, name="two_rates")
        self.first, self.second = first, second
        self.chosen = list(chosen)
        self._own = {id(variable) for variable in self.chosen}

    def build(self, variables: Any) -> None:
        if not self.first.built:
            self.first.build([variable for variable in variables if id(variable) in self._own])
        self.second.build([variable for variable in variables if id(variable) not in self._own])
        self.built = True

    def apply(self, grads: Any, trainable_variables: Any = None) -> None:
        pairs = list(zip(grads, trainable_variables, strict=True))
        own = [pair for pair in pairs if id(pair[1]) in self._own]
        rest = [pair for pair in pairs if id(pair[1]) not in self._own]
        if own:
            self.apply_first([grad for grad, _ in own], [variable for _, variable in own])
        if rest:
            self.second.apply([grad for grad, _ in rest], [variable for _, variable in rest])

    def apply_first(self, grads: list[Any], variables: list[Any]) -> None:
        """Step of the first optimizer."""
        self.first.apply(grads, variables)
