"""Training under a budget: sizes known before, nothing over it, a search that can be killed."""

from __future__ import annotations

import dataclasses
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import Killing

from edgepatch import blob, patches
from edgepatch.backbones.backbone import Backbone
from edgepatch.cli import train as command
from edgepatch.codec import CODECS
from edgepatch.errors import EdgepatchError, UsageError
from edgepatch.progress import Quiet
from edgepatch.training import budget, budget_picture, calibration, statistics, trainer
from edgepatch.training import task as tasks
from edgepatch.training.checkpoints import State
from edgepatch.training.recipe import Recipe
from edgepatch.training.trainer import Trained

RECIPE = Recipe(epochs=3)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("64KB", 64_000),
        ("64 kb", 64_000),
        ("60KiB", 61_440),
        ("65536", 65_536),
        ("65536 B", 65_536),
        ("0.5MB", 500_000),
        ("0.29MB", 290_000),
        (" 1 mib ", 1_048_576),
    ],
)
def test_sizes_are_read_as_people_write_them(text: str, count: int) -> None:
    assert command.size(text) == count


@pytest.mark.parametrize("text", ["", "KB", "-64KB", "0", "0KB", "0.5", "64 GB", "64k", "1e5", "nan", "6 4KB", "٣KB"])
def test_what_is_no_size_is_refused(edgepatch: Any, text: str) -> None:
    outcome = edgepatch("train", "no.backbone", "nowhere", "--out", "a.epatch", "--budget", text, "--json")
    assert outcome.code == 2
    assert outcome.document["error"]["field"] == "--budget"


def test_a_budget_below_the_head_alone_is_refused_before_training(
    gated: Backbone, digits: Path, tmp_path: Path
) -> None:
    out = tmp_path / "made" / "a.epatch"

    def search(count: int) -> None:
        budget.search(gated, digits, out, count, recipe=RECIPE, reporter=Killing("reading"))

    with pytest.raises(UsageError, match=r"at least \d+ bytes, which classifier takes in fp16") as caught:
        search(1000)
    assert not out.parent.exists()
    smallest = int(str(caught.value.details["expected"]).split()[2])
    with pytest.raises(UsageError):
        search(smallest - 1)
    with pytest.raises(KeyboardInterrupt):  # the same search, were there room
        search(smallest)


def test_a_patch_is_never_larger_than_was_reckoned(gated: Backbone, digits: Path, tmp_path: Path) -> None:
    """Every composition in every codec, written with other values than it was measured with."""
    out = tmp_path / "a.epatch"
    source = tasks.source(gated, digits, out, RECIPE, licence="CC-BY-4.0")
    task = tasks.prepare(gated, source, RECIPE, Quiet())
    rng = np.random.default_rng(0)
    found = budget.compositions(gated, RECIPE)
    assert [each.name for each in found] == ["classifier", *budget.KINDS]
    ranges = calibration.calibrate(
        gated, trainer.choose(task, trainer.fit(task, (), found[0].top, out), "int8").patch, task.few
    )
    for each in found:
        blank = trainer.fit(task, (), each.top, out).start
        start = {**patches.Change(gated, each.bodies).start(), **blank}
        values = {
            name: value * rng.uniform(0.9, 1.1, value.shape) if value.dtype == np.float32 else value
            for name, value in start.items()
        }
        mould = trainer.mould(gated, source, each.bodies, each.top, start)
        for codec in CODECS:
            most = len(blob.dump(budget.largest(gated, source, RECIPE, each, codec)))
            run = trainer.choose(task, Trained(mould, start, values, State(epoch=2)), codec)
            known = statistics.of(run.patch, gated, task.trunk, task.few)
            size = blob.write(dataclasses.replace(run.patch, ranges=ranges, statistics=known), out)
            assert most - 128 <= size == out.stat().st_size <= most, (each.name, codec)


def test_kinds_that_a_backbone_cannot_have_are_left_out(gated: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "KINDS", ("scale_bias", "bottom:99", "scale_bias+bias", "bias"))
    assert [each.name for each in budget.compositions(gated, Recipe())] == ["classifier", "scale_bias", "bias"]
    # statistics of the task's own have no place in the others
    assert [each.name for each in budget.compositions(gated, Recipe(stats="adapt"))] == ["scale_bias"]


