"""The demo's tasks: real images that packages of the [demo] extra carry, laid out as folders."""

from __future__ import annotations

import csv
import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np

from edgepatch.errors import require

SHARES = {"train": 0.6, "val": 0.15, "test": 0.25}


@dataclasses.dataclass(frozen=True)
class Task:
    """A set of images.

    Attributes:
        name: of the task and its patch file.
        what: it tells apart.
        source: whose images they are.
        licence: under which terms.
    """

    name: str
    what: str
    source: str
    licence: str


TASKS = {
    task.name: task
    for task in (
        Task(
            "solar-defects",
            "a solar cell that works from a defective one (the cells whose label is certain)",
            "ELPV, package elpv-dataset",
            "CC-BY-NC-SA-4.0",
        ),
        Task(
            "solar-type",
            "a monocrystalline solar cell from a polycrystalline one",
            "ELPV, package elpv-dataset",
            "CC-BY-NC-SA-4.0",
        ),
        Task(
            "digits",
            "the ten digits, handwritten",
            "UCI optical recognition of handwritten digits, in scikit-learn",
            "CC-BY-4.0 (UCI), BSD-3-Clause (scikit-learn)",
        ),
    )
}


def prepare(name: str, work: Path) -> Path:
    """WORK/name with train/, val/ and test/, one folder a class; made once."""
    target = work / name
    if target.exists():
        return target
    images = list(_digits(work) if name == "digits" else _cells(name))
    beside = target.with_name(f".{name}.part")
    shutil.rmtree(beside, ignore_errors=True)
    rng = np.random.default_rng(0)
    for label in sorted({label for label, _ in images}):
        own = [path for found, path in images if found == label]
        order = rng.permutation(len(own))
        ends = np.rint(np.cumsum(list(SHARES.values())) * len(own)).astype(int)
        for split, chosen in zip(SHARES, np.split(order, ends[:-1]), strict=True):
            folder = beside / split / label
            folder.mkdir(parents=True)
            for index in sorted(chosen):
                shutil.copyfile(own[index], folder / own[index].name)
    beside.rename(target)
    return target


def photographs() -> list[Path]:
    """Photographs for the task the backbone was pretrained for."""
    sklearn = require("sklearn", extra="demo", why="the demo's photographs")
    return sorted((_home(sklearn) / "datasets" / "images").glob("*.jpg"))


def _home(package: ModuleType) -> Path:
    return Path(str(package.__file__)).parent


def _cells(name: str) -> Iterator[tuple[str, Path]]:
    """Electroluminescence photographs of solar cells: PATH PROBABILITY-OF-A-DEFECT TYPE."""
    package = require("elpv_dataset", extra="demo", why="the demo's solar cells")
    root = _home(package) / "data"
    with open(root / "labels.csv", newline="") as table:
        for path, probability, kind in csv.reader((" ".join(line.split()) for line in table), delimiter=" "):
            if name == "solar-type":
                yield {"mono": "monocrystalline", "poly": "polycrystalline"}[kind], root / path
            elif float(probability) in (0.0, 1.0):
                yield ("defective" if float(probability) else "functional"), root / path


def _digits(work: Path) -> Iterator[tuple[str, Path]]:
    datasets = require("sklearn.datasets", extra="demo", why="the demo's digits")
    image_module = require("PIL.Image", extra="demo", why="the demo's digits")
    found = datasets.load_digits()
    folder = work / "digits-png"
    folder.mkdir(parents=True, exist_ok=True)
    for index, (pixels, label) in enumerate(zip(found.images, found.target, strict=True)):
        path = folder / f"{index:04d}.png"
        if not path.exists():
            image_module.fromarray(np.rint(pixels * 255 / 16).astype(np.uint8)).resize((96, 96)).save(path)
        yield str(label), path
