"""edgepatch calibrate: the activation ranges that a patch needs on int8 graphs."""

from __future__ import annotations

import dataclasses

import click

from edgepatch.cli.common import check_name, framework, json_option, kib, show


@click.command()
@click.argument("backbone", metavar="BACKBONE")
@click.argument("data", metavar="DATA")
@click.option("--patch", metavar="FILE.epatch", required=True, help="The patch to calibrate.")
@click.option("--out", metavar="FILE.epatch", help="Where to write it; by default in place of the patch.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the choice among many images.")
@json_option
def command(backbone: str, data: str, patch: str, out: str | None, seed: int, as_json: bool) -> None:
    """Measure the activations of a patch of BACKBONE on the images of DATA, for graphs that compute in int8.

    Training does this already; patches from elsewhere need it. DATA is any folder of images like those the task will
    see: classes do not matter, and of a folder with train/ that is taken. A patch without statistics of its features,
    which enrolling needs, is given them. Nothing else in the patch changes but its version, which grows by one.

    \b
    edgepatch calibrate mobilenet.backbone photos/ --patch flowers.epatch
    edgepatch calibrate mobilenet.backbone photos/ --patch flowers.epatch --out calibrated.epatch
    """
    from edgepatch import blob
    from edgepatch.backbones import backbone as backbone_files
    from edgepatch.data import folder, pictures
    from edgepatch.errors import UsageError
    from edgepatch.progress import Terminal

    if out is not None:
        check_name(out, ".epatch")
    if seed < 0:
        raise UsageError("is out of range", field="--seed", got=seed, expected="0 or more")
    source, task = backbone_files.read(backbone), blob.read(patch)
    source.require_own(task, patch)
    found = folder.anything(data)
    framework("tensorflow", why="calibrating")
    from edgepatch.backbones import network
    from edgepatch.training import calibration, statistics

    chosen = folder.sample(found, calibration.IMAGES, seed=seed)
    looked_at = pictures.load(chosen, task.input, Terminal())
    sized = source.at(task.input.size)
    ranges = calibration.calibrate(sized, task, looked_at.pixels, seed=seed)
    target = patch if out is None else out
    version = max(task.version + 1, blob.next_version(target, task.task))
    # those it has also say which classes were enrolled
    known = task.statistics or statistics.of(task, sized, network.deployment_form(sized), looked_at.pixels)
    size = blob.write(dataclasses.replace(task, ranges=ranges, statistics=known, version=version), target)
    document = {
        "patch": target,
        "task": task.task,
        "version": version,
        "images": len(looked_at),
        "skipped": list(looked_at.skipped),
        "ranges": len(ranges),
        "bytes": size,
        "backbone_id": source.id,
    }
    text = f"{target}: {task.task}, version {version}, {len(ranges)} ranges from {len(looked_at)} images, {kib(size)}"
    show(document, text, as_json)
