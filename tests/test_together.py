"""Tasks that are trained together: shared kernels, private patches, affinities, groups, fronts."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Killing

from edgepatch import blob
from edgepatch.backbones import backbone as backbones
from edgepatch.backbones.backbone import Backbone
from edgepatch.cli import train_many
from edgepatch.errors import UsageError
from edgepatch.many import front, grouping, interleaving, joint_runs, sharing, tasks_file
from edgepatch.many.affinity import heat_map
from edgepatch.many.interleaving import Balance
from edgepatch.progress import Quiet
from edgepatch.training import joint as phase

FILE = """
backbone = "{backbone}"
out = "{out}"
[defaults]
batch = 8
patience = 0
[joint]
epochs = 2
{joint}
[[task]]
name = "digits"
data = "{digits}"
[[task]]
name = "signs"
data = "{digits}"
size = 48
patch = "{patch}"
"""


Make = Callable[..., tuple[tasks_file.TasksFile, Backbone]]


@pytest.fixture(scope="module")
def tasks(digit_files: list[tuple[str, Path]], gated_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Writes a TASKS.toml of two tasks and reads it."""
    home = tmp_path_factory.mktemp("together")
    for name in ("0", "1", "7"):
        (home / "digits" / name).mkdir(parents=True)
        for path in [path for label, path in digit_files if label == name][:24]:
            (home / "digits" / name / path.name).write_bytes(path.read_bytes())

    def make(joint: str = "", patch: str = "bias", out: str = "out") -> tuple[tasks_file.TasksFile, Backbone]:
        text = FILE.format(backbone=gated_file, out=out, digits=home / "digits", joint=joint, patch=patch)
        (home / "TASKS.toml").write_text(text)
        return tasks_file.read(home / "TASKS.toml")

    return make


@pytest.fixture(scope="module")
def whole(tasks: Make) -> tuple[Path, dict[str, Any]]:
    """A joint training from end to end, with affinities: its folder, and what it returned."""
    file, backbone = tasks("affinity_every = 2", out="whole")
    return Path(file.out), joint_runs.run(file, backbone, Quiet(), affinity=True)


def test_a_joint_training_gives_one_new_backbone_and_a_patch_of_it_for_each_task(
    whole: tuple[Path, dict[str, Any]], gated: Backbone
) -> None:
    out, document = whole
    new = backbones.read(out / "joint.backbone")
    assert new.id != gated.id
    assert all((new.part(site, "kernel") != gated.part(site, "kernel")).any() for site in new.plan.sites)
    others = [name for name in new.tensors if not name.endswith("/kernel")]
    assert all(np.array_equal(new.tensors[name], gated.tensors[name]) for name in others)
    for row, size in zip(document["runs"][0]["tasks"], (32, 48), strict=True):
        patch = blob.read(row["patch"])
        assert (patch.backbone_id, patch.input.size) == (new.id, size)


def test_affinity_is_measured_and_drawn(whole: tuple[Path, dict[str, Any]]) -> None:
    out, document = whole
    assert document["affinity"]["measurements"] >= 5
    assert (np.diag(document["affinity"]["affinity"]) > 0).all()  # a step down a task's own slope helps it
    assert sorted(itertools.chain(*document["affinity"]["grouping"])) == ["digits", "signs"]
    assert (out / "affinity.png").read_bytes().startswith(b"\x89PNG")


def test_a_killed_joint_training_goes_on_to_the_same_end_and_measuring_changes_nothing(
    tasks: Make, whole: tuple[Path, dict[str, Any]]
) -> None:
    file, backbone = tasks(out="killed")
    with pytest.raises(KeyboardInterrupt):
        joint_runs.run(file, backbone, Killing("epoch 2"))
    assert (Path(file.out) / "joint.resume").exists()
    resumed = joint_runs.run(file, backbone, Quiet(), resume=True)
    assert not (Path(file.out) / "joint.resume").exists()
    histories = [document["runs"][0]["history"] for document in (resumed, whole[1])]
    assert [len(history) for history in histories] == [2, 2]
    for one, other in zip(*histories, strict=True):
        np.testing.assert_allclose(one["loss"], other["loss"], rtol=1e-2)


