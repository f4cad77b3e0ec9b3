"""What the devices are asked: small golden graphs, or the real graphs and patches of a folder."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

from .devices import Device
from .wheels import REPOSITORY

Question = dict[str, Any]
Questions = list[Question]

GOLDEN = REPOSITORY / "tests" / "golden" / "data"
# real photographs: parts of a picture of the documentation, by left, upper, right and lower edge
PHOTOGRAPHS = [
    [str(REPOSITORY / "docs" / "detection" / "answers.png"), *edges]
    for edges in ((0, 0, 400, 300), (410, 0, 861, 300), (871, 0, 1471, 300), (480, 10, 700, 230))
]
# one of each: bound scales and biases, kernels, masks and skipped blocks, a crop, each head, a whole MobileNet
TASKS = {
    "gated": (
        "scale_bias",
        "scale_bias_int8",
        "depthwise",
        "everything",
        "cropped",
        "many_classes",
        "finder",
        "painter",
    ),
    "mobilenet": ("mobilenet_int8", "mobilenet_skip"),
}


def engines(device: Device) -> dict[str, str]:
    """The engine that a device runs each format with."""
    names = {"litert": "tflite", "tflite-runtime": "tflite", "onnx": "onnx"}
    return {names[extra]: extra for extra in device.extras.split(",")}


def of_golden(device: Device, folder: Path) -> Questions:
    """All golden graphs that the device can run, put into a folder, in each mode, asked of photographs."""
    folder.mkdir(parents=True, exist_ok=True)
    asked = []
    for name, row in json.loads((GOLDEN / "graphs.json").read_text(encoding="utf-8")).items():
        if row["format"] not in engines(device):
            continue
        (folder / name).write_bytes(gzip.decompress((GOLDEN / "graphs" / f"{name}.gz").read_bytes()))
        modes = ["bind", "bake"] if any("bind" in run["answers"] for run in row["runs"].values()) else ["bake"]
        asked.append(
            {
                "graph": str(folder / name),
                "engine": engines(device)[row["format"]],
                "modes": modes,
                "patches": [str(GOLDEN / "patches" / f"{task}.epatch") for task in TASKS[row["backbone"]]],
                "pictures": PHOTOGRAPHS,
            }
        )
    return asked


def of_material(device: Device, material: Path, count: int) -> Questions:
    """All graphs of a folder, each task asked of its own pictures: as `edgepatch demo` leaves them.

    Args:
        material: holds graphs, `TASK.epatch` and `data/TASK/test/`; graphs whose name has `int8` in it are baked only.
        count: pictures of each task, of each class in turn.
    """
    asked = []
    for graph in sorted([*material.glob("*.tflite"), *material.glob("*.onnx")]):
        engine = engines(device).get(graph.suffix[1:])
        for patch in sorted(material.glob("*.epatch")):
            task = patch.name.partition(".")[0]
            pictures = spread(material / "data" / task / "test", count)
            if engine and pictures:
                modes = ["bake"] if "int8" in graph.name else ["bind", "bake"]
                row = {"graph": str(graph), "engine": engine, "modes": modes, "patches": [str(patch)]}
                asked.append({**row, "pictures": [str(path) for path in pictures]})
    return asked


def spread(folder: Path, count: int) -> list[Path]:
    """Some pictures of a folder, of each of its folders in turn."""
    classes = [path for path in sorted(folder.glob("*")) if path.is_dir()] or [folder]
    rows = [
        sorted(path for path in each.iterdir() if path.suffix in (".png", ".jpg")) for each in classes if each.is_dir()
    ]
    turns = [row[number] for number in range(count) for row in rows if number < len(row)]
    return turns[:count]
