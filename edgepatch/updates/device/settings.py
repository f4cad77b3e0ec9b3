"""What a device remembers of its updates, beside the store: STORE/updates/settings.json, replaced whole."""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgepatch import container, files
from edgepatch.errors import BadFileError, UsageError
from edgepatch.runtime.store import disk
from edgepatch.updates import clock, names

FORMAT = 1
FOLDER = disk.UPDATES
NAME = "settings.json"
METADATA = "metadata"  # signed documents as they were verified last: what came since must not be older
PARTS = "parts"
_LIMIT = 16 * 1024 * 1024


@dataclasses.dataclass(frozen=True)
class Delivered:
    """A patch that an update brought. It is what a later update may take away, and what it must not fall behind."""

    version: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class Settings:
    """What `edgepatch update STORE` goes by.

    Attributes:
        url: of the repository.
        graph: the name of the graph that was chosen; None: there is but one.
        tasks: those that were chosen; None: all.
        delivered: by task.
        seen: the latest time that a signed document was of: the clock cannot be before it.
    """

    url: str
    graph: str | None = None
    tasks: tuple[str, ...] | None = None
    delivered: Mapping[str, Delivered] = dataclasses.field(default_factory=dict)
    seen: datetime.datetime | None = None


def read(store: Path) -> Settings | None:
    """The settings of a store; None before its first update.

    Raises:
        BadFileError: they are damaged.
    """
    path = store / FOLDER / NAME
    try:
        data = files.read(path, limit=_LIMIT)
    except UsageError:
        return None
    try:
        document = container.load_json(data)
        if document["format"] != FORMAT:
            raise ValueError(f"format {document['format']}")
        tasks, graph = document["tasks"], document["graph"]
        delivered = {task: Delivered(**row) for task, row in document["delivered"].items()}
        if not all(type(row.version) is int and names.is_sha256(row.sha256) for row in delivered.values()):
            raise ValueError("a patch without version and hash")
        if not all(isinstance(text, str) for text in (document["url"], *(tasks or ()), graph or "")):
            raise ValueError("a name that is none")
        return Settings(
            url=document["url"],
            graph=graph,
            tasks=None if tasks is None else tuple(tasks),
            delivered=delivered,
            seen=clock.read(document["seen"]),
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BadFileError(
            "is damaged",
            file=path,
            got=str(error)[:80],
            expected="what edgepatch update wrote",
            mend="Name the repository again: edgepatch update STORE --url URL --root ROOT.json; and --task, if not all "
            "tasks are wanted",
        ) from error


def write(store: Path, settings: Settings) -> None:
    """Remember; the disk is left alone if nothing is new."""
    document: dict[str, Any] = {
        "format": FORMAT,
        "url": settings.url,
        "graph": settings.graph,
        "tasks": None if settings.tasks is None else list(settings.tasks),
        "delivered": {task: dataclasses.asdict(row) for task, row in settings.delivered.items()},
        "seen": clock.write(settings.seen) if settings.seen else None,
    }
    path, data = store / FOLDER / NAME, json.dumps(document, indent=1, ensure_ascii=False).encode()
    if not path.is_file() or path.read_bytes() != data:
        files.write(path, data)
