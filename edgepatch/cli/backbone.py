"""edgepatch backbone: the frozen network that all tasks share."""

from __future__ import annotations

import click

from edgepatch.cli.common import check_name, json_option, kib, refuse_names, show


@click.group()
def command() -> None:
    """Create backbone files, and take out the task they were pretrained for."""


@command.command()
@click.argument("name")
@click.option("--size", type=int, required=True, help="Side of the square input, in pixels: 96, 128, 224, ...")
@click.option(
    "--alpha",
    type=float,
    default=1.0,
    show_default=True,
    help="Width; ImageNet weights are there for 0.35 0.5 0.75 1.0 1.3 1.4.",
)
@click.option(
    "--weights",
    metavar="SOURCE",
    default="imagenet",
    show_default=True,
    help="imagenet, imagenet-torchvision (offline package), imagenet-keras (download), random, or a file: "
    ".pth .npz .keras .h5",
)
@click.option("--seed", type=int, default=0, show_default=True, help="For random weights.")
@click.option("--out", metavar="FILE", required=True, help="The backbone file to write.")
@json_option
def create(name: str, size: int, alpha: float, weights: str, seed: int, out: str, as_json: bool) -> None:
    """Create the backbone NAME (mobilenet_v2) with pretrained weights.

    \b
    edgepatch backbone create mobilenet_v2 --size 96 --out mobilenet.backbone
    edgepatch backbone create mobilenet_v2 --size 128 --alpha 0.35 --weights weights.npz --out small.backbone
    """
    from edgepatch.backbones import backbone
    from edgepatch.backbones import weights as sources

    refuse_names(out, (".epatch", ".tflite", ".onnx"))
    made = sources.create(name, alpha=alpha, size=size, source=weights, seed=seed)
    count = backbone.write(made, out)
    parameters = sum(value.size for key, value in made.tensors.items() if key.endswith("/kernel"))
    document = {
        "backbone": out,
        "backbone_id": made.id,
        "architecture": name,
        "alpha": alpha,
        "size": size,
        "sites": len(made.plan.sites),
        "channels": sum(made.plan.channels),
        "kernel_parameters": parameters,
        "classes": len(made.labels),
        "source": dict(made.source),
        "bytes": count,
    }
    show(
        document,
        f"{out}: {name} {alpha:g}, weights {made.source['name']}, {size} px, "
        f"{len(made.plan.sites)} sites, {parameters:,} frozen kernel values, "
        f"{kib(count)}\nid {made.id}",
        as_json,
    )


@command.command()
@click.argument("backbone", metavar="BACKBONE")
@click.option("--out", metavar="FILE", required=True, help="The patch file to write.")
@json_option
def patch(backbone: str, out: str, as_json: bool) -> None:
    """Write the task a BACKBONE was pretrained for (ImageNet) as a patch.

    \b
    edgepatch backbone patch mobilenet.backbone --out imagenet.epatch
    """
    from edgepatch import blob
    from edgepatch.backbones import backbone as files

    check_name(out, ".epatch")

    own = files.read(backbone).own_patch()
    count = blob.write(own, out)
    document = {
        "patch": out,
        "task": own.task,
        "classes": len(own.labels),
        "bytes": count,
        "backbone_id": own.backbone_id,
    }
    show(document, f"{out}: {own.task}, {len(own.labels)} classes, {kib(count)}", as_json)
