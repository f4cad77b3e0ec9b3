"""edgepatch update: a store brought up to a repository, over the air."""

from __future__ import annotations

import click

from edgepatch.cli.common import engine_option, json_option, kib, number_of, show
from edgepatch.progress import Quiet, Terminal


@click.command()
@click.argument("store", metavar="STORE")
@click.option("--url", help="The repository's address; remembered.")
@click.option("--root", metavar="ROOT.json", help="The root to trust: REPO/metadata/1.root.json, come by a safe way.")
@click.option("--task", "tasks", metavar="NAME", multiple=True, help="Only these tasks; remembered.")
@click.option("--all-tasks", is_flag=True, help="All tasks again.")
@click.option("--graph", metavar="NAME", help="Which graph, where several are published; remembered.")
@click.option("--dry-run", is_flag=True, help="Say what is new, and change nothing.")
@click.option("--timeout", type=float, default=3600.0, show_default=True, help="Seconds for all of it.")
@click.option("--stall", type=float, default=30.0, show_default=True, help="Seconds to wait for the next byte.")
@click.option("--attempts", type=int, default=5, show_default=True, help="How often to try what fails.")
@engine_option
@json_option
def command(
    store: str,
    url: str | None,
    root: str | None,
    tasks: tuple[str, ...],
    all_tasks: bool,
    graph: str | None,
    dry_run: bool,
    timeout: float,
    stall: float,
    attempts: int,
    engine: str | None,
    as_json: bool,
) -> int:
    """Fetch what is new for STORE, verify it, and install all of it in one step.

    The first time, --url and --root say where from and whom to trust; STORE is made then. Only what changed is fetched,
    a broken download goes on where it stopped, and nothing is opened before its length and hash are those that were
    signed. Whatever goes wrong, the store stays as it was.

    What a team has no right to publish, or published broken, is left out and named; the exit code says so.

    \b
    edgepatch update tasks/ --url https://example.org/site --root 1.root.json
    edgepatch update tasks/
    edgepatch update tasks/ --task flowers --task birds
    edgepatch update tasks/ --dry-run
    """
    from edgepatch.errors import UsageError
    from edgepatch.updates.device.limits import Limits
    from edgepatch.updates.device.updating import update

    if not (0 < timeout <= 1e6 and 0 < stall <= 1e6 and 1 <= attempts <= 100):
        raise UsageError("is out of range", field="--timeout, --stall or --attempts")
    if tasks and all_tasks:
        raise UsageError("takes no names beside it", field="--all-tasks", got=", ".join(tasks))
    report = update(
        store,
        url=url,
        root=root,
        tasks=tasks,
        every_task=all_tasks,
        graph=graph,
        dry_run=dry_run,
        limits=Limits(stall=stall, grace=2 * stall, total=timeout, attempts=attempts),
        engine=engine,
        reporter=Quiet() if as_json else Terminal(),
    )
    todo = report.plan
    verb = "would be" if dry_run else "is"
    lines = []
    if todo.graph:
        lines.append(f"{todo.graph.name}: {kib(todo.graph.length)}, {verb} the graph")
    lines += [f"{each.task}: version {each.version}, {kib(each.length)}, {verb} installed" for each in todo.patches]
    lines += [f"{task}: {why}, {verb} removed" for task, why in todo.remove.items()]
    lines += [f"{task}: {why}" for task, why in todo.kept.items()]
    lines += [f"refused: {refusal.error}" for refusal in todo.refused]
    if not todo.changes:
        lines.append(f"{store}: nothing new, {number_of(len(todo.same), 'task')} up to date")
    show({"store": store, **report.to_json()}, "\n".join(lines), as_json)
    return report.exit_code
