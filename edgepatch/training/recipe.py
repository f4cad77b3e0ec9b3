"""The defaults of training, and where they come from (docs/recipe.md)."""

from __future__ import annotations

import dataclasses
from typing import Any

from edgepatch.errors import UsageError

STATS = ("frozen", "adapt")
SEARCH = 0.5  # share of the epochs in which a policy is searched; the others train with it as found


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a patch is trained.

    Attributes:
        epochs: of the joint phase; 0 lets the number of images decide.
        batch: images a step.
        learning_rate: peak, reached after the warm-up and brought down to 0 along a cosine.
        warmup: share of the steps over which the learning rate rises to its peak.
        weight_decay: AdamW's; it draws the patch towards the backbone's own values and the head towards zero.
        label_smoothing: of the joint phase's cross entropy.
        zoom, light: strength of the augmentation, as in `pipeline.Augmentation`.
        flips: whether mirror images may be used where they are found harmless.
        stats: batch norm statistics, the backbone's (`frozen`) or estimated anew on the task's images (`adapt`).
        patience: epochs without a better validation result after which the joint phase ends; 0 never.
        form: of scale and bias: `patches.affine.FORMS`.
        sparsity, sharing: of a policy: weights of the losses that reward skipped blocks, and choices like other tasks'.
        seed: of everything random.
    """

    epochs: int = 0
    batch: int = 16
    learning_rate: float = 1e-2
    warmup: float = 0.3
    weight_decay: float = 1e-4
    label_smoothing: float = 0.1
    zoom: float = 0.85
    light: float = 0.1
    flips: bool = True
    stats: str = "frozen"
    patience: int = 10
    form: str = "relative_gamma"
    sparsity: float = 0.05
    sharing: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        limits: dict[str, tuple[float, float]] = {
            "epochs": (0, 10_000),
            "batch": (1, 4096),
            "learning_rate": (1e-8, 1.0),
            "warmup": (0.0, 0.9),
            "weight_decay": (0.0, 1.0),
            "label_smoothing": (0.0, 0.9),
            "zoom": (0.1, 1.0),
            "light": (0.0, 1.0),
            "patience": (0, 10_000),
            "sparsity": (0.0, 100.0),
            "sharing": (0.0, 100.0),
            "seed": (0, 2**31 - 1),
        }
        for name, (low, high) in limits.items():
            if not low <= getattr(self, name) <= high:
                raise UsageError(
                    "is out of range",
                    field=f"--{name.replace('_', '-')}",
                    got=getattr(self, name),
                    expected=f"{low} to {high}",
                )
        if self.stats not in STATS:
            raise UsageError("is unknown", field="--stats", got=self.stats, expected=" or ".join(STATS))

    def epochs_for(self, images: int) -> int:
        """Epochs of the joint phase on a training set of this size: about 12,000 images seen, 6 to 40 times each."""
        return self.epochs or max(6, min(40, round(12_000 / max(images, 1))))

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)
