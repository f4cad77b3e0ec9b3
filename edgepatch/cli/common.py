"""What the commands share."""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from edgepatch.errors import UsageError, require
from edgepatch.progress import hushed

json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
mode_option = click.option(
    "--mode",
    type=click.Choice(["auto", "bind", "bake"]),
    default="auto",
    show_default=True,
    help="How the patch is applied.",
)
engine_option = click.option(
    "--engine",
    type=click.Choice(["litert", "tflite-runtime", "onnx"]),
    help="The interpreter; by default an installed one that runs the file.",
)
threads_option = click.option("--threads", type=int, default=1, show_default=True, help="Threads of the interpreter.")


def patch_option(**options: Any) -> Callable[[Any], Any]:
    """`--patch FILE`, which may be given several times."""
    return click.option("--patch", "patches", metavar="FILE", multiple=True, required=True, **options)


def framework(module: str, *, why: str) -> None:
    """Import a framework of the host without the pages it writes when it starts.

    Raises:
        MissingPackageError: it is not installed.
    """
    with contextlib.suppress(ImportError), hushed():
        importlib.import_module(module)
    require(module, extra="train", why=why)
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it warns of every model after the fifth


def require_file(path: str, mend: str) -> None:
    """Say at once, before a framework is loaded, that a file is not there.

    Raises:
        UsageError: it is not.
    """
    if not Path(path).is_file():
        raise UsageError("is a folder" if Path(path).is_dir() else "there is no such file", file=path, mend=mend)


def check_name(out: str, suffix: str, field: str = "--out") -> None:
    """Refuse an output whose name says that it is something else: it would be found under it later, or replace it.

    Raises:
        UsageError: it does not end in `suffix`.
    """
    if Path(out).suffix != suffix:
        raise UsageError(
            "is not a name for this kind of file", file=out, field=field, expected=f"a name ending in {suffix}"
        )


def refuse_names(out: str, suffixes: tuple[str, ...]) -> None:
    """As `check_name`, for files that may be called anything but these.

    Raises:
        UsageError: it ends in one of `suffixes`.
    """
    if Path(out).suffix in suffixes:
        raise UsageError("is not a name for this kind of file", file=out, field="--out", got=Path(out).suffix)


def show(document: Any, text: str, as_json: bool) -> None:
    """The result of a command: the document for programs, the text for people."""
    click.echo(json.dumps(document) if as_json else text)


def table(rows: list[list[str]]) -> str:
    """Rows in columns, the first row set off as their heads."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def number_of(count: int, what: str, plural: str | None = None) -> str:
    """A count with its noun: `1 epoch`, `2 epochs`."""
    return f"{count} {what if count == 1 else plural or what + 's'}"


def kib(count: int) -> str:
    """A size in KiB, for reading."""
    return f"{count / 1024:,.1f} KiB"


def runtime_with(graph: str, patches: tuple[str, ...], **options: Any) -> Any:
    """A Runtime of a graph with patches loaded, and their tasks in order.

    Raises:
        UsageError: two patches are of the same task.
    """
    from edgepatch.runtime import Runtime

    runtime = Runtime(graph, **options)
    tasks: list[str] = []
    for path in patches:
        task = runtime.load(path)
        if task in tasks:
            raise UsageError("two patches are of the same task", file=path, field="task", got=task)
        tasks.append(task)
    return runtime, tasks
