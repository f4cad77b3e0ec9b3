"""Bytes stored for 1, 10 and 100 tasks by edgepatch and by what else one might do: the table of docs/benchmarks.md.

    python benchmarks/tables.py rivals

The task is the demo's digits. The fully fine-tuned model is really fine-tuned, for its weights to be what a delta has
to carry; a delta is taken against the dedicated model of the backbone's own classifier's trunk with the same head size.
"""

from __future__ import annotations

import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bsdiff4
import keras
import numpy as np
import onnxruntime
import zstandard
from edgepatch.converters import dedicated, onnx, onnx_adapter, tflite

from edgepatch import blob
from edgepatch.backbones import backbone as backbones
from edgepatch.backbones import network
from edgepatch.backbones.backbone import Backbone
from edgepatch.blob import Patch
from edgepatch.data import folder, pictures
from edgepatch.data.pictures import Pictures
from edgepatch.demo import demo
from edgepatch.progress import Quiet
from edgepatch.runtime import baking, engines, graph_file
from edgepatch.runtime.fitting import fit
from edgepatch.training import calibration, storing

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "build" / "demo"
COUNTS = (1, 10, 100)


def rows() -> list[list[str]]:
    """For each way: what every further task adds, and what 1, 10 and 100 tasks take together."""
    demo.demo(DEMO, Quiet())
    backbone, patch = backbones.read(DEMO / "mobilenet_v2.backbone"), blob.read(DEMO / "digits.epatch")
    train = pictures.load(folder.scan(DEMO / "data" / "digits" / "train", patch.labels), patch.input, Quiet())
    few = train.pixels[: calibration.IMAGES]
    small = _packed(backbone, patch, few)
    alone = blob.read(DEMO / "digits.head.epatch")
    alone = _only_head(alone)
    tuned, tuned_patch = fine_tuned(backbone, patch, train)
    plain = _untrained(backbone, patch)
    images = patch.input.normalise(few)

    found: list[tuple[str, int, int]] = []
    for precision in ("fp32", "int8"):
        graph = len(tflite.export(backbone, precision))
        found.append((f"edgepatch, shared {precision} graph, patches in fp16", graph, len(blob.dump(patch))))
        found.append((f"edgepatch, shared {precision} graph, patches in int8", graph, len(blob.dump(small))))
        found.append((f"head alone on the shared {precision} graph", graph, len(blob.dump(alone))))
    adapter = len(onnx_adapter.export(backbone, patch))
    found.append(("ONNX Runtime adapters of our patches", len(tflite.export(backbone)), adapter))
    for precision in ("fp32", "int8"):
        base, ours, theirs = (
            dedicated.tflite(trunk, task, precision, images)
            for trunk, task in ((backbone, plain), (backbone, patch), (tuned, tuned_patch))
        )
        found.append((f"dedicated {precision} models", 0, len(ours)))
        for what, target in (("fine-tuned", theirs), ("our patch folded in", ours)):
            for name, delta in DELTAS.items():
                found.append((f"{name} deltas, {precision}, {what}", len(base), delta(base, target)))
    head = [["stored", "each further task, KB", *(f"{count} task{'s' * (count > 1)}, MB" for count in COUNTS)]]
    return head + [
        [name, f"{each / 1e3:,.1f}", *(f"{(once + count * each) / 1e6:,.2f}" for count in COUNTS)]
        for name, once, each in found
    ]


def adapter_rows() -> list[list[str]]:
    """ONNX Runtime's adapters against our binding of the same patches to the same shared .onnx."""
    demo.demo(DEMO, Quiet())
    backbone = backbones.read(DEMO / "mobilenet_v2.backbone")
    patches = [blob.read(DEMO / f"{name}.epatch") for name in ("digits", "solar-defects")]
    graph = graph_file.parse(onnx.export(backbone), "the shared graph")
    image = patches[0].input(np.zeros((128, 128, 3), np.uint8))
    fitted = [fit(graph, patch, None) for patch in patches]
    engine = engines.start("onnx", baking.bind_model(graph, fitted[0]), 1)
    values = [each.inputs for each in fitted]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph.data, options, providers=["CPUExecutionProvider"])
    ways: dict[str, list[list[float]]] = {"edgepatch, bind": [[], []], "ONNX Runtime, LoraAdapter": [[], []]}
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{patch.task}.onnx_adapter" for patch in patches]
        for path, patch in zip(paths, patches, strict=True):
            path.write_bytes(onnx_adapter.export(backbone, patch))

        def ours(turn: int) -> Callable[[], object]:
            engine.bind(values[turn % 2])
            return lambda: engine.run(image)

        loaded: list[Any] = []

        def theirs(turn: int) -> Callable[[], object]:
            adapter, run = onnxruntime.LoraAdapter(), onnxruntime.RunOptions()
            adapter.Load(str(paths[turn % 2]))
            run.add_active_adapter(adapter)
            loaded.append(adapter)  # the options point at it, and do not keep it
            return lambda: session.run(None, {"image": image}, run)

        for turn in range(40):
            for switch, (answers, first) in zip((ours, theirs), ways.values(), strict=True):
                start = time.perf_counter()
                answer = switch(turn)
                answer()
                first.append(1e3 * (time.perf_counter() - start))
                start = time.perf_counter()
                for _ in range(5):
                    answer()
                answers.append(1e3 * (time.perf_counter() - start) / 5)
    heads = [["way", "an answer, ms", "another task and its first answer, ms"]]
    medians = {name: [statistics.median(each) for each in pair] for name, pair in ways.items()}
    return heads + [[name, f"{answer:.2f}", f"{first:.2f}"] for name, (answer, first) in medians.items()]


