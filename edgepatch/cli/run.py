"""edgepatch run: what tasks say of pictures."""

from __future__ import annotations

from pathlib import Path
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

NAMED = 4  # boxes of a picture that are told in the table; --json and --draw have all of them


@click.command()
@click.argument("graph", metavar="GRAPH")
@patch_option(help="The task; several are run one after the other.")
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True)
@mode_option
@engine_option
@threads_option
@click.option("--sheet", metavar="FILE.png", help="Also draw all pictures of classifiers with their answers.")
@click.option("--draw", metavar="FOLDER", help="Also draw each answer onto its picture: boxes, masks, labels.")
@json_option
def command(
    graph: str,
    patches: tuple[str, ...],
    images: tuple[str, ...],
    mode: str,
    engine: str | None,
    threads: int,
    sheet: str | None,
    draw: str | None,
    as_json: bool,
) -> int:
    """Run tasks on IMAGEs through a shared GRAPH.

    Pictures that cannot be read are named and skipped; the exit code then says so.

    \b
    edgepatch run mobilenet.tflite --patch flowers.epatch picture.jpg
    edgepatch run mobilenet.onnx --patch flowers.epatch --patch imagenet.epatch *.jpg --sheet answers.png
    edgepatch run mobilenet.tflite --patch raccoons.epatch garden.jpg --draw answers/
    """
    if sheet:
        check_name(sheet, ".png", "--sheet")
    if draw:
        from edgepatch import drawing
    runtime, tasks = runtime_with(graph, patches, mode=mode, engine=engine, threads=threads)
    rows: list[dict[str, Any]] = []
    unreadable: list[EdgepatchError] = []
    with runtime:
        for task in tasks:
            runtime.use(task)
            for image in images:
                try:
                    answer = runtime.predict(image)
                    rows.append({"image": image, **answer.to_json()})
                    if draw:
                        drawing.write(image, answer, Path(draw, f"{Path(image).stem}.{task}.png"))
                except (BadFileError, UsageError) as error:
                    unreadable.append(error)
    if not rows:
        raise unreadable[0]
    for problem in unreadable:
        click.echo(f"skipped {problem}", err=True)
    if sheet:
        from edgepatch import contact_sheet

        contact_sheet.write([(row["image"], row["task"], said(row), "") for row in rows], sheet)
    cells = [["image", "task", "answer"], *([row["image"], row["task"], said(row)] for row in rows)]
    show(rows, table(cells), as_json)
    return unreadable[0].exit_code if unreadable else 0


def said(row: dict[str, Any]) -> str:
    """An answer in one line."""
    if "boxes" in row:
        names = [f"{box['label']} {box['score']:.0%}" for box in row["boxes"]]
        more = [f"{len(names) - NAMED} more"] if len(names) > NAMED else []
        return ", ".join(names[:NAMED] + more) or "nothing"
    if "shares" in row:
        return ", ".join(f"{label} {share:.0%}" for label, share in row["shares"].items() if share)
    return f"{row['label']} {row['score']:.1%}"
