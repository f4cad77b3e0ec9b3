"""Bytes on the wire of an update, counted by the server: requests and answers, with their headers. Prints a table.

    python benchmarks/wire.py [--demo build/demo]

Uses the graphs, the backbone and a patch that `make demo` leaves. The patch is published under other names, as it is
and packed by the codec int8. The rows "files alone" are what a client fetches that knows which files it wants and
trusts the server: one request a file over one connection. TCP and TLS, which carry these bytes, are not counted.
"""

from __future__ import annotations

import argparse
import dataclasses
import http.client
import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import numpy as np
from edgepatch.converters import standard
from misbehaving import Server, zipped

from edgepatch import blob
from edgepatch.backbones import backbone as backbones
from edgepatch.blob import Patch
from edgepatch.runtime import graph_file
from edgepatch.training import storing
from edgepatch.updates.device.updating import update
from edgepatch.updates.host import ceremony, publishing, repository

PATCH = "solar-defects.epatch"
BEFORE = 10  # tasks of the first installation


class Bench:
    """A repository, a device, and the server between them."""

    def __init__(self, work: Path, server: Server, graph: Path, patch: Patch) -> None:
        self.work, self.server, self.graph, self.patch = work, server, graph, patch
        self.repo, self.keys, self.store = work / "site", work / "keys", work / "store"
        ceremony.create(self.repo, self.keys)
        server.folder = self.repo

    def publish(self, numbers: range, team: str | None = None) -> None:
        """Patches under the names of these numbers."""
        paths = []
        for number in numbers:
            paths.append(str(self.work / f"{number}.epatch"))
            Path(paths[-1]).write_bytes(blob.dump(dataclasses.replace(self.patch, task=f"task-{number:04d}")))
        graphs = [] if repository.read(self.repo).files() else [str(self.graph)]
        publishing.add(self.repo, paths, self.keys, graph_files=graphs, team=team)

    def update(self, tasks: list[str] | None = None) -> tuple[int, int]:
        """Requests and bytes of an update."""
        root = self.repo / "metadata" / "1.root.json"
        self.server.forget()
        report = update(self.store, url=self.server.url, root=root, tasks=tasks or ())
        assert report.exit_code == 0
        return len(self.server.requests), self.server.bytes()

    def fetch(self, folder: Path, paths: list[str]) -> tuple[int, int]:
        """Requests and bytes of these files alone."""
        self.server.forget()
        hosted, self.server.folder = self.server.folder, folder
        connection = http.client.HTTPConnection(self.server.url.removeprefix("http://"))
        for path in paths:
            connection.request("GET", f"/{path}", headers={"User-Agent": "edgepatch/0", "Accept-Encoding": "identity"})
            connection.getresponse().read()
        connection.close()
        self.server.folder = hosted
        return len(self.server.requests), self.server.bytes()

    def newest(self, numbers: range) -> list[str]:
        """Where these tasks' files are hosted."""
        wanted = {f"task-{number:04d}" for number in numbers}
        return [f"targets/{each.hosted_path}" for each in repository.read(self.repo).files() if each.task in wanted]


def measure(what: str, graph: Path, patch: Patch, server: Server, work: Path) -> list[list[str]]:
    """The rows of one graph and one kind of patch."""
    bench = Bench(work, server, graph, patch)
    size = len(blob.dump(dataclasses.replace(patch, task="task-0000")))
    found: list[list[str]] = []

    def row(name: str, count: tuple[int, int], payload: int) -> None:
        requests, total = count
        share = f"{total - payload:,}" if payload else f"{total:,}"
        found.append([what, name, str(requests), f"{payload:,}", f"{total:,}", share])

    first, one, many = range(BEFORE), range(BEFORE, BEFORE + 1), range(BEFORE + 1, BEFORE + 101)
    bench.publish(first)
    length = graph.stat().st_size
    row(f"first installation: graph and {BEFORE} tasks", bench.update(), length + BEFORE * size)
    row("nothing new", bench.update(), 0)
    publishing.refresh(bench.repo, bench.keys)
    row("nothing new, timestamp signed anew", bench.update(), 0)
    bench.publish(one)
    row(f"1 new task ({BEFORE} there)", bench.update(), size)
    row("the same, files alone", bench.fetch(bench.repo, bench.newest(one)), size)
    bench.publish(many)
    row("100 new tasks", bench.update(), 100 * size)
    row("the same, files alone", bench.fetch(bench.repo, bench.newest(many)), 100 * size)
    return found


