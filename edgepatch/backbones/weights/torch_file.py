"""Tensors out of a torch checkpoint, without torch and without running what the file says.

A pickle can name any function to call. The unpickler here knows five names, all of them ours, that build arrays from
the file's own bytes; any other name ends the reading. It knows the operations that checkpoints are written with, and no
others: a tuple of itself twice, thirty times over, takes a hundred bytes to write and 2^30 steps to hash. Both layouts
are read: the zip of torch >= 1.6 and the older one (four pickles, then the storages one behind the other).
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import io
import math
import pickle
import pickletools
from collections.abc import Iterable
from typing import Any

import numpy as np

from edgepatch.backbones.weights import archive
from edgepatch.container import Tensors
from edgepatch.errors import BadFileError

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
MAX_BYTES = 1024 * 1024 * 1024
MAX_RANK = 8
MAX_PICKLE, MAX_OPERATIONS = 4 * 1024 * 1024, 500_000  # of a pickle; a state dict of 2,000 tensors has 90,000
_STORAGES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}
_OPERATIONS = (
    "PROTO FRAME STOP MARK POP POP_MARK NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 INT LONG BINFLOAT FLOAT "
    "BINUNICODE SHORT_BINUNICODE BINUNICODE8 UNICODE BINSTRING SHORT_BINSTRING STRING "
    "EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST LIST APPEND APPENDS EMPTY_DICT DICT SETITEM SETITEMS "
    "GLOBAL STACK_GLOBAL REDUCE BUILD BINPERSID PUT BINPUT LONG_BINPUT MEMOIZE GET BINGET LONG_BINGET"
)


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


_Python: Any = pickle._Unpickler  # the one of C cannot be told what each operation does


class _Unpickler(_Python):
    """Admits tensors and ordered dicts, nothing else; notes the storages they name."""

    def __init__(self, stream: io.BytesIO) -> None:
        _refuse_large(stream)
        super().__init__(stream)
        self.storages: dict[str, _Storage] = {}

    def load_setitem(self) -> None:
        _require_names(self.stack[-2:-1])
        super().load_setitem()

    def load_setitems(self) -> None:
        _require_names(self.stack[::2])
        super().load_setitems()

    def load_dict(self) -> None:
        _require_names(self.stack[::2])
        super().load_dict()

    def load_build(self) -> None:
        if not isinstance(self.stack[-2], collections.OrderedDict):
            raise ValueError("a state for something other than an ordered dict")
        super().load_build()

    def find_class(self, module: str, name: str) -> Any:
        match module, name:
            case "collections", "OrderedDict":
                return functools.partial(_ordered)
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
        sound = kind == "storage" and isinstance(dtype, np.dtype) and type(key) is str and type(size) is int
        if not sound or not 0 <= size <= MAX_BYTES:
            raise _ForbiddenError(f"a persistent id of {type(key).__name__} and {type(size).__name__}")
        return self.storages.setdefault(key, _Storage(dtype, key, size))


class _Operations(dict[int, Any]):
    def __missing__(self, code: int) -> Any:
        raise _ForbiddenError(f"the pickle operation {bytes([code])!r}")


_CODES = [getattr(pickle, name)[0] for name in _OPERATIONS.split()]
_Unpickler.dispatch = _Operations((code, getattr(_Unpickler, _Python.dispatch[code].__name__)) for code in _CODES)


def _require_names(keys: Iterable[Any]) -> None:
    """Refuse keys of a dict before anything hashes them."""
    if not all(isinstance(key, str | int) for key in keys):
        raise ValueError("a key of a dict is neither text nor number")


def _refuse_large(stream: io.BytesIO) -> None:
    """Bound a pickle before it is followed.

    Raises:
        ValueError: it is longer than any state dict's, has a memo of a size that it cannot fill, or is cut short.
    """
    start, size = stream.tell(), len(stream.getbuffer())
    for number, (operation, argument, place) in enumerate(pickletools.genops(stream)):
        if operation.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(argument or 0) > size:
            raise ValueError(f"its memo has an index of {argument}")
        if number > MAX_OPERATIONS or (place or 0) - start > MAX_PICKLE:
            raise ValueError(f"its pickle has more than {MAX_OPERATIONS} operations or {MAX_PICKLE} bytes")
    stream.seek(start)


def _ordered(items: Any = ()) -> collections.OrderedDict[str, Any]:
    """An ordered dict; only Python 2's pickles give it items at once."""
    found: collections.OrderedDict[str, Any] = collections.OrderedDict()
    for key, value in items:
        if not isinstance(key, str):
            raise ValueError("a key of an ordered dict is no text")
        found[key] = value
    return found


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> _Tensor:
    if not isinstance(storage, _Storage) or type(offset) is not int or offset < 0:
        raise ValueError("a tensor without a storage")
    shape, strides = tuple(size), tuple(stride)
    for numbers in (shape, strides):
        if len(numbers) > MAX_RANK or not all(type(number) is int and abs(number) < 2**63 for number in numbers):
            raise ValueError(f"a tensor whose shape or strides are not at most {MAX_RANK} numbers")
    order = _order(shape, strides)
    if any(side < 0 for side in shape) or order is None:
        raise ValueError(f"a tensor of shape {shape} with strides {strides}")
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
    end = tensor.offset + math.prod(tensor.shape)
    if values.size != tensor.storage.size or end > values.size:
        raise ValueError(f"storage {tensor.storage.key} holds {values.size} values, {tensor.storage.size} expected")
    lying = values[tensor.offset : end].reshape([tensor.shape[axis] for axis in tensor.order])
    return lying.transpose(np.argsort(tensor.order))


def _load_zip(data: bytes) -> tuple[Any, dict[str, bytes]]:
    with archive.opened(data, MAX_BYTES) as packed:
        names = packed.namelist()
        root = next(name for name in names if name.endswith("/data.pkl")).removesuffix("data.pkl")
        state = _Unpickler(io.BytesIO(archive.content(packed, f"{root}data.pkl", MAX_PICKLE))).load()
        prefix = f"{root}data/"
        storages = {name.removeprefix(prefix): name for name in names if name.startswith(prefix)}
        return state, {key: archive.content(packed, name) for key, name in storages.items()}


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
        if not isinstance(key, str):
            raise ValueError("a storage whose key is no text")
        count = int.from_bytes(stream.read(8), "little")
        storage = unpickler.storages[key]
        body = stream.read(storage.size * storage.dtype.itemsize)
        if count != storage.size or len(body) != storage.size * storage.dtype.itemsize:
            raise ValueError(f"storage {key} is truncated")
        storages[key] = body
    if stream.read(1):
        raise ValueError("it has trailing bytes")
    return state, storages
