"""Many small tasks on one machine: how fast one worker and two finish them, and 200 of them on a Ray of two nodes.

    python benchmarks/learning/scaling.py few many   # resumable: finished runs are in results/scaling.jsonl
    python benchmarks/learning/scaling.py table      # Markdown

A task tells two handwritten digits apart: 72 images to train on, on a network of seven convolutions with random weights
at 32 px. So what is seen is what a job costs beside training: building and tracing the network, calibrating, writing.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import keras

from edgepatch.backbones import backbone as backbones
from edgepatch.backbones import importing
from edgepatch.demo import tasks as demo
from edgepatch.many import jobs, tasks_file
from edgepatch.many.job import Event
from edgepatch.many.jobs import Row, Watcher

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / "build" / "scaling"
RESULTS = Path(__file__).parent / "results" / "scaling.jsonl"
IMAGES, EPOCHS = 45, 2  # a digit; of these a fifth is put aside to choose on
MANY, FEW, ROUNDS = 200, 6, 3
NODES = 2


class Lines(Watcher):
    """A line a finished task."""

    def changed(self, row: Row, event: Event) -> None:
        if event.kind in ("done", "failed", "died"):
            print(f"  {row.name}: {event.kind}, attempt {event.attempt}", file=sys.stderr, flush=True)


def finished() -> list[dict[str, Any]]:
    return [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []


def network() -> keras.Model:
    """A stem and three blocks as MobileNetV1's."""
    keras.utils.set_random_seed(0)
    image = keras.Input((32, 32, 3))
    last = keras.layers.Conv2D(16, 3, 2, padding="same", use_bias=False)(image)
    for width in (32, 48, 64):
        last = keras.layers.ReLU(6.0)(keras.layers.BatchNormalization()(last))
        last = keras.layers.DepthwiseConv2D(3, 2, padding="same", use_bias=False)(last)
        last = keras.layers.ReLU(6.0)(keras.layers.BatchNormalization()(last))
        last = keras.layers.Conv2D(width, 1, padding="same", use_bias=False)(last)
    last = keras.layers.ReLU(6.0)(keras.layers.BatchNormalization()(last))
    return keras.Model(image, keras.layers.Dense(10, "softmax")(keras.layers.GlobalAveragePooling2D()(last)))


def prepare() -> None:
    """The backbone, and a folder of images for each pair of digits."""
    if (WORK / "data").exists():
        return
    WORK.mkdir(parents=True, exist_ok=True)
    network().save(WORK / "network.keras")
    backbones.write(importing.read(WORK / "network.keras"), WORK / "b.backbone")
    images: dict[str, list[Path]] = {}
    for label, path in demo._digits(WORK / "digits"):
        images.setdefault(label, []).append(path)
    beside = WORK / "data.part"
    shutil.rmtree(beside, ignore_errors=True)
    for pair in itertools.combinations(sorted(images), 2):
        for label in pair:
            folder = beside / "".join(pair) / label
            folder.mkdir(parents=True)
            for path in images[label][:IMAGES]:
                (folder / path.name).symlink_to(path)
    beside.rename(WORK / "data")


def tasks(count: int, out: Path) -> tasks_file.TasksFile:
    """A file of so many tasks: pairs of digits, then the same pairs with another seed."""
    pairs = sorted(path.name for path in (WORK / "data").iterdir())
    lines = ['backbone = "b.backbone"', f'out = "{out}"', "[defaults]", f"epochs = {EPOCHS}"]
    for number in range(count):
        seed, index = divmod(number, len(pairs))
        name = f"digits-{pairs[index]}-{seed}"
        lines += ["[[task]]", f'name = "{name}"', f'data = "data/{pairs[index]}"', f"seed = {seed}"]
    path = WORK / f"{out.name}.toml"
    path.write_text("\n".join(lines) + "\n")
    return tasks_file.read(path)[0]


