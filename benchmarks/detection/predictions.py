"""What a device answers to pictures, in a process without TensorFlow: tflite-runtime needs one.

python predictions.py ENGINE MODE GRAPH PATCH OUT.npz PICTURE...
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from edgepatch import Runtime

ARRAYS = ("boxes", "scores", "classes", "mask")


def of(engine: str, mode: str, graph: Path, patch: Path, pictures: Sequence[Path]) -> list[SimpleNamespace]:
    """The answers' arrays, picture by picture."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "answers.npz"
        call = [sys.executable, __file__, engine, mode, *map(str, (graph, patch, out, *pictures))]
        subprocess.run(call, check=True, stderr=subprocess.DEVNULL)
        with np.load(out) as found:
            answers = [SimpleNamespace() for _ in pictures]
            for key in found:
                number, name = key.split("/")
                setattr(answers[int(number)], name, found[key])
    return answers


def main(engine: str, mode: str, graph: str, patch: str, out: str, *pictures: str) -> None:
    with Runtime(graph, engine=engine, mode=mode) as runtime:
        runtime.load(patch)
        answers = [runtime.predict(picture) for picture in pictures]
    arrays = {
        f"{number}/{name}": getattr(answer, name)
        for number, answer in enumerate(answers)
        for name in ARRAYS
        if hasattr(answer, name)
    }
    np.savez(out, **arrays)


if __name__ == "__main__":
    main(*sys.argv[1:])