def zstd(base: bytes, target: bytes) -> int:
    """Bytes of `zstd --patch-from`, at its highest level."""
    size = max(len(base), len(target)).bit_length()
    parameters = zstandard.ZstdCompressionParameters.from_level(19, window_log=size, enable_ldm=True)
    reference = zstandard.ZstdCompressionDict(base, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    packed = zstandard.ZstdCompressor(dict_data=reference, compression_params=parameters).compress(target)
    back = zstandard.ZstdDecompressor(dict_data=reference, max_window_size=1 << size).decompress(packed)
    assert back == target
    return len(packed)


def bsdiff(base: bytes, target: bytes) -> int:
    """Bytes of a bsdiff."""
    packed = bsdiff4.diff(base, target)
    assert bsdiff4.patch(base, packed) == target
    return len(packed)


DELTAS: dict[str, Callable[[bytes, bytes], int]] = {"zstd --patch-from": zstd, "bsdiff": bsdiff}


def fine_tuned(backbone: Backbone, patch: Patch, train: Pictures) -> tuple[Backbone, Patch]:
    """The whole network trained on the task for two epochs, as a backbone of its own and its task."""
    keras.utils.set_random_seed(0)
    trunk = network.training_form(backbone)
    trunk.trainable = True
    for layer in trunk.layers:
        layer.trainable = True
    model = keras.Model(trunk.input, keras.layers.Dense(len(patch.labels), name="head")(trunk.output))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(3e-4), loss, jit_compile=False)
    model.fit(patch.input.normalise(train.pixels), train.labels, batch_size=32, epochs=2, verbose=0)
    tensors = dict(backbone.tensors)
    for site in backbone.plan.sites:
        norm = trunk.get_layer(f"{site.name}_BN").get_weights()
        tensors[f"{site.name}/kernel"] = trunk.get_layer(site.name).get_weights()[0]
        tensors |= {f"{site.name}/{part}": value for part, value in zip(PARTS, norm, strict=True)}
    own = dataclasses.replace(backbone, tensors=tensors)
    kernel, bias = model.get_layer("head").get_weights()
    return own, _head(patch, own, kernel, bias)


PARTS = ("gamma", "beta", "mean", "variance")


def _head(patch: Patch, backbone: Backbone, kernel: np.ndarray, bias: np.ndarray) -> Patch:
    tensors: dict[str, Any] = {"head_kernel": kernel.astype(np.float32), "head_bias": bias.astype(np.float32)}
    kinds = {"classifier": tuple(tensors)}
    return dataclasses.replace(patch, backbone_id=backbone.id, kinds=kinds, tensors=tensors, sites={}, codec={})


def _untrained(backbone: Backbone, patch: Patch) -> Patch:
    """The backbone as it is, under a head of the task's size: what deltas start from."""
    rng = np.random.default_rng(0)
    shape = (backbone.plan.features, len(patch.labels))
    return _head(patch, backbone, rng.normal(0, 0.05, shape), np.zeros(shape[1]))


def _only_head(patch: Patch) -> Patch:
    tensors = {name: patch.tensors[name] for name in ("head_kernel", "head_bias")}
    return dataclasses.replace(patch, kinds={"classifier": tuple(tensors)}, tensors=tensors, sites={})


def _packed(backbone: Backbone, patch: Patch, pixels: np.ndarray) -> Patch:
    values = {name: np.asarray(value, np.float32) for name, value in patch.tensors.items()}
    return storing.store(backbone, patch, values, "int8", network.deployment_form(backbone), pixels)
