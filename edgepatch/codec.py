"""How a patch's values are stored: as float16, or as small integers that say how they differ from the backbone's.

`int8` stores integers of at most eight bits, packed, each times a step: one step a site, and of a head's kernels one an
output channel. Scales are kept as relative changes, biases as what is left when the backbone's own bias has gone
through that change, kernels as differences; all are mostly small, so a few bits hold them
(docs/decisions/0007-codec.md has the measurements). Masks and skips are bits in either codec.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgepatch.blob import Patch
from edgepatch.container import Tensors
from edgepatch.errors import BadFileError, MismatchError, UsageError
from edgepatch.head_network import PREFIX
from edgepatch.trunk import CHANNELS, SITES, SKIP, Trunk

CODECS = ("fp16", "int8")
MAX_RANK = 32  # of an array
PACKED = (*CHANNELS, "kernel", "head_kernel")  # and kernels of a head on maps
LARGEST = 1e8  # of a value: no sum of products with it overflows at once
LARGEST_CHANGE = 4  # of a scale, relative: one channel beyond would coarsen its whole site
SITE_BITS = 6
KERNEL_BITS = 6
HEAD_BITS = 6
LARGE_HEAD, LARGE_HEAD_BITS = 32, 8  # from so many classes on the head is most of the file and needs its accuracy
MAP_HEAD_BITS = 8  # its kernels follow one another, and what rounding does to one the next one sees


def encode(
    values: Tensors,
    sites: Mapping[str, Sequence[int]],
    trunk: Trunk,
    codec: str,
    mean: np.ndarray | None = None,
) -> tuple[Tensors, dict[str, Any]]:
    """A patch's tensors as its file keeps them, and what the file says of how.

    Args:
        values: float32, flat over the sites of each: `scale`, `bias`, `kernel`, bool `mask`, as far as the patch has
            them; bool `skip`; `head_kernel`, `head_bias`, or those of a head on maps.
        sites: numbers of the sites of `scale`, `bias`, `kernel` and `mask`.
        trunk: the network.
        codec: one of `CODECS`.
        mean: what each channel's convolution gives on average, of all sites. The bias then makes up for what rounding
            the scale shifts there.
    """
    if codec not in CODECS:
        raise UsageError("there is no such codec", field="--codec", got=codec, expected=", ".join(CODECS))
    stored: Tensors = {}
    how: dict[str, Any] = {}

    def keep(name: str, value: np.ndarray, step: np.ndarray, each: np.ndarray, bits: int) -> np.ndarray:
        integers = np.rint(value / each)
        stored[name], stored[f"{name}_step"] = pack(integers, bits), step
        how[name] = {"bits": bits, "shape": list(value.shape)}
        return np.asarray(integers * each, np.float32)

    def keep_sites(name: str, value: np.ndarray, bits: int) -> np.ndarray:
        cuts = trunk.cuts(name, sites[name])
        step = steps(np.array([np.abs(value[cut]).max() for cut in cuts.values()]), bits)
        return keep(name, value, step, np.repeat(step, [cut.stop - cut.start for cut in cuts.values()]), bits)

    change = np.zeros_like(trunk.scale)  # of the scales of all sites, relative, as it will be decoded
    lost = np.zeros_like(trunk.scale)  # by rounding them
    for name, value in values.items():
        if name == "mask":
            stored[name] = np.packbits(value, bitorder="little")
        elif name == SKIP:
            stored[name] = value.astype(np.uint8)
        elif codec == "fp16":
            with np.errstate(over="ignore"):  # infinity is no patch's, and whoever writes one sees to it
                stored[name] = value.astype(np.float16)
        elif name == "scale":
            inside = trunk.inside(sites[name])
            own = trunk.scale[inside]
            exact = np.where(own == 0, 0, value / np.where(own == 0, np.float32(1), own) - 1)
            change[inside] = keep_sites(name, np.clip(exact, -LARGEST_CHANGE, LARGEST_CHANGE), SITE_BITS)
            lost[inside] = value - own * (1 + change[inside])
        elif name == "bias":  # behind the scale, in any patch's order
            inside = trunk.inside(sites[name])
            rest = value - trunk.bias[inside] * (1 + change[inside])
            if mean is not None:
                rest = rest + (lost * mean)[inside]
            keep_sites(name, rest, SITE_BITS)
        elif name == "kernel":
            own = np.concatenate([trunk.kernel(number).ravel() for number in sites[name]])
            keep_sites(name, value - own, KERNEL_BITS)
        elif name == "head_kernel":
            bits = LARGE_HEAD_BITS if value.shape[1] >= LARGE_HEAD else HEAD_BITS
            step = steps(np.abs(value).max(axis=0), bits)
            keep(name, value, step, step, bits)
        elif _of_map_head(name):
            step = steps(np.abs(value).reshape(-1, value.shape[-1]).max(axis=0), MAP_HEAD_BITS)
            keep(name, value, step, step, MAP_HEAD_BITS)
        else:
            stored[name] = value.astype(np.float32)
    return stored, how


def shapes(patch: Patch, file: object = None) -> dict[str, tuple[int, ...]]:
    """The shape of each of a patch's values, of a mask its bytes', after a look at whether they can be decoded at all.

    Raises:
        BadFileError: what the file says of its packed tensors does not fit them.
    """

    def bad(message: str, name: str, got: object, expected: object) -> BadFileError:
        return BadFileError(message, file=file, field=f"codec.{name}", got=str(got)[:80], expected=expected)

    found = {name: value.shape for name, value in patch.tensors.items()}
    for name, how in patch.codec.items():
        if not (name in PACKED or _of_map_head(name)) or name not in found:
            raise bad("packs a tensor that is not there to be packed", name, ", ".join(found), ", ".join(PACKED))
        shape = how.get("shape") if isinstance(how, dict) else None
        if (
            not isinstance(shape, list)
            or not 0 < len(shape) <= MAX_RANK
            or not all(type(side) is int and 0 < side < 2**31 for side in shape)
        ):
            raise bad("has a broken codec", name, how, "bits and shape")
        bits = how.get("bits")
        if type(bits) is not int or not 2 <= bits <= 8 or len(how) != 2:
            raise bad("has a broken codec", name, how, "bits from 2 to 8, and shape")
        planes, count = patch.tensors[name], math.prod(shape)
        if planes.dtype != np.uint8 or planes.shape != (bits, -(-count // 8)):
            raise bad("has a tensor at odds with its codec", name, planes.shape, (bits, -(-count // 8)))
        steps = (len(patch.sites.get(name, ())) if name in SITES else shape[-1],)
        step = patch.tensors.get(f"{name}_step", np.zeros(0))
        if step.dtype != np.float32 or step.shape != steps:
            raise bad("has steps at odds with its codec", f"{name}_step", step.shape, f"float32 {steps}")
        found[name] = tuple(shape)
        del found[f"{name}_step"]
    if {"scale", "bias"} <= set(found) and ("scale" in patch.codec) != ("bias" in patch.codec):
        raise bad("packs one of scale and bias", "scale", ", ".join(patch.codec), "both or none")
    return found


def _of_map_head(name: str) -> bool:
    return name.startswith(PREFIX) and name.endswith("/kernel")


def check(patch: Patch, trunk: Trunk, file: object = None) -> dict[str, tuple[int, ...]]:
    """Refuse a patch that is not of this network, before anything is unpacked; returns what `shapes` does.

    Raises:
        MismatchError: it changes sites or blocks that the network does not have, or in other shapes.
        BadFileError: as `shapes`.
    """
    found, sites = shapes(patch, file), len(trunk.names)
    if nowhere := [name for name in SITES if name in found and name not in patch.sites]:
        raise BadFileError("does not say at which sites", file=file, field=f"sites.{nowhere[0]}")
    for effect, numbers in patch.sites.items():
        if outside := [number for number in numbers if not 0 <= number < sites]:
            raise MismatchError(
                "changes sites that the network does not have",
                file=file,
                field=f"sites.{effect}",
                got=outside[0],
                expected=f"numbers from 0 to {sites - 1}",
            )
    expected: dict[str, tuple[int, ...]] = {
        effect: (trunk.length(effect, numbers),) for effect, numbers in patch.sites.items()
    }
    if "mask" in expected:
        expected["mask"] = (-(-expected["mask"][0] // 8),)
    if SKIP in found:
        expected[SKIP] = (trunk.residuals,)
    for effect, shape in expected.items():
        if found.get(effect) != shape:
            raise MismatchError(
                "is a mask for other kernels"
                if effect == "mask"
                else "skips blocks that the network does not have"
                if effect == SKIP
                else "has a tensor of another shape than its sites have here",
                file=file,
                field=effect,
                got=str(found.get(effect, "nothing")),
                expected=str(shape),
                mend="Export the graph again: it was made before tasks could skip blocks."
                if effect == SKIP and not trunk.residuals
                else None,
            )
    bits = {name: patch.tensors[name] for name in ("mask", SKIP) if name in found}
    if wrong := [name for name, value in bits.items() if value.dtype != np.uint8]:
        raise BadFileError("has bits of another type", file=file, field=wrong[0], expected="uint8")
    if SKIP in bits and bits[SKIP].max(initial=0) > 1:
        raise BadFileError("has broken bits", file=file, field=SKIP, got=int(bits[SKIP].max()), expected="0 or 1")
    return found


def decode(patch: Patch, trunk: Trunk, file: object = None) -> Tensors:
    """What a patch makes of a network.

    Returns:
        float32, in C order, owned by the caller: `scale` and `bias` of all sites (sum of channels,), the network's own
        where the patch has none, and the head. For each site with another kernel `NAME/kernel`, float32 HWIO, and for
        each with a mask `NAME/mask`, bool HWIO. If the patch can skip blocks, `skip`, bool (residuals,).

    Raises:
        MismatchError, BadFileError: as `check`; or a value is out of range.
    """
    stored_shapes = check(patch, trunk, file)
    found: Tensors = {"scale": trunk.scale.copy(), "bias": trunk.bias.copy()}
    change = np.ones_like(trunk.scale)  # of packed scales, which own biases go through
    for name, shape in sorted(stored_shapes.items(), key=lambda item: item[0] != "scale"):
        numbers, stored = patch.sites.get(name, ()), patch.tensors[name]
        cuts = trunk.cuts(name, numbers) if name in SITES else {}
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is refused below
            if name == "mask":
                bits = np.unpackbits(stored, count=trunk.length(name, numbers), bitorder="little").astype(bool)
                found |= {
                    f"{trunk.names[each]}/mask": bits[cut].reshape(trunk.shapes[each]) for each, cut in cuts.items()
                }
                continue
            if name == SKIP:
                found[SKIP] = stored.astype(bool)
                continue
            value = _value(patch, name, shape, cuts)
            if name == "kernel":
                for each, cut in cuts.items():
                    own = trunk.kernel(each) if name in patch.codec else 0
                    found[f"{trunk.names[each]}/kernel"] = value[cut].reshape(trunk.shapes[each]) + own
                continue
            if name not in CHANNELS:
                found[name] = value
                continue
            inside = trunk.inside(numbers)
            if name in patch.codec and name == "scale":
                change[inside] = 1 + value
                value = trunk.scale[inside] * change[inside]
            elif name in patch.codec:
                value = trunk.bias[inside] * change[inside] + value
            found[name][inside] = value
    for name, value in found.items():
        if value.dtype == np.float32 and not (np.abs(value) <= LARGEST).all():
            raise BadFileError("has values out of range", file=file, field=name, expected=f"at most {LARGEST:g}")
    return found


def _value(patch: Patch, name: str, shape: tuple[int, ...], cuts: dict[int, slice]) -> np.ndarray:
    """A tensor as it is stored, float32: values, or integers times steps."""
    stored = patch.tensors[name]
    if name not in patch.codec:
        return np.array(stored, np.float32, order="C")
    step = patch.tensors[f"{name}_step"]
    each = np.repeat(step, [cut.stop - cut.start for cut in cuts.values()]) if cuts else step
    return unpack(stored, shape) * each


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


def steps(largest: np.ndarray, bits: int) -> np.ndarray:
    """The steps that make integers of `bits` bits reach as far."""
    return np.where(largest > 0, largest / (2 ** (bits - 1) - 1), 1).astype(np.float32)
