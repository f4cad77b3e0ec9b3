"""Tests of a device alone: its emulator, the commands it has, and its store."""

from __future__ import annotations

import ctypes
import dataclasses
import faulthandler
import json
import mmap
import os
import platform
import signal
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import golden
import numpy as np
import pytest
from conftest import INSTALLED, make_patch, pictures
from PIL import Image

from edgepatch import Runtime, blob, cli
from edgepatch.backbones.backbone import Backbone
from edgepatch.runtime import baking, engines, fitting, graph_file
from edgepatch.runtime.formats import flatbuffer as fb
from edgepatch.runtime.runtime import PROMOTE_AFTER
from edgepatch.runtime.store import Store

# 32-bit instructions that read from the address in r0, and the multiple that ARMv7 wants of it (ARM DDI 0406C, A3.2.1:
# LDRD, LDM and VLDR fault at any other, NEON loads where they claim an alignment; plain loads never)
LOADS = {
    "ldr": ((0xE5900000,), 1),
    "ldrd": ((0xE1A02000, 0xE1C200D0), 4),
    "ldm": ((0xE1A02000, 0xE8920003), 4),
    "vldr": ((0xED900A00,), 4),
    "vld1.32": ((0xF420078F,), 1),
    "vld1.32 :64": ((0xF420079F,), 8),
    "vld1.64 :128": ((0xF4200AEF,), 16),
}
RETURN = 0xE12FFF1E

FORMATS = [
    kind for kind, engines in (("tflite", {"litert", "tflite-runtime"}), ("onnx", {"onnx"})) if engines & INSTALLED
]


@pytest.mark.skipif(platform.machine() != "armv7l", reason="64-bit ARM reads ordinary memory at any address")
@pytest.mark.parametrize("name", LOADS)
def test_the_emulator_faults_where_the_processor_does(name: str) -> None:
    """Else the other tests would say nothing of alignment."""
    words, wanted = LOADS[name]
    memory = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    memory[: 4 * len(words) + 4] = struct.pack(f"<{len(words) + 1}I", *words, RETURN)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    load = ctypes.CFUNCTYPE(ctypes.c_uint32, ctypes.c_uint32)(start)
    for beside in (0, 1, 2, 4, 8, 16):
        assert faults(lambda at=beside: load(start + 1024 + at)) == (beside % wanted != 0), f"{name} at {beside}"


