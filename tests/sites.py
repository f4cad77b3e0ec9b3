"""A repository with its keys, a server that hosts it and a device that is updated from it, from the golden files."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from misbehaving import Server

from edgepatch import blob, files
from edgepatch.runtime.store import Store
from edgepatch.updates import described, names
from edgepatch.updates.device.limits import Limits
from edgepatch.updates.device.updating import Report, update
from edgepatch.updates.host import ceremony, keys, publishing, repository, signing
from edgepatch.updates.host.repository import Repository

GOLDEN = Path(__file__).parent / "golden" / "data"
CALM = Limits(stall=10.0, grace=20.0, total=60.0, attempts=3, pause=0.01)  # a busy machine is no slow line


def golden_graph(name: str, folder: Path) -> Path:
    """A graph of the golden files, unpacked."""
    path = folder / name
    if not path.exists():
        path.write_bytes(gzip.decompress((GOLDEN / "graphs" / f"{name}.gz").read_bytes()))
    return path


def patch_bytes(task: str, version: int = 1, kind: str = "bias") -> bytes:
    """A golden patch under another name."""
    patch = blob.read(GOLDEN / "patches" / f"{kind}.epatch")
    return blob.dump(dataclasses.replace(patch, task=task, version=version))


class Site:
    """A repository at `repo`, keys at `keys`, hosted by `server`; a device at `store`."""

    def __init__(self, folder: Path, server: Server) -> None:
        self.folder, self.server, self.graph = folder, server, golden_graph("gated-fp32.tflite", folder)
        self.repo, self.keys, self.store = folder / "site", folder / "keys", folder / "store"
        ceremony.create(self.repo, self.keys)
        self.root = folder / "root.json"
        shutil.copy(self.repo / "metadata" / "1.root.json", self.root)
        server.folder = self.repo

    @property
    def url(self) -> str:
        return self.server.url

    def file(self, task: str, version: int = 1, kind: str = "bias") -> str:
        """A patch file of a task, to be published."""
        path = self.folder / f"{hashlib.sha256(task.encode()).hexdigest()[:12]}-{version}-{kind}.epatch"
        path.write_bytes(patch_bytes(task, version, kind))
        return str(path)

    def publish(self, *tasks: str, version: int = 1, team: str | None = None, kind: str = "bias") -> publishing.Done:
        """Publish patches of tasks; with the first of them the graph, too."""
        has_graph = any(each.is_graph for each in repository.read(self.repo).files())
        files = [self.file(task, version, kind) for task in tasks]
        graphs = () if has_graph else [str(self.graph)]
        return publishing.add(self.repo, files, self.keys, graph_files=graphs, team=team)

    def team(self, name: str, *patterns: str) -> None:
        ceremony.team(self.repo, name, self.keys, patterns=patterns)

    def update(self, **options: Any) -> Report:
        """As the device does it, the first time with address and root."""
        first = {} if (self.store / "updates" / "settings.json").exists() else {"url": self.url, "root": self.root}
        return update(self.store, **{"limits": CALM, **first, **options})

    def call(self, *more: object) -> list[object]:
        """The command line of an update that tries once."""
        first = [] if (self.store / "updates" / "settings.json").exists() else ["--url", self.url, "--root", self.root]
        return ["update", self.store, *first, "--stall", "10", "--attempts", "1", *more]

    def versions(self) -> dict[str, int]:
        """What is installed."""
        return {task: active.version for task, active in Store.open(self.store).patches().items()}

    def contents(self) -> dict[str, bytes]:
        """All that the store consists of, but what updates keep beside it and what a lock says."""
        return {
            str(path.relative_to(self.store)): path.read_bytes()
            for path in sorted(self.store.rglob("*"))
            if path.is_file() and "updates" not in path.parts and path.name != "lock"
        }

    def kept_documents(self) -> dict[str, int]:
        """Versions of the signed documents that the device keeps."""
        folder = self.store / "updates" / "metadata"
        return {path.stem: json.loads(path.read_bytes())["signed"]["version"] for path in sorted(folder.glob("*.json"))}

    # what only a thief of keys can do

    def read(self) -> Repository:
        return repository.read(self.repo)

    def sign(self, role: str, change: Callable[[Any], None]) -> None:
        """Change what a role has signed in any way, sign it with its key, and make it current."""
        found = self.read()
        signing.renew(found, role, self.keys, change)
        signing.refresh(found, self.keys)

    def list_file(self, path: str, data: bytes, custom: dict[str, Any], role: str = "targets", **hashes: str) -> None:
        """Sign for a file without any of the checks that publishing makes."""
        from tuf.api.metadata import TargetFile

        sha256 = hashlib.sha256(data).hexdigest()
        if ".." not in path and not path.startswith("/"):
            place = self.repo / names.TARGETS / names.hosted_path(path, sha256)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
        target = TargetFile(len(data), {"sha256": sha256, **hashes}, path, {"custom": custom})
        self.sign(role, lambda targets: targets.targets.update({path: target}))

    def force(self, task: str, version: int, role: str = "targets", kind: str = "bias") -> None:
        """Sign for a patch without any of the checks that publishing makes."""
        data = patch_bytes(task, version, kind)
        self.list_file(names.patch_path(task), data, described.of_patch(blob.parse(data, task)), role)

    def write(self, role: str, document: Any) -> None:
        """Sign a snapshot or timestamp of any content with the online keys."""
        found = self.read()
        found.put(role, signing.signed(document, keys.find(self.keys, role, *found.keys(role))))

    def old_copy(self) -> Path:
        """The repository as it is now, for later."""
        copy = self.folder / f"old-{len(list(self.folder.glob('old-*')))}"
        shutil.copytree(self.repo, copy)
        return copy


def killed(step: Callable[[], object], point: int, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Run a step that is killed at its write number `point`; whether it came to its end before."""
    honest, left = files.write, [point]

    def write(path: Any, data: Any) -> None:
        if left[0] == 0:
            raise KeyboardInterrupt
        left[0] -= 1
        honest(path, data)

    with monkeypatch.context() as patched:
        patched.setattr(files, "write", write)
        try:
            step()
        except KeyboardInterrupt:
            return False
    return True
