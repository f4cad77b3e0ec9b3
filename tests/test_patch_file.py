"""The patch file: what is written is read back, and nothing else is."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from conftest import make_patch

from edgepatch import blob, container, files
from edgepatch.backbones.backbone import Backbone
from edgepatch.blob import Patch
from edgepatch.errors import BadFileError, EdgepatchError, UsageError


@pytest.fixture(scope="module")
def patch(tiny: Backbone) -> Patch:
    return make_patch(tiny, 0, 5)


@pytest.fixture(scope="module")
def data(patch: Patch) -> bytes:
    return blob.dump(patch)


def forge(document: dict[str, Any], tensors: dict[str, np.ndarray]) -> bytes:
    """A file with a sound checksum and whatever content."""
    return container.dump(document, tensors)


def document_of(data: bytes) -> dict[str, Any]:
    return container.parse(data, "x")[0]


def rewrite_header(data: bytes, change: Any) -> bytes:
    """The file with another header and a checksum to match, as an attacker would make it."""
    (length,) = struct.unpack_from("<Q", data)
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    text = change(header)
    if text is None:
        entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
        header["__metadata__"]["sha256"] = container._digest(header["__metadata__"]["edgepatch"], entries, body)
        text = json.dumps(header)
    encoded = text.encode()
    return struct.pack("<Q", len(encoded)) + encoded + body


def test_a_patch_is_read_back_as_it_was_written(patch: Patch, tmp_path: Path) -> None:
    size = blob.write(patch, tmp_path / "a.epatch")
    again = blob.read(tmp_path / "a.epatch")
    assert size == (tmp_path / "a.epatch").stat().st_size
    for field in dataclasses.fields(Patch):
        if field.name != "tensors":
            assert getattr(again, field.name) == getattr(patch, field.name), field.name
    assert list(again.tensors) == list(patch.tensors)
    for name, value in patch.tensors.items():
        np.testing.assert_array_equal(again.tensors[name], value)
        assert again.tensors[name].dtype == np.float16


def test_the_same_patch_gives_the_same_bytes(patch: Patch, data: bytes) -> None:
    assert blob.dump(blob.parse(data, "x")) == data == blob.dump(patch)


def test_the_safetensors_library_reads_it(patch: Patch, data: bytes) -> None:
    read = safetensors.numpy.load(data)
    assert set(read) == set(patch.tensors)
    for name, value in patch.tensors.items():
        np.testing.assert_array_equal(read[name], value)


def test_reading_leaves_the_tensors_read_only_and_values_writable(tiny: Backbone, data: bytes) -> None:
    patch = blob.parse(data, "x")
    with pytest.raises(ValueError, match="read-only"):
        patch.tensors["scale"][0] = 1
    values = tiny.values(patch)
    values["scale"][0] = 1
    assert values["scale"].dtype == np.float32


@pytest.mark.parametrize("keep", [0, 1, 7, 8, 9, 100, 0.5, 0.9, -1])
def test_a_truncated_file_is_refused(data: bytes, keep: float) -> None:
    end = int(len(data) * keep) if isinstance(keep, float) else keep
    with pytest.raises(BadFileError):
        blob.parse(data[:end], "cut.epatch")


def test_a_flipped_bit_anywhere_is_refused(data: bytes) -> None:
    rng = np.random.default_rng(0)
    (length,) = struct.unpack_from("<Q", data)
    blank = range(8 + len(data[8 : 8 + length].rstrip(b" ")), 8 + length)  # padding behind the header says nothing
    for position in {*range(0, 200), *rng.integers(0, len(data), 400).tolist()} - set(blank):
        broken = bytearray(data)
        broken[position] ^= 1 << int(rng.integers(8))
        with pytest.raises(BadFileError):
            blob.parse(bytes(broken), "flipped.epatch")


def test_random_bytes_never_crash_the_reader(data: bytes) -> None:
    rng = np.random.default_rng(1)
    for length in (0, 3, 8, 64, 4096):
        with pytest.raises(BadFileError):
            blob.parse(rng.bytes(length), "noise")
    with pytest.raises(BadFileError):
        blob.parse(struct.pack("<Q", 2) + b"[]", "list")
    with pytest.raises(BadFileError, match="broken header"):
        blob.parse(struct.pack("<Q", 200_000) + b'{"a":' * 40_000, "deep")


def test_a_header_over_the_cap_is_refused_before_it_is_read(data: bytes) -> None:
    with pytest.raises(BadFileError, match="at most 256 KiB"):
        blob.parse(struct.pack("<Q", 2**62) + data[8:], "huge.epatch")


def test_a_file_over_the_limit_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.epatch"
    with path.open("wb") as stream:
        stream.truncate(blob.MAX_BYTES + 1)
    with pytest.raises(BadFileError, match="too large"):
        blob.read(path)


def test_trailing_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(BadFileError, match="trailing bytes"):
        blob.parse(data + b"\0", "long.epatch")


def test_a_duplicate_key_is_refused(data: bytes) -> None:
    def change(header: dict[str, Any]) -> str:
        return json.dumps(header)[:-1] + ', "scale": ' + json.dumps(header["scale"]) + "}"

    with pytest.raises(BadFileError, match="duplicate key 'scale'"):
        blob.parse(rewrite_header(data, change), "twice.epatch")


@pytest.mark.parametrize("dtype", ["F64", "BF16", "I64", "", 5, ["F16"]])
def test_a_type_off_the_list_is_refused(data: bytes, dtype: Any) -> None:
    with pytest.raises(BadFileError, match="type that is not allowed"):
        blob.parse(rewrite_header(data, lambda header: header["scale"].update(dtype=dtype)), "x")


@pytest.mark.parametrize(
    ("shift", "problem"), [((0, 2), "wrong size"), ((2, 2), "hole"), ((-2, 0), "broken header|overlap|wrong size")]
)
def test_overlaps_and_holes_are_refused(data: bytes, shift: tuple[int, int], problem: str) -> None:
    def change(header: dict[str, Any]) -> None:
        begin, end = header["bias"]["data_offsets"]
        header["bias"]["data_offsets"] = [begin + shift[0], end + shift[1]]

    with pytest.raises(BadFileError, match=problem):
        blob.parse(rewrite_header(data, change), "x")


@pytest.mark.parametrize("shape", [[-1], [1.5], [2**50], "12", [[3]], [1] * 9])
def test_an_odd_shape_is_refused(data: bytes, shape: Any) -> None:
    with pytest.raises(BadFileError):
        blob.parse(rewrite_header(data, lambda header: header["bias"].update(shape=shape)), "x")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_refused_in_reading_and_in_writing(patch: Patch, data: bytes, value: float) -> None:
    tensors = {name: np.array(tensor) for name, tensor in patch.tensors.items()}
    tensors["bias"][3] = value
    with pytest.raises(BadFileError, match="NaN or infinity") as caught:
        blob.parse(forge(document_of(data), tensors), "nan.epatch")
    assert caught.value.details["field"] == "bias"
    with pytest.raises(BadFileError, match="NaN or infinity"):
        blob.dump(dataclasses.replace(patch, tensors=tensors))


def test_missing_and_extra_tensors_are_refused(patch: Patch, data: bytes) -> None:
    fewer = {name: value for name, value in patch.tensors.items() if name != "bias"}
    with pytest.raises(BadFileError, match="lacks a tensor"):
        blob.parse(forge(document_of(data), fewer), "x")
    with pytest.raises(BadFileError, match="no kind names"):
        blob.parse(forge(document_of(data), {**patch.tensors, "more": np.zeros(2, np.float32)}), "x")
    with pytest.raises(BadFileError, match="another order"):
        blob.parse(forge(document_of(data), dict(reversed(patch.tensors.items()))), "x")


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("kind", "backbone", "is not a patch"),
        ("format", 99, "does not know"),
        ("format", True, "does not know|broken document"),
        ("task", "", "broken document"),
        ("task", "a\nb", "broken document"),
        ("version", 0, "broken document"),
        ("version", 2**63, "broken document"),
        ("backbone_id", "abc", "broken document"),
        ("backbone_id", None, "broken document"),
        ("labels", ["a", "a", "b", "c", "d"], "label twice"),
        ("labels", [1, 2, 3, 4, 5], "broken labels"),
        ("input", {"size": 96}, "broken document"),
        ("input", {"size": 10**9, "resize": "crop", "scale": [1, 1, 1], "offset": [0, 0, 0]}, "broken document"),
        ("input", {"size": 96, "resize": "crop", "scale": [True, 1, 1], "offset": [0, 0, 0]}, "broken document"),
        ("kinds", {}, "broken document"),
        ("kinds", {"scale_bias": "scale"}, "broken document"),
        ("surprise", 1, "unknown field"),
    ],
)
def test_a_broken_document_is_refused(patch: Patch, data: bytes, field: str, value: Any, problem: str) -> None:
    document = {**document_of(data), field: value}
    with pytest.raises(BadFileError, match=problem):
        blob.parse(forge(document, patch.tensors), "x")


def test_text_that_cannot_be_written_is_refused(patch: Patch, data: bytes) -> None:
    """Half a surrogate pair passes for JSON and dies when it is printed."""
    document = json.dumps({**document_of(data), "licence": "\ud800"})

    def change(header: dict[str, Any]) -> None:
        header["__metadata__"]["edgepatch"] = document

    with pytest.raises(BadFileError, match="broken document"):
        blob.parse(rewrite_header(data, change), "x")
    with pytest.raises(BadFileError, match="cannot be written"):
        blob.dump(dataclasses.replace(patch, licence="\ud800"))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32", "utf-32-be"])
def test_a_header_in_another_encoding_is_refused(data: bytes, encoding: str) -> None:
    """What `json` would guess at, no other reader does."""
    (length,) = struct.unpack_from("<Q", data)
    header = data[8 : 8 + length].decode().encode(encoding)
    with pytest.raises(BadFileError, match=r"broken header|is not an edgepatch file"):
        blob.parse(struct.pack("<Q", len(header)) + header + data[8 + length :], "x")


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_nests_are_refused_from_the_same_depth_on_wherever_they_are_read(
    patch: Patch, data: bytes, opening: str, closing: str
) -> None:
    def nested(depth: int) -> bytes:
        inner = opening * depth + ("1" if opening != "[" else "") + closing * depth
        document = json.dumps(document_of(data) | {"metrics": {"text": "[" * 600}})
        document = document.replace('"text"', f'"nest": {inner}, "text"')
        return rewrite_header(data, lambda header: header["__metadata__"].update(edgepatch=document))

    blob.parse(nested(container.MAX_DEPTH - 2), "deep")  # inside the document and its metrics
    with pytest.raises(BadFileError, match="nested too deeply"):
        blob.parse(nested(container.MAX_DEPTH - 1), "deeper")


def test_what_files_do_not_have_cannot_be_written(patch: Patch) -> None:
    with pytest.raises(BadFileError, match="cannot be written"):
        blob.dump(dataclasses.replace(patch, tensors={**patch.tensors, "bias": np.zeros(3)}))
    for metric in (np.float32(1), float("nan")):
        with pytest.raises(BadFileError, match="cannot be written"):
            blob.dump(dataclasses.replace(patch, metrics={"accuracy": metric}))


def test_numbers_too_large_to_be_meant_are_refused(patch: Patch, data: bytes) -> None:
    how = document_of(data)["input"]
    for scale in ([1e300, 1, 1], [10**40, 1, 1], [True, "1", None]):
        with pytest.raises(BadFileError):
            blob.parse(forge({**document_of(data), "input": {**how, "scale": scale}}, patch.tensors), "x")
    with pytest.raises(BadFileError, match="broken header"):
        blob.parse(rewrite_header(data, lambda header: json.dumps(header)[:-1] + ', "x": 1e999}'), "x")


def test_a_shape_whose_product_is_zero_is_still_a_shape(data: bytes) -> None:
    def change(header: dict[str, Any]) -> None:
        header["none"] = {"dtype": "F32", "shape": [2**39, 2**39, 0], "data_offsets": [len(data)] * 2}
        end = header["head_bias"]["data_offsets"][1]
        header["none"]["data_offsets"] = [end, end]

    with pytest.raises(BadFileError, match="impossible shape"):
        blob.parse(rewrite_header(data, change), "x")


def test_devices_and_pipes_are_neither_read_nor_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BadFileError, match="not a file"):
        blob.read(tmp_path / "pipe")
    with pytest.raises(UsageError, match="not a file that can be replaced"):
        files.write(tmp_path / "pipe", b"x")
    files.write(tmp_path / "real", b"old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    files.write(tmp_path / "link", b"new")
    assert ((tmp_path / "link").is_symlink(), (tmp_path / "real").read_bytes()) == (True, b"new")


def test_an_error_names_file_field_got_and_expected(data: bytes) -> None:
    with pytest.raises(BadFileError) as caught:
        blob.parse(forge({**document_of(data), "format": 9}, blob.parse(data, "x").tensors), "new.epatch")
    error = caught.value
    assert error.details == {
        "file": "new.epatch",
        "field": "format",
        "got": 9,
        "expected": 1,
        "mend": "pip install --upgrade edgepatch",
    }
    assert "new.epatch" in str(error)
    assert error.to_json()["error"]["code"] == 3


def test_a_version_only_grows(patch: Patch, tmp_path: Path) -> None:
    path = tmp_path / "a.epatch"
    assert blob.next_version(path, patch.task) == 1
    blob.write(dataclasses.replace(patch, version=7), path)
    assert blob.next_version(path, patch.task) == 8
    assert blob.next_version(path, "another task") == 1


def test_a_failed_write_leaves_what_was_there_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "a.epatch"
    files.write(path, b"old")
    with pytest.raises(RuntimeError), files.replacing(path) as stream:
        stream.write(b"half of the n")
        raise RuntimeError("killed")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_writing_where_one_cannot_is_an_error_not_a_crash(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EdgepatchError, match="cannot be written"):
        files.write(tmp_path / "file" / "below", b"x")
    with pytest.raises(UsageError, match="no such file"):
        blob.read(tmp_path / "absent.epatch")
    with pytest.raises(BadFileError, match="cannot be read"):
        blob.read(tmp_path)


def test_the_checksum_is_what_docs_format_says(data: bytes) -> None:
    """An independent reader: fifty lines of anyone's code must come to the same hash."""
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    metadata = header.pop("__metadata__")
    digest = hashlib.sha256()
    digest.update(metadata["edgepatch"].encode())
    digest.update(json.dumps(header, separators=(",", ":"), sort_keys=True).encode())
    digest.update(data[8 + length :])
    assert digest.hexdigest() == metadata["sha256"]


