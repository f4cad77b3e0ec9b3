"""Measures what docs/benchmarks.md and docs/recipe.md show and writes it there, each table between two markers.

    python benchmarks/tables.py               # all of it
    python benchmarks/tables.py parity latency

Uses what `make demo` leaves in build/demo, and makes it if it is not there.
"""

from __future__ import annotations

import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from edgepatch.converters import onnx, parity, tflite

import recipe
from edgepatch import Runtime, blob, imaging
from edgepatch.backbones import backbone as backbones
from edgepatch.backbones import network, weights
from edgepatch.data import folder
from edgepatch.demo import demo, tasks
from edgepatch.progress import Quiet
from edgepatch.training import head

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "build" / "demo"
SAMPLE = ROOT.parent / "shared" / "data" / "imagenet-sample"
CONVERTERS: dict[str, Any] = {"tflite": tflite, "onnx": onnx}


def table(rows: list[list[str]]) -> str:
    return "\n".join(
        ["| " + " | ".join(rows[0]) + " |", "|---" * len(rows[0]) + "|"]
        + ["| " + " | ".join(row) + " |" for row in rows[1:]]
    )


def machine() -> str:
    model = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
    name = model.group(1) if model else platform.processor()
    return f"{name}, {os.cpu_count()} cores, Python {platform.python_version()}"


def parity_table() -> str:
    """Three tasks, 100 held-out pictures each where there are so many: every engine against Keras."""
    demo.demo(DEMO, Quiet())
    backbone = backbones.read(DEMO / "mobilenet_v2.backbone")
    rows = [["task", "images", "engine", "largest difference of logits", "same top-1"]]
    for name in tasks.TASKS:
        patch = blob.read(DEMO / f"{name}.epatch")
        files = folder.scan(DEMO / "data" / name / "test")
        step = len(files) // 100
        paths = files.paths[:: step or 1][:100]
        expected = parity.keras_logits(backbone, patch, np.concatenate([patch.input(path) for path in paths]))
        for engine, kind in (("litert", "tflite"), ("tflite-runtime", "tflite"), ("onnx", "onnx")):
            got = engine_logits(engine, DEMO / f"mobilenet_v2.{kind}", DEMO / f"{name}.epatch", paths)
            same = int((got.argmax(axis=1) == expected.argmax(axis=1)).sum())
            rows.append([name, str(len(paths)), engine, f"{np.abs(got - expected).max():.1e}", f"{same}/{len(paths)}"])
    return table(rows)


def engine_logits(engine: str, graph: Path, patch: Path, paths: Any) -> np.ndarray:
    """In a process of its own: tflite-runtime cannot share one with TensorFlow."""
    program = (
        "import sys, numpy, edgepatch\n"
        "engine, graph, patch, out, *paths = sys.argv[1:]\n"
        "runtime = edgepatch.Runtime(graph, engine=engine); runtime.load(patch)\n"
        "numpy.save(out, numpy.stack([runtime.predict(path).logits for path in paths]))\n"
    )
    with tempfile.TemporaryDirectory() as work:
        out = Path(work) / "logits.npy"
        call = [sys.executable, "-c", program, engine, str(graph), str(patch), str(out), *map(str, paths)]
        subprocess.run(call, check=True, stderr=subprocess.DEVNULL)
        return np.load(out)


def imagenet_table() -> str:
    """One picture of each ImageNet class, through Keras and through both graphs."""
    rows = [["input", "engine", "top-1", "top-5", "same top-1 as Keras"]]
    paths = sorted(SAMPLE.glob("*.jpg"))
    truth = np.array([int(path.name[:4]) for path in paths])
    for size in (224, 160, 128, 96):
        backbone = weights.create("mobilenet_v2", alpha=1.0, size=size, source="imagenet-torchvision")
        patch = backbone.own_patch()
        values = backbone.values(patch)
        pixels = np.stack([imaging.fit(imaging.load(path), size, "crop") for path in paths])
        features = head.predict(network.deployment_form(backbone), pixels, backbone.input)
        found = {"Keras": features @ values["head_kernel"] + values["head_bias"]}
        with tempfile.TemporaryDirectory() as work:
            for kind, converter in CONVERTERS.items():
                graph = Path(work) / f"g.{kind}"
                graph.write_bytes(converter.export(backbone))
                with Runtime(graph) as runtime:
                    runtime.add(patch)
                    found[runtime.engine] = np.stack([runtime.predict(path).logits for path in paths])
        for engine, logits in found.items():
            top5 = (np.argsort(-logits, axis=1)[:, :5] == truth[:, None]).any(axis=1).mean()
            same = (logits.argmax(axis=1) == found["Keras"].argmax(axis=1)).sum()
            rows.append(
                [
                    f"{size} px",
                    engine,
                    f"{(logits.argmax(axis=1) == truth).mean():.1%}",
                    f"{top5:.1%}",
                    f"{same}/{len(truth)}",
                ]
            )
    return table(rows)


