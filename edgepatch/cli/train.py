"""edgepatch train: a patch from a folder of images."""

from __future__ import annotations

import dataclasses
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import click

from edgepatch.cli.common import framework, json_option, kib, number_of, require_file, show, table
from edgepatch.errors import UsageError

UNITS = {"": 1, "b": 1, "kb": 10**3, "kib": 2**10, "mb": 10**6, "mib": 2**20}


@click.command()
@click.argument("backbone", metavar="BACKBONE")
@click.argument("data", metavar="DATA")
@click.option(
    "--patch",
    "kinds",
    metavar="KINDS",
    help="What a task may change, joined by +: scale_bias, bias (@pointwise, @depthwise, @expand or @project confine "
    "them, and mask, to such sites), depthwise, bottom:N, top:N (kernels of the first or last N blocks), mask (a bit a "
    "weight), policy (blocks to skip); and the head, which alone is a kind, too: classifier, which need not be named, "
    "detector or segmenter.  [default: scale_bias; with --budget see above]",
)
@click.option(
    "--budget",
    metavar="SIZE",
    help="Search kinds and codecs for the best patch of at most so many bytes: 64KB, 0.5MB, 60KiB, 65536. "
    "KB is 1000 bytes, KiB 1024.",
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
    show_default="fp16; with --budget both are tried",
    help="How values are stored; int8 takes less than half the space.",
)
@click.option(
    "--size",
    "pixels",
    type=int,
    help="Side of the task's pictures for the network, from 16 to 1024, whatever its graph's is; by default the "
    "backbone's. Smaller is faster, larger sees more.",
)
@click.option("--resize", type=click.Choice(["stretch", "crop"]), default="stretch", show_default=True)
@click.option("--batch", type=int, help="Images a step.")
@click.option("--learning-rate", type=float, help="Peak of the joint phase.")
@click.option("--weight-decay", type=float, help="Towards the backbone's own values.")
@click.option(
    "--stats", type=click.Choice(["frozen", "adapt"]), help="Batch norm statistics: the backbone's, or the task's."
)
@click.option("--patience", type=int, help="Epochs without a better validation result before stopping; 0: never.")
@click.option(
    "--no-flips",
    is_flag=True,
    help="No mirror images, even where they are found harmless; a detector or segmenter does not find out.",
)
@click.option("--sparsity", type=float, help="Of a policy: how much a skipped block is worth.")
@click.option(
    "--share",
    metavar="FILE.epatch",
    multiple=True,
    help="Of a policy: a patch whose skipped blocks it is drawn to; may be given several times.",
)
@click.option("--sharing", type=float, help="Of a policy: how strongly.")
@json_option
def command(
    backbone: str,
    data: str,
    kinds: str | None,
    budget: str | None,
    out: str,
    epochs: int | None,
    seed: int,
    codec: str | None,
    pixels: int | None,
    as_json: bool,
    no_flips: bool,
    val: str | None,
    task: str | None,
    licence: str,
    resize: str,
    share: tuple[str, ...],
    **changed: Any,
) -> None:
    """Train a patch of BACKBONE for the task of DATA.

    DATA is a folder with one folder of images a class, or with train/ and val/ of that form. The head is trained first,
    then the patch and the head together; the better of the two on the validation images is written. A killed run goes
    on where it stopped when called again.

    For a detector DATA is a folder with train.json, as COCO has it, and its pictures in train/, likewise val and test;
    one such JSON; or a Pascal VOC folder. For a segmenter it is a folder with classes.json and, in train/ and val/,
    pictures with index masks, NAME.png beside NAME.jpg.

    With --budget many kinds are trained, each in both codecs, as far as their files are small enough: all for a third
    of the epochs, the best third for all of them. The best on the validation images is written, and beside it
    FILE.frontier.png shows what each size is worth. With --patch, too, only patches of just these kinds are searched,
    and the head alone: a kind without @ at every placement, bottom and top without a number with 1, 2, 4 and 8 blocks.
    With --codec, too, only that one. policy is searched only where it is named: it makes no patch
    smaller. The accuracy of the best of many is optimistic: measure it on other images, with edgepatch eval.

    \b
    edgepatch train mobilenet.backbone photos/ --patch scale_bias --out flowers.epatch
    edgepatch train mobilenet.backbone photos/ --out flowers.epatch --epochs 20 --val more-photos/
    edgepatch train mobilenet.backbone photos/ --size 160 --out flowers-160.epatch
    edgepatch train mobilenet.backbone photos/ --patch scale_bias@project --codec int8 --out small.epatch
    edgepatch train mobilenet.backbone photos/ --patch bottom:3 --out flowers.epatch
    edgepatch train mobilenet.backbone raccoon/ --patch scale_bias+detector --codec int8 --out raccoons.epatch
    edgepatch train mobilenet.backbone photos/ --patch scale_bias+policy --share birds.epatch --out fast.epatch
    edgepatch train mobilenet.backbone photos/ --budget 64KB --out flowers.epatch
    edgepatch train mobilenet.backbone photos/ --budget 64KB --patch scale_bias+depthwise --out flowers.epatch
    """
    limit = None if budget is None else size(budget)
    for name, needed in (("sparsity", "policy" in (kinds or "").split("+")), ("sharing", bool(share))):
        if changed[name] is not None and not needed:
            other = "--patch policy" if name == "sparsity" else "--share FILE.epatch, too"
            raise UsageError("has nothing to weigh", field=f"--{name}", got=changed[name], expected=other)
    require_file(backbone, "Make one: edgepatch backbone create mobilenet_v2 --size 224 --out mobilenet.backbone")
    if not Path(data).exists():
        raise UsageError("there is no such folder", file=data, mend="Give a folder with one folder of images a class.")
    framework("tensorflow", why="training")
    from edgepatch.backbones import backbone as files
    from edgepatch.codec import CODECS
    from edgepatch.training import budget as budgets
    from edgepatch.training import trainer
    from edgepatch.training.recipe import Recipe

    recipe = dataclasses.replace(
        Recipe(epochs=epochs or 0, seed=seed, flips=not no_flips),
        **{name: value for name, value in changed.items() if value is not None},
    )
    options: dict[str, Any] = {
        "recipe": recipe,
        "val": val,
        "task": task,
        "licence": licence,
        "resize": resize,
        "share": share,
    }
    own = files.read(backbone)
    if pixels is not None:
        own = own.at(pixels)
    if limit is None:
        result = trainer.train(
            own, data, "scale_bias" if kinds is None else kinds, out, codec=codec or "fp16", **options
        )
    else:
        result = budgets.search(own, data, out, limit, kinds=kinds, codecs=(codec,) if codec else CODECS, **options)
    report = result.report
    share_of_kernels = report["trained_parameters"] / report["backbone_parameters"]
    text = (
        f"{out}: {report['kinds']}, {kib(report['bytes'])}, "
        f"{report['trained_parameters']:,} values ({share_of_kernels:.1%} of the backbone's kernels)\n"
        f"validation {_figures(report)}, "
        f"{number_of(report['epochs'], 'epoch')}, {report['seconds']:.0f} s\n"
    )
    if report.get("skipped_blocks"):
        text += f"skipped blocks: {', '.join(map(str, report['skipped_blocks']))}\n"
    text += f"report: {result.path.with_suffix('.json')}, {result.path.with_suffix('.png')}"
    if limit is not None:
        text = f"{frontier(report)}\n\n{text}\nfrontier: {result.path.with_suffix('.frontier.png')}"
    document = {name: value for name, value in report.items() if name != "confusion"}
    show({**document, "size": own.input.size}, text, as_json)