def test_a_joint_training_that_harms_goes_back_to_where_validation_is_better(
    tasks: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, backbone = tasks("learning_rate = 100", out="harmed")
    monkeypatch.setattr(phase, "SHARES", (1.0, 0.0))
    document = joint_runs.run(file, backbone, Quiet())
    new = backbones.read(document["runs"][0]["backbone"])
    assert new.id == backbone.id
    for row in document["runs"][0]["tasks"]:
        report = json.loads(Path(row["patch"]).with_suffix(".json").read_text())
        assert report["kept_share"] == 0
        assert row["accuracy"] >= row["head_accuracy_before"]


def test_the_command_shows_tasks_affinities_and_refuses_what_has_no_meaning(
    tasks: Make, whole: tuple[Path, dict[str, Any]], edgepatch: Any
) -> None:
    file, _ = tasks("affinity_every = 2", out="whole")
    text = train_many.together(whole[1], file.out)
    assert "proposed grouping, of " in text and "digits" in text
    assert edgepatch("train-many", file.path, "--affinity").code == 2
    assert edgepatch("train-many", file.path, "--joint", "--jobs", 2).code == 2
    refused = edgepatch("train-many", file.path, "--joint", "--json")  # there are results already
    assert (refused.code, refused.document["error"]["got"]) == (2, "joint.json")
    kept = edgepatch("train-many", file.path, "--joint", "--affinity", "--resume", "--json")
    assert kept.document == whole[1]  # what was measured before, too


def test_results_are_kept_unless_resumed_and_then_not_trained_again(
    tasks: Make, whole: tuple[Path, dict[str, Any]]
) -> None:
    file, backbone = tasks("affinity_every = 2", out="whole")
    with pytest.raises(UsageError, match="has results already"):
        joint_runs.run(file, backbone, Quiet())
    patch = whole[0] / "digits.epatch"
    before = patch.read_bytes()
    assert joint_runs.run(file, backbone, Killing(""), resume=True)["runs"] == whole[1]["runs"]  # nor images read
    assert patch.read_bytes() == before
    patch.write_bytes(before[:-1])
    with pytest.raises(KeyboardInterrupt):  # a damaged result counts for nothing
        joint_runs.run(file, backbone, Killing("epoch"), resume=True)


def test_a_task_that_counts_for_nothing_moves_no_kernel(tasks: Make) -> None:
    file, backbone = tasks('kernels = "top:1"\npreferences = [[1, 0], [0, 1]]', out="rows")
    document = joint_runs.run(file, backbone, Quiet())
    rows = document["front"]["rows"]
    assert [row["preferences"] for row in rows] == [[1, 0], [0, 1]]
    kernels = [backbones.read(row["backbone"]).tensors for row in rows]
    last = [site.name for site in backbone.plan.sites if site.block == backbone.plan.sites[-1].block]
    changed = {name for name in kernels[0] if not np.array_equal(kernels[0][name], kernels[1][name])}
    assert changed == {f"{name}/kernel" for name in last}
    assert (Path(file.out) / "front.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("patch", ["mask", "policy", "scale_bias+mask"])
def test_kinds_that_need_frozen_kernels_are_refused_before_anything_is_trained(tasks: Make, patch: str) -> None:
    file, backbone = tasks(patch=patch)
    with pytest.raises(UsageError, match="stand still") as caught:
        joint_runs.run(file, backbone, Killing("reading"))
    assert caught.value.details["problems"][0]["field"].startswith("task signs.patch")


def test_tasks_of_which_none_counts_are_refused_before_anything_is_trained(tasks: Make) -> None:
    file, backbone = tasks()
    idle = tuple(dataclasses.replace(entry, preference=0.0) for entry in file.tasks)
    with pytest.raises(UsageError, match="no task counts for anything"):
        joint_runs.run(dataclasses.replace(file, tasks=idle), backbone, Killing("reading"))


def test_a_row_of_preferences_has_a_number_for_each_task_a_faulty_one_too(tasks: Make) -> None:
    with pytest.raises(UsageError) as caught:
        tasks("preferences = [[1, 1]]", patch='bias"\n[[task]]\nname = "more"\ndata = "nowhere"\nresize = "stretch')
    assert {"field": "joint.preferences row 1", "message": "has not one number a task", "got": 2, "expected": 3} in (
        caught.value.details["problems"]
    )


def test_a_preference_beside_rows_of_them_is_told(tasks: Make) -> None:
    with pytest.raises(UsageError, match="counts for nothing"):
        tasks("preferences = [[1, 1]]", patch='bias"\npreference = 2\nresize = "stretch')


def test_a_task_that_lost_by_joining_is_told() -> None:
    task = {
        "task": "digits", "kinds": "bias+classifier", "bytes": 1000, "accuracy": 0.6, "head_accuracy": 0.6,
        "head_accuracy_before": 0.7, "fell_back_to_head": False,
    }  # fmt: skip
    run = {"tasks": [task], "preferences": [1], "backbone": "joint.backbone", "epochs": 1, "seconds": 1.0}
    text = train_many.together({"runs": [run]}, "out")
    assert "worse than a head on the old backbone" in text
    assert "1 epoch," in text


def test_tasks_of_other_padding_share_one_kernel_in_one_layer_each(gated: Backbone) -> None:
    site = gated.plan.sites[0]
    kernels = sharing.Kernels(gated, frozenset([site.index]))
    first, other = kernels.layer(site, "same"), kernels.layer(site, "valid")
    assert kernels.layer(site, "same") is first and kernels.layer(site, "valid") is other
    kernels.variables[0].assign(np.ones(site.kernel))
    assert np.array_equal(np.asarray(first.effective()), np.asarray(other.effective()))


def test_batches_are_interleaved_by_the_stated_rule() -> None:
    parts = interleaving.shares([900, 100], mix=0.5)
    assert parts.tolist() == [0.75, 0.25]
    sequence = interleaving.order(parts, 400)
    for end in range(1, 401):  # at no time is a task more than a step from its share
        assert abs(sequence[:end].count(0) - 0.75 * end) <= 1
    assert interleaving.shares([900, 100], mix=0).tolist() == [0.5, 0.5]
    assert interleaving.shares([900, 100], mix=1).tolist() == [0.9, 0.1]


def test_a_balanced_task_pulls_as_hard_as_its_preference_says() -> None:
    balance = Balance("gradient", [1, 3])
    for _ in range(500):
        balance.seen(0, loss=1.0, norm=10.0)
        balance.seen(1, loss=1.0, norm=0.1)
    pulls = [balance.weight(0) * 10.0, balance.weight(1) * 0.1]
    assert pulls[1] / pulls[0] == pytest.approx(3)
    balance.seen(0, loss=float("nan"), norm=float("inf"))  # a step that blew up says nothing
    assert balance.weight(0) * 10.0 == pytest.approx(pulls[0])
    assert Balance("none", [1, 3]).weight(1) == 1.5


def test_tasks_that_help_each_other_are_grouped_and_those_that_hurt_are_not() -> None:
    matrix = np.full((5, 5), -0.1)
    for group in ((0, 2), (1, 3, 4)):
        for one, other in itertools.permutations(group, 2):
            matrix[one, other] = 0.2
    assert grouping.propose(matrix) == [[0, 2], [1, 3, 4]]
    assert grouping.propose(matrix, most=1) == [[0, 1, 2, 3, 4]]
    assert grouping.propose(-np.ones((3, 3))) == [[0], [1], [2]]


def test_many_tasks_are_grouped_without_looking_at_all_groupings() -> None:
    matrix = np.full((40, 40), -0.1)
    for start in range(0, 40, 8):
        matrix[start : start + 8, start : start + 8] = 0.3
    expected = [list(range(start, start + 8)) for start in range(0, 40, 8)]
    assert grouping.propose(matrix) == expected
    assert len(grouping.propose(matrix, most=2)) == 2
    names = [f"task {number}" for number in range(40)]
    assert heat_map(names, matrix, expected).startswith(b"\x89PNG")


def test_a_front_holds_what_no_other_row_beats() -> None:
    scores = np.array([[0.9, 0.5], [0.8, 0.8], [0.7, 0.7], [0.8, 0.8]])
    assert front.undominated(scores) == [True, True, False, True]
    for names in (["a", "b"], ["a", "b", "$c$"]):
        columns = np.column_stack([scores, scores[:, 0]])[:, : len(names)]
        assert front.picture(names, [(1, 0)] * 4, columns).startswith(b"\x89PNG")
