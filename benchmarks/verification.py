"""What verification costs: reading files as edgepatch does, and as somebody would who trusts them.

    python benchmarks/verification.py GRAPH... [--patch FILE ...] [--rounds 51]

Of the first graph's backbone patches are made, of random values: scale and bias of every site and ten classes, in both
codecs. Rivals take turns within each round, in one process and one thread, so that a busy machine slows them alike.
Medians in ms. Files are in the page cache: from a device's card, reading them takes longer, and verifying does not.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from edgepatch import blob, codec
from edgepatch.blob import Patch
from edgepatch.runtime import engines, fitting, graph_file
from edgepatch.runtime.graph_file import Graph
from edgepatch.runtime.model import Model

CLASSES = 10
Timed = dict[str, Callable[[], Any]]


def medians(rivals: Timed, rounds: int) -> dict[str, float]:
    """Of each rival, ms; they take turns."""
    taken: dict[str, list[float]] = {name: [] for name in rivals}
    for number in range(rounds + 2):
        for name, work in rivals.items():
            begun = time.perf_counter()
            work()
            if number >= 2:  # the first ones import and fill caches
                taken[name].append((time.perf_counter() - begun) * 1e3)
    return {name: statistics.median(found) for name, found in taken.items()}


def made(graph: Graph, how: str) -> Patch:
    """A patch of every site of a graph, and a head, stored by a codec."""
    rng, trunk = np.random.default_rng(0), graph.trunk
    sites = list(range(len(trunk.names)))
    features = graph.inputs["head_kernel"][0]
    assert features is not None
    values = {
        "scale": trunk.scale * rng.uniform(0.8, 1.2, trunk.scale.shape).astype(np.float32),
        "bias": trunk.bias + rng.normal(0, 0.1, trunk.bias.shape).astype(np.float32),
        "head_kernel": rng.normal(0, 0.1, (features, CLASSES)).astype(np.float32),
        "head_bias": np.zeros(CLASSES, np.float32),
    }
    numbers = {"scale": sites, "bias": sites}
    tensors, packing = codec.encode(values, numbers, trunk, how)
    heads = [name for name in tensors if name.startswith("head_")]
    body = [name for name in tensors if name not in heads]
    return Patch(
        task=f"made {how}",
        backbone_id=graph.backbone_id,
        kinds={"scale_bias": tuple(body), "classifier": tuple(heads)},
        labels=tuple(f"class {number}" for number in range(CLASSES)),
        input=graph.input,
        tensors={name: tensors[name] for name in [*body, *heads]},
        sites=numbers,
        decode={"head": "classifier", "activation": "softmax"},
        codec=packing,
    )


def of_patch(path: Path, graph: Graph, rounds: int) -> list[str]:
    """A row: by the safetensors library; read and verified; and held against the graph, decoded to what is bound."""
    from safetensors.numpy import load_file

    found = medians(
        {
            "library": lambda: load_file(path),
            "verified": lambda: blob.read(path),
            "fitted": lambda: fitting.fit(graph, blob.read(path), path),
        },
        rounds,
    )
    kind = blob.read(path).kind
    return [f"{kind}, {path.name}", f"{path.stat().st_size:,}", *(f"{value:.2f}" for value in found.values())]


def of_graph(path: Path, rounds: int) -> list[str]:
    """A row: the bytes read; read and verified; and both up to an answer: opened, a patch bound, one picture run."""
    size = path.stat().st_size
    graph = graph_file.read(path)
    engine = engines.choose(graph, None)
    inputs = fitting.fit(graph, made(graph, "fp16"), path).inputs if "bind" in graph.forms else {}
    image = np.zeros((1, graph.input.size, graph.input.size, 3), np.float32)

    def answer(data: bytes) -> None:
        opened = engines.start(engine, Model(data, size=graph.input.size), 1)
        opened.bind(inputs)
        opened.run(image)
        opened.close()

    trusted = graph.data  # laid out for its first form, which is found without reading the rest
    found = medians(
        {
            "read": path.read_bytes,
            "verified": lambda: graph_file.read(path),
            "answered": lambda: (path.read_bytes(), answer(trusted)),
            "verified, answered": lambda: answer(graph_file.read(path).data),
        },
        rounds,
    )
    cells = [f"{value:.1f}" for value in found.values()]
    return [f"{graph.format}, {graph.precision}", f"{size:,}", *cells]


def table(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("graphs", nargs="+", type=Path)
    parser.add_argument("--patch", dest="patches", action="append", default=[], type=Path)
    parser.add_argument("--rounds", type=int, default=51)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        first = graph_file.read(options.graphs[0])
        paths = []
        for how in codec.CODECS:
            paths.append(Path(folder) / f"{how}.epatch")
            blob.write(made(first, how), paths[-1])
        for path in [*paths, *options.patches]:
            print(path, file=sys.stderr)
            rows.append(of_patch(path, first, options.rounds))
    print(table(["patch", "bytes", "safetensors library", "read and verified", "and fitted to the graph"], rows))
    print()
    rows = [of_graph(path, options.rounds) for path in options.graphs]
    heads = ["graph", "bytes", "read", "read and verified", "read, first answer", "read, verified, first answer"]
    print(table(heads, rows))


if __name__ == "__main__":
    main()
