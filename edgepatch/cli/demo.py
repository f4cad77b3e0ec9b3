"""edgepatch demo: the main job from end to end."""

from __future__ import annotations

from pathlib import Path

import click

from edgepatch.cli.common import framework, json_option, show, table


@click.command()
@click.option("--work", metavar="DIR", default="edgepatch-demo", show_default=True, help="Where everything is kept.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the training.")
@json_option
def command(work: str, seed: int, as_json: bool) -> None:
    """Train several tasks on real images, export one graph, evaluate every task through the device runtime.

    Takes about eight minutes on two cores; run again, it goes on from what is there. Needs the extras [train], [onnx]
    and [demo], and the offline ImageNet weights.

    \b
    edgepatch demo --work build/demo
    """
    from edgepatch.errors import require

    framework("tensorflow", why="the demo's training")
    require("onnxruntime", extra="onnx", why="the demo's ONNX graph")
    require("elpv_dataset", extra="demo", why="the demo's solar cells")
    from edgepatch.demo import demo, tasks
    from edgepatch.progress import Terminal

    result = demo.demo(Path(work), Terminal(), seed=seed)
    cells = [["task", "test images", "head alone", "patch", "through ONNX", "in int8", "patch size"]]
    cells += [
        [
            row["task"],
            str(row["images"]),
            *(
                f"{row[key]:.1%}" if row["measure"] == "accuracy" else f"mAP50 {row[key]:.3f}"
                for key in _columns(row["measure"])
            ),
            f"{row['patch_kib']:.0f} KiB",
        ]
        for row in result["rows"]
    ]
    cells.append(["imagenet", "", "", "(as pretrained)", "", "", f"{result['imagenet_patch_kib']:.0f} KiB"])
    whole, integer = (result["graphs"][f"mobilenet_v2{name}.tflite"] / 2**20 for name in ("", "-int8"))
    lines = [
        "",
        table(cells),
        "",
        f"One shared graph for all of them: {whole:.1f} MiB, in int8 {integer:.1f} MiB. "
        "A dedicated model: as much again for each task.",
        *(
            f"Switching among {row['tasks']} tasks, mode auto, {row['engine']}: {row['switch_us']:.0f} us, "
            f"{row['switch_and_answer_ms']:.1f} ms with reading and answering a picture"
            for row in result["switching"]
        ),
        *(
            f"A task that stays, mode auto, {row['engine']}: {row['bound_ms']:.1f} ms a picture bound, then "
            f"{row['baked_ms']:.1f} ms baked, from picture {row['baked_after']} on; longest {row['longest_ms']:.1f} ms"
            for row in result["staying"]
        ),
        f"Pictures with their answers: {result['contact_sheet']}",
        "Data: " + "; ".join(sorted({f"{task.source}, {task.licence}" for task in tasks.TASKS.values()})),
        f"{result['seconds']:.0f} s",
    ]
    show(result, "\n".join(lines), as_json)


def _columns(measure: str) -> tuple[str, ...]:
    return f"head_{measure}", f"{measure}_litert", f"{measure}_onnx", f"{measure}_int8"
