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
    """Evaluate a task on DATA.

    Of a classifier DATA is a folder with one folder of images a class; of a detector a COCO JSON with its images in the
    folder of the same name beside it, or a Pascal VOC folder; of a segmenter a folder of pictures and their masks. Of a
    folder with several splits, test is taken, else val.

    \b
    edgepatch eval mobilenet.tflite --patch flowers.epatch photos/test
    edgepatch eval mobilenet.tflite --patch raccoons.epatch raccoons/test.json
    """
    from edgepatch import evaluation
    from edgepatch.runtime import Runtime

    with Runtime(graph, engine=engine, mode=mode, threads=threads) as runtime:
        runtime.load(patch)
        result = evaluation.evaluate(runtime, data)
    if "map50" in result:
        figures = f"mAP {result['map']:.3f}, at an overlap of 0.5 {result['map50']:.3f}"
    elif "miou" in result:
        figures = f"mean IoU {result['miou']:.3f}"
    else:
        figures = f"accuracy {result['accuracy']:.1%} (mean over classes {result['balanced_accuracy']:.1%})"
    text = f"{figures} on {result['images']} images of {result['data']}, {result['engine']}, {result['mode']}"
    show(result, text, as_json)