def _figures(report: dict[str, Any]) -> str:
    """How good the patch is, and its head alone."""
    name = {"map": "mAP", "miou": "mean IoU"}.get(report.get("deciding", ""))
    if name:
        return f"{name} {report['accuracy']:.3f}, head alone {report['head_accuracy']:.3f}"
    return f"accuracy {report['accuracy']:.1%}, head alone {report['head_accuracy']:.1%}"


def frontier(report: dict[str, Any]) -> str:
    """A search's rows as a table, and what is to be said of them."""
    cells = [["patch", "codec", "KB", "epochs", "validation", ""]]
    for row in report["frontier"]:
        trained = row["accuracy"] is not None
        place = "chosen" if row["chosen"] else "frontier" if row["on_frontier"] else ""
        cells.append(
            [
                row["kinds"],
                row["codec"],
                f"{row['bytes'] / 1000:.1f}",
                str(row["epochs"]) if trained else "",
                f"{row['accuracy']:.1%}{' (head alone kept)' if row['fell_back_to_head'] else ''}" if trained else "",
                place if trained else "over the budget",
            ]
        )
    tried = sum(row["accuracy"] is not None for row in report["frontier"])
    return (
        f"{table(cells)}\n\nThe accuracy of the chosen patch is optimistic: it is the best of {tried} on the same "
        f"{report['val_images']} images."
    )


def size(text: str) -> int:
    """Bytes, of `64KB`, `0.5 MB`, `60KiB` or `65536`.

    Raises:
        UsageError: it is no size.
    """
    found = re.fullmatch(r"(\d{1,12}(?:\.\d{1,12})?)\s*([kmi]*b)?", text.strip(), re.ASCII | re.IGNORECASE)
    unit = UNITS.get((found[2] or "").lower()) if found else None
    count = int(Fraction(found[1]) * unit) if found and unit else 0
    if count < 1:
        raise UsageError("is no size", field="--budget", got=text, expected="as 64KB, 0.5MB, 60KiB or 65536")
    return count
