"""Trying a file on edgepatch, as somebody would: through the command line and through a `Runtime`."""

from __future__ import annotations

import contextlib
import dataclasses
import io
from pathlib import Path

import numpy as np

from edgepatch import Runtime, cli
from edgepatch.backbones.weights import tfjs
from edgepatch.errors import EdgepatchError

from .attack import SOUND, Attack, sound

GREY = np.full((64, 64, 3), 128, np.uint8)


@dataclasses.dataclass(frozen=True)
class Answer:
    """How a call ended: its exit code, and the first line that it said."""

    code: int
    said: str


def laid_out(attack: Attack, folder: Path) -> None:
    """Put the file into a folder, with the sound ones that it is held against."""
    for name in SOUND:
        (folder / name).write_bytes(sound(name))
    path = folder / attack.name
    if attack.name.endswith(".json"):  # it has to have its own name, in a folder of its own
        path = folder / attack.name.partition(".")[0] / attack.name.partition(".")[2]
        path.parent.mkdir()
    path.write_bytes(attack.data)


def command(attack: Attack) -> list[str]:
    """The command that meets the file, in the folder that it was laid out in."""
    name, suffix = attack.name, attack.name.rpartition(".")[2]
    match suffix:
        case "epatch":
            return ["verify", "--engine", "litert", "sound.tflite", name]
        case "tflite" | "onnx":
            return ["verify", name, "sound.epatch"]
        case "pth":
            return ["backbone", "create", "mobilenet_v2", "--size", "32", "--weights", name, "--out", "x.backbone"]
        case "npz" | "h5":
            return ["backbone", "create", "mobilenet_v1", "--size", "32", "--weights", name, "--out", "x.backbone"]
        case "keras":
            return ["backbone", "import", name, "--out", "x.backbone"]
        case "backbone":
            return ["inspect", name]
    return ["store", "list", name.partition(".")[0]]


def called(arguments: list[str]) -> Answer:
    """The answer of the command line, in this process and folder."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.main(arguments)
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
    said = (err.getvalue() or out.getvalue()).strip().removeprefix("edgepatch: ")
    return Answer(code, said.partition("\n")[0])


def answer(attack: Attack) -> Answer:
    """What comes of the file through the command that meets it."""
    if attack.name.endswith("model.json"):  # no command reads a model whose hash is not known
        return _raised(lambda: tfjs.read(attack.name.partition(".")[0], folder="", check=lambda _: None))
    return called(command(attack))


def loaded(attack: Attack) -> Answer:
    """What comes of a patch or a graph through a `Runtime`, up to the first answer."""

    def work() -> None:
        graph, patch = (
            ("sound.tflite", attack.name) if attack.name.endswith(".epatch") else (attack.name, "sound.epatch")
        )
        with Runtime(graph) as runtime:
            runtime.load(patch)
            runtime.predict(GREY)

    return _raised(work)


def _raised(work: object) -> Answer:
    try:
        work()  # type: ignore[operator]
    except EdgepatchError as error:
        return Answer(error.exit_code, str(error).partition("\n")[0])
    return Answer(0, "")
