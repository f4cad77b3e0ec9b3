"""edgepatch train: a patch from a folder of images."""

from __future__ import annotations

import dataclasses
from typing import Any

import click

from edgepatch.cli.common import framework, json_option, kib, show


@click.command()
@click.argument("backbone", metavar="BACKBONE")
@click.argument("data", metavar="DATA")
@click.option(
    "--patch",
    "kinds",
    metavar="KINDS",
    default="scale_bias",
    show_default=True,
    help="Patch kinds, joined by +; scale_bias@project changes those sites alone (or @pointwise, @depthwise, @expand).",
)
@click.option("--out", metavar="FILE.epatch", required=True, help="The patch file; its report stands beside it.")
@click.option(
    "--epochs",
    type=click.IntRange(min=1),
    help="Of the joint phase; by default the number of images decides. One or two rarely beat the head alone.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of everything random.")
@click.option("--val", metavar="DIR", help="Images to choose on, instead of DATA/val or a share of DATA.")
@click.option("--task", help="The task's name; by default that of the file.")
@click.option("--licence", default="", help="Terms of the images, kept in the patch.")
@click.option(
    "--codec",
    type=click.Choice(["fp16", "int8"]),
    default="fp16",
    show_default=True,
    help="How values are stored; int8 takes less than half the space.",
)
@click.option("--resize", type=click.Choice(["stretch", "crop"]), default="stretch", show_default=True)
@click.option("--batch", type=int, help="Images a step.")
@click.option("--learning-rate", type=float, help="Peak of the joint phase.")
@click.option("--weight-decay", type=float, help="Towards the backbone's own values.")
@click.option(
    "--stats", type=click.Choice(["frozen", "adapt"]), help="Batch norm statistics: the backbone's, or the task's."
)
@click.option("--patience", type=int, help="Epochs without a better validation result before stopping; 0: never.")
@click.option("--no-flips", is_flag=True, help="No mirror images, even where they are found harmless.")
@json_option
def command(
    backbone: str,
    data: str,
    kinds: str,
    out: str,
    epochs: int | None,
    seed: int,
    val: str | None,
    task: str | None,
    licence: str,
    resize: str,
    codec: str,
    as_json: bool,
    no_flips: bool,
    **changed: Any,
) -> None:
    """Train a patch of BACKBONE for the task of DATA.

    DATA is a folder with one folder of images a class, or with train/ and val/ of that form. The head is trained first,
    then the patch and the head together; the better of the two on the validation images is written. A killed run goes
    on where it stopped when called again.

    \b
    edgepatch train mobilenet.backbone photos/ --patch scale_bias --out flowers.epatch
    edgepatch train mobilenet.backbone photos/ --out flowers.epatch --epochs 20 --val more-photos/
    edgepatch train mobilenet.backbone photos/ --patch scale_bias@project --codec int8 --out small.epatch
    """
    framework("tensorflow", why="training")
    from edgepatch.backbones import backbone as files
    from edgepatch.training import trainer
    from edgepatch.training.recipe import Recipe

    recipe = dataclasses.replace(
        Recipe(epochs=epochs or 0, seed=seed, flips=not no_flips),
        **{name: value for name, value in changed.items() if value is not None},
    )
    result = trainer.train(
        files.read(backbone),
        data,
        kinds,
        out,
        recipe=recipe,
        val=val,
        task=task,
        licence=licence,
        resize=resize,
        codec=codec,
    )
    report = result.report
    share = report["trained_parameters"] / report["backbone_parameters"]
    text = (
        f"{out}: {report['kinds']}, {kib(report['bytes'])}, "
        f"{report['trained_parameters']:,} values ({share:.1%} of the backbone's kernels)\n"
        f"validation accuracy {report['accuracy']:.1%}, head alone {report['head_accuracy']:.1%}, "
        f"{report['epochs']} epochs, {report['seconds']:.0f} s\nreport: {result.path.with_suffix('.png')}"
    )
    show({name: value for name, value in report.items() if name != "confusion"}, text, as_json)