def test_a_search_can_be_confined(gated: Backbone) -> None:
    def names(kinds: str) -> list[str]:
        return [each.name for each in budget.compositions(gated, Recipe(), kinds)]

    assert names("bottom") == ["classifier", *(f"bottom:{count}" for count in (1, 2, 4, 8))]
    assert names("scale_bias@project+policy") == ["classifier", "scale_bias@project+policy"]
    assert names("bias") == [
        "classifier",
        "bias",
        *(f"bias@{p}" for p in ("pointwise", "depthwise", "expand", "project")),
    ]
    assert names("mask+depthwise")[1] == "mask+depthwise"
    assert "mask@depthwise+depthwise" not in names("mask+depthwise"), "that mask has nothing left to do"
    assert names("classifier") == ["classifier"]
    for wrong in ("bottom:99", "scale_bais", "depthwise@project"):
        with pytest.raises(UsageError):
            names(wrong)


def test_a_search_without_policy_is_drawn_to_none(gated: Backbone, digits: Path, tmp_path: Path) -> None:
    patch = trainer.train(gated, digits, "classifier", tmp_path / "b.epatch", recipe=RECIPE, reporter=Quiet()).patch
    skips = dataclasses.replace(
        patch,
        kinds={"policy": ("skip",), **patch.kinds},
        tensors={"skip": np.zeros(len(gated.plan.residuals), np.uint8), **patch.tensors},
    )
    blob.write(skips, tmp_path / "b.epatch")
    with pytest.raises(UsageError, match="only a policy"):
        budget.search(gated, digits, tmp_path / "a.epatch", 10**6, share=[tmp_path / "b.epatch"], reporter=Quiet())


def row(kinds: str, size: int, accuracy: float | None, codec: str = "int8") -> budget.Row:
    composition = budget.Composition(kinds, *patches.parse(kinds))
    run: Any = accuracy and SimpleNamespace(
        patch=SimpleNamespace(metrics={"accuracy": accuracy, "epochs": 2, "fell_back_to_head": False})
    )
    return budget.Row(composition, codec, size, run)


def test_the_frontier_rises_and_ends_with_the_best_and_smallest() -> None:
    table = budget.frontier(
        [
            row("scale_bias", 30, 0.9, "fp16"),
            row("classifier", 10, 0.5),
            row("bias", 20, 0.5),
            row("scale_bias", 20, 0.9),
            row("depthwise", 15, 0.7),
            row("mask", 90, None),
        ]
    )
    steps = [(each["kinds"], each["bytes"]) for each in table if each["on_frontier"]]
    assert steps == [("classifier", 10), ("depthwise", 15), ("scale_bias", 20)]
    assert [each["bytes"] for each in table if each["chosen"]] == [20]
    assert [each["bytes"] for each in table] == [10, 15, 20, 20, 30, 90]


def test_the_picture_shows_the_rows(tmp_path: Path) -> None:
    rows = [row("classifier", 10_000, 0.5), row("scale_bias", 20_000, 0.9), row("bias", 15_000, 0.4, "fp16")]
    table = budget.frontier([*rows, row("mask", 90_000, None)])
    figure = budget_picture.draw({"task": "$1_$", "budget": 25_000, "frontier": table})
    (axis,) = figure.axes
    points = {tuple(point) for drawn in axis.collections for point in drawn.get_offsets().tolist()}
    assert points == {(10.0, 0.5), (20.0, 0.9), (15.0, 0.4)}
    assert {label.get_text() for label in axis.texts} == {"classifier", "scale_bias", "bias"}
    limit, step = axis.lines
    assert list(limit.get_xdata()) == [25.0, 25.0]
    assert list(zip(step.get_xdata(), step.get_ydata(), strict=True)) == [(10.0, 0.5), (20.0, 0.9), (25.0, 0.9)]


