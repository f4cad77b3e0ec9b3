"""Boxes decoded and suppressed in numpy, beside TFLite's own operator for it, on the same outputs of a detector.

    python benchmarks/detection/post_processing.py

Outputs are drawn at random: so many anchors answer a class with a score above the threshold as `busy` says.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from flatbuffers import flexbuffers

from edgepatch import boxes

ROUNDS = 60


def operator(anchors: np.ndarray, classes: int, score: float, overlap: float, limit: int) -> Interpreter:
    """`TFLite_Detection_PostProcess` alone, with its slower, exact suppression a class."""
    count = len(anchors)
    model, graph = schema.ModelT(), schema.SubGraphT()
    centres, sizes = (anchors[:, :2] + anchors[:, 2:]) / 2, anchors[:, 2:] - anchors[:, :2]
    theirs = np.concatenate([centres[:, ::-1], sizes[:, ::-1]], axis=1).astype(np.float32)  # y, x, height, width
    empty, constant = schema.BufferT(), schema.BufferT()
    constant.data = np.frombuffer(theirs.tobytes(), np.uint8)
    model.buffers = [empty, constant]

    def tensor(name: str, shape: list[int], buffer: int = 0) -> Any:
        made = schema.TensorT()
        made.name, made.shape, made.type, made.buffer = name, shape, schema.TensorType.FLOAT32, buffer
        return made

    graph.tensors = [
        tensor("codings", [1, count, 4]),
        tensor("scores", [1, count, 1 + classes]),
        tensor("anchors", [count, 4], 1),
        tensor("boxes", [1, limit, 4]),
        tensor("labels", [1, limit]),
        tensor("best", [1, limit]),
        tensor("count", [1]),
    ]
    made, code = schema.OperatorT(), schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    code.customCode = "TFLite_Detection_PostProcess"
    made.inputs, made.outputs, made.opcodeIndex = [0, 1, 2], [3, 4, 5, 6], 0
    scale = dict(zip(("x_scale", "y_scale", "w_scale", "h_scale"), (10.0, 10.0, 5.0, 5.0), strict=True))
    options = {
        "max_detections": limit,
        "max_classes_per_detection": 1,
        "detections_per_class": limit,
        "use_regular_nms": True,
        "nms_score_threshold": score,
        "nms_iou_threshold": overlap,
        "num_classes": classes,
        **scale,
    }
    made.customOptions = np.frombuffer(flexbuffers.Dumps(options), np.uint8)
    graph.inputs, graph.outputs, graph.operators = [0, 1], [3, 4, 5, 6], [made]
    model.version, model.subgraphs, model.operatorCodes = 3, [graph], [code]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    interpreter = Interpreter(model_content=bytes(builder.Output()), num_threads=1)
    interpreter.allocate_tensors()
    return interpreter


def measured(sides: list[int], classes: int, busy: int) -> tuple[float, float, int, int]:
    """Milliseconds of both, medians of interleaved rounds, and how many boxes each leaves."""
    rng = np.random.default_rng(0)
    how = boxes.spread(len(sides))
    anchors = how.boxes(sides)
    codings = rng.normal(0, 1, (len(anchors), 4)).astype(np.float32)
    scores = np.full((len(anchors), 1 + classes), 1e-3, np.float32)
    rows = rng.permutation(len(anchors))[:busy]
    scores[rows, 1 + rng.integers(0, classes, len(rows))] = rng.uniform(0.4, 1, len(rows))
    interpreter = operator(anchors, classes, 0.3, 0.5, 100)

    def ours() -> int:
        whole = np.clip(boxes.decode(codings, anchors, how.variances), 0, 1)
        return len(boxes.choose(whole, scores[:, 1:], least=0.3, threshold=0.5, limit=100)[1])

    def theirs() -> int:
        interpreter.set_tensor(0, codings[:, [1, 0, 3, 2]][None])
        interpreter.set_tensor(1, scores[None])
        interpreter.invoke()
        return int(interpreter.get_tensor(6)[0])

    spent: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS):
        for each, times in zip((ours, theirs), spent, strict=True):
            start = time.perf_counter()
            each()
            times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(spent[0]), statistics.median(spent[1]), ours(), theirs()


def rows() -> list[list[str]]:
    found = [["anchors", "classes", "anchors that answer", "numpy, ms", "TFLite's operator, ms", "boxes left"]]
    for sides, classes in (([10, 5, 3, 2, 1, 1], 1), ([14, 7, 4, 2, 1, 1], 3), ([19, 10, 5, 3, 2, 1], 80)):
        for busy in (10, 100):
            own, other, left, right = measured(sides, classes, busy)
            count = len(boxes.spread(len(sides)).boxes(sides))
            found.append([str(count), str(classes), str(busy), f"{own:.2f}", f"{other:.2f}", f"{left} / {right}"])
    return found


if __name__ == "__main__":
    for row in rows():
        print(" | ".join(row))
