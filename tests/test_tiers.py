"""Mode auto: bound at once, baked when a task stays, within a budget, and never another task's answer."""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import in_threads, make_patch, pictures

from edgepatch import Runtime
from edgepatch.backbones.backbone import Backbone
from edgepatch.blob import Patch
from edgepatch.errors import BadFileError, UsageError
from edgepatch.runtime import baking, engines
from edgepatch.runtime.runtime import PROMOTE_AFTER

KINDS = ("tflite", "onnx")
NEAR = 1e-4  # between the bound and the baked answer of a task; other tasks answer units apart


@pytest.fixture(params=KINDS)
def graph(request: pytest.FixtureRequest, graphs: dict[str, Path]) -> Path:
    return graphs[request.param]


class Held:
    """Baking that has begun, and waits to be let go on."""

    def __init__(self) -> None:
        self.started, self.goes_on = threading.Event(), threading.Event()


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Held:
    """From here on, whatever is baked is held."""
    gate, original = Held(), baking.bake

    def slow(*arguments: object) -> object:
        model = original(*arguments)  # type: ignore[arg-type]
        gate.started.set()
        gate.goes_on.wait(60)
        return model

    monkeypatch.setattr(baking, "bake", slow)
    return gate


def references(graph: Path, tasks: list[Patch], images: list[np.ndarray]) -> dict[tuple[str, int], np.ndarray]:
    """What each task alone, in a runtime of its own, says of each image."""
    found = {}
    for patch in tasks:
        with Runtime(graph, mode="bind") as runtime:
            runtime.add(patch)
            found |= {(patch.task, index): runtime.predict(image).logits for index, image in enumerate(images)}
    return found


def test_a_task_that_stays_is_baked_in_the_background_and_answers_on(graph: Path, tiny: Backbone) -> None:
    picture = pictures(1)[0]
    with Runtime(graph) as runtime:
        runtime.add(make_patch(tiny, 0, 3))
        first = runtime.predict(picture).logits
        assert runtime.baked == ()
        for _ in range(PROMOTE_AFTER - 1):
            runtime.predict(picture)
        runtime.wait(60)
        assert runtime.baked == ("task0",)
        np.testing.assert_allclose(runtime.predict(picture).logits, first, atol=NEAR)
        assert runtime.baked_bytes > 2 * 100_000


def test_a_task_that_passes_by_stays_bound(graph: Path, tiny: Backbone) -> None:
    with Runtime(graph) as runtime:
        for seed in range(3):
            runtime.add(make_patch(tiny, seed, 3))
        for seed in range(3):
            runtime.use(f"task{seed}")
            runtime.predict(pictures(1)[0])
        runtime.wait(60)
        assert runtime.baked == ()


def test_forced_modes_do_what_they_say(graph: Path, tiny: Backbone) -> None:
    picture = pictures(1)[0]
    with Runtime(graph, mode="bind") as runtime:
        runtime.add(make_patch(tiny, 0, 3))
        for _ in range(3 * PROMOTE_AFTER):
            runtime.predict(picture)
        runtime.wait(60)
        assert runtime.baked == ()
    with Runtime(graph, mode="bake") as runtime:
        runtime.add(make_patch(tiny, 0, 3))
        runtime.use("task0")
        assert runtime.baked == ("task0",)
        answers = [runtime.predict(picture).logits for _ in range(3)]
        np.testing.assert_array_equal(answers, np.stack([answers[0]] * 3))


def test_the_least_recently_used_one_goes_when_the_budget_is_full(graph: Path, tiny: Backbone) -> None:
    picture = pictures(1)[0]
    with Runtime(graph, mode="bake") as one:
        one.add(make_patch(tiny, 0, 3))
        one.use("task0")
        each = one.baked_bytes / 1e6
    with Runtime(graph, mode="bake", memory_mb=2.5 * each) as runtime:
        for seed in range(3):
            runtime.add(make_patch(tiny, seed, 3))
        expected = references(graph, [runtime.patch(task) for task in runtime.tasks], [picture])
        for task, resident in (
            ("task0", ("task0",)),
            ("task1", ("task0", "task1")),
            ("task0", ("task1", "task0")),
            ("task2", ("task0", "task2")),
            ("task1", ("task2", "task1")),
        ):
            answer = runtime.predict(picture, task)
            assert runtime.baked == resident
            np.testing.assert_allclose(answer.logits, expected[task, 0], atol=NEAR)


