"""edgepatch export: the shared graph."""

from __future__ import annotations

import importlib
import time

import click

from edgepatch.cli.common import check_name, framework, json_option, kib, show


@click.command()
@click.argument("backbone", metavar="BACKBONE")
@click.option("--to", "target", type=click.Choice(["tflite", "onnx"]), required=True, help="The format.")
@click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16", "int8"]),
    default="fp32",
    show_default=True,
    help="Of the kernels; this version exports fp32.",
)
@click.option(
    "--patch", "patches", metavar="FILE", multiple=True, help="Run this patch on the new graph against Keras."
)
@click.option("--out", metavar="FILE", required=True, help="The graph to write.")
@json_option
def command(backbone: str, target: str, precision: str, patches: tuple[str, ...], out: str, as_json: bool) -> None:
    """Export BACKBONE as one shared graph that every task uses; no patch is needed.

    \b
    edgepatch export mobilenet.backbone --to tflite --out mobilenet.tflite
    edgepatch export mobilenet.backbone --to onnx --patch flowers.epatch --out mobilenet.onnx
    """
    from edgepatch import blob, files
    from edgepatch.backbones import backbone as backbone_files
    from edgepatch.errors import EdgepatchError, UsageError

    check_name(out, f".{target}")
    if precision != "fp32":
        raise UsageError("this version exports fp32 only", field="--precision", got=precision, expected="fp32")
    framework("tensorflow" if target == "tflite" else "onnx", why=f"exporting to {target}")
    if patches:
        framework("tensorflow", why="comparing with Keras")
    source = backbone_files.read(backbone)
    loaded = [(path, blob.read(path)) for path in patches]
    start = time.monotonic()
    for path, patch in loaded:
        source.require_own(patch, path)
    data = importlib.import_module(f"edgepatch.converters.{target}").export(source)
    seconds = time.monotonic() - start
    parity = []
    for path, patch in loaded:
        from edgepatch.converters import parity as checks

        difference = checks.difference(source, data, patch, path)
        if not difference <= checks.TOLERANCE:  # NaN is no parity either
            raise EdgepatchError(
                "the graph does not answer as Keras does, so it was not written",
                file=path,
                field="largest difference of logits",
                got=difference,
                expected=f"at most {checks.TOLERANCE}",
            )
        parity.append({"patch": path, "task": patch.task, "max_difference": difference})
    files.write(out, data)
    document = {
        "graph": out,
        "format": target,
        "precision": precision,
        "backbone_id": source.id,
        "bytes": len(data),
        "seconds": round(seconds, 2),
        "parity": parity,
    }
    lines = [f"{out}: {target} {precision}, {kib(len(data))}, {seconds:.1f} s"]
    lines += [f"{row['task']}: logits within {row['max_difference']:.1e} of Keras" for row in parity]
    show(document, "\n".join(lines), as_json)
