"""The image sets of the benchmarks, brought to DATA/{train,val,test}/class folders of links.

Sets of ../shared/data keep their own test split. What has no validation split gets one off its training images
(stratified, fixed seed); training images beyond `limit` are used for validation too, so that choices are less noisy.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgepatch.data import folder
from edgepatch.data.folder import Files
from edgepatch.demo import tasks

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data" / "classify"
SETS = ("clothing10", "coffeeleaf5", "signdigits10", "steel6", "trash6", "solar-defects")
MAX_VAL = 400


def prepare(name: str, work: Path, limit: int) -> Path:
    """DATA/train, DATA/val and DATA/test of a set, at most `limit` training images."""
    target = work / f"{name}-{limit}"
    if target.exists():
        return target
    if name == "solar-defects":
        source = tasks.prepare(name, work / "demo")
        train, test = folder.scan(source / "train"), folder.scan(source / "test")
    else:
        train, test = folder.scan(SHARED / name / "train"), folder.scan(SHARED / name / "test")
    kept, rest = folder.split(train, share=max(0.2, 1 - limit / len(train)), seed=0)
    rng = np.random.default_rng(0)
    rest = rest.take(rng.permutation(len(rest))[:MAX_VAL])
    beside = target.with_name(target.name + ".part")
    for split, images in (("train", kept), ("val", rest), ("test", test)):
        _link(images, beside / split)
    beside.rename(target)
    return target


def _link(images: Files, target: Path) -> None:
    paths: Sequence[Path] = images.paths
    for index, (path, label) in enumerate(zip(paths, images.labels, strict=True)):
        place = target / images.classes[label]
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{index:05d}{path.suffix}").symlink_to(path.resolve())
