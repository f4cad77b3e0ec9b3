"""What a device reads of updates beside signed metadata: its own settings, and what a team's key vouches for."""

from __future__ import annotations

import contextlib
import functools
import json
from pathlib import Path

from edgepatch.updates import described, names
from edgepatch.updates.device import settings

from . import common, documents
from .dice import Dice

LIMIT = 1 << 14
TARGET = {
    "path": names.patch_path("digits"),
    "length": 36_000,
    "hashes": {"sha256": "a" * 64},
    "custom": {"task": "digits", "version": 3, "backbone_id": "b" * 64, "kind": "scale_bias+classifier"},
}
GRAPH = {
    "path": names.graph_path("mobilenet.tflite"),
    "length": 9_000_000,
    "hashes": {"sha256": "c" * 64},
    "custom": {"kind": "graph", "backbone_id": "b" * 64, "format": "tflite", "precision": "fp32"},
}
SETTINGS = {
    "format": settings.FORMAT,
    "url": "https://patches.example.org/",
    "graph": "mobilenet.tflite",
    "tasks": ["digits", "flowers"],
    "delivered": {"digits": {"version": 3, "sha256": "a" * 64}},
    "seen": "2026-11-20T12:00:00Z",
}


def one(data: bytes) -> None:
    folder = store()
    (folder / settings.FOLDER / settings.NAME).write_bytes(data)
    with common.refusals():
        found = settings.read(folder)
        assert found is not None
        settings.write(folder, found)
        assert settings.read(folder) == found
    with contextlib.suppress(ValueError, RecursionError):
        document = json.loads(data)
        if isinstance(document, dict) and isinstance(document.get("path"), str):
            fields = [document.get(name) for name in ("length", "hashes", "custom")]
            published = described.read(document["path"], *fields, role="targets")
            assert ".." not in published.hosted_path.split("/")
            json.dumps(published.to_json())


@functools.cache
def store() -> Path:
    """A store's folder, for as long as this process lives."""
    folder = common.scratch()
    (folder / settings.FOLDER).mkdir()
    return folder


def mutate(data: bytes, dice: Dice, limit: int) -> bytes:
    if dice.one_in(6):
        return dice.blind(data, limit)
    return documents.text(documents.changed(json.loads(data), dice)).encode(errors="surrogatepass")[:limit]


def seeds() -> dict[str, bytes]:
    return {name: json.dumps(value).encode() for name, value in {"s": SETTINGS, "p": TARGET, "g": GRAPH}.items()}
