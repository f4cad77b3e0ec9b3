"""Joint training against single tasks, affinities, a front, and one patch a resolution: more of docs/learning.md.

    python benchmarks/learning/claims.py joint|front|sizes     # finished runs are kept in results/
    python benchmarks/tables.py claims joint affinity front sizes

Uses the images and the recipe of study.py, whose rows are the single tasks. Epochs are chosen on validation images;
the test images report, once a run.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from study import EPOCHS, LIMIT, SETS, SIZE, WORK, prepared, tested

RESULTS = Path(__file__).parent / "results"
PICTURES = Path(__file__).resolve().parents[2] / "docs" / "learning"
SIZES = (96, 128, 160, 192, 224)
SIZE_SETS = ("clothing10", "trash6")
JOINT = """
backbone = "imagenet.backbone"
out = "{out}"
[defaults]
patch = "scale_bias"
size = {size}
patience = 0
seed = {seed}
[joint]
epochs = {epochs}
affinity_every = 40
{more}
"""


def finished(name: str) -> list[dict[str, Any]]:
    path = RESULTS / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def keep(name: str, line: dict[str, Any]) -> None:
    with (RESULTS / f"{name}.jsonl").open("a") as stream:
        stream.write(json.dumps(line) + "\n")
    print(json.dumps(line)[:300], flush=True)


def together(name: str, sets: tuple[str, ...], seed: int, *, more: str = "", affinity: bool = False) -> dict[str, Any]:
    """A joint training of some sets; what `joint_runs.run` gives, and each patch's test accuracy."""
    from datasets import prepare
    from edgepatch import blob
    from edgepatch.backbones import backbone as backbones
    from edgepatch.backbones import weights
    from edgepatch.many import joint_runs, tasks_file
    from edgepatch.progress import Terminal
    from edgepatch.training import task as tasks

    file = WORK / f"{name}-{seed}.toml"
    text = JOINT.format(out=WORK / f"{name}-{seed}", size=SIZE, seed=seed, epochs=EPOCHS, more=more)
    for each in sets:
        text += f'[[task]]\nname = "{each}"\ndata = "{prepare(each, WORK / "data", LIMIT)}"\n'
    backbones.write(
        weights.create("mobilenet_v2", alpha=1.0, size=SIZE, source="imagenet-torchvision"), WORK / "imagenet.backbone"
    )
    file.write_text(text)
    read, own = tasks_file.read(file)
    document = joint_runs.run(read, own, Terminal(), affinity=affinity, resume=True)
    for run in document["runs"]:
        new = backbones.read(run["backbone"])
        for row in run["tasks"]:
            ready = tasks.move(prepared(row["task"], seed, SIZE, LIMIT), new)
            row["test"] = tested(ready, blob.read(row["patch"]))
        del run["history"]
    found: dict[str, Any] = json.loads(json.dumps(document).replace(f"{read.out}/", ""))  # of this machine's folders
    return found


def joint(seed: int = 0) -> None:
    """All sets in one training, with affinities."""
    if any(line["seed"] == seed for line in finished("joint")):
        return
    document = together("joint", SETS, seed, affinity=True)
    keep("joint", {"seed": seed, "sets": SETS, "epochs": EPOCHS, "limit": LIMIT, **document})
    PICTURES.mkdir(exist_ok=True)
    shutil.copy(WORK / f"joint-{seed}" / "affinity.png", PICTURES / "affinity.png")


def front(seed: int = 0) -> None:
    """Two sets under several preferences."""
    if any(line["seed"] == seed for line in finished("front")):
        return
    sets = ("clothing10", "trash6")
    more = 'kernels = "all"\npreferences = [[1, 0], [0.75, 0.25], [0.5, 0.5], [0.25, 0.75], [0, 1]]'
    document = together("front", sets, seed, more=more)
    keep("front", {"seed": seed, "sets": sets, "epochs": EPOCHS, "limit": LIMIT, **document})
    PICTURES.mkdir(exist_ok=True)
    shutil.copy(WORK / f"front-{seed}" / "front.png", PICTURES / "front.png")


def sizes(seed: int = 0) -> None:
    """A patch for each input size, and each of them at the other sizes."""
    import keras

    from edgepatch import patches
    from edgepatch.backbones import network
    from edgepatch.training import trainer

    for name in SIZE_SETS:
        for size in SIZES:
            wanted = {"set": name, "size": size, "seed": seed, "limit": LIMIT, "epochs": EPOCHS}
            if any(line["run"] == wanted for line in finished("sizes")):
                continue
            task = prepared(name, seed, size, LIMIT)
            task = dataclasses.replace(task, recipe=dataclasses.replace(task.recipe, epochs=EPOCHS))
            keras.utils.set_random_seed(seed)
            bodies, top = patches.parse("scale_bias")
            run = trainer.choose(task, trainer.fit(task, bodies, top, WORK / "sizes.resume"), "fp16")
            (WORK / "sizes.resume").unlink(missing_ok=True)
            line: dict[str, Any] = {"run": wanted, "val": run.patch.metrics["accuracy"], "test": {}, "head_test": {}}
            for other in SIZES:
                backbone = task.backbone.at(other)
                at = dataclasses.replace(task, backbone=backbone, trunk=network.deployment_form(backbone))
                for key, patch in (("test", run.patch), ("head_test", run.head_alone)):
                    moved = dataclasses.replace(patch, input=dataclasses.replace(patch.input, size=other))
                    line[key][str(other)] = tested(at, moved)
            keep("sizes", line)
            keras.backend.clear_session()


if __name__ == "__main__":
    chosen = {"joint": joint, "front": front, "sizes": sizes}.get(sys.argv[1] if len(sys.argv) == 2 else "")
    if chosen is None:
        sys.exit("usage: python benchmarks/learning/claims.py joint|front|sizes")
    chosen()