def test_a_budget_too_small_leaves_tasks_bound_under_auto_and_serves_one_under_bake(
    graph: Path, tiny: Backbone
) -> None:
    picture = pictures(1)[0]
    with Runtime(graph, memory_mb=0.01) as runtime:
        runtime.add(make_patch(tiny, 0, 3))
        for _ in range(3 * PROMOTE_AFTER):
            runtime.predict(picture)
        runtime.wait(60)
        assert runtime.baked == ()
        assert "budget of memory" in runtime.problems["task0"]
    with Runtime(graph, mode="bake", memory_mb=0.01) as runtime:
        for seed in range(2):
            runtime.add(make_patch(tiny, seed, 3))
            runtime.predict(picture, f"task{seed}")
            assert runtime.baked == (f"task{seed}",)


def test_a_task_let_go_must_stay_twice_as_long_to_be_baked_again(graph: Path, tiny: Backbone) -> None:
    picture = pictures(1)[0]
    with Runtime(graph, mode="bake") as one:
        one.add(make_patch(tiny, 0, 3))
        one.use("task0")
        each = one.baked_bytes / 1e6
    with Runtime(graph, memory_mb=1.5 * each) as runtime:
        for seed in range(2):
            runtime.add(make_patch(tiny, seed, 3))
        for seed in range(2):
            for _ in range(PROMOTE_AFTER):
                runtime.predict(picture, f"task{seed}")
            runtime.wait(60)
        assert runtime.baked == ("task1",)
        for _ in range(PROMOTE_AFTER):
            runtime.predict(picture, "task0")
        runtime.wait(60)
        assert runtime.baked == ("task1",)
        for _ in range(PROMOTE_AFTER):
            runtime.predict(picture, "task0")
        runtime.wait(60)
        assert runtime.baked == ("task0",)


def test_many_threads_that_switch_load_and_let_go_never_mix_tasks(graph: Path, tiny: Backbone) -> None:
    """Eight tasks, a budget for three of them, six threads, some of which switch and load tasks anew all the time."""
    tasks = [make_patch(tiny, seed, 3 + seed % 3) for seed in range(8)]
    images = pictures(4)
    expected = references(graph, tasks, images)
    for (task, index), mine in expected.items():
        for (other, same), theirs in expected.items():
            assert task == other or index != same or len(mine) != len(theirs) or np.abs(mine - theirs).max() > 10 * NEAR
    with Runtime(graph, mode="bake") as one:
        one.add(tasks[0])
        one.use(tasks[0].task)
        each = one.baked_bytes / 1e6
    problems: list[str] = []
    seen: set[tuple[str, ...]] = set()
    with Runtime(graph, memory_mb=3.5 * each) as runtime:
        for patch in tasks:
            runtime.add(patch)

        def work(seed: int) -> None:
            rng = np.random.default_rng(seed)
            try:
                task = tasks[0].task
                for turn in range(150):
                    if turn % 10 == 0:  # stay with a task for a while, as people do
                        task = tasks[rng.integers(8)].task
                    index = int(rng.integers(4))
                    if rng.random() < 0.1:
                        runtime.use(tasks[rng.integers(8)].task)
                    if rng.random() < 0.03:
                        runtime.add(tasks[rng.integers(8)])
                    answer = runtime.predict(images[index], task)
                    if answer.task != task or not np.allclose(answer.logits, expected[task, index], atol=NEAR):
                        problems.append(f"{task} {index}")
                    seen.add(runtime.baked)
            except Exception as error:
                problems.append(repr(error))

        in_threads(work, 6)
    assert problems == []
    assert any(seen), "nothing was baked, so nothing was tested"


