"""Hostile files of weights, of backbones, of other libraries' models, and a store's."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Iterator

import numpy as np
from fuzz import archives, containers, target_store, target_tfjs

from edgepatch.runtime.store import state as states

from .attack import Attack, sound


def attacks() -> Iterator[Attack]:
    yield from _pickles()
    yield from _archives()
    yield from _others()


class _Command:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        import os

        return os.system, ("echo owned > owned",)


def _zip(name: str, content: bytes, method: int = zipfile.ZIP_STORED, says: int | None = None) -> bytes:
    """A zip file of one entry, which says that it unpacks to `says` bytes."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        archive.writestr(zipfile.ZipInfo(name), content, method)
    data = bytearray(stream.getvalue())
    if says is not None:
        struct.pack_into("<I", data, 22, says)
        struct.pack_into("<I", data, data.find(b"PK\1\2") + 24, says)
    return bytes(data)


def _pickles() -> Iterator[Attack]:
    yield Attack(
        "command.pth",
        "a checkpoint whose pickle names os.system",
        "pickle.load runs the command",
        lambda: _zip("m/data.pkl", pickle.dumps({"a": _Command()}, 2).replace(b"cposix\n", b"cos\n")),
    )
    twice = b"\x80\x02}K\x01" + b"2\x86" * 64
    yield Attack(
        "twice_itself.pth",
        "a key that is a tuple of a tuple twice, 64 deep: hashing it takes 2^64 steps",
        "pickle.load never ends; nor did ours until this file was made",
        lambda: _zip("m/data.pkl", twice + b"K\x01s."),
    )
    yield Attack(
        "huge_memo.pth",
        "a memo of 2^31 places",
        "pickle.load asks for 16 GiB",
        lambda: _zip("m/data.pkl", b"\x80\x02}r\xff\xff\xff\x7f."),
    )
    yield Attack(
        "many_lists.pth",
        "20 million empty lists, in 20 KB",
        "pickle.load makes 1.4 GB of them; so did ours, for 25 s, until this file was made",
        lambda: _zip("m/data.pkl", b"\x80\x02" + b"]" * (20 << 20) + b".", zipfile.ZIP_DEFLATED),
    )


def _archives() -> Iterator[Attack]:
    bomb = "zipfile's read takes 3 GB for 20 s; so did ours until this file was made"
    yield Attack(
        "says_ten_bytes.pth",
        "1.3 KB that say they are 10 bytes, and unpack to 1.5 GB by bzip2",
        bomb,
        lambda: _zip("m/data.pkl", bytes(1500 << 20), zipfile.ZIP_BZIP2, says=10),
        slow=True,
    )

    def array() -> bytes:
        stream = io.BytesIO()
        np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": (100,)})
        return _zip("a.npy", stream.getvalue() + bytes(1500 << 20), zipfile.ZIP_BZIP2, says=228)

    yield Attack(
        "says_100_values.npz",
        "an array of 100 values that unpacks to 1.5 GB",
        "np.load takes 3 GB; so did ours",
        array,
        slow=True,
    )
    yield Attack(
        "pickled.npz",
        "an array of objects, which is a pickle",
        "np.load with allow_pickle=True runs it",
        lambda: _zip("a.npy", _pickled_array()),
    )
    yield Attack(
        "bytes.npz",
        "an entry that is no array",
        "np.load gives bytes; until this file was found, ours then ended in an AttributeError",
        lambda: _zip("Conv1/kernel", b"not an array"),
    )
    yield Attack(
        "never_written.h5",
        "2 KB with weights of 4 TB, none of which was ever written",
        "h5py asks for them; so did ours until this file was made, and ended in a MemoryError",
        _never_written,
        slow=True,  # its bytes are those of one version of HDF5
    )
    model = json.loads(dict(archives.tar_parts(sound("tiny.tgz")))[f"{target_tfjs.FOLDER}/{target_tfjs.tfjs.MODEL}"])
    model["weightsManifest"][0]["paths"][0] = "../../../../etc/passwd"
    yield Attack(
        "shard_elsewhere.model.json",
        "a shard of weights that is a path out of its folder",
        "whoever joins the two reads any file",
        lambda: json.dumps(model).encode(),
    )


def _never_written() -> bytes:
    import h5py

    stream = io.BytesIO()
    with h5py.File(stream, "w") as made:
        made.create_group("conv1").create_dataset("kernel:0", (10**6, 10**6), "f4", chunks=(1000, 1000))
    return stream.getvalue()


def _pickled_array() -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.array([_Command()], object), allow_pickle=True)
    return stream.getvalue()


def _others() -> Iterator[Attack]:
    parts = dict(archives.zip_parts(sound("tiny.keras")))
    config = json.loads(parts["config.json"])
    config["config"]["layers"][1]["class_name"] = "Lambda"
    yield Attack(
        "lambda.keras",
        "a layer that is a function of the file's",
        "keras.models.load_model with safe_mode=False runs it",
        lambda: archives.zipped([("config.json", json.dumps(config).encode())]),
    )
    document, entries, body = containers.split(sound("tiny.backbone"))
    changed = bytearray(body)
    changed[5] ^= 1
    yield Attack(
        "other_tensors.backbone",
        "a backbone under another one's id, its checksum sound",
        "",
        lambda: containers.joined(document, entries, bytes(changed)),
    )
    whole = states.dump(target_store.sound())
    yield Attack(
        "older_version.state.json",
        "a store's state with a version turned back by hand, for an old patch to be taken again",
        "a store that keeps no hash takes it",
        lambda: whole.replace(b'"version": 2', b'"version": 1', 1),
    )
    path = json.loads(whole)
    path.pop("sha256")
    path["graph"]["sha256"] = "../../../../etc/passwd"
    yield Attack(
        "path.state.json",
        "a state whose graph is a path out of the store, its hash sound",
        "whoever joins the two opens any file",
        lambda: json.dumps({**path, "sha256": states._digest(path)}).encode(),
    )
