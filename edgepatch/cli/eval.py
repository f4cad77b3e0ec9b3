"""edgepatch eval: how good a task is, through the device runtime."""

from __future__ import annotations

import click

from edgepatch.cli.common import engine_option, json_option, mode_option, show, threads_option


@click.command("eval")
@click.argument("graph", metavar="GRAPH")
@click.option("--patch", metavar="FILE", required=True, help="The task.")
@click.argument("data", metavar="DATA")
@mode_option
@engine_option
@threads_option
@json_option
def command(graph: str, patch: str, data: str, mode: str, engine: str | None, threads: int, as_json: bool) -> None:
    """Evaluate a task on DATA, a folder with one folder of images a class.

    Of a folder with train/ and test/ or val/, test/ is taken, else val/.

    \b
    edgepatch eval mobilenet.tflite --patch flowers.epatch photos/test
    """
    from edgepatch import evaluation
    from edgepatch.runtime import Runtime

    with Runtime(graph, engine=engine, mode=mode, threads=threads) as runtime:
        runtime.load(patch)
        result = evaluation.evaluate(runtime, data)
    text = (
        f"accuracy {result['accuracy']:.1%} (mean over classes {result['balanced_accuracy']:.1%}) "
        f"on {result['images']} images of {result['data']}, {result['engine']}, {result['mode']}"
    )
    show(result, text, as_json)
