"""What TinyTL's lite residual branches would cost as a patch kind: the tables of docs/decisions/0010-lite-residual.md.

    python benchmarks/lite_residual.py                        # all of it, about ten minutes of two idle cores
    python benchmarks/lite_residual.py parameters latency memory accuracy

MobileNetV2 1.0 with ImageNet weights. A branch (Cai et al., "TinyTL", 2020) runs beside each block but the first, as in
the authors' published code: 2x2 average pooling, a 5x5 convolution in two groups with the block's stride, ReLU, a 1x1
convolution, bilinear upsampling, and the sum with the block's output; the kernel shrinks to 3 or 1 where the pooled map
is smaller. Batch norm stands for their group norm, which could not be folded. Nothing of the package's own training is
used: every network is walked from the plan.
"""

from __future__ import annotations

import dataclasses
import math
import multiprocessing
import os
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from edgepatch.backbones import weights
from edgepatch.backbones.backbone import Backbone
from edgepatch.backbones.plan import IMAGE, Plan, Site
from edgepatch.progress import Quiet, hushed

SIZE, BATCH, CLASSES = 128, 16, 10
GROUPS, KERNEL, POOL = 2, 5, 2
ROUNDS, REPEATS = 31, 3
DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "classify" / "signdigits10"
IMAGES, VALIDATION, SMALL, EPOCHS, SEEDS = 400, 200, 96, 10, (0, 1)
RATE, SIDE_RATES = 5e-3, (3e-3, 1e-2)  # Adam's peak, of scale and bias; tried for the branches
FULL, FOLDED, BIAS, SCALE_BIAS, LITE, HEAD = (
    "full fine-tuning, batch norm training",
    "full fine-tuning, batch norm folded",
    "bias",
    "scale_bias",
    "lite_residual+bias",
    "head alone",
)
BACKWARD = "backward"  # an operator that stands where a step's backward pass begins
SHAPES = ("Shape", "ShapeN", "Size", "Rank", "ZerosLike", "BroadcastGradientArgs")  # read no values
VIEWS = ("Identity", "Reshape", "ExpandDims", "Squeeze", "StopGradient")  # share their input's bytes


def backbone(size: int) -> Backbone:
    return weights.create("mobilenet_v2", alpha=1.0, size=size, source="imagenet")