@pytest.mark.parametrize(
    "ranges",
    [
        np.float32(3),
        np.zeros(4, np.float32),
        np.zeros((4, 3), np.float32),
        np.float32([[1, 0]]),
        np.float32([[0, 3e38]]),
    ],
)
def test_ranges_that_are_no_pairs_are_refused(tiny: Backbone, ranges: np.ndarray) -> None:
    patch = dataclasses.replace(make_patch(tiny, 0, 3), ranges=np.zeros((2, 2), np.float32))
    document, tensors = container.parse(blob.dump(patch), "x")
    document["ranges"] = {"activations": len(ranges) if ranges.ndim else 2}
    with pytest.raises(BadFileError, match="activation ranges"):
        blob.parse(container.dump(document, {**tensors, "ranges": ranges}), "x")


def test_ranges_at_odds_with_the_document_are_refused(tiny: Backbone) -> None:
    patch = dataclasses.replace(make_patch(tiny, 0, 3), ranges=np.zeros((2, 2), np.float32))
    document, tensors = container.parse(blob.dump(patch), "x")
    for changed in ({}, {"activations": 3}, {"activations": 2.0}, {"activations": 2, "more": 1}):
        with pytest.raises(BadFileError, match="at odds"):
            blob.parse(container.dump(document | {"ranges": changed}, tensors), "x")


