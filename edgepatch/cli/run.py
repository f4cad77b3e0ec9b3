"""edgepatch run: what tasks say of pictures."""

from __future__ import annotations

import dataclasses
import itertools
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
@click.option("--sheet", metavar="FILE.png", help="Also draw all pictures with their answers onto one sheet.")
@click.option("--draw", metavar="FOLDER", help="Also draw each answer onto its picture: boxes, masks, labels.")
@click.option("--masks", metavar="FOLDER", help="Also write each mask of a segmenter as a PNG of label indices.")
@click.option(
    "--score",
    type=click.FloatRange(0, 1),
    help="Tell boxes from this score on; by default each patch's own, the best on its validation pictures.",
)
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
    masks: str | None,
    score: float | None,
    as_json: bool,
) -> int:
    """Run tasks on IMAGEs through a shared GRAPH.

    Pictures that cannot be read are named and skipped; the exit code then says so.

    \b
    edgepatch run mobilenet.tflite --patch flowers.epatch picture.jpg
    edgepatch run mobilenet.onnx --patch flowers.epatch --patch imagenet.epatch *.jpg --sheet answers.png
    edgepatch run mobilenet.tflite --patch raccoons.epatch garden.jpg --draw answers/ --score 0.5
    edgepatch run mobilenet.tflite --patch leaves.epatch leaf.jpg --draw answers/ --masks masks/
    """
    if sheet:
        check_name(sheet, ".png", "--sheet")
    places = {path: _names(path, images, name) for path, name in ((draw, "--draw"), (masks, "--masks")) if path}
    if draw or masks or sheet:
        from edgepatch import drawing
    runtime, tasks = runtime_with(graph, patches, mode=mode, engine=engine, threads=threads)
    rows: list[dict[str, Any]] = []
    tiles: list[tuple[Any, str, str, str]] = []
    unreadable: list[EdgepatchError] = []
    with runtime:
        for task in tasks:
            if score is not None:
                runtime.add(_telling(runtime.patch(task), score))
            runtime.use(task)
            for number, image in enumerate(images):
                try:
                    answer = runtime.predict(image)
                    rows.append({"image": image, **answer.to_json()})
                    if draw:
                        drawing.write(image, answer, f"{places[draw][number]}.{task}.png")
                    if masks and hasattr(answer, "mask"):
                        drawing.write_mask(answer, f"{places[masks][number]}.{task}.png")
                    if sheet:
                        tile = image if hasattr(answer, "logits") else drawing.drawn(image, answer)
                        tiles.append((tile, task, said(rows[-1]), ""))
                except (BadFileError, UsageError) as error:
                    unreadable.append(error)
    if not rows:
        raise unreadable[0]
    for problem in unreadable:
        click.echo(f"skipped {problem}", err=True)
    if sheet:
        from edgepatch import contact_sheet

        contact_sheet.write(tiles, sheet)
    cells = [["image", "task", "answer"], *([row["image"], row["task"], said(row)] for row in rows)]
    show(rows, table(cells), as_json)
    return unreadable[0].exit_code if unreadable else 0


def _names(folder: str, images: tuple[str, ...], option: str) -> list[Path]:
    """Where each picture's answer goes, without an ending: no two to one place.

    Raises:
        UsageError: the folder is a file.
    """
    if Path(folder).exists() and not Path(folder).is_dir():
        raise UsageError("is a file", file=folder, field=option, expected="a folder")
    found: list[Path] = []
    taken: set[str] = set()
    for image in images:
        stem = Path(image).stem
        names = itertools.chain([stem], (f"{stem}-{number}" for number in itertools.count(2)))
        name = next(name for name in names if name not in taken)
        taken.add(name)
        found.append(Path(folder, name))
    return found


def _telling(patch: Any, score: float) -> Any:
    """A patch that tells boxes from a score on; of no detector as it is."""
    if patch.decode.get("head") != "detector":
        return patch
    return dataclasses.replace(patch, decode={**patch.decode, "score": score})


def said(row: dict[str, Any]) -> str:
    """An answer in one line."""
    if "boxes" in row:
        names = [f"{box['label']} {box['score']:.0%}" for box in row["boxes"]]
        more = [f"{len(names) - NAMED} more"] if len(names) > NAMED else []
        return ", ".join(names[:NAMED] + more) or "nothing"
    if "shares" in row:
        return ", ".join(f"{label} {share:.0%}" for label, share in row["shares"].items() if share)
    return f"{row['label']} {row['score']:.1%}"
