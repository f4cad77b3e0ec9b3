"""The joint phase: what the patch kinds train in the backbone, and the head, together, by gradient."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from edgepatch.data.pictures import Pictures
from edgepatch.imaging import Preprocessing
from edgepatch.metrics import accuracy, cross_entropy
from edgepatch.patches.skips import Skips
from edgepatch.progress import Reporter
from edgepatch.training import checkpoints, pipeline
from edgepatch.training.checkpoints import NOTHING, State
from edgepatch.training.head import predict
from edgepatch.training.pipeline import Augmentation
from edgepatch.training.recipe import SEARCH, Recipe

SEARCH_RATE = 0.01  # Adam's, of a policy, as in AdaShare; more where the steps are so few
SEARCH_REACH = 10.0  # that a block that is always in the way could cross from sure to sure
SHARES = (1.0, 0.75, 0.5, 0.25)  # of the way from where the joint phase begins to its best epoch
DIVERGED = 1e9  # what a loss that is not finite counts as: reports are JSON, which has no NaN


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
    skips: Skips | None = None,
) -> State:
    """Train, and leave the model with the weights of its best epoch on the validation images.

    After each epoch everything needed to go on is written to `checkpoint`; a checkpoint of the same `fingerprint` is
    taken up where it stands, any other is ignored.

    Where blocks may be skipped, the first half of the epochs searches which: each trains all else on one half of the
    images, then the choice on the other half. The second half of the epochs keeps the choice; the best of them counts.

    Args:
        model: images (n, size, size, 3) to logits (n, classes); its trainable weights are trained.
        class_weights: float32 (classes,).
        skips: of the model, if it may skip blocks.
    """
    epochs = recipe.epochs_for(len(train))
    search = int(epochs * SEARCH) if skips else 0
    halves = np.array_split(np.random.default_rng([recipe.seed, 0xAD5]).permutation(len(train)), 2)
    batch = min(recipe.batch, len(halves[1]) if search else len(train))
    steps, half_steps = len(train) // batch, len(halves[1]) // batch
    variables = list(model.trainable_variables)  # of all stages
    total = (epochs - search) * steps + search * (len(halves[0]) // batch)
    policy = [skips.logits] if skips else []
    rest = [variable for variable in variables if not (skips and variable is skips.logits)]
    stages = [_Stage(model, optimizer(recipe, recipe.learning_rate, total), rest, policy)]
    if search:
        rate = max(SEARCH_RATE, SEARCH_REACH / (search * half_steps))
        stages.append(_Stage(keras.Model(model.input, model.output), keras.optimizers.Adam(rate), policy, rest))
    for stage in stages:
        stage.build(recipe)
    optimizers = [stage.optimizer for stage in stages]

    def validate() -> tuple[float, float]:
        logits = predict(model, val.pixels, preprocessing)
        return accuracy(logits, val.labels), finite(cross_entropy(logits, val.labels))

    start_weights = [np.array(variable) for variable in variables]
    state = checkpoints.restore(checkpoint, fingerprint, variables, optimizers) or State(best_weights=start_weights)
    if state.epoch:
        reporter.say(f"going on after epoch {state.epoch} of {epochs} ({checkpoint.name})")

    def scores() -> list[tuple[float, float]]:
        """By epoch, since a policy was found."""
        return [(entry["val_accuracy"], -entry["val_loss"]) for entry in state.history[search:]]

    while state.epoch < epochs and not stalled(scores(), recipe.patience):
        searching = skips.at(state.epoch, search, recipe.seed) if skips else False
        start = time.monotonic()
        seen: list[tuple[float, float]] = []  # loss and accuracy of each batch: Keras reports the last one's
        for stage, among in zip(stages, halves if searching else [None], strict=False):
            data = pipeline.batches(
                train,
                preprocessing,
                batch=batch,
                classes=len(class_weights),
                weights=class_weights,
                augmentation=augmentation,
                seed=recipe.seed,
                epoch=state.epoch,
                among=among,
            )
            count = steps if among is None else len(among) // batch
            what = f"epoch {state.epoch + 1}/{epochs}" + (", policy" if stage is not stages[0] else "")
            stage.thaw()
            # as numpy, for Keras may run on another backend than the pipeline's
            for inputs, labels, weights in reporter.bar(data.as_numpy_iterator(), count, what):
                stage.model.reset_metrics()
                logs = stage.model.train_on_batch(inputs, labels, weights, return_dict=True)
                seen.append((float(logs["loss"]), float(logs["accuracy"])))
                reporter.status("loss {:.3f}, accuracy {:.3f}".format(*np.mean(seen, axis=0)))
        val_accuracy, val_loss = validate()
        result = {
            "loss": finite(np.mean([loss for loss, _ in seen])),
            "accuracy": float(np.mean([right for _, right in seen])),
            "val_loss": val_loss,
            "val_accuracy": val_accuracy,
        }
        if skips:
            result["skipped"] = int(skips.value().sum())
        state.epoch += 1
        state.history.append(result)
        left = (time.monotonic() - start) * (epochs - state.epoch)
        reporter.say(
            f"epoch {state.epoch}/{epochs}: loss {result['loss']:.3f}, accuracy {result['accuracy']:.3f}, "
            f"validation {result['val_accuracy']:.3f}"
            + (f", skipped blocks: {result['skipped']}" if skips else "")
            + (f", about {left:.0f} s left" if left else "")
        )
        reached = score(val_accuracy, val_loss)
        if not searching and reached > state.best:
            state.best = reached
            state.best_weights = [np.array(variable) for variable in variables]
        checkpoints.save(checkpoint, fingerprint, variables, optimizers, state)
        reporter.epoch(state.epoch, epochs, result)
    if state.epoch < epochs:
        reporter.say(f"no better in {recipe.patience} epochs: stopped after {state.epoch} of {epochs}")
    state.share = step_back(variables, start_weights, state, lambda: score(*validate()))
    if state.share < 1:
        reporter.say(f"validation is best after {state.share:.0%} of the way")
    return state


def step_back(
    variables: Sequence[Any], start: Sequence[np.ndarray], state: State, look: Callable[[], tuple[float, float]]
) -> float:
    """Give variables the values that answer the validation images best on the way from the start to the best epoch.

    Between the two there often are better ones, and more so on images that differ from those trained on: Wortsman et
    al., "Robust fine-tuning of zero-shot models" (CVPR 2022, section 3).

    Args:
        start: values at the start.
        state: of the training, with its best epoch.
        look: what the variables as they stand score on the validation images.

    Returns:
        The share of the way, one of `SHARES`.
    """

    def go(share: float) -> None:
        for variable, first, last in zip(variables, start, state.best_weights, strict=True):
            variable.assign(last if share == 1 else first + np.float32(share) * (last - first))

    found = {1.0: state.best}
    if state.best > NOTHING:  # else no epoch counted, and there is no way to go back
        for share in SHARES[1:]:
            go(share)
            found[share] = look()
    best = max(found, key=lambda share: found[share])  # the first of equals: all of the way
    go(best)
    return best


@dataclasses.dataclass
class _Stage:
    """A model and what trains some of its weights, while others stand still; stages share their layers.

    Keras looks at what is trainable when it traces a step, and with some of its backends at each step.
    """

    model: keras.Model
    optimizer: keras.optimizers.Optimizer
    trained: list[Any]
    still: list[Any]

    def thaw(self) -> None:
        """Make this stage's weights the trainable ones."""
        for variables, trainable in ((self.trained, True), (self.still, False)):
            for variable in variables:
                variable.trainable = trainable

    def build(self, recipe: Recipe) -> None:
        self.thaw()
        self.model.compile(
            self.optimizer,
            keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=recipe.label_smoothing),
            metrics=["accuracy"],
            jit_compile=keras.backend.backend() == "jax",  # on a CPU, XLA is slower than TensorFlow's own kernels
        )
        self.optimizer.build(self.model.trainable_variables)


