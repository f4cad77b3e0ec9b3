"""Makes seeds.tar.xz: small sound files of each kind. `python -m tests.fuzz.seeds`, with TensorFlow installed.

Their network has seven sites and every kind of node, so that a graph of it is read in half a millisecond.
"""

from __future__ import annotations

import collections
import dataclasses
import io
import json
import pickle
import sys
import types
import zipfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the tests' own helpers

import plans
from conftest import make_patch, pictures
from edgepatch.converters import onnx, tflite
from golden import tasks
from test_torch_file import FakeTensor, legacy, zipped

from edgepatch import blob
from edgepatch.backbones import backbone as backbones
from edgepatch.backbones import weights
from edgepatch.backbones.backbone import Backbone
from edgepatch.backbones.plan import IMAGE, Builder
from edgepatch.backbones.weights import keras_names
from edgepatch.blob import Patch
from edgepatch.boxes import Anchors
from edgepatch.head_network import Layer, Network
from edgepatch.training import calibration

from . import archives, common, target_npz, target_tfjs

MAP = "b1_project"


def tiny(net: Builder) -> None:
    """A stem, a block with a gate that can be skipped, and a convolution on top: 32 px, eight channels."""
    entry = net.site(IMAGE, "stem", 0, "stem", 8, 3, 2, "hard_swish")
    last = net.site(entry, "b1_depthwise", 1, "depthwise", 8, 3, 1, "relu6")
    pixel = net.site(net.mean(last), "b1_squeeze", 1, "squeeze", 8, 1, 1, "relu", normalised=False)
    pixel = net.site(pixel, "b1_excite", 1, "excite", 8, 1, 1, "hard_sigmoid", normalised=False)
    last = net.site(net.multiply(last, pixel), MAP, 1, "project", 8, 1, 1, "linear")
    net.site(net.add(entry, last), "top", 2, "top", 8, 1, 1, "relu")


def patches(own: Backbone) -> dict[str, Patch]:
    scale_bias = make_patch(own, 1, 3)
    return {
        "scale_bias": scale_bias,
        "packed": tasks._packed(own, make_patch(own, 2, 5)),
        "everything": make_patch(own, 3, 4, kinds="scale_bias+depthwise+bottom:1+mask+policy"),
        "packed_kernels": tasks._packed(own, make_patch(own, 4, 3, kinds="bottom:1+depthwise")),
        "large": dataclasses.replace(
            make_patch(own, 5, 3), input=dataclasses.replace(own.input, size=49, resize="crop")
        ),
        "enrollable": tasks._enrollable(own, make_patch(own, 6, 3)),
        "detector": tasks._with_head(own, make_patch(own, 7, 2), DETECTOR, "detector", **DECODE),
        "segmenter": tasks._with_head(own, make_patch(own, 8, 2), SEGMENTER, "segmenter"),
    }


DECODE = {
    "activation": "softmax",
    "anchors": Anchors((((0.3, 0.3), (0.4, 0.2)),)).to_json(),
    "score": 0.35,
    "overlap": 0.5,
    "limit": 20,
}
DETECTOR = Network(
    ("top",),
    (
        Layer("near", "depthwise", ("top",), kernel=3, activation="relu6"),
        Layer("classes", "conv", ("near",), 2 * 3),
        Layer("boxes", "conv", ("near",), 2 * 4),
    ),
    ("classes", "boxes"),
)
SEGMENTER = Network(
    (MAP, "top"),
    (
        Layer("mean", "mean", ("top",)),
        Layer("gate", "conv", ("mean",), 4, activation="sigmoid"),
        Layer("far", "conv", ("top",), 4, activation="relu"),
        Layer("gated", "multiply", ("far", "gate")),
        Layer("grown", "resize", ("gated", MAP)),
        Layer("high", "conv", ("grown",), 2),
        Layer("low", "conv", (MAP,), 2),
        Layer("answer", "add", ("high", "low")),
    ),
    ("answer",),
)


def calibrated(own: Backbone, patch: Patch) -> Patch:
    pixels = np.stack(pictures(4, size=patch.input.size))
    return dataclasses.replace(patch, ranges=calibration.calibrate(own.at(patch.input.size), patch, pixels))


