"""The main job from end to end: a backbone, several tasks, one graph each for TFLite and ONNX, on real images."""

from __future__ import annotations

import importlib
import json
import statistics
import time
from pathlib import Path
from typing import Any

from edgepatch import blob, contact_sheet, drawing, evaluation, files, imaging
from edgepatch.data import folder
from edgepatch.demo import pages, tasks
from edgepatch.demo.tasks import Task
from edgepatch.errors import EdgepatchError
from edgepatch.progress import Quiet, Reporter
from edgepatch.runtime import Runtime

SIZE = 128
EPOCHS = {"solar-defects": 6, "solar-type": 1, "digits": 4, "digit-pages": 8}  # what fits into minutes on two cores
PAGE_SIZE = 160  # the graph takes it, too
PICTURES_A_TASK = 5


def demo(work: Path, reporter: Reporter, *, seed: int = 0) -> dict[str, Any]:
    """Make what is not there yet under `work`, evaluate every task through the device runtime, switch among them.

    Returns:
        Rows of the table, switching times, and where the contact sheet is.
    """
    from edgepatch.backbones import backbone as backbones

    start = time.monotonic()
    work.mkdir(parents=True, exist_ok=True)
    backbone_file = _backbone(work, reporter)
    backbone = backbones.read(backbone_file)
    data = {name: tasks.prepare(name, work / "data") for name in tasks.TASKS}
    patches = {
        name: _patch(task, "scale_bias", backbone, data[name], work, seed, reporter)
        for name, task in tasks.TASKS.items()
    }
    data[pages.TASK.name] = pages.prepare(data["digits"], work / "data")
    finder = _patch(
        pages.TASK, "scale_bias+detector", backbone.at(PAGE_SIZE), data[pages.TASK.name], work, seed, reporter
    )
    imagenet = work / "imagenet.epatch"
    blob.write(backbone.own_patch(), imagenet)
    graphs = [_graph(target, "fp32", backbone, work, reporter) for target in ("tflite", "onnx")]
    integer = _graph("tflite", "int8", backbone, work, reporter)

    rows = []
    for patch in (*patches.values(), finder):
        name, report = patch.stem, json.loads(patch.with_suffix(".json").read_text())
        measure = "map50" if patch is finder else "accuracy"
        row = {"task": name, "patch_kib": patch.stat().st_size / 1024, "epochs": report["epochs"], "measure": measure}
        for graph in graphs:
            found = _evaluated(graph, patch, data[name])
            row |= {"images": found["images"], f"{measure}_{found['engine']}": found[measure]}
        row[f"head_{measure}"] = _evaluated(graphs[0], _head_file(patch), data[name])[measure]
        row[f"{measure}_int8"] = _evaluated(integer, patch, data[name])[measure]
        rows.append(row)
        reporter.say(f"{name}: evaluated on {row['images']} held-out images through all graphs")

    switching = [_switch(graph, [*patches.values(), imagenet], data) for graph in graphs]
    stays = [_stay(graph, patches["digits"], data["digits"]) for graph in graphs]
    sheet = work / "contact-sheet.png"
    answers = _answers(graphs[0], patches, imagenet, data)
    contact_sheet.write([*answers, *_drawn(graphs[0], finder, data[pages.TASK.name], work / "drawn")], sheet)
    return {
        "rows": rows,
        "imagenet_patch_kib": imagenet.stat().st_size / 1024,
        "graphs": {graph.name: graph.stat().st_size for graph in (*graphs, integer)},
        "switching": switching,
        "staying": stays,
        "contact_sheet": str(sheet),
        "seconds": round(time.monotonic() - start, 1),
    }


def _backbone(work: Path, reporter: Reporter) -> Path:
    from edgepatch.backbones import backbone, weights

    path = work / "mobilenet_v2.backbone"
    if not path.exists():
        backbone.write(weights.create("mobilenet_v2", alpha=1.0, size=SIZE, source="imagenet-torchvision"), path)
        reporter.say(f"{path}: MobileNetV2 1.0, {SIZE} px, ImageNet")
    return path


def _patch(task: Task, kinds: str, backbone: Any, data: Path, work: Path, seed: int, reporter: Reporter) -> Path:
    from edgepatch.training import trainer
    from edgepatch.training.recipe import Recipe

    path = work / f"{task.name}.epatch"
    if path.exists() and _is_of(path, backbone.id, seed):
        reporter.say(f"{path}: there already")
        return path
    reporter.say(f"\n{task.name}: {task.what} ({task.source}; {task.licence})")
    recipe = Recipe(seed=seed, epochs=EPOCHS[task.name], flips=task is not pages.TASK)  # mirrored digits are none
    codec = "int8" if task is pages.TASK else "fp16"  # a detector's head is large, and loses nothing by it
    result = trainer.train(
        backbone, data, kinds, path, recipe=recipe, licence=task.licence, codec=codec, reporter=reporter
    )
    blob.write(result.head_alone, _head_file(path))
    return path