def test_a_task_loaded_again_while_it_is_baked_is_never_answered_by_the_old_one(
    graph: Path, tiny: Backbone, held: Held
) -> None:
    picture = pictures(1)[0]
    old, new = make_patch(tiny, 1, 3, task="same"), make_patch(tiny, 2, 3, task="same")
    expected = references(graph, [new], [picture])["same", 0]
    with Runtime(graph) as runtime:
        runtime.add(old)
        for _ in range(PROMOTE_AFTER):
            runtime.predict(picture)
        assert held.started.wait(60)
        runtime.add(new)
        held.goes_on.set()
        runtime._baker.submit(lambda: None).result(60)  # type: ignore[union-attr]
        assert runtime.baked == ()
        for _ in range(3):
            np.testing.assert_allclose(runtime.predict(picture).logits, expected, atol=NEAR)


def test_predictions_go_on_while_a_task_is_baked(graph: Path, tiny: Backbone, held: Held) -> None:
    with Runtime(graph) as runtime:
        runtime.add(make_patch(tiny, 0, 3))
        runtime.add(make_patch(tiny, 1, 3))
        for _ in range(PROMOTE_AFTER + 20):
            runtime.predict(pictures(1)[0])
            runtime.predict(pictures(1)[0], "task1")
        assert runtime.baked == ()
        held.goes_on.set()
        runtime.wait(60)
        assert set(runtime.baked) == {"task0", "task1"}


def test_a_task_that_cannot_be_baked_stays_bound(graph: Path, tiny: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise BadFileError("cannot be baked", field="bake")

    picture = pictures(1)[0]
    with Runtime(graph) as runtime:
        runtime.add(make_patch(tiny, 0, 3))
        before = runtime.predict(picture).logits
        monkeypatch.setattr(baking, "bake", broken)
        for _ in range(2 * PROMOTE_AFTER):
            runtime.predict(picture)
        runtime.wait(60)
        np.testing.assert_array_equal(runtime.predict(picture).logits, before)
        assert "cannot be baked" in runtime.problems["task0"]


def test_waiting_ends_when_the_runtime_is_closed_with_tasks_yet_to_be_baked(
    graph: Path, tiny: Backbone, held: Held
) -> None:
    runtime = Runtime(graph)
    for seed in range(3):
        runtime.add(make_patch(tiny, seed, 3))
        for _ in range(PROMOTE_AFTER):
            runtime.predict(pictures(1)[0], f"task{seed}")
    waiting = threading.Thread(target=runtime.wait, daemon=True)
    waiting.start()
    closing = threading.Thread(target=runtime.close, daemon=True)
    closing.start()
    held.goes_on.set()
    for thread in (closing, waiting):
        thread.join(60)
        assert not thread.is_alive()
    assert runtime.baked == ()


def test_a_task_baked_while_the_runtime_closes_is_not_kept(graph: Path, tiny: Backbone, held: Held) -> None:
    runtime = Runtime(graph, mode="bake")
    runtime.add(make_patch(tiny, 0, 3))

    def use() -> None:
        with contextlib.suppress(UsageError):
            runtime.use("task0")

    using = threading.Thread(target=use, daemon=True)
    using.start()
    assert held.started.wait(60)
    runtime.close()
    held.goes_on.set()
    using.join(60)
    assert runtime.baked == ()


def test_closing_while_a_task_is_baked_leaves_nothing_behind(graph: Path, tiny: Backbone) -> None:
    runtime = Runtime(graph)
    runtime.add(make_patch(tiny, 0, 3))
    for _ in range(PROMOTE_AFTER):
        runtime.predict(pictures(1)[0])
    runtime.close()
    assert runtime.baked == ()
    with pytest.raises(UsageError, match="closed"):
        runtime.predict(pictures(1)[0])
    deadline = time.monotonic() + 30
    while any(thread.name.startswith("edgepatch-bake") for thread in threading.enumerate()):
        assert time.monotonic() < deadline, "the baking thread is still there"
        time.sleep(0.01)


def test_under_bake_the_bound_form_is_never_opened(
    graph: Path, tiny: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []
    original = engines.start

    def start(*arguments: object) -> object:
        opened.append(arguments)
        return original(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(engines, "start", start)
    with Runtime(graph, mode="bake") as runtime:
        runtime.add(make_patch(tiny, 0, 3))
        runtime.use("task0")
        runtime.predict(pictures(1)[0])
    assert len(opened) == 1
