"""Task after task on one backbone: nothing of an earlier task changes, to the last bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import pictures
from edgepatch.converters import onnx, tflite

from edgepatch import Runtime
from edgepatch.backbones import backbone as backbones
from edgepatch.progress import Quiet
from edgepatch.training import trainer
from edgepatch.training.recipe import Recipe


def answers(graph: Path, patches: list[Path], task: str, mode: str) -> np.ndarray:
    """A task's logits on some pictures, with all patches loaded."""
    with Runtime(graph, mode=mode) as runtime:
        for patch in patches:
            runtime.load(patch)
        return np.stack([runtime.predict(picture, task).logits for picture in pictures(4)])


@pytest.mark.parametrize("kind", ["tflite", "onnx"])
def test_learning_more_tasks_changes_no_bit_of_an_earlier_one(
    kind: str, gated_file: Path, digits: Path, tmp_path: Path
) -> None:
    backbone, export = backbones.read(gated_file), {"tflite": tflite, "onnx": onnx}[kind].export
    tasks = {"first": "scale_bias", "second": "bias", "third": "depthwise"}
    paths = [tmp_path / f"{name}.epatch" for name in tasks]
    graph, before = tmp_path / f"graph.{kind}", {}
    for number, (name, kinds) in enumerate(tasks.items()):
        trainer.train(backbone, digits, kinds, paths[number], recipe=Recipe(epochs=1, seed=number), reporter=Quiet())
        if number == 0:
            graph.write_bytes(export(backbone))
            before = {path: path.read_bytes() for path in (paths[0], graph, gated_file)}
            logits = {mode: answers(graph, paths[:1], name, mode) for mode in ("bind", "bake")}
    assert {path: path.read_bytes() for path in before} == before
    assert export(backbone) == before[graph]  # and so is the backbone in memory
    assert backbones.read(gated_file).id == backbone.id
    for mode, bindable in (("bind", paths[:2]), ("bake", paths)):  # kernels cannot be bound
        assert answers(graph, bindable, "first", mode).tobytes() == logits[mode].tobytes()
