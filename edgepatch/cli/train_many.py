"""edgepatch train-many: every task of a TASKS.toml."""

from __future__ import annotations

from typing import Any

import click

from edgepatch.cli.common import framework, json_option, number_of, require_file, show, table
from edgepatch.errors import EdgepatchError, UsageError


@click.command()
@click.argument("tasks", metavar="TASKS.toml")
@click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="Where tasks are trained: in processes on this machine, or by Ray, here or on a cluster.",
)
@click.option("--address", metavar="ADDRESS", help="Of a Ray cluster: auto, host:port or ray://host:port.")
@click.option(
    "--jobs",
    metavar="N",
    type=click.IntRange(min=1),
    help="At most so many tasks at the same time.  [default: one a core; of a cluster, what it has room for]",
)
@click.option(
    "--joint", is_flag=True, help="Train the tasks together: shared kernels move, patches are each task's own."
)
@click.option(
    "--affinity", is_flag=True, help="With --joint: measure which tasks help each other, and propose a grouping."
)
@click.option("--resume", is_flag=True, help="Keep what is finished in `out`, and go on with the rest.")
@json_option
def command(
    tasks: str,
    engine: str,
    address: str | None,
    jobs: int | None,
    joint: bool,
    affinity: bool,
    resume: bool,
    as_json: bool,
) -> int:
    """Train every task of TASKS.toml on its own, as many at a time as there is room for.

    A task that fails stops no other. One whose process or machine dies is tried again and goes on from its last epoch.
    The patches, their reports and the table of all tasks, results.json and results.md, are written to `out`; the exit
    code is 1 if a task failed. Everything wrong in TASKS.toml is told at once, before anything is trained.

    With --joint they are trained together in this process instead: the kernels are shared and move, each task keeps a
    patch and a head of its own, and `out` gets one new backbone, joint.backbone, and the patches of it. Rows of
    `preferences` make one training each, and a front of them. docs/together.md says how.

    \b
    edgepatch train-many tasks.toml
    edgepatch train-many tasks.toml --resume
    edgepatch train-many tasks.toml --engine ray
    edgepatch train-many tasks.toml --engine ray --address auto --json
    edgepatch train-many tasks.toml --joint --affinity

    \b
    A whole TASKS.toml; paths count from its folder:
      backbone = "mobilenet.backbone"
      out = "patches"                    # or "s3://bucket/patches": any filesystem of fsspec

    \b
      [defaults]                         # of every task; each may say otherwise
      patch = "scale_bias"               # as --patch of edgepatch train
      codec = "int8"                     # resize, licence, and every option of the recipe:
      epochs = 12                        # batch, learning_rate, weight_decay, patience, seed, ...
      cpus = 1                           # of a machine; with --engine ray also gpus and memory = "2GB"

    \b
      [[task]]
      name = "flowers"                   # makes flowers.epatch
      data = "photos/flowers"

    \b
      [[task]]
      name = "birds"
      data = "s3://bucket/birds"         # fetched once a machine
      val = "photos/more-birds"
      sizes = [96, 128]                  # one task a size: birds-96, birds-128; or size = 128
      preference = 2                     # with --joint: counts twice

    \b
      [joint]                            # of --joint only
      kernels = "all"                    # which are shared: or bottom:N, top:N, depthwise
      preferences = [[1, 0.2, 0.2],      # a joint training a row, a number a task, and the front of the rows
                     [0.2, 1, 1]]
    """
    if affinity and not joint:
        raise UsageError("tasks that are trained alone do not meet", field="--affinity", expected="--joint, too")
    if joint and (engine != "local" or address or jobs):
        raise UsageError(
            "one joint training is one process", field="--joint", expected="no --engine, --address or --jobs"
        )
    require_file(tasks, "Write one: edgepatch train-many --help shows a whole TASKS.toml.")
    framework("tensorflow", why="training")
    from edgepatch.cli import live
    from edgepatch.many import jobs as independent
    from edgepatch.many import tasks_file

    file, own = tasks_file.read(tasks)
    if joint:
        from edgepatch.many import joint_runs
        from edgepatch.progress import Terminal

        try:
            document = joint_runs.run(file, own, Terminal(), affinity=affinity, resume=resume)
        except KeyboardInterrupt:
            again = f"edgepatch train-many {tasks} --joint{' --affinity' if affinity else ''} --resume"
            raise EdgepatchError("interrupted; the training goes on from its last epoch", mend=again) from None
        show(document, together(document, file.out), as_json)
        return 0
    document = independent.train(
        file, own, engine=engine, jobs=jobs, address=address, resume=resume, watcher=live.watcher()
    )
    return conclude(document, as_json)


def together(document: dict[str, Any], out: str) -> str:
    """What joint trainings gave, for people."""
    parts = []
    for run in document["runs"]:
        heads = ["head alone, old backbone", "head alone, new backbone"]
        rows = [["task", "preference", "patch", "KB", "validation", *heads, "remark"]]
        for task, preference in zip(run["tasks"], run["preferences"], strict=True):
            remark = "the head alone is kept" if task["fell_back_to_head"] else ""
            if task["accuracy"] < task["head_accuracy_before"]:
                remark = "worse than a head on the old backbone"
            figures = [f"{task[key]:.1%}" for key in ("accuracy", "head_accuracy_before", "head_accuracy")]
            size = f"{task['bytes'] / 1000:.1f}"
            rows.append([task["task"], f"{preference:g}", task["kinds"], size, *figures, remark])
        parts.append(f"{table(rows)}\n{run['backbone']}: {number_of(run['epochs'], 'epoch')}, {run['seconds']:.0f} s")
    if found := document.get("affinity"):
        rows = [["% less loss after a step for", *found["tasks"]]]
        for name, row in zip(found["tasks"], found["affinity"], strict=True):
            rows.append([name, *(f"{100 * value:+.2f}" for value in row)])
        groups = "; ".join(", ".join(group) for group in found["grouping"])
        measured = number_of(found["measurements"], "measurement")
        parts.append(f"{table(rows)}\nproposed grouping, of {measured}: {groups}\nheat map: {out}/affinity.png")
    if found := document.get("front"):
        rows = [["preferences", *found["tasks"], "place"]]
        for row in found["rows"]:
            cells = [", ".join(f"{weight:g}" for weight in row["preferences"])]
            cells += [f"{accuracy:.1%}" for accuracy in row["accuracy"]]
            rows.append([*cells, "front" if row["undominated"] else "beaten"])
        parts.append(f"{table(rows)}\nfront: {out}/front.png")
    return "\n\n".join(parts)


def conclude(document: dict[str, Any], as_json: bool) -> int:
    """Show what became of all tasks; the exit code."""
    from edgepatch.many import results

    failed = [task for task in document["tasks"] if task["state"] != "done" and task["state"] != "done before"]
    counts = ", ".join(f"{count} {state}" for state, count in document["counts"].items())
    text = (
        f"{table(results.cells(document['tasks']))}\n\n{counts}; {document['seconds']:.0f} s; all in {document['out']}"
    )
    if failed:
        problems = [{**task.get("error", {}), "field": f"task {task['task']}"} for task in failed]
        error = EdgepatchError(f"{len(failed)} of {len(document['tasks'])} tasks failed", problems=problems)
        document = {**document, **error.to_json()}
        text += f"\n\n{error}"
    show(document, text, as_json)
    return 1 if failed else 0
