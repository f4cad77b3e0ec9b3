"""`train-many --joint`: one joint training, or one a row of preferences; affinities, the grouping, the front."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np

from edgepatch import files, patches
from edgepatch.backbones.backbone import Backbone
from edgepatch.errors import UsageError
from edgepatch.many import front, grouping, simultaneous, storage
from edgepatch.many.affinity import Meter, heat_map
from edgepatch.many.sharing import require_joinable
from edgepatch.many.simultaneous import REPORT
from edgepatch.many.tasks_file import Problems, TasksFile
from edgepatch.progress import Reporter
from edgepatch.training.task import Task

AFFINITY, FRONT = "affinity", "front"  # names of a .json and a .png each


def run(
    file: TasksFile, backbone: Backbone, reporter: Reporter, *, affinity: bool = False, resume: bool = False
) -> dict[str, Any]:
    """Train the tasks of a file together; everything is written to the file's `out`.

    Where the file has rows of preferences, each row is a training of its own, in a folder `front-N`.

    Args:
        affinity: measure it in the (first) training, propose a grouping and draw the heat map.
        resume: go on with what stands in `out`; else a folder with results is refused.

    Returns:
        `runs`, the report of each training, and, as far as there are any, `affinity` and `front`.

    Raises:
        UsageError: tasks that cannot be trained together, all of them told at once, or results that would be lost.
    """
    out = _check(file, backbone, resume)
    sources = simultaneous.sources(file, backbone, out)
    ready: list[Task] = []
    meter: Meter | None = None
    rows = file.joint.preferences or (tuple(entry.preference for entry in file.tasks),)
    reports: list[dict[str, Any]] = []
    for number, row in enumerate(rows):
        folder = out / f"front-{number + 1}" if file.joint.preferences else out
        if file.joint.preferences:
            reporter.say(f"preferences {', '.join(f'{weight:g}' for weight in row)} ({number + 1} of {len(rows)})")
        found = simultaneous.finished(file, backbone, sources, row, folder) if resume else None
        if found is not None:
            reporter.say(f"finished before: {folder}")
        else:
            ready = ready or simultaneous.prepare(file, backbone, sources, reporter)
            if affinity and number == 0:
                meter = Meter(ready, seed=file.tasks[0].recipe.seed)
            measuring = meter if number == 0 else None
            found = simultaneous.train(file, backbone, ready, folder, reporter, preferences=row, meter=measuring)
        reports.append(found)
    document: dict[str, Any] = {"runs": reports}
    names = [entry.name for entry in file.tasks]
    if meter and meter.count:
        document["affinity"] = _affinity(meter, names, file.joint.groups, out)
    elif meter:
        reporter.say("no affinity: there were fewer steps than affinity_every")
    elif affinity and (measured := _measured(out, names)):
        document["affinity"] = measured
    elif affinity:
        reporter.say(
            "no affinity: the first training was finished before, without --affinity; to measure it, give another out"
        )
    if file.joint.preferences:
        document["front"] = _front(reports, names, out)
    return document


def _check(file: TasksFile, backbone: Backbone, resume: bool) -> Path:
    if storage.is_remote(file.out):
        raise UsageError("a joint training writes to this machine", file=file.path, field="out", got=file.out)
    out, problems = Path(file.out), Problems(file.path)
    if len(file.tasks) < 2:
        problems.add("task", "one alone cannot be trained together", got=len(file.tasks), expected="two or more")
    for entry in file.tasks:
        if kinds := problems.attempt(
            f"task {entry.name}.patch", functools.partial(patches.parse_features, entry.patch)
        ):
            problems.attempt(f"task {entry.name}.patch", functools.partial(require_joinable, kinds[0], backbone))
        if entry.recipe.stats == "adapt":
            problems.add(f"task {entry.name}.stats", "shared kernels need one basis", got="adapt", expected="frozen")
    if not file.joint.preferences and not any(entry.preference for entry in file.tasks):
        problems.add("preference", "no task counts for anything", got=0, expected="above 0 for one of them")
    problems.raise_if_any()
    taken = [path for path in (out / REPORT, out / f"{FRONT}.json") if path.exists()]
    if taken and not resume:
        raise UsageError(
            "has results already",
            file=out,
            field="out",
            got=taken[0].name,
            mend="Give --resume to keep what is finished and go on with the rest, or another folder as out.",
        )
    return out


def _measured(out: Path, names: list[str]) -> dict[str, Any] | None:
    """The affinities of these tasks that an earlier run measured, if one did."""
    try:
        found: dict[str, Any] = json.loads((out / f"{AFFINITY}.json").read_bytes())
        return found if found["tasks"] == names else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _affinity(meter: Meter, names: list[str], groups: int, out: Path) -> dict[str, Any]:
    matrix = meter.matrix()
    proposed = grouping.propose(matrix, groups)
    document = {
        "tasks": names,
        "affinity": matrix.tolist(),
        "measurements": meter.count,
        "grouping": [[names[task] for task in group] for group in proposed],
        "gain": grouping.gain(matrix, proposed),
        "gain_all_together": grouping.gain(matrix, [range(len(names))]),
    }
    files.write(out / f"{AFFINITY}.json", json.dumps(document, indent=1) + "\n")
    files.write(out / f"{AFFINITY}.png", heat_map(names, matrix, proposed))
    return document


def _front(reports: list[dict[str, Any]], names: list[str], out: Path) -> dict[str, Any]:
    scores = np.array([[task["accuracy"] for task in report["tasks"]] for report in reports])
    preferences = [report["preferences"] for report in reports]
    kept = front.undominated(scores)
    document = {
        "tasks": names,
        "rows": [
            {"preferences": row, "accuracy": score.tolist(), "undominated": good, "backbone": report["backbone"]}
            for row, score, good, report in zip(preferences, scores, kept, reports, strict=True)
        ],
    }
    files.write(out / f"{FRONT}.json", json.dumps(document, indent=1) + "\n")
    files.write(out / f"{FRONT}.png", front.picture(names, preferences, scores))
    return document