def latency_table() -> str:
    """Bind against a dedicated fused model of the same task, interleaved in one process."""
    rows = [
        [
            "backbone",
            "engine",
            "threads",
            "dedicated, ms",
            "bind, ms",
            "ratio",
            "switch, us",
            "switch + first answer, ms",
            "open dedicated + first answer, ms",
        ]
    ]
    sizes: list[str] = []
    for alpha, size in ((1.0, 224), (1.0, 96), (0.35, 96)):
        source = "imagenet-torchvision" if alpha == 1.0 else "random"
        backbone = weights.create("mobilenet_v2", alpha=alpha, size=size, source=source)
        with tempfile.TemporaryDirectory() as work:
            patches = [random_patch(backbone, seed, Path(work)) for seed in (0, 1)]
            for kind, converter in CONVERTERS.items():
                graph, rival = Path(work) / f"g.{kind}", Path(work) / f"d.{kind}"
                graph.write_bytes(converter.export(backbone))
                rival.write_bytes(converter.dedicated(backbone, blob.read(patches[0])))
                result = measure(graph, patches, rival)
                for threads in (1, 2):
                    row = {entry["mode"]: entry for entry in result["rows"] if entry["threads"] == threads}
                    switch = next(entry for entry in result["switch"] if entry["threads"] == threads)
                    rows.append(
                        [
                            f"{alpha:g} / {size}",
                            row["bind"]["engine"],
                            str(threads),
                            f"{row['dedicated']['latency_ms']:.2f}",
                            f"{row['bind']['latency_ms']:.2f}",
                            f"{row['bind']['ratio']:.2f}",
                            f"{switch['ms'] * 1000:.0f}",
                            f"{switch['first_result_ms']:.2f}",
                            f"{row['dedicated']['open_ms']:.1f}",
                        ]
                    )
                own, memory = patches[0].stat().st_size / 1024, result["memory"]
                sizes.append(
                    f"- {alpha:g} / {size}, {kind}: shared graph {graph.stat().st_size / 2**20:.2f} MiB, dedicated "
                    f"{rival.stat().st_size / 2**20:.2f} MiB, 10-class patch {own:.0f} KiB; resident after the first "
                    f"answer {memory['bind_mib']:.0f} MiB (shared), {memory['dedicated_mib']:.0f} MiB (dedicated)"
                )
    return table(rows) + "\n\nSizes and memory:\n" + "\n".join(sizes)


def random_patch(backbone: Any, seed: int, work: Path) -> Path:
    """A 10-class patch of the backbone; what is in it does not matter to a clock."""
    rng = np.random.default_rng(seed)
    tensors = {name: value * rng.uniform(0.9, 1.1, value.shape) for name, value in backbone.defaults().items()}
    tensors |= {"head_kernel": rng.normal(0, 0.05, (backbone.plan.features, 10)), "head_bias": np.zeros(10)}
    patch = blob.Patch(
        task=f"task{seed}",
        backbone_id=backbone.id,
        kinds={"scale_bias": ("scale", "bias"), "classifier": ("head_kernel", "head_bias")},
        labels=tuple("abcdefghij"),
        input=backbone.input,
        tensors={name: value.astype(np.float16) for name, value in tensors.items()},
        sites={"placement": "all", "channels": backbone.plan.channels},
        decode={"head": "classifier", "activation": "softmax"},
    )
    path = work / f"{seed}.epatch"
    blob.write(patch, path)
    return path


def measure(graph: Path, patches: list[Path], rival: Path) -> dict[str, Any]:
    """`edgepatch bench` in a process of its own, so that resident memory starts from nothing."""
    call = [sys.executable, "-m", "edgepatch", "bench", str(graph), "--against", str(rival), "--json", "--rounds", "31"]
    call += ["--threads", "1", "--threads", "2", *(part for patch in patches for part in ("--patch", str(patch)))]
    done = subprocess.run(call, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return dict(json.loads(done.stdout))


def accuracy_table() -> str:
    """Test accuracy of the default recipe, from the runs of `recipe.py run final`."""
    rows = [["set", "training images", "test images", "seeds", "head alone", "scale_bias patch", "difference"]]
    lines = [line for line in recipe.finished() if line["run"]["grid"] == "final"]
    for name in recipe.SETS:
        own = [line for line in lines if line["run"]["set"] == name]
        if not own:
            continue
        alone, patch = ([100 * line[key] for line in own] for key in ("head_test_accuracy", "test_accuracy"))
        rows.append(
            [
                name,
                str(own[0]["train_images"]),
                str(own[0]["test_images"]),
                str(len(own)),
                spread(alone),
                spread(patch),
                f"{statistics.mean(patch) - statistics.mean(alone):+.1f}",
            ]
        )
    return table(rows)


def spread(values: list[float]) -> str:
    """Mean, and the values themselves where there are several."""
    text = f"{statistics.mean(values):.1f}"
    return text if len(values) == 1 else f"{text} ({', '.join(f'{value:.1f}' for value in values)})"


TABLES: dict[str, Callable[[], str]] = {
    "accuracy": accuracy_table,
    "recipe": recipe.table,
    "imagenet": imagenet_table,
    "parity": parity_table,
    "latency": latency_table,
}


def main(names: list[str]) -> None:
    for name in names or list(TABLES):
        if name == "imagenet" and not SAMPLE.is_dir():
            print(f"skipped imagenet: the pictures are not at {SAMPLE}")
            continue
        made = f"{TABLES[name]()}\n\nMeasured on {machine()}."
        page = ROOT / "docs" / ("recipe.md" if name == "recipe" else "benchmarks.md")
        begin, end = f"<!-- {name} -->", f"<!-- end {name} -->"
        before, rest = page.read_text().split(begin)
        page.write_text(f"{before}{begin}\n\n{made}\n\n{end}{rest.split(end)[1]}")
        print(f"{page.relative_to(ROOT)}: {name}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
