"""Torch checkpoints are read without torch, and run nothing."""

from __future__ import annotations

import collections
import io
import os
import pickle
import sys
import types
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgepatch.backbones import weights
from edgepatch.backbones.weights import torch_file
from edgepatch.errors import BadFileError


class FakeTensor:
    """Pickles as torch's tensors do."""

    def __init__(self, values: np.ndarray, key: str, strides: Any = None) -> None:
        self.values, self.key = values, key
        self.strides = tuple(step // values.itemsize for step in values.strides) if strides is None else strides


@pytest.fixture
def torch_modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[types.ModuleType]:
    """Modules named as torch's, so that pickles can name them."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")

    def _rebuild_tensor_v2() -> None: ...

    storage = type("FloatStorage", (), {"__module__": "torch"})
    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2, torch.FloatStorage, torch._utils = _rebuild_tensor_v2, storage, utils  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)
    yield torch


def pickled(torch: Any, state: Any) -> tuple[bytes, dict[str, np.ndarray]]:
    storages: dict[str, np.ndarray] = {}

    class Pickler(pickle.Pickler):
        def reducer_override(self, item: Any) -> Any:
            if not isinstance(item, FakeTensor):
                return NotImplemented
            return torch._utils._rebuild_tensor_v2, (Storage(item), 0, item.values.shape, item.strides, False, {})

        def persistent_id(self, item: Any) -> Any:
            if not isinstance(item, Storage):
                return None
            storages[item.tensor.key] = item.tensor.values.ravel("K")  # as it lies in memory
            return ("storage", torch.FloatStorage, item.tensor.key, "cpu", item.tensor.values.size, None)

    class Storage:
        def __init__(self, tensor: FakeTensor) -> None:
            self.tensor = tensor

    stream = io.BytesIO()
    Pickler(stream, 2).dump(state)
    return stream.getvalue(), storages


def legacy(torch: Any, state: Any) -> bytes:
    body, storages = pickled(torch, state)
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
    parts = [pickle.dumps(value, 2) for value in (torch_file.MAGIC, torch_file.PROTOCOL, system)]
    parts += [body, pickle.dumps(list(storages), 2)]
    for values in storages.values():
        parts += [values.size.to_bytes(8, "little"), values.tobytes()]
    return b"".join(parts)


def zipped(torch: Any, state: Any) -> bytes:
    body, storages = pickled(torch, state)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("model/data.pkl", body)
        for key, values in storages.items():
            archive.writestr(f"model/data/{key}", values.tobytes())
    return stream.getvalue()


STATE = {
    "a.weight": FakeTensor(np.arange(24, dtype=np.float32).reshape(2, 3, 4), "7"),
    "b": FakeTensor(np.float32([1, 2]), "8"),
}


@pytest.mark.parametrize("layout", [legacy, zipped])
def test_both_layouts_are_read(torch_modules: Any, layout: Any) -> None:
    data = layout(torch_modules, collections.OrderedDict(STATE))
    found = torch_file.load(data, "x.pth")
    assert list(found) == list(STATE)
    for name, tensor in STATE.items():
        np.testing.assert_array_equal(found[name], tensor.values)


@pytest.mark.parametrize("shape", [(32, 3, 3, 3), (32, 1, 5, 5), (16, 32, 1, 1), (1, 1, 1, 1), (7, 5, 3, 2)])
@pytest.mark.parametrize("layout", [legacy, zipped])
def test_channels_last_kernels_are_read(torch_modules: Any, layout: Any, shape: tuple[int, ...]) -> None:
    """As they came from TensorFlow's HWIO: shape (out, in, h, w), strides a permutation of contiguous ones."""
    out, fan_in, height, width = shape
    hwio = np.arange(np.prod(shape), dtype=np.float32).reshape(height, width, fan_in, out)
    lying = FakeTensor(hwio.transpose(3, 2, 0, 1), "1")
    transposed = FakeTensor(hwio.reshape(-1, out).T, "2")
    found = torch_file.load(layout(torch_modules, {"kernel": lying, "matrix": transposed}), "x.pth")
    np.testing.assert_array_equal(found["kernel"], lying.values)
    np.testing.assert_array_equal(found["matrix"], transposed.values)


@pytest.mark.parametrize(
    ("shape", "strides"),
    [
        ((2, 3), (0, 1)),  # one row twice
        ((2, 3), (1, 1)),  # overlapping
        ((2, 3), (4, 1)),  # with a gap
        ((2, 3), (6, 2)),
        ((2, 3), (-3, 1)),
        ((2, 3), (3,)),
        ((2, 3), (3, 1, 1)),
        ((2, 3), (2, 1)),
        ((2, 3), ("3", 1)),
        ((2, 3), (None, 1)),
        ((2, 3), 3),
        ((3,), (2**62,)),
        ((1, 4), (0, 1)),
    ],
)
def test_any_other_strides_are_refused(torch_modules: Any, shape: tuple[int, ...], strides: Any) -> None:
    hostile = FakeTensor(np.zeros(shape, np.float32), "1", strides)
    with pytest.raises(BadFileError, match="not a sound torch checkpoint"):
        torch_file.load(legacy(torch_modules, {"a": hostile}), "x.pth")


def test_a_tensor_larger_than_its_storage_is_refused(torch_modules: Any) -> None:
    grown = FakeTensor(np.zeros((2, 3), np.float32), "1")
    data = legacy(torch_modules, {"a": grown})
    small, large = b"K\x02K\x03\x86", b"K\x09K\x03\x86"  # the shape as pickles spell it
    assert data.count(small) == 1
    with pytest.raises(BadFileError, match="holds 6 values"):
        torch_file.load(data.replace(small, large), "x.pth")


class Evil:
    def __reduce__(self) -> Any:
        return os.system, ("touch /tmp/edgepatch-was-here",)


class EvilBuiltin:
    def __reduce__(self) -> Any:
        return eval, ("1",)


@pytest.mark.parametrize("evil", [Evil(), EvilBuiltin()])
@pytest.mark.parametrize("layout", [legacy, zipped])
def test_a_forbidden_global_is_refused_and_not_called(torch_modules: Any, layout: Any, evil: Any) -> None:
    with pytest.raises(BadFileError, match="something other than tensors") as caught:
        torch_file.load(layout(torch_modules, {"a": evil}), "evil.pth")
    assert caught.value.details["got"].rsplit(".", 1)[1] in ("system", "eval")
    assert not Path("/tmp/edgepatch-was-here").exists()


@pytest.mark.parametrize("layout", [legacy, zipped])
def test_a_damaged_checkpoint_is_refused(torch_modules: Any, layout: Any) -> None:
    data = layout(torch_modules, STATE)
    for end in (0, 10, len(data) // 2, len(data) - 1):
        with pytest.raises(BadFileError):
            torch_file.load(data[:end], "cut.pth")
    if layout is legacy:
        with pytest.raises(BadFileError, match="trailing"):
            torch_file.load(data + b"x", "long.pth")


def test_random_damage_never_gets_past_as_anything_but_arrays(torch_modules: Any) -> None:
    data = legacy(torch_modules, STATE)
    rng = np.random.default_rng(0)
    for _ in range(300):
        broken = bytearray(data)
        broken[rng.integers(len(data))] = rng.integers(256)
        try:
            found = torch_file.load(bytes(broken), "broken.pth")
        except BadFileError:
            continue
        assert all(isinstance(value, np.ndarray) for value in found.values())


def test_a_few_bytes_cannot_ask_for_gigabytes() -> None:
    """The unpickler's memo is as long as its largest index."""
    bomb = b"\x80\x02" + b"}" + b"r" + (200_000_000).to_bytes(4, "little") + b"."
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("model/data.pkl", bomb)
    with pytest.raises(BadFileError, match="memo"):
        torch_file.load(stream.getvalue(), "bomb.pth")


@pytest.mark.parametrize("values", [np.zeros((2, 2), np.float32), np.zeros(3, np.float32)])
def test_tensors_of_another_rank_are_refused(torch_modules: Any, tmp_path: Path, values: np.ndarray) -> None:
    state = {"features.0.0.weight": FakeTensor(values, "1")}
    (tmp_path / "a.pth").write_bytes(legacy(torch_modules, state))
    with pytest.raises(BadFileError, match="not torchvision's MobileNetV2"):
        weights.create("mobilenet_v2", alpha=1.0, size=96, source=str(tmp_path / "a.pth"))


def test_a_state_dict_of_something_else_is_refused(torch_modules: Any, tmp_path: Path) -> None:
    (tmp_path / "other.pth").write_bytes(legacy(torch_modules, STATE))
    with pytest.raises(BadFileError, match="not torchvision's MobileNetV2"):
        weights.create("mobilenet_v2", alpha=1.0, size=96, source=str(tmp_path / "other.pth"))
    (tmp_path / "list.pth").write_bytes(legacy(torch_modules, [1, 2]))
    with pytest.raises(BadFileError, match="state dict was expected"):
        weights.create("mobilenet_v2", alpha=1.0, size=96, source=str(tmp_path / "list.pth"))


def test_a_changed_offline_file_is_refused_by_its_hash(
    offline_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = bytearray(offline_weights.read_bytes())
    data[-5] ^= 1
    (tmp_path / "changed.pth").write_bytes(data)
    monkeypatch.setattr(weights, "_offline_path", lambda **_: tmp_path / "changed.pth")
    with pytest.raises(BadFileError, match="SHA-256"):
        weights.create("mobilenet_v2", alpha=1.0, size=96, source="imagenet-torchvision")


def test_the_same_file_given_by_path_is_the_same_backbone(offline_weights: Path) -> None:
    named = weights.create("mobilenet_v2", alpha=1.0, size=96, source="imagenet-torchvision")
    given = weights.create("mobilenet_v2", alpha=1.0, size=96, source=str(offline_weights))
    assert named.id == given.id
    assert (len(named.labels), named.labels[0], named.plan.padding) == (1000, "tench", "symmetric")
