"""TensorFlow.js graph models in a package's tarball: the archive, model.json and its shards."""

from __future__ import annotations

import json

from edgepatch.backbones.weights import tfjs
from edgepatch.errors import BadFileError

from . import archives, common, documents
from .dice import Dice

LIMIT = 1 << 16
FOLDER = "package/models/tiny"


def one(data: bytes) -> None:
    with common.refusals():
        packed = tfjs._unpack(data, FOLDER, "file")

        def get(name: str, limit: int) -> bytes:
            if name not in packed:
                raise BadFileError("lacks a file of the model", file="file", field=f"{FOLDER}/{name}")
            return packed[name]

        model = tfjs.parse(get, "file")
        assert all(isinstance(name, str) for name in model.nodes)


def mutate(data: bytes, dice: Dice, limit: int) -> bytes:
    def change(name: str, content: bytes) -> bytes:
        if not name.endswith(tfjs.MODEL):
            return dice.values(content, 4) if dice.one_in(2) else dice.blind(content, limit)
        try:
            return documents.text(documents.changed(json.loads(content), dice)).encode(errors="surrogatepass")
        except (ValueError, RecursionError):
            return dice.blind(content, limit)

    return archives.tar_mutated(data, dice, limit, change)


def seeds() -> dict[str, bytes]:
    return common.own(".tgz")
