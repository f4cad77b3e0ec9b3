"""edgepatch verify: do these files belong together, and are they whole?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from edgepatch.cli.common import engine_option, json_option, show


@click.command()
@click.argument("graph", metavar="GRAPH")
@click.argument("patches", metavar="PATCH...", nargs=-1, required=True)
@engine_option
@json_option
def command(graph: str, patches: tuple[str, ...], engine: str | None, as_json: bool) -> int:
    """Check GRAPH and every PATCH whole, that they fit each other, and that each answers on a grey picture, bound (if
    it can be) and baked.

    The exit code is that of the first patch that fails.

    \b
    edgepatch verify mobilenet.tflite *.epatch
    """
    from edgepatch import blob
    from edgepatch.errors import EdgepatchError, MismatchError
    from edgepatch.runtime import graph_file
    from edgepatch.runtime.store import trial

    require_order("verify", graph, patches)
    rows: list[dict[str, Any]] = []
    code = 0
    shared = graph_file.read(graph)
    with trial.bench(shared, engine) as answers:
        for path in patches:
            try:
                patch = blob.read(path)
                rows.append({"patch": path, "ok": True, "task": patch.task, "forms": answers(patch, path)})
            except EdgepatchError as error:
                if isinstance(error, MismatchError) and error.details.get("field") == "backbone_id":
                    error.details["mend"] = f"{graph} is of another backbone. {error.details.get('mend', '')}".rstrip()
                rows.append({"patch": path, "ok": False, "text": str(error), **error.to_json()})
                code = code or error.exit_code
    document = {"graph": graph, "backbone_id": shared.backbone_id, "ok": code == 0, "patches": rows}
    lines = [
        f"{row['patch']}: ok, {row['task']} ({' and '.join(row['forms'])})" if row["ok"] else row["text"]
        for row in rows
    ]
    show(document, "\n".join(lines), as_json)
    return code


def require_order(command: str, graph: str, patches: Sequence[str]) -> None:
    """Refuse a patch in the place of the graph, where the graph is in a patch's: what is wrong is not the files.

    Raises:
        UsageError: they are exchanged.
    """
    from edgepatch.errors import UsageError
    from edgepatch.runtime.store.store import is_graph

    if not Path(graph).is_file() or is_graph(graph):
        return
    if graphs := [path for path in patches if Path(path).is_file() and is_graph(path)]:
        rest = [graph, *(path for path in patches if path != graphs[0])]
        raise UsageError(
            "is given in the place of the graph, which comes first",
            file=graph,
            field="GRAPH",
            got="no graph",
            expected=graphs[0],
            mend=f"edgepatch {command} {graphs[0]} {' '.join(rest[:4])}{' ...' if rest[4:] else ''}",
        )
