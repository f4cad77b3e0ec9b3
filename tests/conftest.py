"""Shared parts: a tiny random backbone with its graphs, real little pictures, and the folder of shared image sets."""

from __future__ import annotations

import dataclasses
import json
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of numpy: small matrices, and threads that wait by spinning

import numpy as np
import plans
import pytest
from crashing import script
from crashing.examining import trusting
from parts import in_threads, pictures  # noqa: F401, tests have them from here, on a device, too

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what frameworks warn of when imported is not ours to fail on
    import tensorflow  # noqa: F401

from edgepatch.converters import onnx, tflite

from edgepatch import blob, cli
from edgepatch import patches as patch_kinds
from edgepatch.backbones import backbone as backbones
from edgepatch.backbones import weights
from edgepatch.backbones.backbone import Backbone
from edgepatch.blob import Patch
from edgepatch.demo import tasks
from edgepatch.progress import Quiet
from edgepatch.runtime.store import Store
from edgepatch.training import calibration, storing

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


class Killing(Quiet):
    """Pulls the plug when the bar of a phase appears."""

    def __init__(self, at: str) -> None:
        self.at = at

    def bar(self, items: Iterable[Any], total: int, what: str) -> Iterator[Any]:
        if what.startswith(self.at):
            raise KeyboardInterrupt
        yield from items


class Outcome:
    """What a command printed and how it ended."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def document(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def edgepatch(capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs the console script's own entry point in this process."""

    def call(*arguments: object) -> Outcome:
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            cli.main([str(argument) for argument in arguments])
        seen = capsys.readouterr()
        return Outcome(int(caught.value.code or 0), seen.out, seen.err)

    return call


@pytest.fixture(scope="session")
def shared() -> Path:
    """../shared/data beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip(f"the shared image sets are not at {SHARED}")
    return SHARED


@pytest.fixture(scope="session")
def offline_weights() -> Path:
    path = weights._offline_path()
    if path is None:
        pytest.skip(f"{weights.OFFLINE_PACKAGE} is not installed")
    return Path(path)


@pytest.fixture(scope="session")
def tiny() -> Backbone:
    """A narrow MobileNetV2 with random weights, 32 px."""
    return weights.create("mobilenet_v2", alpha=0.1, size=32, source="random", seed=1)


@pytest.fixture(scope="session")
def shallow() -> Backbone:
    """A network of 17 sites with maps of strides 16 and 32: training heads on them is traced in a third of the time."""
    return plans.made(plans.shallow)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tiny")


@pytest.fixture(scope="session")
def tiny_file(tiny: Backbone, folder: Path) -> Path:
    backbones.write(tiny, folder / "tiny.backbone")
    return folder / "tiny.backbone"


@pytest.fixture(scope="session")
def gated() -> Backbone:
    """A network of 22 sites with every type of node: training it is traced in half the time."""
    return plans.made(plans.gated)


@pytest.fixture(scope="session")
def gated_file(gated: Backbone, folder: Path) -> Path:
    backbones.write(gated, folder / "gated.backbone")
    return folder / "gated.backbone"


@pytest.fixture(scope="session")
def graphs(tiny: Backbone, folder: Path) -> dict[str, Path]:
    """The tiny backbone's shared graphs, by format."""
    made = {"tflite": tflite.export(tiny), "onnx": onnx.export(tiny)}
    for kind, data in made.items():
        (folder / f"tiny.{kind}").write_bytes(data)
    return {kind: folder / f"tiny.{kind}" for kind in made}


@pytest.fixture(scope="session")
def every_graph(tiny: Backbone, folder: Path) -> dict[tuple[str, str], Path]:
    """The tiny backbone's shared graphs, by format and precision."""
    paths = {}
    for kind, converter in (("tflite", tflite), ("onnx", onnx)):
        for precision in ("fp32", "fp16", "dynamic", "int8"):
            paths[kind, precision] = folder / f"tiny-{precision}.{kind}"
            paths[kind, precision].write_bytes(converter.export(tiny, precision))
    return paths


@pytest.fixture(scope="session")
def calibrated(tiny: Backbone) -> list[Patch]:
    """Three tasks with activation ranges, so that int8 graphs take them."""
    made = [make_patch(tiny, seed, classes) for seed, classes in enumerate((3, 10, 3))]
    pixels = np.stack(pictures(16, size=32))
    return [dataclasses.replace(patch, ranges=calibration.calibrate(tiny, patch, pixels)) for patch in made]


