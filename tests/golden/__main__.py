"""Makes the golden vectors anew: `python -m tests.golden`, from the repository's root, with TensorFlow installed.

`python -m tests.golden broken` makes the broken files alone, of the sound ones that are there.
"""

from __future__ import annotations

import gzip
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the tests' own helpers

from edgepatch.converters import onnx, tflite

from edgepatch import container
from edgepatch.runtime import graph_file

from . import DATA, breaking, decoding, digests, graph, pictures, running, tasks

CONVERTERS: dict[str, Any] = {"tflite": tflite, "onnx": onnx}


def main() -> None:
    if sys.argv[1:] != ["broken"]:
        make_sound()
    broken, words = breaking.rows()
    write("broken", broken)
    write("words", words)
    sizes = [path.stat().st_size for path in DATA.rglob("*") if path.is_file()]
    print(f"{len(sizes)} files, {sum(sizes):,} bytes")


def make_sound() -> None:
    shutil.rmtree(DATA, ignore_errors=True)
    for name in ("graphs", "patches"):
        (DATA / name).mkdir(parents=True)
    write("pictures", pictures.write(DATA / "pictures"))

    named: dict[str, dict[str, Any]] = {}
    for name in (*running.GATED, *running.MOBILENET):
        backbone, _, rest = name.partition("-")
        precision, _, kind = rest.partition(".")
        data = CONVERTERS[kind].export(tasks.backbone(backbone), precision)
        (DATA / "graphs" / f"{name}.gz").write_bytes(gzip.compress(data, 9, mtime=0))
        named[name] = {"backbone": backbone, "format": kind, "precision": precision, "sha256": digests.of_bytes(data)}

    trunk = graph_file.parse(graph(running.GATED[0]), "graph")
    (DATA / "trunk.tensors").write_bytes(container.dump(*running.trunk(trunk)))
    patches = {name: tasks.patches(name) for name in ("gated", "mobilenet")}
    rows = {}
    for backbone, files in patches.items():
        for name, data in files.items():
            (DATA / "patches" / f"{name}.epatch").write_bytes(data)
            rows[name] = {"backbone": backbone, **running.stored(data, trunk)}
    write("patches", rows)

    for name, row in named.items():
        print(name, file=sys.stderr)
        row["runs"] = running.runs(graph(name), patches[row["backbone"]])
    write("graphs", named)
    write("decoding", decoding.write(DATA / "decoding", patches["gated"]))


def write(name: str, value: Any) -> None:
    """data/NAME.json, a line for each value or list of plain ones, so that differences can be read."""
    text = json.dumps(value, indent=1, ensure_ascii=True)
    text = re.sub(r"\[[^][{}]*\]", lambda found: re.sub(r"\s*\n\s*", "", found[0].replace(",\n", ", \n")), text)
    (DATA / f"{name}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
