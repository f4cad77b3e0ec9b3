"""Mean average precision and mean intersection over union, against cases worked out by hand."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest

from edgepatch import box_metrics
from edgepatch.box_metrics import Found, Truth, best_score
from edgepatch.errors import MissingPackageError, UsageError
from edgepatch.patches import detector
from edgepatch.patches.map_head import Examples

SQUARE = (10, 10, 30, 30)


def truth(*boxes: tuple[float, ...], labels: tuple[int, ...] = (), ignored: tuple[bool, ...] = ()) -> Truth:
    count = len(boxes)
    return Truth(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(labels or (0,) * count, np.int64),
        np.array(ignored or (False,) * count, bool),
    )


def found(*boxes: tuple[float, ...], scores: tuple[float, ...] = (), labels: tuple[int, ...] = ()) -> Found:
    count = len(boxes)
    return Found(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(scores or (0.9,) * count, np.float32),
        np.array(labels or (0,) * count, np.int64),
    )


@pytest.fixture
def _coco() -> None:
    pytest.importorskip("pycocotools")


precision = pytest.mark.usefixtures("_coco")


@precision
def test_what_is_found_exactly_has_precision_one(capsys: pytest.CaptureFixture[str]) -> None:
    result = box_metrics.mean_average_precision(
        [truth(SQUARE, (40, 40, 60, 50), labels=(0, 1)), truth()],
        [found(SQUARE, (40, 40, 60, 50), labels=(0, 1)), found()],
        2,
    )
    assert (result["map50"], result["map"]) == pytest.approx((1, 1))
    assert result["ap50"] == result["ap"] == pytest.approx([1, 1])
    assert capsys.readouterr().out == "", "the package prints how far it is"


@precision
def test_a_shifted_box_counts_up_to_its_overlap() -> None:
    # 20 x 20 shifted by 4: 16 x 20 of 24 x 20 in common, an IoU of 2/3: of the ten thresholds 0.5 to 0.65 hold
    result = box_metrics.mean_average_precision([truth(SQUARE)], [found((14, 10, 34, 30))], 1)
    assert (result["map50"], result["map"]) == pytest.approx((1, 0.4))
    assert (*result["ap50"], *result["ap"]) == pytest.approx((1, 0.4))


@precision
def test_a_missed_box_takes_the_recall_it_has_not() -> None:
    # one of two found: precision 1 up to recall 0.5, at 51 of COCO's 101 points
    result = box_metrics.mean_average_precision([truth(SQUARE, (50, 50, 70, 70))], [found(SQUARE)], 1)
    assert result["map50"] == pytest.approx(51 / 101)
    assert result["map"] == pytest.approx(51 / 101)


@precision
def test_a_duplicate_is_a_false_positive() -> None:
    # the duplicate comes second of three: precision is 1 up to recall 0.5, then 2 of 3
    boxes = [truth(SQUARE, (50, 50, 70, 70))]
    twice = [found(SQUARE, SQUARE, (50, 50, 70, 70), scores=(0.9, 0.8, 0.7))]
    assert box_metrics.mean_average_precision(boxes, twice, 1)["map50"] == pytest.approx((51 + 50 * 2 / 3) / 101)
    last = [found(SQUARE, SQUARE, (50, 50, 70, 70), scores=(0.9, 0.1, 0.7))]
    assert box_metrics.mean_average_precision(boxes, last, 1)["map50"] == pytest.approx(1)


@precision
def test_a_surer_box_of_nothing_halves_precision_even_in_another_picture() -> None:
    result = box_metrics.mean_average_precision(
        [truth(SQUARE), truth()], [found(SQUARE, scores=(0.5,)), found(SQUARE, scores=(0.9,))], 1
    )
    assert result["map50"] == pytest.approx(0.5)


@precision
def test_an_ignored_box_counts_neither_missed_nor_found() -> None:
    boxes = [truth(SQUARE, (50, 50, 90, 90), ignored=(False, True))]
    assert box_metrics.mean_average_precision(boxes, [found(SQUARE)], 1)["map"] == pytest.approx(1)
    within = found(SQUARE, (50, 50, 60, 60), (70, 70, 90, 90), scores=(0.5, 0.9, 0.8))
    assert box_metrics.mean_average_precision(boxes, [within], 1)["map"] == pytest.approx(1)
    beside = found(SQUARE, (100, 100, 110, 110), scores=(0.5, 0.9))
    assert box_metrics.mean_average_precision(boxes, [beside], 1)["map50"] == pytest.approx(0.5)


@precision
def test_a_class_without_truth_is_nan_and_not_in_the_mean() -> None:
    boxes = [truth(SQUARE, (50, 50, 70, 70), labels=(0, 2), ignored=(False, True))]
    result = box_metrics.mean_average_precision(boxes, [found(SQUARE, SQUARE, labels=(0, 1))], 4)
    assert result["map50"] == result["map"] == pytest.approx(1)
    assert [math.isnan(value) for value in result["ap"]] == [False, True, True, True]


@precision
def test_nothing_found_is_zero_and_nothing_to_find_is_nan() -> None:
    nothing = box_metrics.mean_average_precision([truth(SQUARE)], [found()], 1)
    assert (nothing["map50"], nothing["map"], nothing["ap"]) == (0, 0, [0])
    for boxes, given in (([truth()], [found(SQUARE)]), ([truth()], [found()]), ([], [])):
        result = box_metrics.mean_average_precision(boxes, given, 1)
        assert math.isnan(result["map50"])
        assert math.isnan(result["ap"][0])


@precision
def test_the_right_box_with_the_wrong_label_is_not_found() -> None:
    result = box_metrics.mean_average_precision([truth(SQUARE)], [found(SQUARE, labels=(1,))], 2)
    assert result["ap"][0] == 0
    assert math.isnan(result["ap"][1])


@precision
def test_a_box_inside_out_is_a_false_positive_and_no_crash() -> None:
    result = box_metrics.mean_average_precision([truth(SQUARE)], [found((30, 30, 10, 10))], 1)
    assert result["map50"] == 0


@precision
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "same pictures"),
        ([found((0, 0, math.nan, 1))], "NaN"),
        ([found(SQUARE, scores=(math.inf,))], "NaN"),
        ([found(SQUARE, labels=(1,))], "no class"),
        ([Found(np.zeros((2, 4)), np.zeros(1), np.zeros(2, np.int64))], "same length"),
    ],
)
def test_detections_that_cannot_be_counted_are_refused(given: list[Found], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        box_metrics.mean_average_precision([truth(SQUARE)], given, 1)


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    monkeypatch.delitem(sys.modules, "pycocotools.coco", raising=False)
    with pytest.raises(MissingPackageError) as caught:
        box_metrics.mean_average_precision([], [], 1)
    assert 'pip install "edgepatch[detect]"' in str(caught.value)


def test_intersection_over_union_of_known_masks() -> None:
    mask = np.array([[0, 0, 1, 1], [0, 0, 1, 255]], np.uint8)
    predicted = np.array([[0, 1, 1, 1], [0, 0, 0, 1]], np.uint8)
    counts = box_metrics.confusion([mask], [predicted], 3)
    assert counts.tolist() == [[3, 1, 0], [1, 2, 0], [0, 0, 0]]
    ious = box_metrics.iou_of_classes(counts)
    assert ious[:2] == pytest.approx([3 / 5, 2 / 4])
    assert math.isnan(ious[2]), "no truth"
    assert box_metrics.mean_iou(counts) == pytest.approx(0.55)
    twice = box_metrics.confusion(np.stack([mask, mask]), np.stack([predicted, predicted]), 3)
    assert (twice == 2 * counts).all()


def test_a_class_that_is_only_predicted_harms_the_others_but_is_not_in_the_mean() -> None:
    counts = box_metrics.confusion([np.zeros((1, 4), np.uint8)], [np.array([[0, 0, 1, 1]])], 2)
    assert box_metrics.mean_iou(counts) == 0.5
    assert math.isnan(box_metrics.mean_iou(np.zeros((2, 2), np.int64)))


@pytest.mark.parametrize(
    ("mask", "predicted", "said"),
    [([[2]], [[0]], "no class"), ([[0]], [[255]], "no class"), ([[0]], [[-1]], "no class"), ([[0]], [[0, 0]], "shape")],
)
def test_masks_that_cannot_be_counted_are_refused(mask: list[list[int]], predicted: list[list[int]], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        box_metrics.confusion([np.array(mask)], [np.array(predicted)], 2)


def test_the_best_score_is_where_f1_is_highest() -> None:
    boxes = np.array([[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10], [60, 0, 70, 10]], np.float32)
    wanted = Truth(boxes[:3], np.array([0, 0, 1]), np.array([False, False, False]))
    found = Found(boxes, np.array([0.9, 0.7, 0.6, 0.3]), np.array([0, 0, 1, 0]))  # the last one is wrong
    assert best_score([wanted], [found]) == pytest.approx((0.6 + 0.3) / 2)
    of_another_class = found._replace(labels=np.array([0, 0, 0, 0]))
    assert best_score([wanted], [of_another_class]) == pytest.approx((0.7 + 0.6) / 2)
    twice = Found(boxes[[0, 0, 1]], np.array([0.9, 0.8, 0.2]), np.array([0, 0, 0]))  # the second one is of a box taken
    assert best_score([wanted, wanted], [twice, found]) == pytest.approx(0.2 / 2)
    ignored = wanted._replace(ignored=np.array([False, True, False]))
    assert best_score([ignored], [found]) == pytest.approx((0.6 + 0.3) / 2)
    assert best_score([wanted], [found._replace(boxes=boxes + 100)]) is None
    nothing = Found(np.zeros((0, 4), np.float32), np.zeros(0), np.zeros(0, np.int64))
    assert best_score([wanted], [nothing]) is None


def test_a_detector_is_given_the_score_that_validation_asks_for() -> None:
    kind = detector.KIND
    sides = [4, 2, 1, 1, 1, 1]
    counts = kind.anchors.counts
    sure = {0.95: 3, 0.8: 2, 0.2: 1}  # scores of how many anchors
    outputs = []
    rng = np.random.default_rng(0)
    for side, count in zip(sides, counts, strict=True):
        outputs += [np.zeros((1, side, side, count * 2)), rng.normal(0, 0.1, (1, side, side, count * 4))]
        outputs[-2].reshape(-1, 2)[:, 0] = 9
    anchors = kind.anchors.boxes(sides)
    chosen = rng.permutation(16 * counts[0])[: sum(sure.values())]
    for anchor, score in zip(chosen, np.repeat(list(sure), list(sure.values())), strict=True):
        outputs[0].reshape(-1, 2)[anchor] = 0, np.log(score / (1 - score))
        outputs[1].reshape(-1, 4)[anchor] = 0
    pixels = np.zeros((1, 64, 64, 3), np.uint8)
    right = np.clip(anchors[chosen[:5]], 0, 1)
    examples = Examples(pixels, [(right, np.zeros(5, np.int64), np.zeros(5, bool))])
    assert 0.2 <= kind.tuned(outputs, examples, ["one"])["score"] < 0.8
    assert kind.tuned(outputs, Examples(pixels, [(right + 9, np.zeros(5, np.int64), np.zeros(5, bool))]), ["one"]) == {}
