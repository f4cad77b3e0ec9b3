"""Who is measured: each shared graph in each of its forms, and dedicated models, on every engine that runs them."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Sequence
from typing import Any

import numpy as np

from edgepatch import blob, files
from edgepatch.bench import rivals
from edgepatch.bench.rivals import Dedicated
from edgepatch.errors import MissingPackageError, UsageError
from edgepatch.runtime import baking, engines, fitting, graph_file
from edgepatch.runtime.fitting import Fitted
from edgepatch.runtime.graph_file import Graph
from edgepatch.runtime.model import Model


@dataclasses.dataclass(frozen=True)
class Shared:
    """A shared graph, and every patch's values for it."""

    path: str
    graph: Graph
    fitted: tuple[Fitted, ...]

    @property
    def forms(self) -> list[str]:
        """The graph's forms that all patches can run in: those that change kernels or skip blocks are baked."""
        bindable = all(fitted.inputs is not None for fitted in self.fitted)
        return [form for form in self.graph.forms if bindable or form != "bind"]


@dataclasses.dataclass(frozen=True)
class Contestant:
    """One way to get a task's answer.

    Attributes:
        mode: `bind` or `bake` of a shared graph, or `dedicated`.
        what: the graph or the dedicated model.
    """

    engine: str
    mode: str
    threads: int
    what: Shared | Dedicated

    @property
    def precision(self) -> str | None:
        return self.what.graph.precision if isinstance(self.what, Shared) else self.what.precision

    @property
    def facts(self) -> dict[str, Any]:
        """What every row about it begins with."""
        facts = {"engine": self.engine, "precision": self.precision, "mode": self.mode, "threads": self.threads}
        if isinstance(self.what, Shared):
            return {**facts, "graph": self.what.path}
        return {**facts, "source": self.what.source}

    def model(self, task: int) -> Model:
        """What the engine opens: read from disk if dedicated, made of the graph in memory otherwise."""
        if isinstance(self.what, Dedicated):
            return Model(files.read(self.what.path, limit=graph_file.MAX_BYTES))
        make = baking.bind_model if self.mode == "bind" else baking.bake
        return make(self.what.graph, self.what.fitted[task % len(self.what.fitted)])

    def inputs(self, task: int) -> dict[str, np.ndarray]:
        """What a task binds; nothing unless it is bound."""
        if isinstance(self.what, Dedicated) or self.mode != "bind":
            return {}
        return self.what.fitted[task % len(self.what.fitted)].inputs or {}

    def open(self, task: int = 0) -> engines.Engine:
        """The engine, ready for its first run."""
        opened: engines.Engine = engines.start(self.engine, self.model(task), self.threads)
        opened.bind(self.inputs(task))
        return opened


@dataclasses.dataclass
class Plan:
    """Everything that was read and found fit to be measured, before anything is.

    Attributes:
        shared: the graphs.
        patches: their paths, one a task.
        against: the user's own dedicated models.
        engines: names, in the order in which they are reported.
        skipped: what was left out, and why.
    """

    shared: list[Shared]
    patches: list[str]
    against: list[Dedicated]
    engines: list[str]
    skipped: list[dict[str, Any]]

    @property
    def kinds(self) -> list[tuple[str, str]]:
        """Format and precision of the graphs, each once."""
        return list(dict.fromkeys((each.graph.format, each.graph.precision) for each in self.shared))

    def contestants(self, dedicated: Sequence[Dedicated], threads: int) -> list[Contestant]:
        """All of them, rivals first."""
        found = []
        for name in self.engines:
            kind = engines.ENGINES[name][1]
            found += [Contestant(name, "dedicated", threads, each) for each in dedicated if each.format == kind]
            for form in ("bake", "bind"):
                own = [each for each in self.shared if each.graph.format == kind and form in each.forms]
                found += [Contestant(name, form, threads, each) for each in own]
        return found


def plan(
    graphs: Sequence[str], patches: Sequence[str], *, against: Sequence[str] = (), names: Sequence[str] = ()
) -> Plan:
    """Read and check what is to be measured.

    Args:
        graphs: shared graphs, all of one backbone.
        patches: tasks; every one has to fit every graph.
        against: dedicated .tflite or .onnx models of the user's own.
        names: of engines; by default all that are installed and run one of the graphs.

    Raises:
        UsageError: no such file or engine, or two patches of one task or of two input sizes.
        BadFileError: a file is damaged, or a dedicated model is of no graph's format or does not run.
        MismatchError: a patch does not fit a graph.
        MissingPackageError: no engine, or not the one named, is installed.
    """
    read = [(path, graph_file.read(path)) for path in dict.fromkeys(graphs)]
    loaded = [(path, blob.read(path)) for path in patches]
    tasks: list[str] = []
    for path, patch in loaded:
        if patch.task in tasks:
            raise UsageError("two patches are of the same task", file=path, field="task", got=patch.task)
        tasks.append(patch.task)
        if patch.input.size != (size := loaded[0][1].input.size):
            raise UsageError(
                "two patches are of different input sizes, whose figures cannot be compared",
                file=path,
                field="input.size",
                got=patch.input.size,
                expected=size,
                mend="Measure them one after the other.",
            )
    shared = [
        Shared(path, graph, tuple(fitting.fit(graph, patch, file) for file, patch in loaded)) for path, graph in read
    ]
    for fitted, file in zip(shared[0].fitted, patches, strict=True):
        fitting.require_dense(fitted, file, "only the trunk would be measured")
    made = Plan(shared, list(patches), [], [], [])
    made.skipped += [
        {"patch": file, "reason": "it changes kernels or skips blocks, so nothing is measured bound"}
        for (file, _), fitted in zip(loaded, shared[0].fitted, strict=True)
        if fitted.inputs is None
    ]
    made.engines = _engines([graph for _, graph in read], names, made.skipped)
    for path in dict.fromkeys(against):
        made.against.append(rivals.own(path, made.engines))
    return made


def _engines(graphs: list[Graph], names: Sequence[str], skipped: list[dict[str, Any]]) -> list[str]:
    """Engines to measure with: those named, else all that load here; at least one for each graph."""

    def run_by(graph: Graph, names: Sequence[str]) -> bool:
        return any(name in engines.ENGINES and engines.ENGINES[name][1] == graph.format for name in names)

    if names:
        for graph in graphs:
            if not run_by(graph, names):
                engines.choose(graph, names[0])  # says so in the runtime's words
        for name in names:
            own = [graph for graph in graphs if run_by(graph, [name])]
            engines.load(engines.choose((own or graphs)[0], name))
        return list(dict.fromkeys(names))
    found = []
    for name, (_, kind, package, _) in engines.ENGINES.items():
        if any(graph.format == kind for graph in graphs) and importlib.util.find_spec(package):
            try:
                engines.load(name)
                found.append(name)
            except MissingPackageError as error:
                skipped.append({"engine": name, "reason": error.message})
    for graph in graphs:
        if not run_by(graph, found):
            engines.load(engines.choose(graph, None))  # says what is missing
    return found
