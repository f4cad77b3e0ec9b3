"""edgepatch verify: do these files belong together, and are they whole?"""

from __future__ import annotations

import contextlib
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
    import numpy as np

    from edgepatch import blob
    from edgepatch.errors import EdgepatchError
    from edgepatch.runtime import Runtime, graph_file

    rows: list[dict[str, Any]] = []
    code = 0
    grey = np.full((64, 64, 3), 128, np.uint8)
    shared = graph_file.read(graph)
    with contextlib.ExitStack() as stack:
        runtimes = [stack.enter_context(Runtime(graph, engine=engine, mode=form)) for form in shared.forms]
        for path in patches:
            try:
                patch = blob.read(path)
                able = [runtime for runtime in runtimes if runtime.mode == "bake" or patch.bindable]
                for runtime in able:
                    task = runtime.add(patch, file=path)
                    runtime.predict(grey, task)  # refuses an answer that is not finite
                    runtime.unload(task)
                rows.append({"patch": path, "ok": True, "task": task, "forms": [runtime.mode for runtime in able]})
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
