"""Keras' .keras archives, as far as they are ours: the configuration, and who is refused before Keras sees it."""

from __future__ import annotations

import json

from edgepatch.backbones import importing

from . import archives, common, documents
from .dice import Dice

LIMIT = 1 << 16


def one(data: bytes) -> None:
    with common.refusals(), importing._reading("file.keras"):
        importing.refuse_strangers(importing._config(data, ".keras"), "file")


def mutate(data: bytes, dice: Dice, limit: int) -> bytes:
    def change(name: str, content: bytes) -> bytes:
        try:
            return documents.text(documents.changed(json.loads(content), dice)).encode(errors="surrogatepass")
        except (ValueError, RecursionError):
            return dice.blind(content, limit)

    return archives.zip_mutated(data, dice, limit, change)


def seeds() -> dict[str, bytes]:
    return common.own(".keras")