@pytest.mark.parametrize(
    "sites",
    [
        {"scale": [1, 0], "bias": [0, 1]},
        {"scale": [0, 0], "bias": [0, 1]},
        {"scale": [-1], "bias": [0]},
        {"scale": [True], "bias": [0]},
        {"scale": [5000], "bias": [0]},
        {"scale": [], "bias": [0]},
        {"scale": "0", "bias": [0]},
        {"scale": {"0": 1}, "bias": [0]},
        {"scale": [0]},
        {},
        {"scale": [0], "bias": [0], "kernel": [0]},
        {"scale": [0], "bias": [0], "surprise": [0]},
        {"placement": "all"},
        {"placement": "all", "channels": 7},
        {"placement": "all", "channels": [8], "sites": [0, -1]},
    ],
)
def test_sites_that_are_no_numbers_of_sites_are_refused(patch: Patch, data: bytes, sites: Any) -> None:
    with pytest.raises(BadFileError) as caught:
        blob.parse(forge({**document_of(data), "sites": sites}, patch.tensors), "x")
    assert caught.value.details["field"].startswith(("sites", "tensors"))


def test_a_patch_of_before_effects_had_sites_of_their_own_is_read(tiny: Backbone, patch: Patch, data: bytes) -> None:
    channels = tiny.plan.channels
    for sites in ({"placement": "all", "channels": channels}, {"placement": "x", "sites": [*range(52)], "channels": 0}):
        old = blob.parse(forge({**document_of(data), "sites": sites}, patch.tensors), "x")
        assert old.sites == patch.sites
        np.testing.assert_array_equal(tiny.values(old)["scale"], tiny.values(patch)["scale"])


def test_a_patch_of_before_there_were_codecs_is_read(tiny: Backbone) -> None:
    document, tensors = container.parse(blob.dump(make_patch(tiny, 0, 3)), "x")
    del document["codec"]
    assert blob.parse(container.dump(document, tensors), "x").codec == {}
