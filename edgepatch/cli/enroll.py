"""edgepatch enroll: a class added to a patch on the device, from a few pictures."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import click

from edgepatch.cli.common import (
    check_name,
    engine_option,
    json_option,
    kib,
    mode_option,
    number_of,
    show,
    threads_option,
)
from edgepatch.errors import UsageError


@click.command()
@click.argument("graph", metavar="GRAPH")
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True)
@click.option("--patch", metavar="FILE.epatch", required=True, help="The patch that learns.")
@click.option("--label", metavar="NAME", required=True, help="The class that the pictures show, new or known.")
@click.option("--out", metavar="FILE.epatch", required=True, help="Where to write it; may be the patch itself.")
@click.option("--fresh", is_flag=True, help="Forget the patch's own classes: begin a task of one's own with this one.")
@click.option("--task", metavar="NAME", help="The task's name; by default the patch's own, with --fresh that of --out.")
@mode_option
@engine_option
@threads_option
@json_option
def command(
    graph: str,
    images: tuple[str, ...],
    patch: str,
    label: str,
    out: str,
    fresh: bool,
    task: str | None,
    mode: str,
    engine: str | None,
    threads: int,
    as_json: bool,
) -> int:
    """Teach a patch one class from pictures of it, on the device: no host, no training, no picture of other classes.

    Five to twenty pictures make a usable class. A label that the patch knows is taught more pictures. Pictures that
    cannot be read are named and skipped; the exit code then says so. A picture that is given twice counts once.
    Everything else in the patch stays as it is but its version, which grows by one.

    The patch has to carry statistics of its features, which training and calibrating write.

    \b
    edgepatch enroll mobilenet.tflite --patch flowers.epatch --label tulip tulips/*.jpg --out flowers.epatch
    edgepatch enroll mobilenet.onnx --patch flowers.epatch --label tulip more.jpg --out flowers.epatch
    edgepatch enroll mobilenet.tflite --patch flowers.epatch --fresh --label mug mug*.jpg --out mine.epatch
    edgepatch enroll mobilenet.tflite --patch mine.epatch --label keys keys*.jpg --out mine.epatch
    """
    from edgepatch import blob, files
    from edgepatch.runtime.enrolling import enroll

    check_name(out, ".epatch")
    files.refuse_unwritable(out)
    if fresh and Path(out).exists() and Path(out).samefile(patch):
        raise UsageError(
            "would lose the classes that it was trained for", file=out, field="--fresh", mend="Choose another --out."
        )
    if task is None and fresh:
        task = Path(out).stem
    different = {os.path.realpath(image): image for image in images}
    done = enroll(
        graph,
        blob.read(patch),
        label,
        different.values(),
        fresh=fresh,
        task=task,
        mode=mode,
        engine=engine,
        threads=threads,
        file=patch,
    )
    for problem in done.skipped:
        click.echo(f"skipped {problem}", err=True)
    if twice := len(images) - len(different):
        click.echo(f"{number_of(twice, 'picture')} given twice, counted once", err=True)
    learned = done.patch
    version = blob.next_version(out, learned.task)
    if not fresh:
        version = max(version, learned.version + 1)
    learned = dataclasses.replace(learned, version=version)
    size = blob.write(learned, out)
    document = {
        "patch": out,
        "task": learned.task,
        "version": version,
        "label": label,
        "new": done.new,
        "images": done.images,
        "pictures": done.pictures,
        "skipped": [str(error).splitlines()[0] for error in done.skipped],
        "labels": list(learned.labels),
        "bytes": size,
        "backbone_id": learned.backbone_id,
        "engine": done.engine,
    }
    count = number_of(done.images, "picture")
    what = f"learned {label} from {count}" if done.new else f"{label} was known, and learned {count} more"
    text = (
        f"{out}: {learned.task}, version {version}, {what}, "
        f"{number_of(len(learned.labels), 'class', 'classes')}, {kib(size)}"
    )
    show(document, text, as_json)
    return done.skipped[0].exit_code if done.skipped else 0
