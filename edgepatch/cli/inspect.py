"""edgepatch inspect: what a file is."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import click

from edgepatch.cli.common import json_option, kib, show


@click.command()
@click.argument("file", metavar="FILE")
@json_option
def command(file: str, as_json: bool) -> None:
    """Check a backbone, graph or patch FILE whole and say what is in it.

    \b
    edgepatch inspect flowers.epatch
    """
    from edgepatch.errors import printable

    document = describe(file)
    lines = [f"{file}: {document['kind']}, {kib(document['bytes'])}"]
    width = max(map(len, document))
    for name, value in document.items():
        if name in ("kind", "bytes", "file"):
            continue
        text = printable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), None)
        lines.append(f"  {name.ljust(width)}  {text if len(text) <= 100 else text[:97] + '...'}")
    show(document, "\n".join(lines), as_json)


def describe(file: str) -> dict[str, Any]:
    """What `inspect` shows, as a document.

    Raises:
        UsageError: there is no such file.
        BadFileError, MismatchError: it is damaged, or none of edgepatch's.
    """
    from edgepatch import blob, codec, container, files
    from edgepatch.backbones import backbone
    from edgepatch.runtime import graph_file
    from edgepatch.trunk import SKIP

    data = files.read(file, limit=graph_file.MAX_BYTES)
    size = {"file": str(Path(file)), "bytes": len(data)}
    # a container's ninth byte opens its JSON header; an .onnx may start with any byte a header length can
    if files.format_of(data) and not container.is_container(data):
        graph = graph_file.parse(data, file)
        return {**graph.document, "container": graph.format, **size}
    document, tensors = container.parse(data, file)
    if document.get("kind") == "backbone":
        found = backbone.parse(data, file)
        return {
            **{name: value for name, value in document.items() if name != "labels"},
            "classes": len(found.labels),
            "labels": list(found.labels),
            "sites": found.plan.table(),
            **size,
        }
    patch = blob.parse(data, file)
    return {
        **document,
        "classes": len(patch.labels),
        "bindable": patch.bindable,
        **({"skip": patch.tensors[SKIP].tolist()} if SKIP in patch.tensors else {}),
        "values": sum(math.prod(shape) for shape in codec.shapes(patch, file).values()),
        "tensors": {name: {"dtype": str(value.dtype), "shape": list(value.shape)} for name, value in tensors.items()},
        **size,
    }