@contextmanager
def nodes() -> Iterator[str]:
    """A Ray of two nodes with one CPU each, and a head that trains nothing; its address."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(NODES):
            cluster.add_node(num_cpus=1)
        yield cluster.address
    finally:
        cluster.shutdown()


def one(wanted: dict[str, Any], address: str | None) -> None:
    """Train, and keep what it took; a run of this name that was stopped goes on, and says so."""
    out = WORK / "-".join(str(value) for value in wanted.values())
    file = tasks(wanted["tasks"], out)
    resumed = out.exists()
    load, start = os.getloadavg()[0], time.monotonic()
    document = jobs.train(
        file,
        backbones.read(file.backbone),
        engine=wanted["engine"],
        jobs=wanted["workers"],
        address=address,
        resume=resumed,
        watcher=Lines(),
    )
    seconds = time.monotonic() - start
    rows = document["tasks"]
    line = {
        "run": wanted,
        "seconds": round(seconds, 1),
        "counts": document["counts"],
        "resumed": resumed,
        "task_seconds": round(statistics.median(row["seconds"] for row in rows), 2),
        "task_cpu_seconds": round(statistics.median(row.get("cpu_seconds", 0.0) for row in rows), 2),
        "again": sum(row.get("attempt", 1) > 1 for row in rows),
        "images": sum(row.get("train_images", 0) * row.get("epochs", 0) for row in rows),
        "load_before": round(load, 1),
        "load_after": round(os.getloadavg()[0], 1),
        "cores": os.cpu_count(),
    }
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("a") as stream:
        stream.write(json.dumps(line) + "\n")
    print(line, flush=True)
    shutil.rmtree(out)


def few() -> None:
    """A worker against two, round by round, since the load of the rest of the machine changes."""
    for number in range(ROUNDS):
        compared = [(engine, workers) for engine in ("local", "ray") for workers in (1, NODES)]
        run([{"engine": engine, "workers": workers, "tasks": FEW, "round": number} for engine, workers in compared])


def many() -> None:
    """Hundreds, on the Ray of two nodes."""
    run([{"engine": "ray", "workers": NODES, "tasks": MANY, "round": 0}])


def run(wanted: list[dict[str, Any]]) -> None:
    """What of this is not there yet."""
    prepare()
    left = [each for each in wanted if not any(done["run"] == each for done in finished())]
    for each in left:
        if each["engine"] == "local":
            one(each, None)
    on_ray = [each for each in left if each["engine"] == "ray"]
    if on_ray:
        with nodes() as address:
            for each in on_ray:
                one(each, address)


def table() -> None:
    """Medians over rounds; throughput as tasks a minute."""
    heads = ("engine", "workers", "tasks", "runs", "seconds", "tasks a minute", "seconds a task", "CPU seconds a task")
    heads = (*heads, "load of the machine")
    print("| " + " | ".join(heads) + " |\n" + "|---" * len(heads) + "|")
    groups: dict[tuple[str, int, int], list[dict[str, Any]]] = {}
    for line in finished():
        each = line["run"]
        groups.setdefault((each["engine"], each["workers"], each["tasks"]), []).append(line)
    for (engine, workers, count), lines in groups.items():
        seconds = statistics.median(line["seconds"] for line in lines)
        single = statistics.median(line["task_seconds"] for line in lines)
        loads = [line[key] for line in lines for key in ("load_before", "load_after")]
        cpu = statistics.median(line["task_cpu_seconds"] for line in lines)
        cells = (engine, workers, count, len(lines), f"{seconds:.0f}", f"{60 * count / seconds:.1f}", f"{single:.1f}")
        cells = (*cells, f"{cpu:.1f}")
        print("| " + " | ".join(map(str, cells)) + f" | {min(loads):.1f} to {max(loads):.1f} |")


if __name__ == "__main__":
    verbs = {"few": few, "many": many, "table": table}
    if not sys.argv[1:] or not set(sys.argv[1:]) <= set(verbs):
        sys.exit(f"usage: python benchmarks/learning/scaling.py {'|'.join(verbs)} ...")
    for verb in sys.argv[1:]:
        verbs[verb]()
