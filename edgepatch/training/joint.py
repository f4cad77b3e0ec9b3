"""The joint phase: what the patch kinds train in the backbone, and the head, together, by gradient."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np

from edgepatch import files
from edgepatch.data.pictures import Pictures
from edgepatch.imaging import Preprocessing
from edgepatch.metrics import accuracy, cross_entropy
from edgepatch.progress import Reporter
from edgepatch.training import pipeline
from edgepatch.training.head import predict
from edgepatch.training.pipeline import Augmentation
from edgepatch.training.recipe import Recipe

DIVERGED = 1e9  # what a loss that is not finite counts as: reports are JSON, which has no NaN


@dataclasses.dataclass
class State:
    """Where the joint phase stands after an epoch.

    Attributes:
        epoch: epochs done.
        history: one entry an epoch: loss and accuracy on training and validation images.
        best: (validation accuracy, -validation loss) of the best epoch.
        best_weights: trainable weights at the best epoch; those at the start before there is one.
    """

    epoch: int = 0
    history: list[dict[str, float]] = dataclasses.field(default_factory=list)
    best: tuple[float, float] = (-1.0, -math.inf)
    best_weights: list[np.ndarray] = dataclasses.field(default_factory=list)


def fit(
    model: keras.Model,
    train: Pictures,
    val: Pictures,
    preprocessing: Preprocessing,
    recipe: Recipe,
    *,
    augmentation: Augmentation,
    class_weights: np.ndarray,
    checkpoint: Path,
    fingerprint: str,
    reporter: Reporter,
) -> State:
    """Train, and leave the model with the weights of its best epoch on the validation images.

    After each epoch everything needed to go on is written to `checkpoint`; a checkpoint of the same `fingerprint` is
    taken up where it stands, any other is ignored.

    Args:
        model: images (n, size, size, 3) to logits (n, classes); its trainable weights are trained.
        class_weights: float32 (classes,).
    """
    epochs = recipe.epochs_for(len(train))
    batch = min(recipe.batch, len(train))
    steps = len(train) // batch
    optimizer = _optimizer(recipe, steps * epochs)
    model.compile(
        optimizer,
        keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=recipe.label_smoothing),
        metrics=["accuracy"],
        jit_compile=keras.backend.backend() == "jax",  # on a CPU, XLA is slower than TensorFlow's own kernels
    )
    optimizer.build(model.trainable_variables)
    start_weights = [np.array(variable) for variable in model.trainable_variables]
    state = _restore(checkpoint, fingerprint, model, optimizer) or State(best_weights=start_weights)
    if state.epoch:
        reporter.say(f"going on after epoch {state.epoch} of {epochs} ({checkpoint.name})")
    while state.epoch < epochs and not _stalled(state, recipe.patience):
        data = pipeline.batches(
            train,
            preprocessing,
            batch=batch,
            classes=len(class_weights),
            weights=class_weights,
            augmentation=augmentation,
            seed=recipe.seed,
            epoch=state.epoch,
        )
        start = time.monotonic()
        seen: list[tuple[float, float]] = []  # loss and accuracy of each batch: Keras reports the last one's
        for inputs, labels, weights in reporter.bar(data, steps, f"epoch {state.epoch + 1}/{epochs}"):
            model.reset_metrics()
            logs = model.train_on_batch(inputs, labels, weights, return_dict=True)
            seen.append((float(logs["loss"]), float(logs["accuracy"])))
            reporter.status("loss {:.3f}, accuracy {:.3f}".format(*np.mean(seen, axis=0)))
        logits = predict(model, val.pixels, preprocessing)
        result = {
            "loss": _finite(np.mean([loss for loss, _ in seen])),
            "accuracy": float(np.mean([right for _, right in seen])),
            "val_loss": _finite(cross_entropy(logits, val.labels)),
            "val_accuracy": accuracy(logits, val.labels),
        }
        state.epoch += 1
        state.history.append(result)
        left = (time.monotonic() - start) * (epochs - state.epoch)
        reporter.say(
            f"epoch {state.epoch}/{epochs}: loss {result['loss']:.3f}, accuracy {result['accuracy']:.3f}, "
            f"validation {result['val_accuracy']:.3f}" + (f", about {left:.0f} s left" if left else "")
        )
        score = (result["val_accuracy"], -result["val_loss"])
        if result["val_loss"] < DIVERGED and score > state.best:
            state.best = score
            state.best_weights = [np.array(variable) for variable in model.trainable_variables]
        _save(checkpoint, fingerprint, model, optimizer, state)
    for variable, value in zip(model.trainable_variables, state.best_weights, strict=True):
        variable.assign(value)
    return state


def _finite(loss: Any) -> float:
    return float(loss) if np.isfinite(loss) else DIVERGED


def _optimizer(recipe: Recipe, steps: int) -> keras.optimizers.Optimizer:
    warmup = min(round(recipe.warmup * steps), steps - 1)
    rate = keras.optimizers.schedules.CosineDecay(
        recipe.learning_rate / 100 if warmup else recipe.learning_rate,
        max(steps - warmup, 1),
        warmup_target=recipe.learning_rate if warmup else None,
        warmup_steps=warmup,
    )
    return keras.optimizers.AdamW(rate, weight_decay=recipe.weight_decay, global_clipnorm=1.0)


def _stalled(state: State, patience: int) -> bool:
    if not patience or not state.history:
        return False
    scores = [(entry["val_accuracy"], -entry["val_loss"]) for entry in state.history]
    return len(scores) - 1 - scores.index(max(scores)) >= patience


def _save(
    checkpoint: Path, fingerprint: str, model: keras.Model, optimizer: keras.optimizers.Optimizer, state: State
) -> None:
    facts = {"fingerprint": fingerprint, "epoch": state.epoch, "history": state.history, "best": state.best}
    arrays = {"facts": np.frombuffer(json.dumps(facts).encode(), np.uint8)}
    for group, values in (
        ("weights", model.trainable_variables),
        ("optimizer", optimizer.variables),
        ("best", state.best_weights),
    ):
        arrays |= {f"{group}/{index}": np.asarray(value) for index, value in enumerate(values)}
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    files.write(checkpoint, stream.getvalue())


def _restore(
    checkpoint: Path, fingerprint: str, model: keras.Model, optimizer: keras.optimizers.Optimizer
) -> State | None:
    if not checkpoint.exists():
        return None
    try:
        with np.load(io.BytesIO(checkpoint.read_bytes()), allow_pickle=False) as saved:
            facts = json.loads(saved["facts"].tobytes())
            if facts["fingerprint"] != fingerprint:
                return None
            variables = [*model.trainable_variables, *optimizer.variables]
            names = [f"weights/{index}" for index in range(len(model.trainable_variables))]
            names += [f"optimizer/{index}" for index in range(len(optimizer.variables))]
            values = [saved[name] for name in names]  # all of them are read before any is used
            best = [saved[f"best/{index}"] for index in range(len(model.trainable_variables))]
            state = State(int(facts["epoch"]), list(facts["history"]), tuple(facts["best"]), best)
    except Exception:  # not ours, or damaged, in whatever way: start anew
        return None
    if any(value.shape != tuple(variable.shape) for value, variable in zip(values, variables, strict=True)):
        return None
    for value, variable in zip(values, variables, strict=True):
        variable.assign(value)
    return state
