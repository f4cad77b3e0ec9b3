"""edgepatch verify: do these files belong together, and are they whole?"""

from __future__ import annotations

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
    from edgepatch.errors import EdgepatchError
    from edgepatch.runtime import graph_file
    from edgepatch.runtime.store import trial

    rows: list[dict[str, Any]] = []
    code = 0
    shared = graph_file.read(graph)
    with trial.bench(shared, engine) as answers:
        for path in patches:
            try:
                patch = blob.read(path)
                rows.append({"patch": path, "ok": True, "task": patch.task, "forms": answers(patch, path)})
            except EdgepatchError as error:
                rows.append({"patch": path, "ok": False, "text": str(error), **error.to_json()})
                code = code or error.exit_code
    document = {"graph": graph, "backbone_id": shared.backbone_id, "ok": code == 0, "patches": rows}
    lines = [
        f"{row['patch']}: ok, {row['task']} ({' and '.join(row['forms'])})" if row["ok"] else row["text"]
        for row in rows
    ]
    show(document, "\n".join(lines), as_json)
    return code
