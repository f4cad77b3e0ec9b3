"""edgepatch export: the shared graph."""

from __future__ import annotations

import importlib
import math
import time

import click

from edgepatch.cli.common import check_name, framework, json_option, kib, show


@click.command()
@click.argument("backbone", metavar="BACKBONE")
@click.option(
    "--to",
    "target",
    type=click.Choice(["tflite", "onnx", "onnx_adapter"]),
    required=True,
    help="The format; onnx_adapter writes one --patch for other users of the shared .onnx.",
)
@click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16", "dynamic", "int8"]),
    default="fp32",
    show_default=True,
    help="Of the kernels. int8 computes in integers, is baked only, and needs calibrated patches.",
)
@click.option(
    "--placement",
    type=click.Choice(["all", "pointwise", "depthwise", "expand", "project"]),
    default="all",
    show_default=True,
    help="Sites that can be patched: fewer are cheaper to bind, and take patches of that placement only. "
    "Of an adapter: the placement of the graph it is for.",
)
@click.option(
    "--patch",
    "patches",
    metavar="FILE",
    multiple=True,
    help="Run this patch on the new graph against Keras; or the one to write as an adapter.",
)
@click.option("--out", metavar="FILE", required=True, help="The file to write.")
@json_option
def command(
    backbone: str,
    target: str,
    precision: str,
    placement: str,
    patches: tuple[str, ...],
    out: str,
    as_json: bool,
) -> None:
    """Export BACKBONE as one shared graph that every task uses; no patch is needed.

    \b
    edgepatch export mobilenet.backbone --to tflite --out mobilenet.tflite
    edgepatch export mobilenet.backbone --to tflite --precision int8 --out mobilenet-int8.tflite
    edgepatch export mobilenet.backbone --to onnx --patch flowers.epatch --out mobilenet.onnx
    edgepatch export mobilenet.backbone --to onnx_adapter --patch flowers.epatch --out flowers.onnx_adapter
    """
    from edgepatch import blob, files
    from edgepatch.backbones import backbone as backbone_files
    from edgepatch.errors import EdgepatchError, UsageError

    check_name(out, f".{target}")
    package = "ai_edge_litert" if target == "tflite" else "onnx"  # adapters ask for ONNX Runtime, of another extra
    framework(package, why=f"exporting to {target}")
    if target == "onnx_adapter":
        if len(patches) != 1:
            raise UsageError("an adapter is one patch", field="--patch", got=len(patches), expected="one")
        if precision != "fp32":
            raise UsageError("an adapter's values are float32", field="--precision", got=precision, expected="fp32")
    elif patches:
        framework("tensorflow", why="comparing with Keras")
    source = backbone_files.read(backbone)
    loaded = [(path, blob.read(path)) for path in patches]
    start = time.monotonic()
    for path, patch in loaded:
        source.require_own(patch, path)
    converter = importlib.import_module(f"edgepatch.converters.{target}")
    if target == "onnx_adapter":
        data = converter.export(source, loaded[0][1], placement)
    else:
        data = converter.export(source, precision, placement)
    seconds = time.monotonic() - start
    parity = []
    for path, patch in loaded if target != "onnx_adapter" else []:
        from edgepatch.converters import parity as checks

        found = checks.differences(source, data, patch, path)
        for form, difference in found.items():
            if precision == "fp32" and not difference <= checks.TOLERANCE:  # NaN is no parity either
                raise EdgepatchError(
                    "the graph does not answer as Keras does, so it was not written",
                    file=path,
                    field=f"largest difference of logits, {form}",
                    got=difference,
                    expected=f"at most {checks.TOLERANCE}",
                )
        if not all(math.isfinite(difference) for difference in found.values()):
            raise EdgepatchError("the patch answers NaN or infinity on this graph", file=path, field="logits")
        parity.append({"patch": path, "task": patch.task, "max_difference": max(found.values()), "forms": found})
    files.write(out, data)
    document = {
        "graph": out,
        "format": target,
        "precision": precision,
        "placement": placement,
        "backbone_id": source.id,
        "bytes": len(data),
        "seconds": round(seconds, 2),
        "parity": parity,
    }
    lines = [f"{out}: {target} {precision}, {kib(len(data))}, {seconds:.1f} s"]
    for row in parity:
        each = ", ".join(f"{difference:.1e} ({form})" for form, difference in row["forms"].items())
        lines.append(f"{row['task']}: logits within {each} of Keras")
    show(document, "\n".join(lines), as_json)
