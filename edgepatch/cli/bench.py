"""edgepatch bench: what sharing costs."""

from __future__ import annotations

import click

from edgepatch.cli.common import engine_option, json_option, kib, patch_option, show, table


@click.command()
@click.argument("graph", metavar="GRAPH")
@patch_option(help="A task; give several to measure switching among them.")
@click.option("--against", metavar="DEDICATED", help="A dedicated .tflite or .onnx model to compare with.")
@click.option("--threads", type=int, multiple=True, default=(1,), show_default=True, help="May be given several times.")
@click.option("--rounds", type=int, default=15, show_default=True, help="Interleaved rounds; medians are reported.")
@engine_option
@json_option
def command(
    graph: str,
    patches: tuple[str, ...],
    against: str | None,
    threads: tuple[int, ...],
    rounds: int,
    engine: str | None,
    as_json: bool,
) -> None:
    """Measure latency, switching, memory and size of GRAPH, in one run with its rival.

    \b
    edgepatch bench mobilenet.tflite --patch flowers.epatch --patch digits.epatch --against flowers.tflite
    """
    from edgepatch import bench

    result = bench.bench(graph, patches, against=against, engine=engine, threads=threads, rounds=rounds)
    cells = [["engine", "precision", "mode", "threads", "ms", "ratio"]]
    cells += [
        [
            row["engine"],
            row["precision"],
            row["mode"],
            str(row["threads"]),
            f"{row['latency_ms']:.3f}",
            "" if row["ratio"] is None else f"{row['ratio']:.2f}",
        ]
        for row in result["rows"]
    ]
    lines = [table(cells)]
    lines += [
        f"switch ({row['mode']}, {row['threads']} thread): {row['ms'] * 1000:.0f} us, "
        f"{row['first_result_ms']:.2f} ms with the first answer"
        for row in result["switch"]
    ]
    lines.append(
        f"graph {kib(result['bytes']['graph'])}, "
        + ", ".join(f"{name} {kib(size)}" for name, size in result["bytes"]["patches"].items())
    )
    show(result, "\n".join(lines), as_json)
