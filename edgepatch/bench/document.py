"""The document of `edgepatch bench --json`: everything measured, in rows."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgepatch.bench import model_bytes, timing
from edgepatch.bench.contestants import Contestant, Plan, Shared
from edgepatch.bench.memory import memory
from edgepatch.bench.rivals import Dedicated
from edgepatch.bench.timing import Opened
from edgepatch.errors import UsageError
from edgepatch.progress import Quiet, Reporter
from edgepatch.runtime import baking

ROUNDS = 15
TASKS = (1, 10, 100)
STANDALONE = "standalone"  # a rival that is a baked copy of the graph, metadata and all: its size says nothing


def check(threads: Sequence[int], rounds: int, tasks: Sequence[int]) -> None:
    """Refuse numbers out of range.

    Raises:
        UsageError: one is.
    """
    for field, values, most in (("--threads", threads, 256), ("--rounds", [rounds], 10_000), ("--tasks", tasks, 1000)):
        for value in values:
            if type(value) is not int or not 1 <= value <= most:
                raise UsageError("is out of range", field=field, got=value, expected=f"1 to {most}")


def measure(
    plan: Plan,
    made: Sequence[Dedicated] = (),
    *,
    threads: Sequence[int] = (1,),
    rounds: int = ROUNDS,
    tasks: Sequence[int] = TASKS,
    with_memory: bool = True,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Measure all there is in this process, and memory in fresh ones; medians over interleaved rounds.

    Args:
        plan: what takes part; see `contestants.plan`.
        made: dedicated models out of other converters. Where there is none of a format, nor one of the user's, each
            graph is baked and written to a file, which then takes that part.
        threads: counts of them, measured one after the other.
        rounds: each measures every contestant once.
        tasks: numbers of tasks to say memory and bytes for.

    Raises:
        UsageError: a number is out of range.
        BadFileError: an engine refuses a graph.
    """
    check(threads, rounds, tasks)
    reporter, tasks = reporter or Quiet(), sorted(set(tasks))
    rows: list[dict[str, Any]] = []
    found: dict[str, Any] = {"rows": rows, "switch": [], "load": [], "pause": []}
    with tempfile.TemporaryDirectory() as folder:
        dedicated = [*plan.against, *made]
        dedicated += _standalone(plan, {each.format for each in dedicated}, Path(folder))
        contestants: list[Contestant] = []
        for count in dict.fromkeys(threads):  # one after the other: idle pools of threads disturb models without
            running = _open(plan, dedicated, count)
            timing.rounds(running, rounds, reporter)
            switches = timing.switches(running, len(plan.patches), reporter)
            for opened, switch in zip(running, switches, strict=True):
                rows.append({**_latency(opened, running), "open_ms": switch.pop("open_ms")})
                opened.engine.close()
            found["switch"] += switches
            contestants += [opened.contestant for opened in running]
        found["load"] = timing.loading(contestants, plan.patches[0], reporter)
        found["pause"] = timing.pauses(contestants, plan.patches[0], reporter)
        found["bytes"] = sizes(plan, dedicated, tasks)
        first = [each for each in contestants if each.threads == threads[0]]
        held = memory(first, plan.patches, tasks, reporter) if with_memory else []
    found["memory"] = {"unit": "MiB", "rows": held}
    for row in reversed(held):  # the first engine's and the first graph's stays, with the fewest tasks
        found["memory"][f"{row['mode']}_mib"] = row["mib"]
    found["machine"] = {
        "system": platform.platform(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in ("numpy", "ai-edge-litert", "tflite-runtime", "onnxruntime")},
    }
    return {**found, "skipped": plan.skipped, "rounds": rounds, "runs_a_round": timing.RUNS}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def sizes(plan: Plan, dedicated: Sequence[Dedicated], tasks: Sequence[int]) -> dict[str, Any]:
    """Bytes on disk: one graph and a patch a task, against a dedicated model a task."""
    patches = {path: Path(path).stat().st_size for path in plan.patches}
    each = list(patches.values())
    rows = []
    for shared in plan.shared:
        kind, precision = shared.graph.format, shared.graph.precision
        rival = base(dedicated, kind, precision)
        size = Path(shared.path).stat().st_size
        own = Path(rival.path).stat().st_size if rival and rival.source != STANDALONE else None
        for count in tasks:
            rows.append(
                {
                    "graph": shared.path,
                    "format": kind,
                    "precision": precision,
                    "tasks": count,
                    "shared": size + sum(each[index % len(each)] for index in range(count)),
                    "dedicated": None if own is None else count * own,
                    "against": rival.source if rival else None,
                    "against_precision": rival.precision if rival else None,
                }
            )
    first = plan.shared[0]
    rival = base(dedicated, first.graph.format, first.graph.precision)
    return {
        "graph": Path(first.path).stat().st_size,
        "graphs": {shared.path: Path(shared.path).stat().st_size for shared in plan.shared},
        "patches": patches,
        "dedicated": Path(rival.path).stat().st_size if rival else None,
        "rows": rows,
    }


