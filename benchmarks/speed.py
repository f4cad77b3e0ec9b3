"""Latency, switching, memory and size: `edgepatch bench` on MobileNetV2 1.0/224 and 0.35/96, and its tables.

    python benchmarks/tables.py latency switching memory disk placement

One run a network feeds the first four; its JSON and picture stay in docs/benchmarks/. What is in the patches does not
matter to a clock, so they are random; the dedicated models come out of TensorFlow's converter and ONNX Runtime's
quantiser.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from edgepatch.converters import onnx, tflite

from edgepatch import blob, patches
from edgepatch.backbones import backbone as backbones
from edgepatch.backbones import weights
from edgepatch.backbones.backbone import Backbone
from edgepatch.backbones.plan import PLACEMENTS
from edgepatch.training import calibration, storing

OUT = Path(__file__).resolve().parents[1] / "docs" / "benchmarks"
NETWORKS = ((1.0, 224), (0.35, 96))
GRAPHS = (("tflite", ("fp32", "fp16", "dynamic", "int8")), ("onnx", ("fp32", "fp16", "dynamic", "int8")))
CONVERTERS: dict[str, Any] = {"tflite": tflite, "onnx": onnx}
ROUNDS = "31"


def backbone(alpha: float, size: int) -> Backbone:
    source = "imagenet-torchvision" if alpha == 1.0 else "random"
    return weights.create("mobilenet_v2", alpha=alpha, size=size, source=source)


def random_patch(own: Backbone, seed: int, kinds: str, work: Path, skip: Sequence[bool] | None = None) -> Path:
    """A 10-class patch of some kinds, calibrated on noise; a policy skips the blocks of `skip`."""
    rng, (bodies, top) = np.random.default_rng(seed), patches.parse(kinds)
    start = patches.Change(own, bodies).start()
    tensors = {name: value * rng.uniform(0.9, 1.1, value.shape) for name, value in start.items() if value.dtype != bool}
    if "mask" in start:
        tensors["mask"] = rng.random(start["mask"].shape) < 0.9
    if "skip" in start:
        tensors["skip"] = np.array(skip, bool)
    tensors |= {"head_kernel": rng.normal(0, 0.05, (own.plan.features, 10)), "head_bias": np.zeros(10)}
    mould = blob.Patch(
        task=f"task{seed}",
        backbone_id=own.id,
        kinds=patches.manifest(bodies, top, own.plan, tensors),
        labels=tuple("abcdefghij"),
        input=own.input,
        tensors={},
        sites=patches.combine(bodies, own.plan).sites,
        decode=top.decode(),
    )
    patch = storing.encode(own, mould, tensors, "fp16")
    noise = rng.integers(0, 256, (8, own.input.size, own.input.size, 3), np.uint8)
    path = work / f"{kinds.replace(':', '')}-{sum(skip or ())}-{seed}.epatch"
    blob.write(dataclasses.replace(patch, ranges=calibration.calibrate(own, patch, noise)), path)
    return path


def bench(*arguments: object) -> dict[str, Any]:
    """`edgepatch bench` in a process of its own."""
    call = [sys.executable, "-m", "edgepatch", "bench", *map(str, arguments), "--json", "--rounds", ROUNDS]
    call += ["--threads", "1", "--threads", "2"]
    quiet = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(call, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=quiet)
    return dict(json.loads(done.stdout))


@functools.cache
def result(alpha: float, size: int) -> dict[str, Any]:
    """One run with every graph, engine and precision."""
    OUT.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        work, own = Path(folder), backbone(alpha, size)
        backbones.write(own, work / "b.backbone")
        graphs = []
        for kind, precisions in GRAPHS:
            for precision in precisions:
                graphs.append(work / f"{precision}.{kind}")
                graphs[-1].write_bytes(CONVERTERS[kind].export(own, precision))
        patches = [part for seed in (0, 1) for part in ("--patch", random_patch(own, seed, "scale_bias", work))]
        stem = OUT / f"mobilenet_v2-{alpha:g}-{size}"
        found = bench(*graphs, *patches, "--backbone", work / "b.backbone", "--out", stem)
        kept = stem.with_name(f"{stem.name}.json")
        kept.write_text(kept.read_text().replace(f"{folder}/", ""))  # where the graphs were is nobody's business
        return found


def _named(alpha: float, size: int) -> str:
    return f"{alpha:g} / {size}"


def latency() -> list[list[str]]:
    """Milliseconds of dedicated, baked and bound models, and ratios."""
    rows = [["network", "engine", "precision", "threads", "dedicated, ms", "baked, ms", "ratio", "bound, ms", "ratio"]]
    for network in NETWORKS:
        groups: dict[tuple[str, str, int], dict[str, Any]] = {}
        for row in result(*network)["rows"]:
            groups.setdefault((row["engine"], row["precision"], row["threads"]), {})[row["mode"]] = row
        for (engine, precision, threads), modes in groups.items():
            cells = [_named(*network), engine, precision, str(threads)]
            own = modes.get("dedicated")
            cells.append(f"{own['latency_ms']:.2f}" if own else "-")
            for mode in ("bake", "bind"):
                row = modes.get(mode)
                other = row and row["against_precision"] != precision
                star = " *" if other else ""
                cells += [f"{row['latency_ms']:.2f}", f"{row['ratio']:.2f}{star}"] if row else ["-", "-"]
            rows.append(cells)
    return rows


def switching() -> list[list[str]]:
    """Milliseconds to another task's first answer, one thread; the longest prediction while `auto` moves over."""
    rows = [
        ["network", "engine", "precision", "bind alone, us", "bound", "baked", "dedicated, opened", "auto: longest"]
    ]
    for network in NETWORKS:
        found = result(*network)
        groups: dict[tuple[str, str], dict[str, Any]] = {}
        for row in found["switch"]:
            if row["threads"] == 1:
                groups.setdefault((row["engine"], row["precision"]), {})[row["mode"]] = row
        moves = {(row["engine"], row["precision"]): row for row in found["pause"] if row["threads"] == 1}
        for key, modes in groups.items():
            bound, move = modes.get("bind"), moves.get(key)
            cells = [_named(*network), *key, f"{1000 * bound['ms']:.0f}" if bound else "-"]
            for mode in ("bind", "bake", "dedicated"):
                cells.append(f"{modes[mode]['first_result_ms']:.1f}" if mode in modes else "-")
            longest = f"{move['pause_ms']:.1f} ({move['before_ms']:.1f} before)" if move and move["pause_ms"] else "-"
            rows.append([*cells, longest])
    return rows


