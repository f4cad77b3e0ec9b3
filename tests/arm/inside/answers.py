"""What tasks say of pictures on a device: `answers.py QUESTIONS.json` prints one JSON document.

QUESTIONS is a list of rows with a `graph`, the `engine` to run it with, the `modes` to run it in, `patches`, and
`pictures`: paths, or for a part of a picture a path and its left, upper, right and lower edge.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from edgepatch import Runtime, blob


def shown(picture: str | list[Any]) -> str | Image.Image:
    """A picture as the runtime takes it: a path, or the part that is asked for."""
    return picture if isinstance(picture, str) else Image.open(picture[0]).convert("RGB").crop(picture[1:])


def answers(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """For each mode, patch and picture: the SHA-256 of the network's input, and what came of it."""
    for mode in row["modes"]:
        with Runtime(row["graph"], engine=row["engine"], mode=mode) as runtime:
            for path in row["patches"]:
                patch = blob.read(path)
                if mode == "bind" and not patch.bindable:
                    continue
                runtime.add(patch)
                for picture in row["pictures"]:
                    answer = runtime.predict(shown(picture), patch.task)
                    prepared = np.ascontiguousarray(patch.input(shown(picture)))
                    yield {
                        "graph": Path(row["graph"]).name,
                        "engine": row["engine"],
                        "mode": mode,
                        "task": patch.task,
                        "picture": picture,
                        "input": hashlib.sha256(prepared.tobytes()).hexdigest(),
                        **said(answer),
                    }
                runtime.unload(patch.task)


def said(answer: Any) -> dict[str, Any]:
    """Logits, boxes or a mask, in full."""
    if hasattr(answer, "logits"):
        return {"logits": answer.logits.astype(float).tolist(), "label": answer.label, "score": float(answer.score)}
    if hasattr(answer, "boxes"):
        return {
            "classes": np.asarray(answer.classes).tolist(),
            "scores": np.asarray(answer.scores, float).tolist(),
            "boxes": np.asarray(answer.boxes, float).tolist(),
        }
    return {"mask": np.asarray(answer.mask).tolist()}


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as stream:
        print(json.dumps([found for row in json.load(stream) for found in answers(row)]))
