"""How a patch's values are stored: as float16, or as small integers that say how they differ from the backbone's.

`int8` stores integers of at most eight bits, packed, each times a step: one step a site, and one a class of the head.
Scales are kept as relative changes, biases as what is left when the backbone's own bias has gone through that change;
both are mostly small, so six bits hold them (docs/decisions/0007-codec.md has the measurements).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgepatch.blob import Patch
from edgepatch.container import Tensors
from edgepatch.errors import BadFileError, UsageError

CODECS = ("fp16", "int8")
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


def decode(patch: Patch, own: Tensors, channels: list[int]) -> Tensors:
    """A patch's values, float32, in C order, owned by the caller.

    Args:
        own: the backbone's own `scale` and `bias` at the patch's sites.
        channels: of each of these sites.

    Raises:
        BadFileError: what the file says of its tensors does not fit them.
    """
    if not patch.codec:
        return {name: np.array(value, np.float32, order="C") for name, value in patch.tensors.items()}
    if foreign := [name for name in patch.codec if name not in patch.tensors]:
        raise BadFileError("has a codec for a tensor it does not hold", field=f"codec.{foreign[0]}")
    found: Tensors = {}
    for name, value in patch.tensors.items():
        if name.endswith("_step"):
            continue
        if name not in patch.codec:
            found[name] = np.array(value, np.float32, order="C")
            continue
        try:
            integers = unpack(value, **patch.codec[name])
            step = patch.tensors[f"{name}_step"]
            found[name] = integers * (np.repeat(step, channels) if integers.ndim == 1 else step)
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            raise BadFileError(f"has a tensor that cannot be decoded: {error}", field=f"codec.{name}") from error
    if "scale" in patch.codec and "bias" in patch.codec:
        change = 1 + found["scale"]
        if change.shape != own["scale"].shape or found["bias"].shape != change.shape:
            raise BadFileError(
                "has a tensor of another shape than its sites",
                field="codec.scale",
                got=str(change.shape),
                expected=str(own["scale"].shape),
            )
        found["scale"] = own["scale"] * change
        found["bias"] = own["bias"] * change + found["bias"]
    return found


def pack(integers: np.ndarray, bits: int) -> np.ndarray:
    """Signed integers of `bits` bits as bit planes, the lowest first, eight values to the byte: uint8 (bits, bytes)."""
    unsigned = (integers.reshape(-1) + 2 ** (bits - 1)).astype(np.uint8)
    planes = [np.packbits(unsigned >> bit & 1, bitorder="little") for bit in range(bits)]
    return np.stack(planes)


def unpack(planes: np.ndarray, bits: int, shape: list[int]) -> np.ndarray:
    """The inverse of `pack`: float32 of a shape.

    Raises:
        ValueError: the planes are not of these bits and this shape.
    """
    count = int(np.prod(shape))
    if not 2 <= bits <= 8 or planes.dtype != np.uint8 or planes.shape != (bits, -(-count // 8)):
        raise ValueError(f"{list(planes.shape)} is not {bits} bits of {list(shape)}")
    unsigned = np.zeros(count, np.uint8)
    for bit, plane in enumerate(planes):
        unsigned |= np.unpackbits(plane, count=count, bitorder="little") << np.uint8(bit)
    return (unsigned.astype(np.float32) - np.float32(2 ** (bits - 1))).reshape(shape)


def _steps(largest: np.ndarray, bits: int) -> np.ndarray:
    """The steps that make integers of `bits` bits reach as far."""
    return np.where(largest > 0, largest / (2 ** (bits - 1) - 1), 1).astype(np.float32)
