"""Long life: tasks, threads, reloads and evictions mixed. The figures of a long run are in docs/reliability.md."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import golden
import numpy as np
import pytest

from edgepatch import Runtime
from edgepatch.bench import soak as soaking
from edgepatch.bench.soak import soak
from edgepatch.errors import UsageError
from edgepatch.progress import Quiet
from edgepatch.runtime.heads.classifier import Classification

TASKS = ("scale_bias", "depthwise", "skip", "finder", "painter")


@pytest.fixture(scope="module", params=("tflite", "onnx"))
def graph(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("soak") / f"graph.{request.param}"
    path.write_bytes(golden.graph(f"gated-fp32.{request.param}"))
    return path


@pytest.fixture(scope="module")
def patches(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("patches")
    for name in TASKS:
        (folder / f"{name}.epatch").write_bytes(golden.patch(name))
    return [folder / f"{name}.epatch" for name in TASKS]


def test_thousands_of_switches_leave_answers_handles_and_memory_as_they_were(graph: Path, patches: list[Path]) -> None:
    found = soak(graph, patches, answers=3000, workers=3, reporter=Quiet())
    assert (found["answers"], found["wrong"], found["tasks"]) == (3000, 0, len(TASKS))
    assert sum(found["forms"].values()) == 3000
    assert found["forms"]["bake"] > 0
    assert found["reloads"] > 0
    for what in ("handles", "threads"):
        assert found[what]["after"] <= found[what]["before"] + (what == "threads")  # the baker's
    # a task that leaked a baked model or an interpreter at each of some hundred bakes would take a hundred MiB more
    assert found["memory"]["end_mib"] - found["memory"]["warm_mib"] < 64


def test_a_wrong_answer_is_counted(graph: Path, patches: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    predict = Runtime.predict

    def a_bit_off(runtime: Runtime, picture: Any, task: str | None = None) -> Any:
        answer = predict(runtime, picture, task)
        if runtime.mode == "auto" and isinstance(answer, Classification):
            answer.logits[0] = np.nextafter(answer.logits[0], np.float32(np.inf))
        return answer

    monkeypatch.setattr(Runtime, "predict", a_bit_off)
    found = soak(graph, patches, answers=60, workers=2, reporter=Quiet())
    assert 0 < found["wrong"] < 60


@pytest.mark.parametrize("workers", [1, 4])
def test_a_switch_that_does_not_switch_is_counted(
    graph: Path, patches: list[Path], workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Runtime, "use", lambda runtime, task: None)
    found = soak(graph, patches, answers=100, workers=workers, reporter=Quiet())
    assert found["wrong"] > 10


def test_the_command_tells_and_fails_if_an_answer_was_wrong(
    graph: Path, patches: list[Path], edgepatch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = ["soak", graph, *(part for path in patches for part in ("--patch", path)), "--answers", 40, "--workers", 2]
    found = edgepatch(*call, "--json")
    assert found.code == 0
    assert json.loads(found.out)["answers"] == 40
    monkeypatch.setattr(soaking, "_told", lambda answer: (np.random.default_rng().bytes(8),))
    found = edgepatch(*call)
    assert found.code == 1
    assert "40 wrong" in found.out


def test_a_slope_is_told_of_many_answers_alone() -> None:
    def memory(step: int) -> dict[str, Any]:
        samples = [(step * number, 100 + number / 1024, 5, 2) for number in range(1, 101)]
        samples[50] = (samples[50][0], 900.0, 5, 2)  # a model that came and went
        return soaking._memory(samples)

    assert memory(1000)["slope_kib"] == pytest.approx(1.0)
    assert memory(100)["slope_kib"] is None


def test_numbers_out_of_range_are_a_usage_error(graph: Path, patches: list[Path]) -> None:
    for wrong in ({"answers": 0}, {"workers": 0}):
        with pytest.raises(UsageError, match="out of range"):
            soak(graph, patches, reporter=Quiet(), **wrong)
    with pytest.raises(UsageError, match="two patches are of the same task"):
        soak(graph, [*patches, patches[0]], reporter=Quiet())
