"""One task as a job: what a worker does with it, wherever the worker is, and what the worker tells meanwhile."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import json
import math
import os
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from edgepatch import __version__
from edgepatch.errors import (
    BadFileError,
    EdgepatchError,
    MismatchError,
    MissingPackageError,
    UsageError,
)
from edgepatch.many import storage
from edgepatch.progress import Quiet

if TYPE_CHECKING:  # a worker sets its threads before TensorFlow is imported
    from edgepatch.backbones.backbone import Backbone
    from edgepatch.many.tasks_file import Entry

T = TypeVar("T")
Facts = dict[str, Any]
Tell = Callable[[str, Facts], None]

RECORDS = "results"  # the folder in `out` with one JSON file a finished task
FILES = (".epatch", ".json", ".png", ".resume")  # of a task, in `out`
HOPELESS = (UsageError, BadFileError, MismatchError, MissingPackageError)  # trying again would not help
RECYCLED = 25  # tasks after which a worker's process is replaced: TensorFlow keeps some memory of each


@dataclasses.dataclass(frozen=True)
class Job:
    """A task to be trained, as it is sent to a worker.

    Attributes:
        out: folder of the results.
        fingerprint: of the entry and the backbone; kept with the result.
        backbone_id: of the backbone that the worker must have.
        token: name of a file in `out`, by which a worker finds out that its `out` is the same folder; empty for one
            that is the same everywhere by its name.
        attempt: 1, then one more each time.
        version: of the edgepatch that wants it trained.
    """

    entry: Entry
    out: str
    fingerprint: str
    backbone_id: str
    token: str = ""
    attempt: int = 1
    version: str = __version__

    @property
    def name(self) -> str:
        return self.entry.name


@dataclasses.dataclass(frozen=True)
class Event:
    """What became of a job.

    Attributes:
        kind: `started` (facts `pid`, `where`), `phase` (`phase`), `epoch` (`epoch`, `epochs`, `validation`), `done`
            (the record), `failed` (an error document, `retry`), or `died`: its process or machine is gone (`message`).
    """

    name: str
    attempt: int
    kind: str
    facts: Facts


def run(job: Job, backbone: Backbone, tell: Tell) -> Facts:
    """Train a job's task; returns its record, which is then in `out`, too.

    Raises:
        Exception: whatever went wrong.
    """
    import keras

    from edgepatch.training import trainer

    entry, start, spent = job.entry, time.monotonic(), time.process_time()
    tell("started", {"pid": os.getpid()})
    if job.version != __version__:
        raise MismatchError("the worker has another edgepatch", field="version", got=__version__, expected=job.version)
    if backbone.id != job.backbone_id:
        raise MismatchError("the worker has another backbone", got=backbone.id, expected=job.backbone_id)
    if job.token and not Path(job.out, job.token).exists():
        raise UsageError(
            "the worker does not see the folder of the results, or another of that name",
            file=job.out,
            field="out",
            mend="Give a folder that all machines share, or a URL as s3://bucket/results.",
        )
    if any(map(storage.is_remote, (entry.data, entry.val))):
        tell("phase", {"phase": "fetching"})
    data, val = storage.local(entry.data), storage.local(entry.val) if entry.val else None
    try:
        with _workplace(job) as (patch, keep):
            reporter = _Telling(tell, lambda: keep(".resume"))
            result = trainer.train(
                backbone.at(entry.size),
                data,
                entry.patch,
                patch,
                recipe=entry.recipe,
                val=val,
                task=entry.name,
                licence=entry.licence,
                resize=entry.resize,
                codec=entry.codec,
                reporter=reporter,
            )
            report = result.report
            for suffix in (".epatch", ".json", ".png"):
                keep(suffix)
    finally:
        keras.backend.clear_session()
        gc.collect()
    kept = ("accuracy", "balanced_accuracy", "head_accuracy", "fell_back_to_head", "bytes", "kinds", "train_images")
    record = {
        "task": entry.name,
        "patch": f"{entry.name}.epatch",
        **{key: report[key] for key in (*kept, "val_images", "epochs") if key in report},
        "size": entry.size,
        "resumed_after": report["epochs"] - reporter.epochs,
        "attempt": job.attempt,
        "seconds": round(time.monotonic() - start, 2),
        "cpu_seconds": round(time.process_time() - spent, 2),
        "backbone_id": job.backbone_id,
        "fingerprint": job.fingerprint,
    }
    storage.write(record_path(job.out, entry.name), json.dumps(record, indent=1, allow_nan=False) + "\n")
    storage.remove(storage.join(job.out, f"{entry.name}.resume"))
    return record


def record_path(out: str, name: str) -> str:
    """Where the record of a finished task is."""
    return storage.join(out, RECORDS, f"{name}.json")


def outcome(job: Job, backbone: Callable[[], Backbone], tell: Tell) -> tuple[str, Facts]:
    """`done` and a job's record, or `failed` and what was wrong; all that a worker's loop has to know."""
    try:
        return "done", run(job, backbone(), tell)
    except Exception as error:
        return "failed", problem(error)


def problem(error: Exception) -> Facts:
    """An error as a document, and whether trying again may help."""
    if isinstance(error, EdgepatchError):
        document = error.to_json()["error"]
    else:
        trace = "".join(traceback.format_exception(error))
        said = f"{type(error).__name__}: {error}"
        document = {"code": 1, "type": type(error).__name__, "message": said[:500], "traceback": trace[-4000:]}
    return {**document, "retry": not isinstance(error, HOPELESS)}


def confine(threads: int) -> None:
    """Let this process compute with so many threads, whatever the machine has; call it before anything computes."""
    for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        os.environ[name] = str(threads)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with contextlib.suppress(ImportError, RuntimeError):  # of a worker that has computed already they are the same
        import tensorflow

        tensorflow.config.threading.set_intra_op_parallelism_threads(threads)
        tensorflow.config.threading.set_inter_op_parallelism_threads(threads)


def threads(cpus: float, share: int = 1) -> int:
    """How many threads a task that takes so many CPUs computes with; `share` is what there is for it anyway."""
    return max(1, share, math.ceil(cpus))


class _Telling(Quiet):
    """Tells of the phases and epochs of a training."""

    def __init__(self, tell: Tell, keep: Callable[[], None]) -> None:
        self.tell, self.keep = tell, keep
        self.epochs = 0  # that were trained here
        self.phase = ""

    def bar(self, items: Iterable[T], total: int, what: str) -> Iterator[T]:
        phase = "training" if what.startswith("epoch") else what
        if phase != self.phase:
            self.phase = phase
            self.tell("phase", {"phase": phase})
        yield from items

    def epoch(self, number: int, total: int, result: Mapping[str, float]) -> None:
        self.epochs += 1
        self.keep()  # before it is told: what is told is never lost
        self.tell("epoch", {"epoch": number, "epochs": total, "validation": result["val_accuracy"]})


@contextlib.contextmanager
def _workplace(job: Job) -> Iterator[tuple[Path, Callable[[str], None]]]:
    """Where a patch is trained, and a function that brings one of its files to `out`.

    A local `out` is that place itself. For any other, what is there of the task is fetched first: the checkpoint, and
    the patch, whose version grows.
    """
    name = job.name
    if not storage.is_remote(job.out):
        out = Path(job.out)
        for suffix in FILES:  # of a worker that was killed while it wrote
            for stale in out.glob(f".{name}{suffix}.????????.part"):
                stale.unlink(missing_ok=True)
        yield out / f"{name}.epatch", lambda suffix: None
        return
    with tempfile.TemporaryDirectory(prefix="edgepatch-", ignore_cleanup_errors=True) as folder:
        for suffix in (".resume", ".epatch"):
            found = storage.read(storage.join(job.out, name + suffix))
            if found is not None:
                Path(folder, name + suffix).write_bytes(found)

        def keep(suffix: str) -> None:
            data = Path(folder, name + suffix).read_bytes()
            if suffix == ".json":  # it names the patch by its path
                data = (
                    json.dumps(json.loads(data) | {"patch": storage.join(job.out, f"{name}.epatch")}, indent=1)
                ).encode()
            storage.write(storage.join(job.out, name + suffix), data)

        yield Path(folder, f"{name}.epatch"), keep