def torch_files() -> dict[str, bytes]:
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")

    def _rebuild_tensor_v2() -> None: ...

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2  # type: ignore[attr-defined]
    torch.FloatStorage = type("FloatStorage", (), {"__module__": "torch"})  # type: ignore[attr-defined]
    torch._utils = utils  # type: ignore[attr-defined]
    sys.modules |= {"torch": torch, "torch._utils": utils}
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    state = collections.OrderedDict(
        {"a.weight": FakeTensor(values, "7"), "b": FakeTensor(np.float32([1, 2]), "8"), "c": FakeTensor(values.T, "9")}
    )
    found = {"zip": zipped(torch, state), "legacy": legacy(torch, state), "empty": zipped(torch, {})}
    for name in ("torch", "torch._utils"):
        del sys.modules[name]
    found["pickle"] = pickle.dumps({"a": 1}, 4)
    return {f"{name}.pth": data for name, data in found.items()}


def graph_model() -> bytes:
    """A graph model of three nodes with two shards."""
    weights = [np.arange(6, dtype="<f4"), np.array([1, 2], "<i4")]
    manifest = [
        {
            "paths": ["group1-shard1of2.bin", "group1-shard2of2.bin"],
            "weights": [
                {"name": "w", "shape": [2, 3], "dtype": "float32"},
                {"name": "axes", "shape": [2], "dtype": "int32"},
            ],
        }
    ]
    attributes = {"T": {"type": 1}, "s": {"s": "U0FNRQ=="}, "l": {"list": {"i": ["1", "2"]}}, "f": {"f": 0.5}}
    nodes = [
        {"name": "w", "op": "Const", "attr": {}},
        {"name": "axes", "op": "Const"},
        {"name": "out", "op": "Mean", "input": ["w", "axes"], "attr": attributes | {"keep": {"b": True}}},
    ]
    model = {"format": "graph-model", "modelTopology": {"node": nodes}, "weightsManifest": manifest}
    body = b"".join(each.tobytes() for each in weights)
    parts = [(target_tfjs.tfjs.MODEL, json.dumps(model).encode())]
    parts += [("group1-shard1of2.bin", body[:10]), ("group1-shard2of2.bin", body[10:])]
    return archives.tarred(
        [("package/package.json", b"{}"), *((f"{target_tfjs.FOLDER}/{name}", part) for name, part in parts)]
    )


def arrays() -> bytes:
    """The weights of a narrow MobileNetV1's first sites, by its layers' names."""
    own = weights.create("mobilenet_v1", alpha=0.1, size=32, source="random", seed=1)
    state = {}
    for site in own.plan.sites[: target_npz.SITES]:
        for part in backbones.parts(site):
            layer = site.name if part == "kernel" else keras_names._norm("mobilenet_v1", site.name)
            state[f"{layer}/{'kernel' if part == 'kernel' else keras_names._PARTS[part]}"] = own.part(site, part)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, value in state.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, np.zeros_like(value) + np.float32(0.5), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), content.getvalue(), zipfile.ZIP_DEFLATED)
    return stream.getvalue()


def keras_model() -> bytes:
    """A .keras archive of a small functional model, without its weights, which Keras reads and we do not."""
    import keras

    image = keras.Input((32, 32, 3))
    last = keras.layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(image)
    last = keras.layers.ReLU(6.0)(keras.layers.BatchNormalization()(last))
    last = keras.layers.GlobalAveragePooling2D()(keras.layers.Add()([last, last]))
    model = keras.Model(image, keras.layers.Dense(3, activation="softmax")(last))
    config = {"module": "keras", "class_name": "Functional", "config": model.get_config()}
    parts = [("metadata.json", b"{}"), ("config.json", json.dumps(config).encode())]
    return archives.zipped(parts)


def main() -> None:
    own = plans.made(tiny, size=32)
    found: dict[str, bytes] = {}
    for precision in ("fp32", "fp16", "dynamic", "int8"):
        for kind, converter in (("tflite", tflite), ("onnx", onnx)):
            found[f"tiny-{precision}.{kind}"] = converter.export(own, precision)
    for name, patch in patches(own).items():
        found[f"tiny-{name}.epatch"] = blob.dump(calibrated(own, dataclasses.replace(patch, task=name)))
    path = Path("build") / "tiny.backbone"
    backbones.write(own, path)
    found["tiny.backbone"] = path.read_bytes()
    path.unlink()
    found |= torch_files()
    found |= {"tiny.tgz": graph_model(), "tiny.npz": arrays(), "tiny.keras": keras_model()}
    common.write_archive(common.HERE / "seeds.tar.xz", found)
    for name, data in found.items():
        print(f"{len(data):8,} {name}")
    print(f"{(common.HERE / 'seeds.tar.xz').stat().st_size:8,} in all, packed")


if __name__ == "__main__":
    main()