@pytest.mark.skipif(platform.machine() != "armv7l", reason="64-bit ARM reads ordinary memory at any address")
@pytest.mark.parametrize("shift", [0, 1, 2, 4])
def test_a_model_with_a_misplaced_head_ends_the_process(shift: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What test_arm.py is there for; should this cease to, it could go."""

    def point(end: int, vectors: Any) -> tuple[list[fb.Edit], bytes]:
        edits, tail = original(end, vectors)
        moved = [(place, struct.pack("<I", struct.unpack("<I", offset)[0] + shift)) for place, offset in edits]
        return moved, bytes(shift) + tail

    original = fb.point
    monkeypatch.setattr(fb, "point", point)
    graph = graph_file.parse(golden.graph("gated-fp32.tflite"), "graph")
    model = baking.bake(graph, fitting.fit(graph, blob.parse(golden.patch("scale_bias"), "patch"), "patch"))

    def work() -> None:
        engine = engines.start("tflite-runtime", model, 1)
        engine.bind({})
        engine.run(np.zeros((1, 32, 32, 3), np.float32))

    assert faults(work) == (shift % 4 != 0)


def faults(work: Callable[[], object]) -> bool:
    """Whether the processor refuses to do it, tried in a copy of this process: it ends by SIGBUS.

    Raises:
        AssertionError: it ends otherwise than well.
    """
    child = os.fork()
    if child == 0:
        try:
            faulthandler.disable()  # it is meant to die
            work()
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGBUS), status
    return status != 0


@pytest.fixture
def edgepatch(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, Any]]:
    """Runs a command in this process; its exit code, and the document that it printed."""

    def call(*arguments: object) -> tuple[int, Any]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            cli.main([str(argument) for argument in arguments])
        return int(caught.value.code or 0), json.loads(capsys.readouterr().out)

    return call


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("mode", ["auto", "bind", "bake"])
def test_the_command_answers_as_the_runtime(
    edgepatch: Any, graphs: dict[str, Path], patches: list[Path], kind: str, mode: str, tmp_path: Path
) -> None:
    files = []
    for number, array in enumerate(pictures(3)):
        files.append(tmp_path / f"{number}.png")
        Image.fromarray(array).save(files[-1])
    code, rows = edgepatch("run", graphs[kind], "--patch", patches[1], *files, "--mode", mode, "--json")
    assert code == 0
    with Runtime(graphs[kind], mode=mode) as runtime:
        runtime.load(patches[1])
        for row, file in zip(rows, files, strict=True):
            answer = runtime.predict(file)
            assert (row["label"], row["score"]) == (answer.label, pytest.approx(answer.score, abs=1e-5))


@pytest.mark.parametrize("kind", FORMATS)
def test_the_command_draws_answers(
    edgepatch: Any, graphs: dict[str, Path], tiny: Backbone, kind: str, tmp_path: Path
) -> None:
    """Debian 12's Pillow has no font for the labels that most people have."""
    patch, picture = tmp_path / "letters.epatch", golden.DATA / "pictures" / "noise.png"
    labels = ("Стоп", "止まれ", "a label so long that it must be cut to fit below its picture")
    blob.write(dataclasses.replace(make_patch(tiny, 1, 3), labels=labels), patch)
    into = ["--draw", tmp_path / "drawn", "--sheet", tmp_path / "sheet.png"]
    code, rows = edgepatch("run", graphs[kind], "--patch", patch, picture, *into, "--json")
    assert (code, len(rows)) == (0, 1)
    (drawn,) = (tmp_path / "drawn").iterdir()
    for path in (drawn, tmp_path / "sheet.png"):
        assert len(np.unique(np.asarray(Image.open(path)).reshape(-1, 3), axis=0)) > 10


def test_what_is_wrong_has_its_exit_code(
    edgepatch: Any, graphs: dict[str, Path], patches: list[Path], tmp_path: Path
) -> None:
    kind = FORMATS[0]
    broken, foreign = tmp_path / "broken.epatch", tmp_path / "foreign.epatch"
    broken.write_bytes(patches[0].read_bytes()[:-1])
    foreign.write_bytes(golden.patch("mobilenet_int8"))
    picture = golden.DATA / "pictures" / "noise.png"
    for patch, expected in ((tmp_path / "none.epatch", 2), (broken, 3), (foreign, 4)):
        code, document = edgepatch("run", graphs[kind], "--patch", patch, picture, "--json")
        assert (code, document["error"]["code"]) == (expected, expected)
    missing = "onnx" if "onnx" not in INSTALLED else "tflite-runtime" if "tflite-runtime" not in INSTALLED else ""
    if missing:
        graph = dict.__getitem__(graphs, "onnx" if missing == "onnx" else "tflite")
        code, document = edgepatch("run", graph, "--patch", patches[0], picture, "--engine", missing, "--json")
        assert (code, document["error"]["mend"]) == (5, f'pip install "edgepatch[{missing}]"')


@pytest.mark.parametrize("kind", FORMATS)
def test_a_task_that_stays_moves_from_bound_to_baked(graphs: dict[str, Path], patches: list[Path], kind: str) -> None:
    image = pictures(1)[0]
    with Runtime(graphs[kind]) as runtime:
        task = runtime.load(patches[0])
        answers = [runtime.predict(image).logits for _ in range(PROMOTE_AFTER)]
        runtime.wait()
        assert (runtime.baked, runtime.problems) == ((task,), {})
        np.testing.assert_allclose(runtime.predict(image).logits, answers[0], atol=1e-4)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_store_installs_runs_and_rolls_back(
    graphs: dict[str, Path], tiny: Backbone, kind: str, tmp_path: Path
) -> None:
    image, answers = pictures(1)[0], {}
    store = Store.create(tmp_path / "store", graphs[kind])
    for version in (1, 2):
        patch = dataclasses.replace(make_patch(tiny, version, 3, task="same"), version=version)
        blob.write(patch, tmp_path / "same.epatch")
        store.install(tmp_path / "same.epatch")
        with store.runtime() as runtime:
            answers[version] = runtime.predict(image).logits
    assert not np.allclose(answers[1], answers[2])
    Store.open(tmp_path / "store").roll_back("same")
    with Store.open(tmp_path / "store").runtime() as runtime:
        np.testing.assert_array_equal(runtime.predict(image).logits, answers[1])