def memory() -> list[list[str]]:
    """Resident MiB beyond the interpreter's library, up to the first answer of each task."""
    rows = [["network", "engine", "precision", "mode", "1 task", "10 tasks", "100 tasks"]]
    for network in NETWORKS:
        groups: dict[tuple[str, ...], dict[int, Any]] = {}
        for row in result(*network)["memory"]["rows"]:
            key = (row["engine"], row["precision"], row["mode"])
            groups.setdefault(key, {})[row["tasks"]] = row["mib"]
        for key, counts in groups.items():
            cells = ["-" if counts.get(count) is None else f"{counts[count]:.0f}" for count in (1, 10, 100)]
            rows.append([_named(*network), *key, *cells])
    return rows


def disk() -> list[list[str]]:
    """MB on disk: one graph and patches of ten classes, against dedicated models."""
    rows = [["network", "format", "precision", "stored", "1 task", "10 tasks", "100 tasks"]]
    for network in NETWORKS:
        groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for row in result(*network)["bytes"]["rows"]:
            groups.setdefault((row["format"], row["precision"]), []).append(row)
        for key, found in groups.items():
            for what in ("shared", "dedicated"):
                if all(row["against_precision"] == key[1] for row in found) or what == "shared":
                    sizes = [f"{row[what] / 1e6:.2f}" for row in found]
                    rows.append([_named(*network), *key, what, *sizes])
    return rows


def placement() -> list[list[str]]:
    """Ratio of bound to dedicated when fewer sites can be patched."""
    heads = ["network", "placement", "10-class patch, KB"]
    rows = [heads + [f"{engine}, {threads} thread" for engine in ("LiteRT", "ONNX Runtime") for threads in (1, 2)]]
    for network in NETWORKS:
        own = backbone(*network)
        for name in PLACEMENTS:
            with tempfile.TemporaryDirectory() as folder:
                work = Path(folder)
                backbones.write(own, work / "b.backbone")
                graphs = []
                for kind, converter in CONVERTERS.items():
                    graphs.append(work / f"g.{kind}")
                    graphs[-1].write_bytes(converter.export(own, "fp32", name))
                patch = random_patch(own, 0, f"scale_bias@{name}", work)
                engines = ("--engine", "litert", "--engine", "onnx", "--no-memory", "--backbone", work / "b.backbone")
                found = bench(*graphs, "--patch", patch, *engines)
                cells = [_named(*network), name, f"{patch.stat().st_size / 1e3:.1f}"]
                for engine in ("litert", "onnx"):
                    for threads in (1, 2):
                        wanted = {"engine": engine, "threads": threads, "mode": "bind"}
                        (row,) = [row for row in found["rows"] if wanted.items() <= row.items()]
                        cells.append(f"{row['ratio']:.2f}")
                rows.append(cells)
                print(*cells, flush=True)
    return rows
