"""A life of a store in which every kind of change happens; its graphs and patches are the golden ones."""

from __future__ import annotations

import dataclasses
import gzip
from collections.abc import Callable
from pathlib import Path

from edgepatch import blob
from edgepatch.runtime.store import Store

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "data"
GRAPHS = {
    "fp32": "gated-fp32.tflite",
    "int8": "gated-int8.tflite",
    "onnx": "gated-fp32.onnx",
    "other": "mobilenet-int8.onnx",
}
PATCHES = ("bias", "scale_bias", "mask", "head_only", "skip", "depthwise", "mobilenet_int8")
VERSIONS = 5

Step = Callable[[Path], object]
Files = dict[str, Path]


def paths(folder: Path) -> Files:
    """Where `material` writes: by `fp32`, `bias2` (version 2 of task bias), and so on."""
    patches = {f"{name}{version}": folder / f"{name}-{version}.epatch" for name, version in _versions()}
    return {name: folder / file for name, file in GRAPHS.items()} | patches


def material(folder: Path) -> Files:
    """Writes graphs and patches; their paths."""
    found = paths(folder)
    for name, file in GRAPHS.items():
        found[name].write_bytes(gzip.decompress((GOLDEN / "graphs" / f"{file}.gz").read_bytes()))
    for name, version in _versions():
        patch = blob.read(GOLDEN / "patches" / f"{name}.epatch")
        found[f"{name}{version}"].write_bytes(blob.dump(dataclasses.replace(patch, version=version)))
    return found


def _versions() -> list[tuple[str, int]]:
    return [(name, version) for name in PATCHES for version in range(1, VERSIONS + 1)]


def steps(files: Files) -> list[tuple[str, Step]]:
    """The changes in their order, each a function of the store's folder."""

    def install(*names: str, force: bool = False, remove: tuple[str, ...] = ()) -> Step:
        return lambda path: Store.open(path).install(*(files[name] for name in names), force=force, remove=remove)

    def many(path: Path) -> None:
        with Store.open(path).change() as change:
            change.patch(files["head_only1"])
            change.patch(files["mask2"])
            change.roll_back("bias")
            change.graph(files["onnx"])

    return [
        ("create", lambda path: Store.create(path, files["fp32"], files["bias1"])),
        ("install two", install("scale_bias1", "mask1")),
        ("upgrade", install("bias2")),
        ("upgrade again", install("bias3")),
        ("roll back", lambda path: Store.open(path).roll_back("bias")),
        ("activate", lambda path: Store.open(path).activate("bias", 3)),
        ("collect", lambda path: Store.open(path).collect()),
        ("remove", lambda path: Store.open(path).remove("scale_bias")),
        ("collect what was removed", lambda path: Store.open(path).collect()),
        ("install what was removed", install("scale_bias1")),
        ("replace the graph", install("int8")),
        ("many at once", many),
        ("upgrade two", install("bias4", "scale_bias2")),
        ("downgrade by force", install("bias1", force=True)),
        ("collect after the downgrade", lambda path: Store.open(path).collect()),
        (
            "another backbone",
            install("other", "mobilenet_int81", remove=("bias", "scale_bias", "mask", "head_only")),
        ),
        ("collect the other backbone", lambda path: Store.open(path).collect()),
        ("forget", lambda path: Store.open(path).remove("bias", forget=True)),
        ("back again", install("fp32", "bias1", "depthwise1", remove=("mobilenet_int8",))),
    ]