def crowded(patch: Patch, graph: Path, server: Server, work: Path, count: int) -> list[list[str]]:
    """One new task for a device that has two, where a repository has very many."""
    size = len(blob.dump(dataclasses.replace(patch, task="task-0000")))
    rows = []
    bench = Bench(work, server, graph, patch)
    ceremony.team(bench.repo, "small", bench.keys, patterns=[f"task-{count}*"])
    bench.publish(range(count))
    mine = ["task-0000", "task-0001", f"task-{count}", f"task-{count}0"]
    bench.publish(range(count, count + 1), team="small")
    bench.update(mine[:3])
    bench.publish(range(count * 10, count * 10 + 1), team="small")
    requests, total = bench.update(mine)
    rows.append([f"1 new task of a team, {count} others by `targets`", requests, total])
    for name, tricks in (("", {}), (", served with gzip", {"metadata/": zipped})):
        server.tricks = dict(tricks)
        number = count + 1 + len(rows)
        bench.publish(range(number, number + 1))
        mine.append(f"task-{number:04d}")
        requests, total = bench.update(mine)
        rows.append([f"1 new task among {count}{name}", requests, total])
    server.tricks = {}
    return [["int8", str(row[0]), str(row[1]), f"{size:,}", f"{row[2]:,}", f"{row[2] - size:,}"] for row in rows]


def dedicated(demo: Path, patch: Patch, server: Server, work: Path) -> list[list[str]]:
    """A model of its own for one task, fetched as a plain file."""
    rows = []
    for name in ("mobilenet_v2.tflite", "mobilenet_v2-int8.tflite"):
        shared = graph_file.read(demo / name)
        data = standard.export(shared, patch, demo / PATCH)
        (work / name).write_bytes(data)
        server.folder = work
        bench = Bench.__new__(Bench)
        bench.server = server
        requests, total = bench.fetch(work, [name])
        for count, what in ((1, "a dedicated {} model"), (100, "100 dedicated {} models")):
            words = f"{what.format(shared.precision)}, files alone"
            payload, wire = count * len(data), count * total
            rows.append(["none", words, str(count * requests), f"{payload:,}", f"{wire:,}", f"{wire - payload:,}"])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--demo", type=Path, default=Path("build/demo"), help="what `make demo` leaves")
    demo = parser.parse_args().demo
    plain = blob.read(demo / PATCH)
    backbone = backbones.read(demo / "mobilenet_v2.backbone")
    values = {name: np.asarray(value, np.float32) for name, value in plain.tensors.items()}
    packed = storing.encode(backbone, plain, values, "int8")
    rows = [["patches", "update", "requests", "bytes of files", "bytes on the wire", "overhead"]]
    with tempfile.TemporaryDirectory() as made, Server(Path(made)) as server:
        work = Path(made)
        for name in ("a", "b", "c", "d"):
            (work / name).mkdir()
        rows += measure("fp16", demo / "mobilenet_v2.tflite", plain, server, work / "a")
        rows += measure("int8", demo / "mobilenet_v2-int8.tflite", packed, server, work / "b")
        rows += crowded(packed, demo / "mobilenet_v2-int8.tflite", server, work / "c", 1000)
        rows += dedicated(demo, plain, server, work / "d")
    print("| " + " | ".join(rows[0]) + " |")
    print("|---" * 2 + "|--:" * 4 + "|")
    for each in rows[1:]:
        print("| " + " | ".join(each) + " |")


if __name__ == "__main__":
    main()
