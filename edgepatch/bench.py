"""Latency, switching, size and memory of a shared graph and its rival, measured in one run."""

from __future__ import annotations

import functools
import importlib
import multiprocessing
import os
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgepatch import blob, files
from edgepatch.errors import BadFileError, UsageError
from edgepatch.runtime import engines, graph_file
from edgepatch.runtime.engines import tflite
from edgepatch.runtime.runtime import check

ROUNDS, RUNS, OPENINGS = 15, 8, 7


def bench(
    graph: str,
    patches: Sequence[str],
    *,
    against: str | None = None,
    engine: str | None = None,
    threads: Sequence[int] = (1,),
    rounds: int = ROUNDS,
) -> dict[str, Any]:
    """Medians over interleaved rounds.

    Latency is one `run` of the engine on one prepared image. A switch is `bind` of another patch; with
    `first_result_ms` the first answer of the new task is counted in, as it is in `open_ms`, the time from a model's
    bytes to its first answer: what switching costs whoever keeps a model a task.

    Args:
        graph: the shared graph.
        patches: tasks to switch among.
        against: a dedicated .tflite or .onnx model to compare with.
        rounds: each measures every contestant once, so that a slow spell of the machine falls on all alike.

    Returns:
        The document of `edgepatch bench --json`: rows, switch, bytes, memory.
    """
    if not 1 <= rounds <= 10_000:
        raise UsageError("is out of range", field="--rounds", got=rounds, expected="1 to 10000")
    for count in threads:
        if not 1 <= count <= 256:
            raise UsageError("is out of range", field="--threads", got=count, expected="1 to 256")
    shared = graph_file.read(graph)
    name = engines.choose(shared, engine)
    values = []
    for path in patches:
        values.append(check(shared, blob.read(path), path))
    rows: list[dict[str, Any]] = []
    switches: list[dict[str, Any]] = []
    for count in threads:
        contestants = {"bind": engines.start(name, shared.data, count)}
        contestants["bind"].bind(values[0])
        images = {"bind": _picture(contestants["bind"])}
        contestants["bind"].run(images["bind"])
        opening = {"bind": _opening(name, shared.data, images["bind"], values[0], count)}
        if against is not None:
            data = files.read(against, limit=graph_file.MAX_BYTES)
            if graph_file.format_of(data) != shared.format:
                raise BadFileError("is not a model of the graph's format", file=against, expected=f"a .{shared.format}")
            contestants["dedicated"] = engines.start(name, data, count)
            contestants["dedicated"].bind({})
            images["dedicated"] = _picture(contestants["dedicated"])
            if contestants["dedicated"].image_type != np.float32:
                raise BadFileError(
                    "takes another type of image than the graph",
                    file=against,
                    field="input",
                    got=contestants["dedicated"].image_type,
                    expected="float32",
                )
            contestants["dedicated"].run(images["dedicated"])
            opening["dedicated"] = _opening(name, data, images["dedicated"], {}, count)
        times: dict[str, list[float]] = {mode: [] for mode in contestants}
        for _ in range(rounds):
            for mode, opened in contestants.items():
                times[mode].append(_clock(functools.partial(opened.run, images[mode]), RUNS))
        medians = {mode: statistics.median(found) for mode, found in times.items()}
        for mode in sorted(contestants, reverse=True):
            quartiles = statistics.quantiles(times[mode], n=4) if rounds > 1 else [medians[mode]] * 3
            rows.append(
                {
                    "engine": name,
                    "precision": shared.document["precision"],
                    "mode": mode,
                    "threads": count,
                    "latency_ms": round(medians[mode], 4),
                    "spread_ms": round(quartiles[2] - quartiles[0], 4),
                    "ratio": round(medians[mode] / medians["dedicated"], 4) if "dedicated" in medians else None,
                    "open_ms": round(opening[mode], 2),
                }
            )
        if len(values) > 1:
            switches.append(_switching(name, contestants["bind"], images["bind"], values, rounds, count))
        for opened in contestants.values():
            opened.close()
    size = {"graph": Path(graph).stat().st_size, "patches": {path: Path(path).stat().st_size for path in patches}}
    memory = {"bind_mib": _in_fresh_process(name, graph, values[0])}
    if against is not None:
        size["dedicated"] = Path(against).stat().st_size
        memory["dedicated_mib"] = _in_fresh_process(name, against, {})
    return {"rows": rows, "switch": switches, "bytes": size, "memory": memory, "rounds": rounds, "runs_a_round": RUNS}


def resident() -> float:
    """Resident memory of this process in MiB; 0 where the system does not tell."""
    try:
        with open("/proc/self/statm") as stream:
            return int(stream.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    except OSError:
        return 0.0


def _switching(
    name: str, opened: Any, image: np.ndarray, values: list[dict[str, np.ndarray]], rounds: int, threads: int
) -> dict[str, Any]:
    binding, answering = [], []
    for turn in range(rounds * len(values)):
        chosen = values[(turn + 1) % len(values)]
        binding.append(_clock(functools.partial(opened.bind, chosen), 1))
        answering.append(binding[-1] + _clock(functools.partial(opened.run, image), 1))
    return {
        "engine": name,
        "mode": "bind",
        "threads": threads,
        "ms": round(statistics.median(binding), 4),
        "first_result_ms": round(statistics.median(answering), 4),
        "worst_ms": round(max(binding), 4),
    }


def _in_fresh_process(name: str, model: str, values: dict[str, np.ndarray]) -> float:
    """What a model adds to resident memory, up to its first answer: a process that ran another one would not tell."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return float(pool.apply(_footprint, (name, model, values)))


def _footprint(name: str, model: str, values: dict[str, np.ndarray]) -> float:
    importlib.import_module(tflite.MODULES.get(name, "onnxruntime"))  # the library itself does not count
    before = resident()
    opened = engines.start(name, files.read(model, limit=graph_file.MAX_BYTES), 1)
    opened.bind(values)
    opened.run(_picture(opened))
    return round(resident() - before, 1)


def _opening(name: str, data: bytes, image: np.ndarray, values: dict[str, np.ndarray], threads: int) -> float:
    """Median milliseconds from a model's bytes to its first answer."""

    def once() -> None:
        opened = engines.start(name, data, threads)
        opened.bind(values)
        opened.run(image)
        opened.close()

    return statistics.median(_clock(once, 1) for _ in range(OPENINGS))


def _picture(opened: Any) -> np.ndarray:
    return np.random.default_rng(0).normal(size=opened.image_shape).astype(np.float32)


def _clock(work: Any, runs: int) -> float:
    """Milliseconds of one run."""
    start = time.perf_counter()
    for _ in range(runs):
        work()
    return (time.perf_counter() - start) * 1000 / runs