def _head_file(patch: Path) -> Path:
    return patch.with_suffix(".head.epatch")


def _is_of(path: Path, backbone_id: str, seed: int) -> bool:
    try:
        patch = blob.read(path)
        if patch.metrics.get("seed") != seed or patch.ranges is None:
            return False
        return all(blob.read(file).backbone_id == backbone_id for file in (path, _head_file(path)))
    except EdgepatchError:
        return False


def _graph(target: str, precision: str, backbone: Any, work: Path, reporter: Reporter) -> Path:
    path = work / ("mobilenet_v2" + (f"-{precision}" if precision != "fp32" else "") + f".{target}")
    files.write(path, importlib.import_module(f"edgepatch.converters.{target}").export(backbone, precision))
    reporter.say(f"{path}: one shared graph, {precision}, {path.stat().st_size / 2**20:.1f} MiB")
    return path


def _evaluated(graph: Path, patch: Path, data: Path) -> dict[str, Any]:
    """What a patch gives on the test images."""
    with Runtime(graph) as runtime:
        runtime.load(patch)
        return evaluation.evaluate(runtime, data, reporter=Quiet())


def _switch(graph: Path, patches: list[Path], data: dict[str, Path]) -> dict[str, Any]:
    """Median time of `use`, and of `use` with the first answer, round and round all tasks."""
    with Runtime(graph) as runtime:
        names = [runtime.load(patch) for patch in patches]
        pictures = dict(
            zip(names, [*(_some(data[name], 1)[0] for name in names[:-1]), tasks.photographs()[0]], strict=True)
        )
        uses, answers = [], []
        for _ in range(20):
            for name in names:
                picture = pictures[name]
                begin = time.perf_counter()
                runtime.use(name)
                uses.append(time.perf_counter() - begin)
                runtime.predict(picture)
                answers.append(time.perf_counter() - begin)
        return {
            "graph": graph.name,
            "engine": runtime.engine,
            "mode": runtime.mode,
            "tasks": len(names),
            "switch_us": round(statistics.median(uses) * 1e6, 1),
            "switch_and_answer_ms": round(statistics.median(answers) * 1e3, 2),
        }


def _stay(graph: Path, patch: Path, data: Path) -> dict[str, Any]:
    """A task that stays, under `auto`: milliseconds of a prediction while it is bound, and when it is baked."""
    picture = imaging.load(_some(data, 1)[0])
    with Runtime(graph) as runtime:
        runtime.use(runtime.load(patch))
        runtime.predict(picture)  # the first run of a graph lays it out
        times: dict[bool, list[float]] = {False: [], True: []}
        while len(times[True]) < 50:
            start = time.perf_counter()
            baked = bool(runtime.baked)
            runtime.predict(picture)
            times[baked].append((time.perf_counter() - start) * 1e3)
            if len(times[False]) == 2000:
                raise EdgepatchError("the task stays, and is not baked", field="mode", got="auto")
        return {
            "graph": graph.name,
            "engine": runtime.engine,
            "bound_ms": round(statistics.median(times[False]), 2),
            "longest_ms": round(max(times[False]), 2),
            "baked_after": len(times[False]) + 1,
            "baked_ms": round(statistics.median(times[True]), 2),
        }


def _answers(
    graph: Path, patches: dict[str, Path], imagenet: Path, data: dict[str, Path]
) -> list[tuple[str, str, str, str]]:
    found = []
    with Runtime(graph) as runtime:
        for name, patch in [*patches.items(), ("imagenet", imagenet)]:
            runtime.use(runtime.load(patch))
            for picture in _some(data[name], PICTURES_A_TASK) if name in data else tasks.photographs():
                answer = runtime.predict(picture)
                truth = picture.parent.name if name in data else answer.label
                mistake = "" if answer.label == truth else f"is {truth}"
                found.append((str(picture), name, f"{answer.label} {answer.score:.0%}", mistake))
    return found


def _drawn(graph: Path, finder: Path, data: Path, folder: Path) -> list[tuple[str, str, str, str]]:
    """Some pages with what is found on them drawn in."""
    found = []
    with Runtime(graph) as runtime:
        task = runtime.load(finder)
        for picture in sorted((data / "test").iterdir())[:PICTURES_A_TASK]:
            answer, drawn = runtime.predict(picture), folder / f"{picture.stem}.png"
            drawing.write(picture, answer, drawn)
            found.append((str(drawn), task, f"{len(answer.boxes)} digits", ""))
    return found


def _some(data: Path, count: int) -> list[Path]:
    """Test pictures, spread over the classes."""
    images = folder.scan(data / "test")
    step = max(1, len(images) // count)
    return list(images.paths[step // 2 :: step][:count])