def test_a_killed_search_goes_on_and_writes_the_best_that_fits(
    edgepatch: Any, gated: Backbone, gated_file: Path, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "KINDS", ("bias@project", "scale_bias@project", "depthwise"))
    out = tmp_path / "a.epatch"
    folder = tmp_path / "a.search"
    with pytest.raises(KeyboardInterrupt):  # the first of the finalists has had one of three epochs
        budget.search(gated, digits, out, 4_000, recipe=RECIPE, reporter=Killing("epoch 2/3"))
    assert not out.exists()
    assert len(list(folder.glob("*.1.resume"))) == 3
    assert len(list(folder.glob("*.3.resume"))) == 1

    outcome = edgepatch("train", gated_file, digits, "--budget", "4KB", "--epochs", 3, "--out", out, "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.err.count("going on after epoch 1 of 1") == 3
    assert outcome.err.count("going on after epoch 1 of 3") == 1
    assert "candidate 5 of 5" in outcome.err
    assert not folder.exists()
    assert {path.name for path in tmp_path.glob("a.*")} == {"a.epatch", "a.json", "a.png", "a.frontier.png"}

    document = outcome.document
    rows = document["frontier"]
    assert document["budget"] == 4_000
    assert {"accuracy", "head_accuracy", "epochs", "seconds", "bytes", "patch", "backbone_id"} <= set(document)
    assert {(each["kinds"], each["codec"]) for each in rows} == {
        (kinds, codec) for kinds in ("classifier", *budget.KINDS) for codec in CODECS
    }
    assert all((each["accuracy"] is None) == (each["bytes"] > 4_000) for each in rows)
    assert any(each["accuracy"] is None for each in rows)
    steps = [(each["bytes"], each["accuracy"]) for each in rows if each["on_frontier"]]
    assert steps == sorted(set(steps))
    (chosen,) = (each for each in rows if each["chosen"])
    assert chosen["accuracy"] == max(each["accuracy"] or 0 for each in rows) == document["accuracy"]
    assert chosen["bytes"] == document["bytes"] == out.stat().st_size <= 4_000
    patch = blob.read(out)
    assert (patch.version, patch.task, patch.metrics["accuracy"]) == (1, "a", document["accuracy"])
    assert patch.kind == "+".join(dict.fromkeys([*chosen["kinds"].split("+"), "classifier"]))

    lines = command.frontier(document).splitlines()[2 : 2 + len(rows)]
    for line, each in zip(lines, rows, strict=True):
        accuracy = "over the budget" if each["accuracy"] is None else f"{each['accuracy']:.1%}"
        for cell in (each["kinds"], each["codec"], f"{each['bytes'] / 1000:.1f}", accuracy):
            assert cell in line
        assert line.endswith("chosen") == each["chosen"]
    width, height = struct.unpack(">II", (tmp_path / "a.frontier.png").read_bytes()[16:24])
    assert (width, height) == (1100, 650)


def test_what_became_larger_than_was_reckoned_never_wins(
    tiny: Backbone, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(backbone: Backbone, source: Any, recipe: Recipe, composition: Any, codec: str) -> blob.Patch:
        return dataclasses.replace(right(backbone, source, recipe, composition, "int8"), metrics={})

    right = budget.largest
    monkeypatch.setattr(budget, "largest", wrong)
    out = tmp_path / "a.epatch"

    def search(count: int) -> trainer.Result:
        return budget.search(tiny, digits, out, count, kinds="classifier", recipe=RECIPE, reporter=Quiet())

    result = search(8000)
    assert result.report["bytes"] <= 8000
    assert [(each["codec"], each["chosen"]) for each in result.report["frontier"]].count(("int8", True)) == 1
    out.unlink()
    with pytest.raises(EdgepatchError, match="larger than was reckoned"):
        search(result.report["bytes"] - 16)
    assert not out.exists()


def test_options_of_a_policy_reach_the_recipe(edgepatch: Any, gated_file: Path, digits: Path, tmp_path: Path) -> None:
    for option in ("--sparsity", "--sharing"):
        outcome = edgepatch("train", gated_file, digits, "--out", tmp_path / "a.epatch", option, 1000, "--json")
        assert (outcome.code, outcome.document["error"]["field"]) == (2, option)
    outcome = edgepatch("train", gated_file, digits, "--out", tmp_path / "a.epatch", "--share", "no.epatch", "--json")
    assert (outcome.code, outcome.document["error"]["file"]) == (2, "no.epatch")


def test_options_that_would_do_nothing_are_refused(
    edgepatch: Any, gated_file: Path, digits: Path, tmp_path: Path
) -> None:
    for options, field in (
        (("--sparsity", 0.1), "--sparsity"),
        (("--patch", "policy", "--sharing", 0.1), "--sharing"),
        (("--patch", ""), "--patch"),
    ):
        outcome = edgepatch("train", gated_file, digits, "--out", tmp_path / "a.epatch", *options, "--json")
        assert (outcome.code, outcome.document["error"]["field"]) == (2, field)
    assert not list(tmp_path.glob("a.*"))


def test_widths_that_keras_has_no_weights_of_are_refused_by_name(edgepatch: Any, tmp_path: Path) -> None:
    call = ("backbone", "create", "mobilenet_v2", "--size", 96, "--alpha", 0.33, "--out", tmp_path / "b.backbone")
    outcome = edgepatch(*call, "--json")
    assert (outcome.code, outcome.document["error"]["field"]) == (2, "--alpha")
    assert "0.35" in outcome.document["error"]["expected"]