def base(dedicated: Sequence[Dedicated], kind: str, precision: str | None) -> Dedicated | None:
    """The dedicated model a graph is held against: of its precision, else in fp32, else any; the user's own first."""
    fitting = [each for each in dedicated if each.format == kind]
    ranked = sorted(
        fitting, key=lambda each: 0 if each.precision == precision else 1 if each.precision == "fp32" else 2
    )
    return ranked[0] if ranked else None


def _standalone(plan: Plan, there: set[str], folder: Path) -> list[Dedicated]:
    """Each graph baked for the first patch and written as a file, for formats without another dedicated model.

    An .onnx with halves or int8 kernels is float32 once it is baked: such a rival is of that precision.
    """
    found: dict[tuple[str, str | None], Dedicated] = {}
    for shared in sorted(plan.shared, key=lambda shared: shared.graph.precision != "fp32"):
        kind = shared.graph.format
        if kind in there or "bake" not in shared.graph.forms:
            continue
        data = model_bytes.standalone(baking.bake(shared.graph, shared.fitted[0]))
        precision = model_bytes.precision(data, kind)
        if (kind, precision) not in found:
            path = folder / f"{precision}.{kind}"
            path.write_bytes(data)
            found[kind, precision] = Dedicated(str(path), kind, precision, STANDALONE)
    return list(found.values())


def _open(plan: Plan, dedicated: Sequence[Dedicated], threads: int) -> list[Opened]:
    """Every contestant, open; a dedicated model that an engine does not run is left out, and the plan says so."""
    found = []
    for contestant in plan.contestants(dedicated, threads):
        try:
            found.append(timing.start(contestant))
        except Exception as error:  # ONNX Runtime's exceptions share no base of their own
            if isinstance(contestant.what, Shared):
                raise
            reason = {**contestant.facts, "reason": str(error).splitlines()[0]}
            if reason not in plan.skipped:
                plan.skipped.append(reason)
    return found


def _latency(opened: Opened, running: Sequence[Opened]) -> dict[str, Any]:
    me = opened.contestant
    rivals = {id(other.contestant.what): other for other in running if other.contestant.engine == me.engine}
    models = [other.contestant.what for other in rivals.values() if isinstance(other.contestant.what, Dedicated)]
    rival = base(models, models[0].format, me.precision) if models else None
    median = statistics.median(opened.latencies)
    quartiles = statistics.quantiles(opened.latencies, n=4) if len(opened.latencies) > 1 else [median] * 3
    ratio = median / statistics.median(rivals[id(rival)].latencies) if rival else None
    return {
        **me.facts,
        "latency_ms": round(median, 4),
        "spread_ms": round(quartiles[2] - quartiles[0], 4),
        "ratio": None if ratio is None else round(ratio, 4),
        "against": rival.source if rival else None,
        "against_precision": rival.precision if rival else None,
    }
