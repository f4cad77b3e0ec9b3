"""Runs of a study, taken by several processes: finished ones are lines of a file, so that a study can go on."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

Run = dict[str, Any]


class Grid:
    """
    Args:
        results: a file of JSON lines, each with its `run`.
        work: a folder for claims.
        wanted: all runs, in the order in which they are taken.
    """

    def __init__(self, results: Path, work: Path, wanted: Sequence[Run]) -> None:
        self.results, self.work, self.wanted = results, work, wanted

    def finished(self) -> list[Run]:
        return [json.loads(line) for line in self.results.read_text().splitlines()] if self.results.exists() else []

    def left(self) -> int:
        done = [line["run"] for line in self.finished()]
        return sum(run not in done for run in self.wanted)

    def take(self, train: Callable[[Run], Run]) -> None:
        """Take runs until there are none, computing with one thread."""
        import keras
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        for run in self.wanted:
            with self._claimed(run) as mine:
                if not mine:
                    continue
                line = train(run)
                with self.results.open("a") as stream:
                    stream.write(json.dumps(line) + "\n")
                print(*run.values(), flush=True)
                keras.backend.clear_session()

    def start(self, script: str, jobs: int) -> int:
        """Run `script work` so many times side by side; the worst of their exit codes."""
        started = [subprocess.Popen([sys.executable, script, "work"]) for _ in range(jobs or os.cpu_count() or 1)]
        return max(job.wait() for job in started)

    @contextlib.contextmanager
    def _claimed(self, run: Run) -> Iterator[bool]:
        """Whether this process may take a run; another one's claim ends with its process."""
        import fcntl

        (self.work / "claims").mkdir(parents=True, exist_ok=True)
        name = "-".join(str(value) for value in run.values()).replace(":", "")
        with (self.work / "claims" / name).open("w") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield not any(done["run"] == run for done in self.finished())
