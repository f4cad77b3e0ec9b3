"""Tensors out of a torch checkpoint, without torch and without running what the file says.

A pickle can name any function to call. The unpickler here knows five names, all of them ours, that build arrays from
the file's own bytes; any other name ends the reading. Both layouts are read: the zip of torch >= 1.6 and the older
one (four pickles, then the storages one behind the other).
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import io
import pickle
import pickletools
import zipfile
from typing import Any

import numpy as np

from edgepatch.container import Tensors
from edgepatch.errors import BadFileError

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
MAX_BYTES = 1024 * 1024 * 1024
_STORAGES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


@dataclasses.dataclass
class _Storage:
    dtype: np.dtype
    key: str
    size: int


@dataclasses.dataclass
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    order: tuple[int, ...]  # its axes as they lie in memory, the slowest first


def load(data: bytes, file: object) -> Tensors:
    """The state dict in a checkpoint's bytes, by name.

    Raises:
        BadFileError: it is no checkpoint, is damaged, or names anything but tensors.
    """
    try:
        is_zip = data[:4] == b"PK\x03\x04"
        state, storages = _load_zip(data) if is_zip else _load_legacy(data)
        if not isinstance(state, dict):
            raise ValueError(f"a state dict was expected, not {type(state).__name__}")
        return {
            name: _view(value, storages)
            for name, value in state.items()
            if isinstance(name, str) and isinstance(value, _Tensor)
        }
    except _ForbiddenError as error:
        raise BadFileError(
            "names something other than tensors, so it is not opened",
            file=file,
            field="pickle",
            got=str(error),
            expected="a state dict of tensors",
            mend="Save it with torch.save(model.state_dict(), path).",
        ) from error
    except Exception as error:  # a hostile pickle makes the unpickler raise almost anything
        raise BadFileError(f"is not a sound torch checkpoint: {error}", file=file) from error


class _ForbiddenError(Exception):
    pass


class _Unpickler(pickle.Unpickler):
    """Admits tensors and ordered dicts, nothing else; notes the storages they name."""

    def __init__(self, stream: io.BytesIO) -> None:
        _refuse_large_memo(stream)
        super().__init__(stream)
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        match module, name:
            case "collections", "OrderedDict":
                return collections.OrderedDict
            case "torch._utils", "_rebuild_tensor_v2":
                return functools.partial(_tensor)  # a fresh one: a pickle may set attributes on what it is given
            case "torch._utils", "_rebuild_parameter":
                return functools.partial(_parameter)
            case "torch", ("HalfStorage" | "DoubleStorage" | "BFloat16Storage") as storage:
                raise ValueError(f"its tensors are {storage}, and float32 is expected: save model.float().state_dict()")
            case "torch", storage if storage in _STORAGES:
                return _STORAGES[storage]
        raise _ForbiddenError(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _location, size, *_view = pid
        if kind != "storage" or not isinstance(dtype, np.dtype) or type(size) is not int or not 0 <= size <= MAX_BYTES:
            raise _ForbiddenError(f"persistent id {str(pid)[:60]}")
        return self.storages.setdefault(str(key), _Storage(dtype, str(key), size))


def _refuse_large_memo(stream: io.BytesIO) -> None:
    """A pickle's memo is an array as long as its largest index says, so a few bytes could ask for gigabytes."""
    start, size = stream.tell(), len(stream.getbuffer())
    for operation, argument, _ in pickletools.genops(stream):
        if operation.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(argument or 0) > size:
            raise ValueError(f"its memo has an index of {argument}")
    stream.seek(start)


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> _Tensor:
    if not isinstance(storage, _Storage) or type(offset) is not int or offset < 0:
        raise ValueError("a tensor without a storage")
    shape = tuple(int(side) for side in size)
    order = _order(shape, tuple(stride))
    if any(side < 0 for side in shape) or order is None:
        raise ValueError(f"a tensor of shape {shape} with strides {stride}")
    return _Tensor(storage, offset, shape, order)


def _order(shape: tuple[int, ...], strides: tuple[int, ...]) -> tuple[int, ...] | None:
    """The axes, the slowest first, of a tensor that fills its memory without gaps or overlaps; None for any other.

    So lie contiguous tensors and transposed ones, as channels-last kernels are.
    """
    if 0 in shape:
        return tuple(range(len(shape)))
    if len(strides) != len(shape):
        return None
    order = tuple(sorted(range(len(shape)), key=lambda axis: (-strides[axis], -shape[axis])))
    step = 1
    for axis in reversed(order):
        if strides[axis] != step:
            return None
        step *= shape[axis]
    return order


def _parameter(tensor: Any, *_: Any) -> Any:
    return tensor


def _view(tensor: _Tensor, storages: dict[str, bytes]) -> np.ndarray:
    values = np.frombuffer(storages[tensor.storage.key], tensor.storage.dtype)
    end = tensor.offset + int(np.prod(tensor.shape))
    if values.size != tensor.storage.size or end > values.size:
        raise ValueError(f"storage {tensor.storage.key} holds {values.size} values, {tensor.storage.size} expected")
    lying = values[tensor.offset : end].reshape([tensor.shape[axis] for axis in tensor.order])
    return lying.transpose(np.argsort(tensor.order))


def _load_zip(data: bytes) -> tuple[Any, dict[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > MAX_BYTES:
            raise ValueError(f"it unpacks to more than {MAX_BYTES} bytes")
        names = archive.namelist()
        root = next(name for name in names if name.endswith("/data.pkl")).removesuffix("data.pkl")
        state = _Unpickler(io.BytesIO(archive.read(f"{root}data.pkl"))).load()
        prefix = f"{root}data/"
        return state, {name.removeprefix(prefix): archive.read(name) for name in names if name.startswith(prefix)}


def _load_legacy(data: bytes) -> tuple[Any, dict[str, bytes]]:
    stream = io.BytesIO(data)
    if _Unpickler(stream).load() != MAGIC or _Unpickler(stream).load() != PROTOCOL:
        raise ValueError("its magic number is missing")
    system = _Unpickler(stream).load()
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise ValueError("it was not written on a little-endian machine")
    unpickler = _Unpickler(stream)
    state = unpickler.load()
    storages: dict[str, bytes] = {}
    for key in _Unpickler(stream).load():
        count = int.from_bytes(stream.read(8), "little")
        storage = unpickler.storages[key]
        body = stream.read(storage.size * storage.dtype.itemsize)
        if count != storage.size or len(body) != storage.size * storage.dtype.itemsize:
            raise ValueError(f"storage {key} is truncated")
        storages[key] = body
    if stream.read(1):
        raise ValueError("it has trailing bytes")
    return state, storages
