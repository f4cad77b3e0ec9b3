"""What the comparison of two machines' answers lets through and what not: it decides whether `make arm-test` passes."""

from __future__ import annotations

from typing import Any

import pytest
from arm import parity
from arm.errands import FailedError

PICTURES = {"near": [0.01, -0.01, 0.0], "clear": [3.0, -1.0, 0.5]}


def classified(graph: str = "mobilenet.tflite", **logits: list[float]) -> list[dict[str, Any]]:
    asked = {"graph": graph, "engine": "litert", "mode": "bind", "task": "digits", "input": "hash"}
    return [
        {
            **asked,
            "picture": picture,
            "logits": values,
            "label": str(values.index(max(values))),
            "score": 0.5,
        }
        for picture, values in {**PICTURES, **logits}.items()
    ]


def detected(graph: str, classes: list[int]) -> list[dict[str, Any]]:
    asked = {"graph": graph, "engine": "litert", "mode": "bake", "task": "pages", "input": "hash", "picture": "a"}
    boxes = [[0.0, 0.0, 10.0 + number, 10.0] for number in range(len(classes))]
    return [{**asked, "classes": classes, "scores": [0.9] * len(classes), "boxes": boxes}]


def wrong(mine: list[dict[str, Any]], reference: list[dict[str, Any]]) -> list[str]:
    (row,) = parity.compare(mine, reference).values()
    return row.wrong


def test_the_same_answers_pass_and_are_counted() -> None:
    (row,) = parity.compare(classified(), classified()).values()
    assert (row.answers, row.alike, row.labels, row.furthest, row.wrong) == (2, 2, [2, 2], 0.0, [])


def test_a_rounding_of_an_answer_near_nothing_passes_and_a_logit_that_is_off_does_not() -> None:
    assert wrong(classified(near=[0.0101, -0.01, 0.0]), classified()) == []
    (told,) = wrong(classified(clear=[3.0, -1.0, 0.6]), classified())
    assert "a logit is off by 0.1" in told and "clear" in told
    assert wrong(classified("int8.tflite", clear=[3.0, -1.0, 0.6]), classified("int8.tflite")) == []


def test_another_label_passes_only_where_two_were_near() -> None:
    assert wrong(classified("int8.tflite", near=[-0.01, 0.01, 0.0]), classified("int8.tflite")) == []
    answers = classified()
    answers[1]["label"] = "1"  # by the same logits
    (told,) = wrong(answers, classified())
    assert told.endswith("1, not 0")


def test_other_boxes_are_wrong_in_float_and_counted_in_int8() -> None:
    (told,) = wrong(detected("mobilenet.tflite", [1, 2]), detected("mobilenet.tflite", [1, 3]))
    assert "boxes of [1, 2], not of [1, 3]" in told
    (row,) = parity.compare(detected("int8.tflite", [1, 2]), detected("int8.tflite", [1, 3])).values()
    assert (row.boxes, row.wrong) == ([0, 1], [])


def test_other_questions_are_no_comparison() -> None:
    with pytest.raises(FailedError, match="asked different things"):
        parity.compare(classified(), classified("other.tflite"))
    with pytest.raises(FailedError, match="asked different things"):
        parity.compare(classified(), classified()[:1])
