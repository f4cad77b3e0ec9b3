"""How a patch's values are stored: as float16, or as small integers that say how they differ from the backbone's.

`int8` stores integers of at most eight bits, packed, each times a step: one step a site, and one a class of the head.
Scales are kept as relative changes, biases as what is left when the backbone's own bias has gone through that change;
both are mostly small, so six bits hold them (docs/decisions/0007-codec.md has the measurements).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from edgepatch.blob import Patch
from edgepatch.container import Tensors
from edgepatch.errors import BadFileError, UsageError

CODECS = ("fp16", "int8")
SITES = ("scale", "bias")  # values of the sites; the others are the head's
PACKED = (*SITES, "head_kernel")
LARGEST = 1e8  # of a value: no sum of products with it overflows at once
LARGEST_CHANGE = 4  # of a scale, relative: one channel beyond would coarsen its whole site
SITE_BITS = 6
HEAD_BITS = 6
LARGE_HEAD, LARGE_HEAD_BITS = 32, 8  # from so many classes on the head is most of the file and needs its accuracy


def encode(
    values: Tensors, own: Tensors, channels: list[int], codec: str, mean: np.ndarray | None = None
) -> tuple[Tensors, dict[str, Any]]:
    """A patch's tensors as its file keeps them, and what the file says of how.

    Args:
        values: float32: `scale`, `bias` of the patch's sites if it changes any, `head_kernel`, `head_bias`.
        own: the backbone's own `scale` and `bias` at these sites.
        channels: of each of these sites.
        codec: one of `CODECS`.
        mean: what each channel's convolution gives on average. The bias then makes up for what rounding the scale
            shifts there.
    """
    if codec not in CODECS:
        raise UsageError("there is no such codec", field="--codec", got=codec, expected=", ".join(CODECS))
    if codec == "fp16":
        return {name: value.astype(np.float16) for name, value in values.items()}, {}
    stored: Tensors = {}
    how: dict[str, Any] = {}

    def keep(name: str, value: np.ndarray, step: np.ndarray, each: np.ndarray, bits: int) -> np.ndarray:
        integers = np.rint(value / each)
        stored[name], stored[f"{name}_step"] = pack(integers, bits), step
        how[name] = {"bits": bits, "shape": list(value.shape)}
        return np.asarray(integers * each, np.float32)

    def site_steps(value: np.ndarray) -> np.ndarray:
        ends = np.cumsum(channels)
        return _steps(np.array([np.abs(part).max() for part in np.split(value, ends[:-1])]), SITE_BITS)

    if "scale" in values:
        nonzero = np.where(own["scale"] == 0, np.float32(1), own["scale"])
        change = np.where(own["scale"] == 0, 0, values["scale"] / nonzero - 1)
        change = np.clip(change, -LARGEST_CHANGE, LARGEST_CHANGE)
        step = site_steps(change)
        change = keep("scale", change, step, np.repeat(step, channels), SITE_BITS)
        rest = values["bias"] - own["bias"] * (1 + change)
        if mean is not None:
            rest = rest + (values["scale"] - own["scale"] * (1 + change)) * mean
        step = site_steps(rest)
        keep("bias", rest, step, np.repeat(step, channels), SITE_BITS)
    bits = LARGE_HEAD_BITS if values["head_kernel"].shape[1] >= LARGE_HEAD else HEAD_BITS
    step = _steps(np.abs(values["head_kernel"]).max(axis=0), bits)
    keep("head_kernel", values["head_kernel"], step, step, bits)
    stored["head_bias"] = values["head_bias"].astype(np.float32)
    return stored, how


def inside(patch: Patch, channels: list[int]) -> np.ndarray:
    """Which channels of all sites a patch changes, bool (sum of channels,).

    Args:
        channels: of each site of the network.
    """
    chosen = set(patch.sites.get("sites", range(len(channels))) if patch.sites else ())
    return np.repeat([number in chosen for number in range(len(channels))], channels)


def shapes(patch: Patch, file: object = None) -> dict[str, tuple[int, ...]]:
    """The shape of each of a patch's values, after a look at whether they can be decoded at all.

    Raises:
        BadFileError: what the file says of its packed tensors does not fit them.
    """

    def bad(message: str, name: str, got: object, expected: object) -> BadFileError:
        return BadFileError(message, file=file, field=f"codec.{name}", got=str(got)[:80], expected=expected)

    found = {name: value.shape for name, value in patch.tensors.items()}
    for name, how in patch.codec.items():
        if name not in PACKED or name not in found:
            raise bad("packs a tensor that is not there to be packed", name, ", ".join(found), ", ".join(PACKED))
        shape = how.get("shape") if isinstance(how, dict) else None
        if not isinstance(shape, list) or not all(type(side) is int and 0 < side < 2**31 for side in shape):
            raise bad("has a broken codec", name, how, "bits and shape")
        bits = how.get("bits")
        if type(bits) is not int or not 2 <= bits <= 8 or len(how) != 2:
            raise bad("has a broken codec", name, how, "bits from 2 to 8, and shape")
        planes, count = patch.tensors[name], math.prod(shape)
        if planes.dtype != np.uint8 or planes.shape != (bits, -(-count // 8)):
            raise bad("has a tensor at odds with its codec", name, planes.shape, (bits, -(-count // 8)))
        sites = len(patch.sites.get("channels", ()))
        steps = (sites,) if name in SITES else (shape[-1],)
        step = patch.tensors.get(f"{name}_step", np.zeros(0))
        if step.dtype != np.float32 or step.shape != steps:
            raise bad("has steps at odds with its codec", f"{name}_step", step.shape, f"float32 {steps}")
        found[name] = tuple(shape)
        del found[f"{name}_step"]
    if ("scale" in patch.codec) != ("bias" in patch.codec):
        raise bad("packs one of scale and bias", "scale", ", ".join(patch.codec), "both or none")
    return found


def decode(patch: Patch, own: Tensors, channels: list[int], file: object = None) -> Tensors:
    """A patch's values, float32, in C order, owned by the caller.

    Args:
        own: the backbone's own `scale` and `bias` at the patch's sites.
        channels: of each of these sites.

    Raises:
        BadFileError: what the file says of its tensors does not fit them or the sites, or a value is out of range.
    """
    found: Tensors = {}
    for name, shape in shapes(patch, file).items():
        if name in SITES and shape != own[name].shape:
            raise BadFileError(
                "has a tensor of another shape than its sites",
                file=file,
                field=name,
                got=shape,
                expected=own[name].shape,
            )
        if name not in patch.codec:
            found[name] = np.array(patch.tensors[name], np.float32, order="C")
            continue
        integers, step = unpack(patch.tensors[name], shape), patch.tensors[f"{name}_step"]
        with np.errstate(over="ignore"):  # what overflows is refused below
            found[name] = integers * (np.repeat(step, channels) if name in SITES else step)
    with np.errstate(over="ignore", invalid="ignore"):
        if "scale" in patch.codec:
            change = 1 + found["scale"]
            found["scale"] = own["scale"] * change
            found["bias"] = own["bias"] * change + found["bias"]
    for name, value in found.items():
        if not (np.abs(value) <= LARGEST).all():
            raise BadFileError("has values out of range", file=file, field=name, expected=f"at most {LARGEST:g}")
    return found


def pack(integers: np.ndarray, bits: int) -> np.ndarray:
    """Signed integers of `bits` bits as bit planes, the lowest first, eight values to the byte: uint8 (bits, bytes)."""
    unsigned = (integers.reshape(-1) + 2 ** (bits - 1)).astype(np.uint8)
    planes = [np.packbits(unsigned >> bit & 1, bitorder="little") for bit in range(bits)]
    return np.stack(planes)


def unpack(planes: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The inverse of `pack`: float32 of a shape."""
    count = math.prod(shape)
    unsigned = np.zeros(count, np.uint8)
    for bit, plane in enumerate(planes):
        unsigned |= np.unpackbits(plane, count=count, bitorder="little") << np.uint8(bit)
    return (unsigned.astype(np.float32) - np.float32(2 ** (len(planes) - 1))).reshape(shape)


def _steps(largest: np.ndarray, bits: int) -> np.ndarray:
    """The steps that make integers of `bits` bits reach as far."""
    return np.where(largest > 0, largest / (2 ** (bits - 1) - 1), 1).astype(np.float32)
