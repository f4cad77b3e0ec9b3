"""edgepatch run: what tasks say of pictures."""

from __future__ import annotations

from typing import Any

import click

from edgepatch.cli.common import (
    check_name,
    engine_option,
    json_option,
    mode_option,
    patch_option,
    runtime_with,
    show,
    table,
    threads_option,
)
from edgepatch.errors import BadFileError, EdgepatchError, UsageError


@click.command()
@click.argument("graph", metavar="GRAPH")
@patch_option(help="The task; several are run one after the other.")
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True)
@mode_option
@engine_option
@threads_option
@click.option("--sheet", metavar="FILE.png", help="Also draw the pictures with their answers.")
@json_option
def command(
    graph: str,
    patches: tuple[str, ...],
    images: tuple[str, ...],
    mode: str,
    engine: str | None,
    threads: int,
    sheet: str | None,
    as_json: bool,
) -> int:
    """Run tasks on IMAGEs through a shared GRAPH.

    Pictures that cannot be read are named and skipped; the exit code then says so.

    \b
    edgepatch run mobilenet.tflite --patch flowers.epatch picture.jpg
    edgepatch run mobilenet.onnx --patch flowers.epatch --patch imagenet.epatch *.jpg --sheet answers.png
    """
    if sheet:
        check_name(sheet, ".png", "--sheet")
    runtime, tasks = runtime_with(graph, patches, mode=mode, engine=engine, threads=threads)
    rows: list[dict[str, Any]] = []
    unreadable: list[EdgepatchError] = []
    with runtime:
        for task in tasks:
            runtime.use(task)
            for image in images:
                try:
                    rows.append({"image": image, **runtime.predict(image).to_json()})
                except (BadFileError, UsageError) as error:
                    unreadable.append(error)
    if not rows:
        raise unreadable[0]
    for problem in unreadable:
        click.echo(f"skipped {problem}", err=True)
    if sheet:
        from edgepatch import contact_sheet

        contact_sheet.write(
            [(row["image"], row["task"], f"{row['label']} {row['score']:.0%}", "") for row in rows], sheet
        )
    cells = [["image", "task", "label", "score"]]
    cells += [[row["image"], row["task"], row["label"], f"{row['score']:.3f}"] for row in rows]
    show(rows, table(cells), as_json)
    return unreadable[0].exit_code if unreadable else 0
