"""Every patch kind on two sets, two seeds; and what skipped blocks save: the tables of docs/kinds.md.

    python benchmarks/kinds.py run     # resumable: finished runs are kept in benchmarks/results/kinds.jsonl
    python benchmarks/tables.py kinds skips

Epochs are chosen on validation images; the test images report, once a run.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
from edgepatch.converters import dedicated, onnx, tflite

from datasets import prepare
from edgepatch import blob
from edgepatch.backbones import weights
from edgepatch.backbones.backbone import Backbone
from edgepatch.bench import timing
from edgepatch.bench.contestants import Contestant, Shared
from edgepatch.bench.rivals import Dedicated
from edgepatch.progress import Quiet
from edgepatch.runtime import baking, fitting, graph_file
from edgepatch.training import trainer
from edgepatch.training.recipe import Recipe
from recipe import WORK, tested
from speed import random_patch

RESULTS = Path(__file__).parent / "results" / "kinds.jsonl"
KINDS = (
    "classifier",
    "bias",
    "scale_bias@project",
    "scale_bias",
    "depthwise",
    "scale_bias+depthwise",
    "bottom:3",
    "top:2",
    "mask",
    "mask+scale_bias",
    "policy",
    "scale_bias+policy",
)
SETS, SEEDS = ("coffeeleaf5", "clothing10"), (0, 1)
SIZE, LIMIT, EPOCHS = 96, 400, 8
ENGINES = {"litert": "tflite", "onnx": "onnx"}
ROUNDS, SESSIONS = 21, 3  # the same model's time differs by session, ONNX Runtime's by half


def finished() -> list[dict[str, Any]]:
    return [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []


def run() -> None:
    """Train what is not trained yet, seed by seed, so that a stopped study is even."""
    RESULTS.parent.mkdir(exist_ok=True)
    for seed in SEEDS:
        for name in SETS:
            for kinds in KINDS:
                wanted = {"kinds": kinds, "set": name, "seed": seed, "size": SIZE, "limit": LIMIT, "epochs": EPOCHS}
                if any(done["run"] == wanted for done in finished()):
                    continue
                own = weights.create("mobilenet_v2", alpha=1.0, size=SIZE, source="imagenet-torchvision")
                data, out = prepare(name, WORK / "data", LIMIT), WORK / "kind.epatch"
                out.unlink(missing_ok=True)
                recipe = Recipe(seed=seed, epochs=EPOCHS)
                result = trainer.train(own, data, kinds, out, recipe=recipe, reporter=Quiet())
                report = result.report
                kept = ("accuracy", "head_accuracy", "fell_back_to_head", "bytes", "trained_parameters", "seconds")
                line = {"run": wanted, **{key: report[key] for key in (*kept, "skipped_blocks")}}
                line |= tested(own, result.patch, data)
                line["head_test_accuracy"] = tested(own, result.head_alone, data)["test_accuracy"]
                with RESULTS.open("a") as stream:
                    stream.write(json.dumps(line) + "\n")
                print(wanted, f"{line['head_test_accuracy']:.3f} -> {line['test_accuracy']:.3f}", flush=True)
                keras.backend.clear_session()


def rows() -> list[list[str]]:
    """A row a kind: size, parameters, accuracy on each set, seconds, latency bound and baked."""
    heads = [f"{name}, % ({len(SEEDS)} seeds)" for name in SETS]
    found = [["kind", "KB", "trained values", *heads, "seconds"]]
    found[0] += [f"{engine}, {form}" for engine in ("LiteRT", "ONNX Runtime") for form in ("bound", "baked")]
    lines = [line for line in finished() if (line["run"]["epochs"], line["run"]["limit"]) == (EPOCHS, LIMIT)]
    skipped = {
        kinds: next((line["skipped_blocks"] for line in lines if line["run"]["kinds"] == kinds), []) for kinds in KINDS
    }
    ratios = latencies(skipped, SIZE)
    for kinds in KINDS:
        own = [line for line in lines if line["run"]["kinds"] == kinds]
        ten = [line for line in own if line["run"]["set"] == "clothing10"]  # the classes that sizes are told for
        if not ten:
            continue
        first = ten[0]
        cells = [kinds, f"{first['bytes'] / 1e3:.1f}", f"{first['trained_parameters']:,}"]
        for name in SETS:
            each = [100 * line["test_accuracy"] for line in own if line["run"]["set"] == name]
            kept = sum(line["fell_back_to_head"] for line in own if line["run"]["set"] == name)
            cells.append(
                f"{statistics.mean(each):.1f} ({', '.join(f'{value:.1f}' for value in each)})" + " *" * bool(kept)
            )
        cells.append(f"{statistics.median(line['seconds'] for line in own):.0f}")
        found.append(
            cells + [ratios.get((kinds, engine, form), "-") for engine in ENGINES for form in ("bind", "bake")]
        )
    return found


def latencies(skipped: dict[str, Sequence[int]], size: int) -> dict[tuple[str, str, str], str]:
    """For kinds, engine and form the ratio to a dedicated model of one task, fp32, one thread.

    Args:
        skipped: the blocks that each of the kinds skips.
        size: of the input.
    """
    own = weights.create("mobilenet_v2", alpha=1.0, size=size, source="imagenet-torchvision")
    blocks = [residual.block for residual in own.plan.residuals]
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        opened: dict[tuple[str, str, str], list[timing.Opened]] = {}
        for engine, kind in ENGINES.items():
            path = work / f"g.{kind}"
            path.write_bytes({"tflite": tflite, "onnx": onnx}[kind].export(own))
            graph = graph_file.read(path)
            plain = blob.read(random_patch(own, 0, "scale_bias", work))
            rival = work / f"rival.{kind}"
            rival.write_bytes({"tflite": dedicated.tflite, "onnx": dedicated.onnx}[kind](own, plain))
            opened["", engine, "dedicated"] = open_all(
                Contestant(engine, "dedicated", 1, Dedicated(str(rival), kind, "fp32", "converter"))
            )
            for kinds, gone in skipped.items():
                patch = random_patch(own, 0, kinds, work, [block in gone for block in blocks])
                fitted = fitting.fit(graph, blob.read(patch), patch)
                for form in ("bind", "bake") if fitted.inputs is not None else ("bake",):
                    contestant = Contestant(engine, form, 1, Shared(str(path), graph, (fitted,)))
                    opened[kinds, engine, form] = open_all(contestant)
        timing.rounds([each for group in opened.values() for each in group], ROUNDS, Quiet())
        medians = {key: median(group) for key, group in opened.items()}
    return {key: f"{value / medians['', key[1], 'dedicated']:.2f}" for key, value in medians.items()}


def open_all(contestant: Contestant) -> list[timing.Opened]:
    return [timing.start(contestant) for _ in range(SESSIONS if contestant.engine == "onnx" else 1)]


def median(group: Iterable[timing.Opened]) -> float:
    """Milliseconds: of each session the median over its rounds, and of these the median."""
    return statistics.median(statistics.median(each.latencies) for each in group)


def skip_rows() -> list[list[str]]:
    """Latency with 0 to all blocks skipped, the last ones first, baked, one thread; and the operators that are left."""
    own: Backbone = weights.create("mobilenet_v2", alpha=1.0, size=224, source="imagenet-torchvision")
    count = len(own.plan.residuals)
    found = [["blocks skipped", "operators, .tflite", "nodes, .onnx"]]
    found[0] += [f"{engine} {precision}, ms" for engine in ("LiteRT", "ONNX Runtime") for precision in ("fp32", "int8")]
    cells = [[str(gone)] for gone in range(count + 1)]
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        taken: dict[tuple[int, str, str], list[timing.Opened]] = {}
        for engine, kind in ENGINES.items():
            for precision in ("fp32", "int8"):
                path = work / f"{precision}.{kind}"
                path.write_bytes({"tflite": tflite, "onnx": onnx}[kind].export(own, precision))
                graph = graph_file.read(path)
                for gone in range(count + 1):
                    patch = random_patch(own, 0, "policy", work, [index >= count - gone for index in range(count)])
                    fitted = fitting.fit(graph, blob.read(patch), patch)
                    contestant = Contestant(engine, "bake", 1, Shared(str(path), graph, (fitted,)))
                    taken[gone, engine, precision] = open_all(contestant)
                    if precision == "fp32":
                        cells[gone].append(str(operators(baking.bake(graph, fitted).data, kind)))
                timing.rounds(
                    [each for key, group in taken.items() if key[1:] == (engine, precision) for each in group],
                    ROUNDS,
                    Quiet(),
                )
    for gone in range(count + 1):
        for engine in ENGINES:
            for precision in ("fp32", "int8"):
                value, whole = (median(taken[number, engine, precision]) for number in (gone, 0))
                cells[gone].append(f"{value:.2f} ({value / whole:.2f})")
    return [*found, *cells]


def operators(model: bytes, kind: str) -> int:
    """Operators that an engine is given."""
    if kind == "tflite":
        from ai_edge_litert import schema_py_generated as schema

        return len(schema.ModelT.InitFromPackedBuf(model, 0).subgraphs[0].operators)
    import onnx as library

    return len(library.load_model_from_string(model).graph.node)


if __name__ == "__main__":
    if sys.argv[1:] != ["run"]:
        sys.exit("usage: python benchmarks/kinds.py run")
    run()
