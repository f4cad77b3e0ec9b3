"""What signed metadata says of a file beside its length and hash: the custom part of a target.

`{"kind": "scale_bias+classifier", "task": "flowers", "version": 3, "backbone_id": ...}` of a patch,
`{"kind": "graph", "backbone_id": ..., "format": "tflite", "precision": "fp32"}` of a graph. A device uses it to see
what is new before anything is fetched; what it then fetches has to say the same of itself.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from edgepatch.blob import MAX_BYTES, Patch
from edgepatch.errors import UsageError
from edgepatch.runtime.graph_file import MAX_BYTES as MAX_GRAPH_BYTES
from edgepatch.updates import names


@dataclasses.dataclass(frozen=True)
class Published:
    """A file that a role vouches for.

    Attributes:
        path: its name in the repository.
        sha256, length: of its bytes.
        role: who signed it: `targets`, or a team.
        backbone_id: the backbone it is of.
        kind: of a patch; of a graph `graph`.
        task, version: of a patch; of a graph empty and 0.
        format, precision: of a graph; of a patch empty.
    """

    path: str
    sha256: str
    length: int
    role: str
    backbone_id: str
    kind: str
    task: str = ""
    version: int = 0
    format: str = ""
    precision: str = ""

    @property
    def is_graph(self) -> bool:
        return self.kind == "graph"

    @property
    def name(self) -> str:
        """For reading: the task, or the graph's file name."""
        return self.path.rpartition("/")[2] if self.is_graph else self.task

    @property
    def hosted_path(self) -> str:
        """Where it stands under `targets/`."""
        return names.hosted_path(self.path, self.sha256)

    def to_json(self) -> dict[str, Any]:
        """For people and programs: without what does not apply."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value not in ("", 0)}


def of_patch(patch: Patch) -> dict[str, Any]:
    """The custom part of a patch."""
    return {"task": patch.task, "version": patch.version, "backbone_id": patch.backbone_id, "kind": patch.kind}


def of_graph(backbone_id: str, form: str, precision: str) -> dict[str, Any]:
    """The custom part of a graph, `form` being `tflite` or `onnx`."""
    return {"kind": "graph", "backbone_id": backbone_id, "format": form, "precision": precision}


def read(path: str, length: Any, hashes: Any, custom: Any, role: str) -> Published:
    """What signed metadata says of a file. It is signed, not yet sound: whoever holds a team's key wrote it.

    Raises:
        ValueError: a field is missing or ill-typed, or the path is not that of the task; the text says which.
    """
    sha256 = hashes.get("sha256") if isinstance(hashes, dict) else None
    if not names.is_sha256(sha256):
        raise ValueError("it has no SHA-256")
    if not isinstance(custom, dict):
        raise ValueError("it has no custom part")
    texts = {name: custom.get(name) for name in ("kind", "backbone_id", "task", "format", "precision")}
    if not all(value is None or (isinstance(value, str) and len(value) <= 200) for value in texts.values()):
        raise ValueError("its custom part has a field that is no short text")
    if not names.is_sha256(texts["backbone_id"]):
        raise ValueError("it names no backbone")
    version: Any = 0
    limit = MAX_GRAPH_BYTES
    known = {name: value for name, value in texts.items() if value is not None}
    if not known.get("task", "x").isprintable() or len(known.get("task", "")) > 100:
        raise ValueError("its task is not 1 to 100 printable characters")
    if not known.get("kind"):
        raise ValueError("it names no kind")
    if known["kind"] == "graph":
        if role != "targets":
            raise ValueError("a team has no right to publish graphs")
        try:
            if path != names.graph_path(path.rpartition("/")[2]):
                raise ValueError("its path is not under graphs/")
        except UsageError as error:
            raise ValueError("its path is no name of a graph") from error
        known.pop("task", None)
    else:
        limit, version = MAX_BYTES, custom.get("version")
        if type(version) is not int or not 1 <= version < 2**53:
            raise ValueError("its version is no number of 1 or more")
        if not known.get("task") or path != names.patch_path(known["task"]):
            raise ValueError(f"its path is not that of the task {known.get('task', '')!r}")
    if type(length) is not int or not 0 < length <= limit:
        raise ValueError(f"its length is not within {limit} bytes")
    return Published(path=path, sha256=str(sha256), length=length, role=role, version=version, **known)
