"""Where a training stands, kept after each epoch, so that a killed one goes on."""

from __future__ import annotations

import dataclasses
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from edgepatch import files

NOTHING = (-1.0, -math.inf)  # what a training scores before any epoch counts


@dataclasses.dataclass
class State:
    """Where the joint phase stands after an epoch.

    Attributes:
        epoch: epochs done.
        history: one entry an epoch: loss and accuracy on training and validation images.
        best: (validation accuracy, -validation loss) of the best epoch.
        best_weights: trainable weights at the best epoch; those at the start before there is one.
        share: how much of the way there was kept in the end.
    """

    epoch: int = 0
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    best: tuple[float, float] = NOTHING
    best_weights: list[np.ndarray] = dataclasses.field(default_factory=list)
    share: float = 1.0


def save(
    checkpoint: Path,
    fingerprint: str,
    variables: Sequence[Any],
    optimizers: Sequence[keras.optimizers.Optimizer],
    state: State,
) -> None:
    facts = {"fingerprint": fingerprint, "epoch": state.epoch, "history": state.history, "best": state.best}
    arrays = {"facts": np.frombuffer(json.dumps(facts).encode(), np.uint8)}
    for group, values in (
        ("weights", variables),
        ("optimizer", [variable for optimizer in optimizers for variable in optimizer.variables]),
        ("best", state.best_weights),
    ):
        arrays |= {f"{group}/{index}": np.asarray(value) for index, value in enumerate(values)}
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    files.write(checkpoint, stream.getvalue())


def restore(
    checkpoint: Path, fingerprint: str, variables: Sequence[Any], optimizers: Sequence[keras.optimizers.Optimizer]
) -> State | None:
    if not checkpoint.exists():
        return None
    inner = [variable for optimizer in optimizers for variable in optimizer.variables]
    try:
        with np.load(io.BytesIO(checkpoint.read_bytes()), allow_pickle=False) as saved:
            facts = json.loads(saved["facts"].tobytes())
            if facts["fingerprint"] != fingerprint:
                return None
            names = [f"weights/{index}" for index in range(len(variables))]
            names += [f"optimizer/{index}" for index in range(len(inner))]
            values = [saved[name] for name in names]  # all of them are read before any is used
            best = [saved[f"best/{index}"] for index in range(len(variables))]
            state = State(int(facts["epoch"]), list(facts["history"]), tuple(facts["best"]), best)
    except Exception:  # not ours, or damaged, in whatever way: start anew
        return None
    whole = [*variables, *inner]
    if any(value.shape != tuple(variable.shape) for value, variable in zip(values, whole, strict=True)):
        return None
    for value, variable in zip(values, whole, strict=True):
        variable.assign(value)
    return state