def score(
    accuracies: float | Sequence[float], losses: float | Sequence[float], weights: Sequence[float] | None = None
) -> tuple[float, float]:
    """By which epochs are compared: the higher accuracy, then the lower loss, of several tasks their weighted means;
    `NOTHING` where one has diverged."""
    if np.max(losses) >= DIVERGED:
        return NOTHING
    return float(np.average(accuracies, weights=weights)), -float(np.average(losses, weights=weights))


def finite(loss: Any) -> float:
    """A loss as a report can hold it."""
    return float(loss) if np.isfinite(loss) else DIVERGED


def optimizer(recipe: Recipe, rate: float, steps: int, *, clipped: bool = True) -> keras.optimizers.Optimizer:
    """AdamW under the recipe's warm-up and cosine.

    Args:
        rate: the peak.
        steps: how many there will be.
        clipped: whether gradients are brought to a norm of at most 1.
    """
    warmup = min(round(recipe.warmup * steps), steps - 1)
    schedule = keras.optimizers.schedules.CosineDecay(
        rate / 100 if warmup else rate,
        max(steps - warmup, 1),
        warmup_target=rate if warmup else None,
        warmup_steps=warmup,
    )
    return keras.optimizers.AdamW(schedule, weight_decay=recipe.weight_decay, global_clipnorm=1.0 if clipped else None)


def stalled(scores: Sequence[tuple[float, float]], patience: int) -> bool:
    """Whether validation, of which these are the scores by epoch, has not improved for `patience` epochs."""
    if not patience or not scores:
        return False
    return len(scores) - 1 - scores.index(max(scores)) >= patience