@dataclasses.dataclass(frozen=True)
class Side:
    """A branch beside one block.

    Attributes:
        block: the block's number.
        source: the node it reads, which is what the block reads.
        inputs, outputs: channels.
        kernel: side of the grouped convolution's kernel; 1 behind a pooling of all pixels.
        stride: the block's.
        pooled: pixels a side after pooling.
    """

    block: int
    source: int
    inputs: int
    outputs: int
    kernel: int
    stride: int
    pooled: int

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Of what a patch would hold, batch norms folded; the last bias goes into that of the block's projection."""
        grouped = (self.kernel, self.kernel, self.inputs // GROUPS, self.inputs)
        return grouped, (self.inputs,), (1, 1, self.inputs, self.outputs)

    @property
    def values(self) -> int:
        return sum(math.prod(shape) for shape in self.shapes)


def sides(plan: Plan, size: int) -> dict[int, Side]:
    """The branch of each block, by the block's number, for images of `size`."""
    found, pixels = {}, plan.sides(size)
    for site in plan.sites:
        if site.placement != "project" or site.block == 1:
            continue
        entry = next(node.inputs[0] for node in plan.nodes if node.site and node.site.block == site.block)
        stride = math.prod(other.stride for other in plan.sites if other.block == site.block)
        pooled = max(1, pixels[entry] // POOL)
        kernel = min(KERNEL, pooled - 1 + pooled % 2)
        found[site.block] = Side(site.block, entry, plan.widths[entry], site.channels, kernel, stride, pooled)
    return found


def walk(plan: Plan, image: Any, site: Callable[[Site, Any], Any], side: Callable[[Side, Any], Any] | None) -> Any:
    """Features (n, features) of images, given what a site makes of its input, and a branch of its block's."""
    import tensorflow as tf

    own = sides(plan, image.shape[1]) if side else {}
    values: list[Any] = []
    for node in plan.nodes:
        sources = [image if index == IMAGE else values[index] for index in node.inputs]
        if not node.site:
            assert node.op == "add"
            values.append(sources[0] + sources[1])
            continue
        x = site(node.site, sources[0])
        if side and node.site.placement == "project" and (branch := own.get(node.site.block)):
            x += side(branch, values[branch.source])
        values.append(x)
    return tf.reduce_mean(values[-1], axis=(1, 2))


def convolve(plan: Plan, site: Site, x: Any, kernel: Any) -> Any:
    import tensorflow as tf

    around = plan.pads(site, x.shape[1])
    same = plan.same(site)
    if not same:
        x = tf.pad(x, ((0, 0), around, around, (0, 0)))
    padding = "SAME" if same else "VALID"
    if site.depthwise:
        return tf.nn.depthwise_conv2d(x, kernel, (1, site.stride, site.stride, 1), padding)
    return tf.nn.conv2d(x, kernel, site.stride, padding)


def pool(side: Side, x: Any) -> Any:
    import tensorflow as tf

    return (
        tf.reduce_mean(x, axis=(1, 2), keepdims=True) if side.pooled == 1 else tf.nn.avg_pool2d(x, POOL, POOL, "VALID")
    )


def upsample(side: Side, x: Any, pixels: int) -> Any:
    import tensorflow as tf

    return x if side.pooled == 1 else tf.image.resize(x, (pixels, pixels))


def folded(own: Backbone, site: Site) -> tuple[np.ndarray, np.ndarray]:
    """Kernel and bias with the batch norm in them."""
    scale, bias = own.fold(site)
    return own.part(site, "kernel") * (scale[:, None] if site.depthwise else scale), bias


# --- parameters ---


def parameters() -> list[list[str]]:
    """Values a patch holds without its head."""
    rows = [["patch", "values", "KB in fp16", "of scale_bias"]]
    own = backbone(SIZE)
    plan = own.plan
    both = 2 * sum(plan.channels)
    counts = {SCALE_BIAS: both, BIAS: sum(plan.channels)}
    counts["depthwise kernels"] = sum(math.prod(site.kernel) for site in plan.sites if site.depthwise)
    for size in (224, SIZE):
        found = sides(plan, size).values()
        kernels = [side.kernel for side in found]
        what = ", ".join(f"{kernels.count(each)} of {each}x{each}" for each in sorted(set(kernels), reverse=True))
        counts[f"branches at {size} px: {what}"] = sum(side.values for side in found)
    counts["all kernels of the backbone"] = sum(math.prod(site.kernel) for site in plan.sites)
    for name, count in counts.items():
        rows.append([name, f"{count:,}", f"{2 * count / 1e3:,.0f}", f"{count / both:.1f}"])
    return rows


# --- latency ---


def model(own: Backbone, branches: str, seed: int = 0) -> tuple[bytes, dict[str, np.ndarray], np.ndarray]:
    """A .tflite by TensorFlow's converter, its inputs by name, and TensorFlow's own logits for them.

    Args:
        branches: `none`; `grouped`, one convolution each; `split`, two and a concatenation; `bound`, grouped with their
            values as graph inputs.
    """
    import tensorflow as tf

    rng, plan = np.random.default_rng(seed), own.plan
    head = rng.normal(0, 0.05, (plan.features, CLASSES)).astype(np.float32)
    found = {side.block: side for side in sides(plan, SIZE).values()} if branches != "none" else {}
    values: dict[str, np.ndarray] = {}
    for block, side in found.items():
        for number, shape in enumerate(side.shapes):
            spread = 0.5 / math.sqrt(math.prod(shape[:-1]))
            values[f"side_{block}_{number}"] = rng.normal(0, spread, shape).astype(np.float32)
    inputs = {"image": rng.normal(0, 1, (1, SIZE, SIZE, 3)).astype(np.float32)}
    if branches == "bound":
        inputs |= values

    def serve(**given: Any) -> dict[str, Any]:
        def at(site: Site, x: Any) -> Any:
            kernel, bias = folded(own, site)
            x = convolve(plan, site, x, tf.constant(kernel)) + bias
            return tf.nn.relu6(x) if site.activation == "relu6" else x

        def beside(side: Side, x: Any) -> Any:
            names = [f"side_{side.block}_{number}" for number in range(3)]
            grouped, bias, point = (given[n] if n in given else tf.constant(values[n]) for n in names)
            pixels = -(-x.shape[1] // side.stride)
            x = pool(side, x)
            if branches == "split":
                halves = zip(tf.split(x, GROUPS, 3), tf.split(grouped, GROUPS, 3), strict=True)
                x = tf.concat([tf.nn.conv2d(part, kernel, side.stride, "SAME") for part, kernel in halves], 3)
            else:
                x = tf.nn.conv2d(x, grouped, side.stride, "SAME")
            x = tf.nn.conv2d(tf.nn.relu(x + bias), point, 1, "SAME")
            return upsample(side, x, pixels)

        return {"logits": walk(plan, given["image"], at, beside if found else None) @ head}

    module = tf.Module()
    specs = {name: tf.TensorSpec(value.shape, tf.float32, name=name) for name, value in inputs.items()}
    module.serve = tf.function(serve, autograph=False)
    concrete = module.serve.get_concrete_function(**specs)
    expected = concrete(**{name: tf.constant(value) for name, value in inputs.items()})["logits"].numpy()
    with hushed():
        data = tf.lite.TFLiteConverter.from_concrete_functions([concrete], module).convert()
    return bytes(data), inputs, expected


def outside(interpreter: Any) -> tuple[int, dict[str, int]]:
    """How many parts XNNPACK was given, and the operators it was not, by name.

    An operator is inside where it lies between a part's inputs and outputs.
    """
    details = interpreter._get_ops_details()
    parts = [op for op in details if op["op_name"] == "DELEGATE"]
    plain = [op for op in details if op["op_name"] != "DELEGATE"]
    maker = {int(tensor): op for op in plain for tensor in op["outputs"]}
    inside: set[int] = set()
    for part in parts:
        left, edge = [int(tensor) for tensor in part["outputs"]], {int(tensor) for tensor in part["inputs"]}
        while left:
            tensor = left.pop()
            if tensor in edge or tensor not in maker or maker[tensor]["index"] in inside:
                continue
            inside.add(maker[tensor]["index"])
            left += [int(source) for source in maker[tensor]["inputs"]]
    names = [op["op_name"] for op in plain if op["index"] not in inside]
    return len(parts), {name: names.count(name) for name in sorted(set(names))}


def latency() -> list[list[str]]:
    """Milliseconds an image in LiteRT, one thread; rounds are interleaved, each with every model."""
    from ai_edge_litert.interpreter import Interpreter

    heads = ["network", "ms", "ratio", "file, MB", "parts in XNNPACK", "operators outside", "largest error"]
    named = {
        "without branches": "none",
        "branches baked, grouped CONV_2D": "grouped",
        "branches baked, two CONV_2D and CONCATENATION": "split",
        "branches bound as graph inputs": "bound",
    }
    own = backbone(SIZE)
    opened: dict[str, tuple[Any, int, float, list[float]]] = {}
    for name, branches in named.items():
        data, inputs, expected = model(own, branches)
        with hushed():
            interpreter = Interpreter(model_content=data, num_threads=1)
            places = {
                d["name"].split(":")[0].removeprefix("serving_default_"): d["index"]
                for d in interpreter.get_input_details()
            }
            interpreter.allocate_tensors()
        for each, value in inputs.items():
            interpreter.set_tensor(places[each], value)
        interpreter.invoke()
        got = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
        opened[name] = interpreter, len(data), float(np.abs(got - expected).max()), []
    rng = np.random.default_rng(0)
    for _ in range(ROUNDS):
        for name in rng.permutation(list(opened)):
            interpreter, _, _, times = opened[name]
            interpreter.invoke()
            began = time.perf_counter()
            for _ in range(5):
                interpreter.invoke()
            times.append((time.perf_counter() - began) / 5)
    base = statistics.median(opened["without branches"][3])
    rows = [heads]
    for name, (interpreter, size, error, times) in opened.items():
        parts, left = outside(interpreter)
        took = statistics.median(times)
        kinds = ", ".join(f"{count} {kind}" for kind, count in left.items()) or "none"
        rows.append(
            [name, f"{1e3 * took:.2f}", f"{took / base:.2f}", f"{size / 1e6:.1f}", str(parts), kinds, f"{error:.0e}"]
        )
    return rows


# --- training ---


class Network:
    """A classifier on the backbone, of which `way` says what is trained.

    Attributes:
        trained: its variables; those of the branches alone are `of_sides`.
    """

    def __init__(self, own: Backbone, way: str, *, bits: bool = False, seed: int = 0) -> None:
        import tensorflow as tf

        self.own, self.way, self.rng = own, way, np.random.default_rng(seed)
        self.trained: list[Any] = []
        self.of_sides: list[Any] = []
        self.at: dict[Any, list[Any]] = {}
        self.relu6 = masked_relu6() if bits else tf.nn.relu6
        for site in own.plan.sites:
            self.at[site] = self._site(site)
        if way == LITE:
            for side in sides(own.plan, own.input.size).values():
                self.at[side] = self._side(side)
        self.head = [self.variable(np.zeros(shape)) for shape in ((own.plan.features, CLASSES), (CLASSES,))]

    def variable(self, value: Any) -> Any:
        import keras

        self.trained.append(keras.Variable(np.asarray(value, np.float32)))
        return self.trained[-1]

    def _site(self, site: Site) -> list[Any]:
        import tensorflow as tf

        kernel, bias = folded(self.own, site)
        zeros = np.zeros(site.channels)
        if self.way in (BIAS, LITE):
            return [tf.constant(kernel), tf.constant(bias), self.variable(zeros)]
        if self.way == SCALE_BIAS:
            frozen = [tf.constant(part) for part in (self.own.part(site, "kernel"), *self.own.fold(site))]
            return [*frozen, self.variable(zeros), self.variable(zeros)]
        if self.way == FULL:
            return [self.variable(self.own.part(site, part)) for part in ("kernel", "gamma", "beta")]
        if self.way == FOLDED:
            return [self.variable(kernel), self.variable(bias)]
        return [tf.constant(kernel), tf.constant(bias)]

    def _side(self, side: Side) -> list[Any]:
        """Kernels, gammas, the first beta, moving means and variances; the second gamma starts from zero."""
        import keras

        grouped, middle, point = side.shapes
        kernels = [self.rng.normal(0, math.sqrt(2 / math.prod(shape[:-1])), shape) for shape in (grouped, point)]
        found = [
            self.variable(value) for value in (*kernels, np.ones(middle), np.zeros(middle), np.zeros(side.outputs))
        ]
        self.of_sides += found
        moving = [fill(width) for width in (*middle, side.outputs) for fill in (np.zeros, np.ones)]
        return [*found, *(keras.Variable(value.astype(np.float32), trainable=False) for value in moving)]

    def site(self, site: Site, x: Any) -> Any:
        import tensorflow as tf

        x, part = convolve(self.own.plan, site, x, self.at[site][0]), self.at[site][1:]
        if self.way in (BIAS, LITE):
            x = tf.nn.bias_add(x, part[0] + part[1] * np.abs(self.own.part(site, "gamma")))
        elif self.way == SCALE_BIAS:
            scale, bias, d, c = part
            x = x * (scale * (1 + d)) + (bias * (1 + d) + c * np.abs(self.own.part(site, "gamma")))
        elif self.way == FULL:
            x = tf.compat.v1.nn.fused_batch_norm(x, *part, epsilon=self.own.plan.epsilon, is_training=True)[0]
        else:
            x = tf.nn.bias_add(x, part[0])
        return self.relu6(x) if site.activation == "relu6" else x

    def side(self, side: Side, x: Any, training: bool) -> Any:
        import tensorflow as tf

        grouped, point, gamma, beta, last, *moving = self.at[side]
        pixels = -(-x.shape[1] // side.stride)
        x = tf.nn.conv2d(pool(side, x), grouped, side.stride, "SAME")
        x = tf.nn.relu(self._norm(x, gamma, beta, moving[:2], training))
        x = self._norm(tf.nn.conv2d(x, point, 1, "SAME"), last, tf.zeros_like(last), moving[2:], training)
        return upsample(side, x, pixels)

    def _norm(self, x: Any, gamma: Any, beta: Any, moving: list[Any], training: bool) -> Any:
        import tensorflow as tf

        norm = tf.compat.v1.nn.fused_batch_norm
        if not training:
            return norm(x, gamma, beta, *(tf.convert_to_tensor(each) for each in moving), is_training=False)[0]
        x, *seen = norm(x, gamma, beta, is_training=True)
        for each, value in zip(moving, seen, strict=True):
            each.assign_add(0.1 * (value - each))
        return x

    def features(self, images: Any, training: bool) -> Any:
        beside = (lambda side, x: self.side(side, x, training)) if self.way == LITE else None
        return walk(self.own.plan, images, self.site, beside)

    def logits(self, images: Any, training: bool) -> Any:
        return self.features(images, training) @ self.head[0] + self.head[1]


def masked_relu6() -> Callable[[Any], Any]:
    """ReLU6 that keeps one bit a value for its gradient, eight packed to the byte, as TinyTL counts it."""
    import tensorflow as tf

    bits = tf.constant([1 << bit for bit in range(8)], tf.uint8)

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def relu6(x: Any) -> Any:
        y = tf.nn.relu6(x)
        passed = tf.reshape(tf.cast((y > 0) & (y < 6), tf.uint8), (-1, 8))
        packed = tf.reduce_sum(passed * bits, axis=1)

        def gradient(dy: Any) -> Any:
            passed = tf.bitwise.bitwise_and(packed[:, None], bits) > 0
            return tf.where(tf.reshape(passed, tf.shape(dy)), dy, 0.0)

        return y, gradient

    return relu6


def step(net: Network, optimizers: Sequence[Any]) -> Callable[[Any, Any], Any]:
    """One step of training: of the branches by the second of two optimizers, of all else by the first."""
    import tensorflow as tf

    chosen = {id(variable) for variable in net.of_sides}
    groups = [[v for v in net.trained if (id(v) in chosen) is branch] for branch in (False, True)]
    for optimizer, group in zip(optimizers, groups, strict=True):
        optimizer.build(group)

    def run(images: Any, labels: Any) -> Any:
        with tf.GradientTape() as tape:
            logits = net.logits(images, True)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
        tf.no_op(name=BACKWARD)
        found = tape.gradient(loss, [group for group in groups if group])
        for optimizer, group, gradients in zip(optimizers, groups, found, strict=False):
            optimizer.apply_gradients(zip(gradients, group, strict=True))
        return loss

    return run


def traced(run: Callable[[Any, Any], Any], size: int, batch: int | None) -> Any:
    import tensorflow as tf

    images = tf.TensorSpec((batch, size, size, 3), tf.float32, name="image")
    return tf.function(run, autograph=False).get_concrete_function(
        images, tf.TensorSpec((batch,), tf.int64, name="label")
    )


def kept(graph: Any) -> int:
    """Bytes that the forward pass of a step computes from the images and its backward pass reads."""
    operations = graph.get_operations()
    begin = next(index for index, operation in enumerate(operations) if operation.name == BACKWARD)
    alive: set[str] = set()
    left = [*graph.control_outputs, *(tensor.op for tensor in graph.outputs)]
    while left:
        operation = left.pop()
        if operation.name not in alive:
            alive.add(operation.name)
            left += [*operation.control_inputs, *(tensor.op for tensor in operation.inputs)]
    early, found = {"image"}, {}
    for operation in operations[:begin]:
        if operation.type not in SHAPES and any(tensor.op.name in early for tensor in operation.inputs):
            early.add(operation.name)
    for operation in operations[begin:]:
        if operation.name not in alive or operation.type in SHAPES:
            continue
        for source in operation.inputs:
            tensor = source
            while tensor.op.type in VIEWS:
                tensor = tensor.op.inputs[0]
            known = tensor.shape.rank is not None  # not so of a batch norm's reserve, which is empty on a CPU
            if known and tensor.op.name in early and tensor.op.name != "image":
                found[tensor.name] = math.prod(tensor.shape) * tensor.dtype.size
    return sum(found.values())


def apart(work: Callable[..., Any], *arguments: Any) -> Any:
    """The result of a function, run in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def resident(what: str) -> int:
    """Bytes, `VmRSS` now or `VmHWM` at most."""
    found = re.search(rf"{what}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return 1024 * int(found.group(1))


def memory_of(way: str, bits: bool) -> dict[str, float]:
    """What steps of one kind of training take: run in a process of its own.

    The step is traced and run on one image first, so that neither graph nor optimizer is counted.
    """
    import keras
    import tensorflow as tf

    rng = np.random.default_rng(0)
    net = Network(backbone(SIZE), way, bits=bits)
    run = step(net, [keras.optimizers.Adam(1e-3), keras.optimizers.Adam(1e-3)])
    images = tf.constant(rng.normal(0, 1, (BATCH, SIZE, SIZE, 3)).astype(np.float32))
    labels = tf.constant(rng.integers(0, CLASSES, BATCH))
    train = traced(run, SIZE, None)
    train(images[:1], labels[:1])
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before, times = resident("VmRSS"), []
    for _ in range(6):
        began = time.perf_counter()
        train(images, labels).numpy()
        times.append(time.perf_counter() - began)
    peak = resident("VmHWM") - before
    values = sum(math.prod(variable.shape) for variable in net.trained)
    kept_bytes = kept(traced(run, SIZE, BATCH).graph)
    return {"values": values, "kept": kept_bytes, "peak": peak, "ms": 1e3 * statistics.median(times[1:])}


def memory() -> list[list[str]]:
    """Memory of one optimizer step in TensorFlow, on the CPU."""
    rows = [["trained, with the head", "ReLU6 keeps", "values", "kept for backward, MB", "ratio"]]
    rows[0] += ["peak RSS of a step, MB (runs)", "ratio", "step, ms"]
    ways = [(way, False) for way in (HEAD, BIAS, SCALE_BIAS, LITE, FOLDED, FULL)]
    ways += [(way, True) for way in (BIAS, SCALE_BIAS, LITE)]
    seen: dict[tuple[str, bool], list[dict[str, float]]] = {key: [] for key in ways}
    for _ in range(REPEATS):
        for key, own in seen.items():
            with hushed():
                own.append(apart(memory_of, *key))

    def middle(key: tuple[str, bool], what: str) -> float:
        return statistics.median(run[what] for run in seen[key])

    whole = FULL, False
    for key, own in seen.items():
        peaks = ", ".join(f"{run['peak'] / 1e6:.0f}" for run in own)
        cells = [key[0], "nothing" if key[0] == HEAD else "a bit" if key[1] else "a float", f"{own[0]['values']:,}"]
        for what, more in (("kept", ""), ("peak", f" ({peaks})")):
            cells.append(f"{middle(key, what) / 1e6:.1f}{more}")
            cells.append(f"{middle(key, what) / middle(whole, what):.2f}")
        rows.append([*cells, f"{middle(key, 'ms'):.0f}"])
    return rows


# --- accuracy ---


def learn(net: Network, images: np.ndarray, labels: np.ndarray, start: Any, side_rate: float, seed: int) -> None:
    """Train from a head that is trained already; warm-up and a cosine, no augmentation."""
    import keras
    import tensorflow as tf

    net.head[0].assign(start[0])
    net.head[1].assign(start[1])
    each = len(images) // BATCH
    warm = int(0.3 * EPOCHS * each)
    schedule = keras.optimizers.schedules.CosineDecay
    rates = [schedule(0.0, EPOCHS * each - warm, warmup_target=rate, warmup_steps=warm) for rate in (RATE, side_rate)]
    train = traced(step(net, [keras.optimizers.Adam(rate) for rate in rates]), net.own.input.size, BATCH)
    rng = np.random.default_rng(seed)
    for _ in range(EPOCHS):
        for chosen in np.array_split(rng.permutation(len(images))[: each * BATCH], each):
            train(tf.constant(images[chosen]), tf.constant(labels[chosen]))


def outputs(work: Callable[[Any, bool], Any], images: np.ndarray) -> np.ndarray:
    """Logits or features as at inference, of any number of images."""
    import tensorflow as tf

    run = tf.function(lambda images: work(images, False), autograph=False, reduce_retracing=True)
    parts = np.array_split(images, -(-len(images) // 64))
    return np.concatenate([run(tf.constant(part)).numpy() for part in parts])


def head_of(features: np.ndarray, labels: np.ndarray, seed: int) -> list[np.ndarray]:
    """Kernel and bias of a softmax regression on features brought to one common scale."""
    import keras

    keras.utils.set_random_seed(seed)
    spread = features.std()
    dense = keras.Sequential([keras.Input((features.shape[1],)), keras.layers.Dense(CLASSES)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    dense.compile(keras.optimizers.Adam(3e-3), loss, jit_compile=False)
    dense.fit(features / spread, labels, batch_size=BATCH, epochs=40, verbose=0)
    kernel, bias = dense.get_weights()
    return [kernel / spread, bias]


def accuracy() -> list[list[str]]:
    """Test accuracy on a small set; the branches' rate is chosen on validation images."""
    import tensorflow as tf

    from edgepatch.data import folder, pictures

    tf.get_logger().setLevel("ERROR")  # of a function traced anew for each network, as it must be
    own = backbone(SMALL)
    train, test = (folder.scan(DATA / split) for split in ("train", "test"))
    order = np.random.default_rng(0).permutation(len(train))
    splits = {}
    for name, files in {
        "train": train.take(order[:IMAGES]),
        "val": train.take(order[IMAGES : IMAGES + VALIDATION]),
        "test": test,
    }.items():
        loaded = pictures.load(files, own.input, Quiet())
        splits[name] = own.input.normalise(loaded.pixels), loaded.labels
    images, labels = splits["train"]
    found: dict[tuple[str, float], list[dict[str, float]]] = {}
    plain = Network(own, HEAD)
    features = outputs(plain.features, images)
    for seed in SEEDS:
        start = head_of(features, labels, seed)
        tried = [(HEAD, 0.0), (BIAS, 0.0), (SCALE_BIAS, 0.0), *((LITE, rate) for rate in SIDE_RATES)]
        for way, rate in tried:
            net = Network(own, way, seed=seed)
            net.head[0].assign(start[0])
            net.head[1].assign(start[1])
            if way != HEAD:
                learn(net, images, labels, start, rate, seed)
            right = {name: outputs(net.logits, each).argmax(1) == truth for name, (each, truth) in splits.items()}
            result = {name: 100 * float(each.mean()) for name, each in right.items()}
            print(f"{way}, {rate:g}, seed {seed}: {result}", file=sys.stderr, flush=True)
            found.setdefault((way, rate), []).append(result)
    rows = [["trained, with the head", "rate of the branches", "validation", "test", "test, by seed"]]
    best = max(SIDE_RATES, key=lambda rate: sum(run["val"] for run in found[LITE, rate]))
    for (way, rate), runs in found.items():
        means = [f"{statistics.mean(run[name] for run in runs):.1f}" for name in ("val", "test")]
        name = f"{way} (chosen)" if (way, rate) == (LITE, best) else way
        rows.append([name, f"{rate:g}" if rate else "-", *means, ", ".join(f"{run['test']:.1f}" for run in runs)])
    return rows


TABLES = {"parameters": parameters, "latency": latency, "memory": memory, "accuracy": accuracy}


def main(names: list[str]) -> None:
    for name in names or list(TABLES):
        if name == "accuracy" and not DATA.is_dir():
            print(f"skipped accuracy: the images are not at {DATA}")
            continue
        rows = TABLES[name]()
        print(f"{name}\n\n| " + " | ".join(rows[0]) + " |\n" + "|---" * len(rows[0]) + "|")
        print("".join("| " + " | ".join(row) + " |\n" for row in rows[1:]), flush=True)
    model = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
    print(f"Measured on {model.group(1) if model else platform.processor()}, {os.cpu_count()} cores.")


if __name__ == "__main__":
    main(sys.argv[1:])
