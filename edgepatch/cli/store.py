"""edgepatch store: a directory on a device with a graph and patches, safe against power cuts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from edgepatch.cli.common import engine_option, json_option, kib, number_of, show, table
from edgepatch.cli.verify import require_order

if TYPE_CHECKING:
    from edgepatch.runtime.store import Outcome, Store

wait_option = click.option(
    "--wait", type=click.FloatRange(0), default=30, show_default=True, help="Seconds to wait for another writer."
)


@click.group()
def command() -> None:
    """Keep a graph and patches on a device, through power cuts, full disks and years of updates.

    STORE is a directory. Each command does all it is told, or nothing, and takes --json.

    \b
    edgepatch store create STORE mobilenet.tflite digits.epatch
    edgepatch store install STORE flowers.epatch
    edgepatch store list STORE
    """


@command.command()
@click.argument("store", metavar="STORE")
@click.argument("graph", metavar="GRAPH")
@click.argument("patches", metavar="[PATCH]...", nargs=-1)
@engine_option
@wait_option
@json_option
def create(store: str, graph: str, patches: tuple[str, ...], engine: str | None, wait: float, as_json: bool) -> None:
    """Make a STORE with a GRAPH, and patches if any.

    \b
    edgepatch store create STORE mobilenet.tflite digits.epatch
    """
    from edgepatch.runtime.store import Store

    require_order(f"store create {store}", graph, patches)
    made = Store.create(store, graph, *patches, engine=engine, timeout=wait)
    show(_document(made), f"{store}: made, with {_size(made)}", as_json)


@command.command()
@click.argument("store", metavar="STORE")
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option("--force", is_flag=True, help="Take versions that are not larger than those installed before.")
@click.option("--remove", "removed", metavar="TASK", multiple=True, help="Remove a task in the same go.")
@engine_option
@wait_option
@json_option
def install(
    store: str,
    files: tuple[str, ...],
    force: bool,
    removed: tuple[str, ...],
    engine: str | None,
    wait: float,
    as_json: bool,
) -> None:
    """Check patches, or a graph and patches, and make them what STORE holds: all of them or none.

    A graph of another backbone needs every task replaced or removed in the same go. A file that STORE has already,
    active or previous, is put back if it is lost or damaged there.

    \b
    edgepatch store install STORE flowers.epatch digits.epatch
    edgepatch store install STORE digits-before.epatch --force
    edgepatch store install STORE next.tflite flowers.epatch --remove digits
    """
    from edgepatch.runtime.store import Store

    outcomes = Store.open(store).install(*files, force=force, remove=removed, engine=engine, timeout=wait)
    _show_outcomes(store, outcomes, as_json)


@command.command("list")
@click.argument("store", metavar="STORE")
@json_option
def list_(store: str, as_json: bool) -> None:
    """Say what STORE holds.

    \b
    edgepatch store list STORE
    """
    from edgepatch.runtime.store import Store

    found = Store.open(store)
    document = _document(found)
    rows = [["task", "version", "previous", "newest", "size"]]
    for row in document["tasks"]:
        size = kib(row["bytes"]) if row["version"] else "removed"
        rows.append([row["task"], *(str(row[name] or "-") for name in ("version", "previous", "newest")), size])
    lines = [f"{store}: {_size(found)}", *([table(rows)] if rows[1:] else [])]
    if document["garbage"]["files"]:
        garbage = document["garbage"]
        lines.append(f"{number_of(garbage['files'], 'file')} of no use, {kib(garbage['bytes'])}: store collect")
    if found.warning:
        click.echo(f"warning: {found.warning}", err=True)
    show(document, "\n".join(lines), as_json)


@command.command()
@click.argument("store", metavar="STORE")
@click.argument("tasks", metavar="TASK...", nargs=-1, required=True)
@click.option("--forget", is_flag=True, help="Forget the largest version too, so that any can be installed.")
@wait_option
@json_option
def remove(store: str, tasks: tuple[str, ...], forget: bool, wait: float, as_json: bool) -> None:
    """Remove tasks from STORE; `collect` then frees their bytes.

    \b
    edgepatch store remove STORE flowers
    edgepatch store remove STORE flowers --forget
    """
    from edgepatch.runtime.store import Store

    _show_outcomes(store, Store.open(store).remove(*tasks, forget=forget, timeout=wait), as_json)


@command.command()
@click.argument("store", metavar="STORE")
@click.argument("task", metavar="TASK")
@click.argument("version", metavar="VERSION", type=int)
@engine_option
@wait_option
@json_option
def activate(store: str, task: str, version: int, engine: str | None, wait: float, as_json: bool) -> None:
    """Make a VERSION of a TASK active that STORE keeps: the one before, or the one rolled back from.

    \b
    edgepatch store activate STORE flowers 3
    """
    from edgepatch.runtime.store import Store

    outcome = Store.open(store).activate(task, version, engine=engine, timeout=wait)
    _show_outcomes(store, [outcome], as_json)


@command.command()
@click.argument("store", metavar="STORE")
@click.argument("tasks", metavar="TASK...", nargs=-1, required=True)
@engine_option
@wait_option
@json_option
def rollback(store: str, tasks: tuple[str, ...], engine: str | None, wait: float, as_json: bool) -> None:
    """Make the patches active again that were so before.

    \b
    edgepatch store rollback STORE flowers
    """
    from edgepatch.runtime.store import Store

    _show_outcomes(store, Store.open(store).roll_back(*tasks, engine=engine, timeout=wait), as_json)


@command.command()
@click.argument("store", metavar="STORE")
@wait_option
@json_option
def collect(store: str, wait: float, as_json: bool) -> None:
    """Remove the files that STORE does not need: replaced and removed patches, and what a power cut left.

    \b
    edgepatch store collect STORE
    """
    from edgepatch.runtime.store import Store

    gone = Store.open(store).collect(timeout=wait)
    document = {"store": store, "files": gone.files, "bytes": gone.bytes}
    show(document, f"{store}: {number_of(gone.files, 'file')} removed, {kib(gone.bytes)}", as_json)


@command.command()
@click.argument("store", metavar="STORE")
@engine_option
@json_option
def verify(store: str, engine: str | None, as_json: bool) -> int:
    """Check every file of STORE whole, and let every task answer a grey picture, as `edgepatch verify` does.

    The exit code is that of the first file that fails.

    \b
    edgepatch store verify STORE
    """
    from edgepatch.runtime.store import Store

    rows = Store.open(store).verify(engine=engine)
    code = next((row.error.exit_code for row in rows if row.error), 0)
    document = {"store": store, "ok": code == 0, "files": [row.to_json() for row in rows]}
    show(document, "\n".join(map(str, rows)), as_json)
    return code


def _document(store: Store) -> dict[str, Any]:
    """What `list` shows."""
    state, garbage = store.state, store.garbage()
    tasks = [
        {
            "task": name,
            "version": task.active.version if task.active else None,
            "previous": task.previous.version if task.previous else None,
            "newest": task.newest.version,
            "bytes": task.active.bytes if task.active else 0,
            "sha256": task.active.sha256 if task.active else None,
            "file": str(store.patches()[name].path) if task.active else None,
        }
        for name, task in state.tasks.items()
    ]
    return {
        "store": str(store.path),
        "serial": state.serial,
        "graph": {
            "file": str(store.graph),
            "sha256": state.graph.sha256,
            "format": state.graph.format,
            "precision": state.graph.precision,
            "backbone_id": state.graph.backbone_id,
            "bytes": state.graph.bytes,
        },
        "tasks": tasks,
        "bytes": sum(state.objects.values()),
        "garbage": {"files": len(garbage), "bytes": sum(garbage.values())},
        "warning": store.warning,
    }


def _size(store: Store) -> str:
    graph, tasks = store.state.graph, len(store.state.active)
    what = f"{'a' if graph.format == 'tflite' else 'an'} .{graph.format} in {graph.precision}"
    return (
        f"{number_of(tasks, 'task')} on {what} of backbone {graph.backbone_id[:12]}, "
        f"{kib(sum(store.state.objects.values()))} in all"
    )


def _show_outcomes(store: str, outcomes: list[Outcome], as_json: bool) -> None:
    document = {"store": store, "outcomes": [outcome.to_json() for outcome in outcomes]}
    show(document, "\n".join(str(outcome) for outcome in outcomes), as_json)
