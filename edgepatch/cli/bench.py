"""edgepatch bench: what sharing costs."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgepatch.cli.common import json_option, kib, patch_option, refuse_names, show, table

if TYPE_CHECKING:
    from edgepatch.bench.contestants import Plan
    from edgepatch.bench.rivals import Dedicated
    from edgepatch.progress import Reporter


@click.command()
@click.argument("graphs", metavar="GRAPH...", nargs=-1, required=True)
@patch_option(help="A task; give several to measure switching among them.")
@click.option("--against", metavar="FILE", multiple=True, help="A dedicated .tflite or .onnx model of your own.")
@click.option(
    "--backbone",
    metavar="FILE",
    help="Make the dedicated models from it, by TensorFlow's converter and ONNX Runtime's quantiser.",
)
@click.option("--threads", type=int, multiple=True, default=(1,), show_default=True, help="May be given several times.")
@click.option("--rounds", type=int, default=15, show_default=True, help="Interleaved rounds; medians are reported.")
@click.option(
    "--engine",
    "names",
    type=click.Choice(["litert", "tflite-runtime", "onnx"]),
    multiple=True,
    help="May be given several times; by default all that are installed and run a GRAPH.",
)
@click.option(
    "--tasks",
    type=int,
    multiple=True,
    default=(1, 10, 100),
    show_default=True,
    help="Numbers of tasks to tell memory and size for.",
)
@click.option("--no-memory", is_flag=True, help="Leave memory out; it takes the longest.")
@click.option("--out", metavar="STEM", help="Write STEM.json and STEM.png.")
@json_option
def command(
    graphs: tuple[str, ...],
    patches: tuple[str, ...],
    against: tuple[str, ...],
    backbone: str | None,
    threads: tuple[int, ...],
    rounds: int,
    names: tuple[str, ...],
    tasks: tuple[int, ...],
    no_memory: bool,
    out: str | None,
    as_json: bool,
) -> None:
    """Measure latency, switching, memory and size of shared GRAPHs of one backbone, in one run with their rivals.

    The rivals are dedicated models of the first --patch: those given by --against and made from --backbone, or else
    each GRAPH baked and opened as a file of its own.

    \b
    edgepatch bench mobilenet.tflite --patch flowers.epatch --patch digits.epatch --against flowers.tflite
    edgepatch bench m.tflite m-int8.tflite m.onnx --patch flowers.epatch --backbone m.backbone --threads 1 --threads 4
    """
    from edgepatch import bench, files
    from edgepatch.bench.document import check
    from edgepatch.cli import bench_picture
    from edgepatch.files import refuse_other
    from edgepatch.progress import Terminal

    check(threads, rounds, tasks)
    if out is not None:
        refuse_names(out, (".json", ".png"))
        refuse_other(f"{out}.json", "rows")
        bench_picture.figure_module()  # rather now than after minutes of measuring
    reporter = Terminal()
    plan = bench.plan(graphs, patches, against=against, names=names)
    with _made(plan, backbone, reporter) as made:
        result = bench.measure(
            plan,
            made,
            threads=threads,
            rounds=rounds,
            tasks=tasks,
            with_memory=not no_memory,
            reporter=reporter,
        )
    if out is not None:
        files.write(f"{out}.json", json.dumps(result, indent=1, allow_nan=False) + "\n")
        files.write(f"{out}.png", bench_picture.picture(result))
    show(result, _text(result), as_json)


@contextlib.contextmanager
def _made(plan: Plan, backbone: str | None, reporter: Reporter) -> Iterator[list[Dedicated]]:
    """Dedicated models from a backbone, for the time of measuring; none without one."""
    if backbone is None:
        yield []
        return
    from edgepatch.bench.processes import apart
    from edgepatch.cli import bench_rivals

    with tempfile.TemporaryDirectory() as folder:
        reporter.say("making the dedicated models")
        # aside, for TensorFlow and tflite-runtime do not share a process
        yield apart(bench_rivals.make, backbone, plan.patches[0], plan.kinds, folder)


def _text(result: dict[str, Any]) -> str:
    cells = [["engine", "precision", "mode", "threads", "ms", "spread", "ratio", "to", "switch ms", "first answer ms"]]
    graphs = {(row["engine"], row["precision"], row["graph"]) for row in result["rows"] if row.get("graph")}
    pairs = [(engine, precision) for engine, precision, _ in graphs]
    for row, switch in zip(result["rows"], result["switch"], strict=True):
        name = row["precision"] or "?"
        if row.get("graph") and pairs.count((row["engine"], row["precision"])) > 1:
            name += f" {Path(row['graph']).name}"
        cells.append(
            [
                row["engine"],
                name,
                row["mode"],
                str(row["threads"]),
                f"{row['latency_ms']:.3f}",
                f"{row['spread_ms']:.3f}",
                "" if row["ratio"] is None else f"{row['ratio']:.2f}",
                "" if row["ratio"] is None else f"{row['against']} {row['against_precision'] or ''}".strip(),
                f"{switch['ms']:.3f}",
                f"{switch['first_result_ms']:.2f}",
            ]
        )
    lines = [table(cells), ""]
    for row in result["load"]:
        lines.append(f"load ({_name(row)}): {row['ms']:.1f} ms, of which {row['read_ms']:.1f} reading and checking")
    for row in result["pause"]:
        if row["pause_ms"] is not None:
            lines.append(
                f"moving to baked ({_name(row)}): longest prediction {row['pause_ms']:.2f} ms, "
                f"before {row['before_ms']:.2f}, after {row['after_ms']:.2f}"
            )
    for (engine, precision, mode, _), rows in _grouped(
        result["memory"]["rows"], "engine", "precision", "mode", "graph"
    ):
        each = [
            f"{row['tasks']}: " + ("not measured" if row["mib"] is None else f"{row['mib']:.1f} MiB") for row in rows
        ]
        reasons = [f" ({row['reason']})" for row in rows if "reason" in row][:1]
        lines.append(f"memory ({engine} {precision or '?'} {mode}), tasks {', '.join(each)}{''.join(reasons)}")
    for (form, precision, _), rows in _grouped(result["bytes"]["rows"], "format", "precision", "graph"):
        each = [
            f"{row['tasks']}: {kib(row['shared'])}" + (f" against {kib(row['dedicated'])}" if row["dedicated"] else "")
            for row in rows
        ]
        lines.append(f"disk ({form} {precision}), tasks {', '.join(each)}")
    for row in result["skipped"]:
        what = " ".join(str(row[key]) for key in ("engine", "precision", "mode", "source", "patch") if row.get(key))
        lines.append(f"left out: {what}: {row['reason']}")
    return "\n".join(lines)


def _name(row: dict[str, Any]) -> str:
    return f"{row['engine']} {row['precision']}, threads {row['threads']}"


def _grouped(rows: list[dict[str, Any]], *keys: str) -> list[tuple[tuple[Any, ...], list[dict[str, Any]]]]:
    """Rows of one thing, by what names it."""
    found: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(tuple(row.get(key) for key in keys), []).append(row)
    return list(found.items())