@pytest.fixture(scope="session")
def patches(tiny: Backbone, folder: Path) -> list[Path]:
    """Three tasks of the tiny backbone with 3, 10 and 3 classes."""
    paths = []
    for seed, classes in enumerate((3, 10, 3)):
        paths.append(folder / f"task{seed}.epatch")
        blob.write(make_patch(tiny, seed, classes), paths[-1])
    return paths


@pytest.fixture(scope="session")
def digit_files(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, Path]]:
    """1797 handwritten digits as PNG files, with their labels."""
    return list(tasks._digits(tmp_path_factory.mktemp("digits")))


@pytest.fixture
def digits(digit_files: list[tuple[str, Path]], tmp_path: Path) -> Iterator[Path]:
    """DATA/0, DATA/1 and DATA/7 with 24 real pictures each."""
    for name in ("0", "1", "7"):
        (tmp_path / "digits" / name).mkdir(parents=True)
        for path in [path for label, path in digit_files if label == name][:24]:
            (tmp_path / "digits" / name / path.name).write_bytes(path.read_bytes())
    yield tmp_path / "digits"


@pytest.fixture
def tasks_toml(gated_file: Path, digits: Path, tmp_path: Path) -> Callable[..., Path]:
    """Writes a TASKS.toml of tasks on the digits, as far as they say nothing else."""

    def toml(values: dict[str, Any]) -> str:
        return "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())

    def make(*tasks: dict[str, Any], out: str = "out", **defaults: Any) -> Path:
        path = tmp_path / "tasks.toml"
        text = toml({"backbone": str(gated_file), "out": out}) + "[defaults]\n" + toml({"epochs": 3, **defaults})
        path.write_text(text + "".join("[[task]]\n" + toml({"data": str(digits), **task}) for task in tasks))
        return path

    return make


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A folder that looks like one of images, and holds none that can be read."""
    for name in ("x", "y"):
        (tmp_path / "broken" / name).mkdir(parents=True)
        for number in range(4):
            (tmp_path / "broken" / name / f"{number}.png").write_bytes(b"no picture")
    return tmp_path / "broken"


@pytest.fixture(scope="module")
def trusted() -> Iterator[None]:
    """A pair of graph and patch is tried with an interpreter once, not whenever a store is changed."""
    with trusting():
        yield


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> script.Files:
    """What stores are filled with: graphs, and patches in several versions."""
    return script.material(tmp_path_factory.mktemp("material"))


@pytest.fixture
def store(files: script.Files, tmp_path: Path) -> Store:
    """A store with version 1 of the tasks bias and mask."""
    return Store.create(tmp_path / "store", files["fp32"], files["bias1"], files["mask1"])


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Any]:
    """A signed repository without a task, its server, and a device that has not been updated yet (`sites.Site`)."""
    from misbehaving import Server  # these bring tuf, which few tests need
    from sites import Site

    with Server(tmp_path) as server:
        yield Site(tmp_path, server)


@pytest.fixture
def birdhouse(site: Any) -> Any:
    """A site where cats are the publisher's and all birds a team's, and a device that has both."""
    site.publish("cats")
    site.team("birders", "bird-*")
    site.publish("bird-owls", team="birders")
    site.update()
    return site


def make_patch(
    backbone: Backbone, seed: int, classes: int, task: str | None = None, kinds: str = "scale_bias"
) -> Patch:
    """A patch of some kinds that changes all it may a little, and has a random head."""
    rng = np.random.default_rng(seed)
    bodies, top = patch_kinds.parse(kinds)
    own = patch_kinds.Change(backbone, bodies).start()
    changes = {
        "scale": lambda value: value * rng.uniform(0.8, 1.2, value.shape),
        "bias": lambda value: value + rng.normal(0, 0.1, value.shape),
        "kernel": lambda value: value * rng.uniform(0.8, 1.2, value.shape),
        "mask": lambda value: rng.random(value.shape) < 0.9,
        "skip": lambda value: rng.random(value.shape) < 0.4,
    }
    tensors = {
        **{name: changes[name](value) for name, value in own.items()},
        "head_kernel": rng.normal(0, 0.1, (backbone.plan.features, classes)),
        "head_bias": rng.normal(0, 0.1, classes),
    }
    mould = Patch(
        task=task or f"task{seed}",
        backbone_id=backbone.id,
        kinds=patch_kinds.manifest(bodies, top, backbone.plan, tensors),
        labels=tuple(f"class {index}" for index in range(classes)),
        input=backbone.input,
        tensors={},
        sites=patch_kinds.combine(bodies, backbone.plan).sites,
        decode=top.decode(),
        metrics={"accuracy": 0.5},
    )
    return storing.encode(backbone, mould, tensors, "fp16")
