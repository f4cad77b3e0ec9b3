"""edgepatch backbone: the frozen network that all tasks share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from edgepatch.cli.common import check_name, framework, json_option, kib, number_of, refuse_names, show
from edgepatch.errors import UsageError

if TYPE_CHECKING:
    from edgepatch.backbones.backbone import Backbone


@click.group()
def command() -> None:
    """Create or import backbone files, and take out the task they were pretrained for.

    \b
    edgepatch backbone create mobilenet_v3_small --size 128 --out small.backbone
    edgepatch backbone create efficientnet_lite0 --size 224 --out lite.backbone
    edgepatch backbone import model.keras --size 160 --out own.backbone
    edgepatch backbone patch lite.backbone --out imagenet.epatch
    edgepatch backbone create mobilenet_v2 --size 300 --weights coco-ssd --out coco.backbone
    """


@command.command()
@click.argument("name")
@click.option("--size", type=int, required=True, help="Side of the square input, in pixels: 96, 128, 224, ...")
@click.option(
    "--alpha",
    type=float,
    default=1.0,
    show_default=True,
    help="Width. Keras has ImageNet weights of mobilenet_v1 for 0.25 0.5 0.75 1.0, of mobilenet_v2 for 0.35 0.5 0.75 "
    "1.0 1.3 1.4, of mobilenet_v3_small and _large for 0.75 1.0. efficientnet_lite0 is 1.0 only.",
)
@click.option(
    "--weights",
    metavar="SOURCE",
    default="imagenet",
    show_default=True,
    help="imagenet: the offline package where there is one and it is installed, else Keras' download. By name: "
    "imagenet-torchvision (mobilenet_v2), imagenet-efficientnet-lite0, imagenet-keras (the MobileNets), "
    "coco-ssd (mobilenet_v2: the trunk of COCO's detector). random. Or a file: .keras .h5 .npz of Keras' MobileNets; "
    ".pth of mobilenet_v2 or efficientnet_lite0; that detector's .tgz.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="For random weights.")
@click.option("--out", metavar="FILE", required=True, help="The backbone file to write.")
@json_option
def create(name: str, size: int, alpha: float, weights: str, seed: int, out: str, as_json: bool) -> None:
    """Create the backbone NAME with pretrained weights.

    NAME is mobilenet_v1, mobilenet_v2, mobilenet_v3_small, mobilenet_v3_large or efficientnet_lite0.

    \b
    edgepatch backbone create mobilenet_v2 --size 96 --out mobilenet.backbone
    edgepatch backbone create mobilenet_v2 --size 128 --alpha 0.35 --weights weights.npz --out small.backbone
    edgepatch backbone create mobilenet_v3_large --size 224 --weights imagenet-keras --out large.backbone
    edgepatch backbone create mobilenet_v2 --size 300 --weights coco-ssd --out coco.backbone
    """
    from edgepatch.backbones import weights as sources

    refuse_names(out, (".epatch", ".tflite", ".onnx"))
    _write(sources.create(name, alpha=alpha, size=size, source=weights, seed=seed), out, as_json)


@command.command("import")
@click.argument("model")
@click.option("--size", type=int, help="Side of the square input, in pixels, where the model leaves it open.")
@click.option(
    "--preprocess",
    metavar="NAME",
    help="How pictures are prepared, for a model without Rescaling or Normalization at its start: keras (x/127.5-1, "
    "the default), torch (ImageNet's mean and deviation), or raw (0..255).",
)
@click.option("--scale", metavar="X[,X,X]", help="In place of --preprocess: what a pixel (0..255) is multiplied by.")
@click.option("--offset", metavar="X[,X,X]", help="With --scale: what is added then.")
@click.option("--labels", metavar="FILE", help="Class names of the model's classifier, one a line.")
@click.option("--out", metavar="FILE", required=True, help="The backbone file to write.")
@json_option
def import_(
    model: str,
    size: int | None,
    preprocess: str | None,
    scale: str | None,
    offset: str | None,
    labels: str | None,
    out: str,
    as_json: bool,
) -> None:
    """Make a backbone of MODEL, a functional Keras model (.keras, .h5) of MobileNet's layers.

    A dense layer or 1x1 convolution at its very end is its classifier, all before it the frozen trunk. A layer that a
    backbone cannot have is refused by name.

    \b
    edgepatch backbone import model.keras --out own.backbone
    edgepatch backbone import model.keras --size 160 --preprocess torch --labels labels.txt --out own.backbone
    """
    from edgepatch.backbones import importing

    refuse_names(out, (".epatch", ".tflite", ".onnx", ".keras", ".h5", ".hdf5"))
    given = labels and importing.read_labels(labels)
    chosen = _scaling(preprocess, scale, offset)
    framework("keras", why="reading a Keras model")
    _write(importing.read(model, size=size, preprocess=chosen, labels=given or ()), out, as_json)


def _scaling(
    preprocess: str | None, scale: str | None, offset: str | None
) -> str | tuple[tuple[float, ...], tuple[float, ...]] | None:
    """What the three options mean together."""
    if scale is None and offset is None:
        return preprocess
    if preprocess is not None or scale is None or offset is None:
        raise UsageError("--scale and --offset go together, and in place of --preprocess", field="--scale")

    def numbers(name: str, text: str) -> tuple[float, ...]:
        try:
            found = tuple(float(part) for part in text.split(","))
        except ValueError:
            found = ()
        if len(found) not in (1, 3):
            raise UsageError("is not a number a channel", field=name, got=text, expected="one number, or three: 1,2,3")
        return found * 3 if len(found) == 1 else found

    return numbers("--scale", scale), numbers("--offset", offset)


def _write(made: Backbone, out: str, as_json: bool) -> None:
    """Write a backbone, and show what it is."""
    from edgepatch.backbones import backbone

    plan = made.plan
    count = backbone.write(made, out)
    parameters = sum(value.size for key, value in made.tensors.items() if key.endswith("/kernel"))
    document = {
        "backbone": out,
        "backbone_id": made.id,
        "architecture": plan.architecture,
        "alpha": plan.alpha,
        "size": made.input.size,
        "sites": len(plan.sites),
        "residuals": len(plan.residuals),
        "channels": sum(plan.channels),
        "features": plan.features,
        "kernel_parameters": parameters,
        "classes": len(made.labels),
        "input": made.input.to_json(),
        "source": dict(made.source),
        "bytes": count,
    }
    said = f"\npreprocessing: {made.source['preprocessing']}" if "preprocessing" in made.source else ""
    show(
        document,
        f"{out}: {plan.architecture} {plan.alpha:g}, weights {made.source['name']}, {made.input.size} px, "
        f"{len(plan.sites)} sites, {parameters:,} frozen kernel values, "
        f"{kib(count)}{said}\nid {made.id}",
        as_json,
    )


@command.command()
@click.argument("backbone", metavar="BACKBONE")
@click.option(
    "--weights",
    metavar="FILE.tgz",
    help="Of a backbone from coco-ssd: the detector's package, if it lies elsewhere than its weights did by that name.",
)
@click.option("--out", metavar="FILE", required=True, help="The patch file to write.")
@json_option
def patch(backbone: str, weights: str | None, out: str, as_json: bool) -> None:
    """Write the task a BACKBONE was pretrained for (ImageNet, or COCO's detector) as a patch.

    A backbone file holds its classifier, and no detector: that one's head is read from the package that its weights
    came from.

    \b
    edgepatch backbone patch mobilenet.backbone --out imagenet.epatch
    edgepatch backbone patch coco.backbone --out coco.epatch
    """
    from edgepatch import blob
    from edgepatch.backbones import backbone as files
    from edgepatch.backbones import weights as sources

    check_name(out, ".epatch")

    own = sources.own_patch(files.read(backbone), weights, file=backbone)
    count = blob.write(own, out)
    document = {
        "patch": out,
        "task": own.task,
        "head": own.decode["head"],
        "classes": len(own.labels),
        "size": own.input.size,
        "bytes": count,
        "backbone_id": own.backbone_id,
    }
    show(document, f"{out}: {own.task}, {number_of(len(own.labels), 'class', 'classes')}, {kib(count)}", as_json)
