"""What is in `out`: each task's patch and report, a record of each that is finished, and the table of all.

A record is written by the worker, last of all, so that nothing depends on the process that watches. It holds the
fingerprint of the task's entry: an entry that has changed is another task, and is trained anew.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from edgepatch import blob, files
from edgepatch.backbones.backbone import Backbone
from edgepatch.errors import BadFileError, UsageError
from edgepatch.many import storage
from edgepatch.many.job import FILES, RECORDS, Job, record_path
from edgepatch.many.tasks_file import Entry

TABLE = "results"  # .json and .md: the name of no task
UNFINGERED = ("preference", "resources")  # of an entry: they change nothing in its patch


def fingerprint(entry: Entry, backbone_id: str, path: Path) -> str:
    """SHA-256 of all that an entry's patch depends on, but the contents of its images.

    Local paths count from the folder of TASKS.toml, as they do in it, so that all of it can be moved.
    """
    facts = {key: value for key, value in dataclasses.asdict(entry).items() if key not in UNFINGERED}
    home = path.parent.resolve()
    for key in ("data", "val"):
        if facts[key] and not storage.is_remote(facts[key]):
            facts[key] = os.path.relpath(facts[key], home)
    return hashlib.sha256(json.dumps([facts, backbone_id], sort_keys=True).encode()).hexdigest()


def refuse_taken(out: str, tasks: Sequence[str]) -> None:
    """Find out whether results would be replaced.

    Raises:
        UsageError: they would.
    """
    ours = {f"{TABLE}.json", f"{TABLE}.md", RECORDS} | {f"{task}{suffix}" for task in tasks for suffix in FILES}
    taken = sorted(storage.names(out) & ours)
    if taken:
        raise UsageError(
            "has results already",
            file=out,
            field="out",
            got=", ".join(taken[:5]) + f" and {len(taken) - 5} more" * (len(taken) > 5),
            mend="Give --resume to keep what is finished and go on with the rest, or another folder as out.",
        )


def finished(jobs: Sequence[Job], backbone: Backbone) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """The records of the jobs that are finished; and for those that have something but are not, why not.

    Raises:
        UsageError: a patch in the place of a task's is something else.
    """
    out = jobs[0].out
    records, there = storage.names(storage.join(out, RECORDS)), storage.names(out)
    found: dict[str, dict[str, Any]] = {}
    anew: dict[str, str] = {}
    for job in jobs:
        path = storage.join(out, f"{job.name}.epatch")
        data = storage.read(path) if f"{job.name}.epatch" in there else None
        record = _record(job) if f"{job.name}.json" in records else None
        why = None
        try:
            patch = blob.parse(data, path) if data is not None else None
        except BadFileError as error:
            patch, why = None, error.message
        if patch is not None and record is None and (patch.task, patch.backbone_id) != (job.name, backbone.id):
            raise UsageError(
                "is another patch, and would be replaced",
                file=path,
                field="task",
                got=patch.task,
                mend="Move it away, or give another folder as out.",
            )
        if record is None:
            if patch is not None:
                anew[job.name] = "its patch has no record: it was killed at the very end"
            continue
        if patch is None:
            anew[job.name] = f"its patch {why or 'is gone'}"
        elif record.get("fingerprint") != job.fingerprint:
            anew[job.name] = "its entry in the file has changed, or the backbone"
        elif (patch.task, patch.backbone_id) != (job.name, backbone.id):
            anew[job.name] = "its patch is of another task or backbone"
        else:
            found[job.name] = record
    return found, anew


def _record(job: Job) -> dict[str, Any] | None:
    data = storage.read(record_path(job.out, job.name))
    try:
        record = json.loads(data or b"")
        return {**record, "accuracy": float(record["accuracy"]), "epochs": int(record["epochs"])}
    except (ValueError, TypeError, KeyError):
        return None


@contextlib.contextmanager
def token(out: str, engine: str) -> Iterator[str]:
    """The name of a file that is in `out` for as long as workers elsewhere are to find it there."""
    if engine == "local" or storage.is_remote(out):
        yield ""
        return
    name = f".edgepatch-{uuid.uuid4().hex}"
    files.write(Path(out, name), "")
    try:
        yield name
    finally:
        Path(out, name).unlink(missing_ok=True)


def summary(facts: dict[str, Any], tasks: list[dict[str, Any]], seconds: float) -> dict[str, Any]:
    """What results.json says."""
    states = [task["state"] for task in tasks]
    return {
        **facts,
        "seconds": round(seconds, 2),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "counts": {state: states.count(state) for state in sorted(set(states))},
        "tasks": tasks,
    }


def write(out: str, document: dict[str, Any]) -> None:
    """Write results.json and results.md."""
    storage.write(storage.join(out, f"{TABLE}.json"), json.dumps(document, indent=1, allow_nan=False) + "\n")
    rows = cells(document["tasks"])
    lines = ["| " + " | ".join(each.replace("|", "\\|") for each in row) + " |" for row in rows]
    text = "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])
    counts = ", ".join(f"{count} {state}" for state, count in document["counts"].items())
    storage.write(storage.join(out, f"{TABLE}.md"), f"{text}\n\n{counts}; {document['seconds']:.0f} s\n")


def cells(tasks: Sequence[dict[str, Any]]) -> list[list[str]]:
    """The table of all tasks, its heads first."""
    rows = [["task", "state", "validation", "head alone", "epochs", "KB", "seconds", "attempts", "remark"]]
    for task in tasks:
        trained = "accuracy" in task
        notes = [f"went on after epoch {task['resumed_after']}"] if task.get("resumed_after") else []
        notes += ["the head alone is kept"] if task.get("fell_back_to_head") else []
        error = task.get("error")
        rows.append(
            [
                task["task"],
                task["state"],
                f"{task['accuracy']:.1%}" if trained else "",
                f"{task['head_accuracy']:.1%}" if trained else "",
                str(task["epochs"]) if trained else "",
                f"{task['bytes'] / 1000:.1f}" if trained else "",
                f"{task['seconds']:.0f}" if "seconds" in task else "",
                str(task.get("attempt", task.get("attempts", ""))),
                str(error["message"]).splitlines()[0][:100] if error else "; ".join(notes),
            ]
        )
    return rows
