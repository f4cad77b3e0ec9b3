"""edgepatch bake: one task as a file of its own."""

from __future__ import annotations

from pathlib import Path

import click

from edgepatch.cli.common import check_name, framework, json_option, kib, number_of, show


@click.command()
@click.argument("graph", metavar="GRAPH")
@click.argument("patch", metavar="PATCH")
@click.option("--out", metavar="FILE", required=True, help="The model to write: .tflite or .onnx, as GRAPH is.")
@json_option
def command(graph: str, patch: str, out: str, as_json: bool) -> None:
    """Write PATCH and GRAPH as one plain model of that task, for tools that know nothing of patches.

    It takes `image`, float32 (1, size, size, 3), RGB, scaled as its metadata says, and answers `logits`. Labels and
    scaling go along: in a .tflite as TFLite Metadata, in an .onnx as the properties `labels` and `input`. Its precision
    is GRAPH's, but an .onnx of an fp16 or dynamic GRAPH has float32 kernels: ONNX Runtime computes in those.

    \b
    edgepatch bake mobilenet.tflite flowers.epatch --out flowers.tflite
    edgepatch bake mobilenet-int8.onnx flowers.epatch --out flowers.onnx --json
    """
    from edgepatch import blob, files
    from edgepatch.errors import UsageError
    from edgepatch.runtime import graph_file

    for source in (graph, patch):
        if Path(source).exists() and Path(out).exists() and Path(source).samefile(out):
            raise UsageError("would be replaced by what is made of it", file=source, field="--out", got=out)
    shared = graph_file.read(graph)
    check_name(out, f".{shared.format}")
    framework("ai_edge_litert" if shared.format == "tflite" else "onnx", why=f"writing a dedicated .{shared.format}")
    from edgepatch.converters import standard

    task = blob.read(patch)
    data = standard.export(shared, task, patch)
    files.write(out, data)
    widened = shared.format == "onnx" and shared.precision in ("fp16", "dynamic")
    precision = "fp32" if widened else shared.precision
    document = {
        "model": out,
        "format": shared.format,
        "precision": precision,
        "task": task.task,
        "labels": list(task.labels),
        "bytes": len(data),
        "graph": graph,
        "patch": patch,
        "backbone_id": shared.backbone_id,
    }
    classes = number_of(len(task.labels), "class", "classes")
    text = f"{out}: {task.task}, {shared.format} {precision}, {classes}, {kib(len(data))}"
    show(document, text, as_json)
