"""What a patch store does for its user: making one, installing, versions, graphs."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from crashing import script
from crashing.examining import tree, versions

from edgepatch import blob
from edgepatch.errors import BadFileError, EdgepatchError, MismatchError, UsageError
from edgepatch.runtime import Runtime
from edgepatch.runtime.store import Newest, Store

pytestmark = pytest.mark.usefixtures("trusted")


# making


def test_a_store_is_not_made_where_something_is(store: Store, files: script.Files, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="patch store already"):
        Store.create(store.path, files["fp32"])
    other = tmp_path / "other"
    other.mkdir()
    (other / "letter.txt").write_text("dear")
    with pytest.raises(UsageError, match="something else"):
        Store.create(other, files["fp32"])
    with pytest.raises(UsageError, match="the folder it is to be in is missing") as caught:
        Store.create(tmp_path / "no" / "such", files["fp32"])
    assert caught.value.details["mend"] == f"mkdir -p {tmp_path / 'no'}"
    with pytest.raises(UsageError, match="no patch store"):
        Store.open(other)
    with pytest.raises(UsageError, match="no patch store"):
        Store.open(other / "letter.txt")
    assert [path.name for path in other.iterdir()] == ["letter.txt"]


def test_a_store_that_cannot_be_made_leaves_nothing(files: script.Files, tmp_path: Path) -> None:
    with pytest.raises(MismatchError):
        Store.create(tmp_path / "store", files["fp32"], files["mobilenet_int81"])
    assert not (tmp_path / "store").exists()


# installing


def test_a_store_is_made_with_a_graph_and_patches_and_opened(store: Store, files: script.Files) -> None:
    found = Store.open(store.path)
    assert found.state == store.state and found.warning is None
    assert found.graph.read_bytes() == files["fp32"].read_bytes()
    assert {task: active.path.read_bytes() for task, active in found.patches().items()} == {
        "bias": files["bias1"].read_bytes(),
        "mask": files["mask1"].read_bytes(),
    }
    assert found.patch("bias").version == 1 and found.backbone_id == found.patch("bias").backbone_id
    assert found.garbage() == {} and found.state.serial == 1


def test_a_runtime_of_a_store_answers_as_one_of_its_files(store: Store, files: script.Files) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    with store.runtime(mode="bake") as ours, Runtime(files["fp32"], mode="bake") as theirs:
        assert set(ours.tasks) == {"bias", "mask"}
        for name in ("bias1", "mask1"):
            task = theirs.load(files[name])
            np.testing.assert_array_equal(
                ours.predict(picture, task).probabilities, theirs.predict(picture, task).probabilities
            )


def test_several_installs_come_together_or_not_at_all(store: Store, files: script.Files, tmp_path: Path) -> None:
    before = tree(store.path)
    bad = tmp_path / "bad.epatch"
    bad.write_bytes(files["skip1"].read_bytes()[:-1])
    with pytest.raises(BadFileError, match="truncated"):
        store.install(files["bias2"], files["head_only1"], bad)
    with pytest.raises(MismatchError, match="another backbone") as caught:
        store.install(files["bias2"], files["mobilenet_int81"])
    assert caught.value.exit_code == 4
    after = tree(store.path)
    assert after == before
    outcomes = store.install(files["bias2"], files["head_only1"])
    assert [str(outcome) for outcome in outcomes] == [
        "bias: version 2 replaced, was 1",
        "head_only: version 1 installed",
    ]
    assert versions(store) == {"bias": 2, "mask": 1, "head_only": 1} and store.state.serial == 2


def test_a_file_that_is_no_patch_or_graph_is_refused_before_anything_is_written(
    store: Store, files: script.Files, tmp_path: Path
) -> None:
    cut = tmp_path / "cut.tflite"
    cut.write_bytes(files["int8"].read_bytes()[:-100])
    before = tree(store.path)
    for path, error in ((cut, BadFileError), (tmp_path, EdgepatchError), (tmp_path / "none", UsageError)):
        with pytest.raises(error):
            store.install(path)
    assert tree(store.path) == before


def test_a_file_is_taken_only_if_it_is_the_one_that_was_meant(store: Store, files: script.Files) -> None:
    meant = store.patches()["bias"].sha256
    with pytest.raises(BadFileError, match="not the file that was named"), store.change() as change:
        change.patch(files["bias2"], sha256=meant)
    with store.change() as change:
        assert change.patch(files["bias1"], sha256=meant).what == "unchanged"


def test_one_step_a_task_and_one_graph_in_a_change(store: Store, files: script.Files) -> None:
    for order in (("bias2", "bias3"), ("bias3", "bias2")):
        with pytest.raises(UsageError, match="one step for a task") as caught:
            store.install(*(files[name] for name in order))
        assert all(str(files[name]) in caught.value.details["got"] for name in order)
        assert caught.value.details["mend"] == f"Leave out the older version: {files['bias2']}"
    with pytest.raises(UsageError, match="one step for a task") as caught:
        store.install(files["bias2"], remove=["bias"])
    assert caught.value.details["got"] == f"bias: {files['bias2']} and its removal"
    assert caught.value.details["mend"] == "Leave out one of the two."
    with pytest.raises(UsageError, match="one graph"):
        store.install(files["int8"], files["onnx"])


def test_a_step_that_fails_is_none_and_the_change_may_go_on(store: Store, files: script.Files, tmp_path: Path) -> None:
    store.install(files["bias3"])
    with store.change() as change:
        with pytest.raises(EdgepatchError, match="older"):
            change.patch(files["bias2"])
        with pytest.raises(UsageError, match="keeps no such version"):
            change.activate("mask", 7)
        change.patch(files["bias4"])
        change.patch(files["mask2"])
    assert versions(store) == {"bias": 4, "mask": 2}


def test_an_error_within_a_change_changes_nothing(store: Store, files: script.Files) -> None:
    before = tree(store.path)
    with pytest.raises(ZeroDivisionError), store.change() as change:
        change.patch(files["bias2"])
        raise ZeroDivisionError
    assert tree(store.path) == before


def test_a_patch_that_answers_nonsense_is_refused(store: Store, files: script.Files, tmp_path: Path) -> None:
    patch = blob.read(files["scale_bias1"])
    huge = {name: np.full_like(patch.tensors[name], 60000) for name in ("scale", "head_kernel")}
    blob.write(dataclasses.replace(patch, tensors={**patch.tensors, **huge}), tmp_path / "wild.epatch")
    with pytest.raises(EdgepatchError, match="answers NaN or infinity"):
        store.install(tmp_path / "wild.epatch")
    assert versions(store) == {"bias": 1, "mask": 1}


# versions


def test_versions_never_go_back_unless_forced(store: Store, files: script.Files) -> None:
    store.install(files["bias3"])
    for name in ("bias2", "bias1"):
        with pytest.raises(EdgepatchError, match="older than version 3") as caught:
            store.install(files[name])
        assert caught.value.exit_code == 1 and "--force" in caught.value.details["mend"]
    store.install(files["bias2"], force=True)
    assert versions(store)["bias"] == 2
    assert store.state.tasks["bias"].newest.version == 3, "the floor stays"
    with pytest.raises(EdgepatchError, match="older"):
        store.install(files["bias1"])
    store.install(files["bias4"])
    assert versions(store)["bias"] == 4


def test_the_same_file_again_is_said_to_be_there_and_nothing_is_written(store: Store, files: script.Files) -> None:
    before = tree(store.path)
    (outcome,) = store.install(files["bias1"])
    assert outcome.what == "unchanged" and "already" in str(outcome)
    assert tree(store.path) == before


def test_another_file_of_the_same_version_is_refused(store: Store, files: script.Files, tmp_path: Path) -> None:
    patch = blob.read(files["bias1"])
    other = tmp_path / "other.epatch"
    blob.write(dataclasses.replace(patch, licence="another"), other)
    with pytest.raises(EdgepatchError, match="another file of version 1"):
        store.install(other)
    store.install(other, force=True)
    assert store.patch("bias").licence == "another"
    assert store.state.tasks["bias"].newest == Newest(1, store.patches()["bias"].sha256)


def test_the_floor_outlives_removal_and_the_same_file_may_come_back(store: Store, files: script.Files) -> None:
    store.install(files["bias3"])
    store.remove("bias")
    store.collect()
    assert versions(store) == {"mask": 1}
    with pytest.raises(EdgepatchError, match="older than version 3"):
        store.install(files["bias2"])
    store.install(files["bias3"])
    assert versions(store)["bias"] == 3
    store.remove("bias", forget=True)
    store.install(files["bias1"])
    assert versions(store)["bias"] == 1 and store.state.tasks["bias"].newest.version == 1


def test_rolling_back_and_forth(store: Store, files: script.Files) -> None:
    with pytest.raises(UsageError, match="no previous version"):
        store.roll_back("bias")
    store.install(files["bias2"])
    (outcome,) = store.roll_back("bias")
    assert (outcome.version, outcome.before, versions(store)["bias"]) == (1, 2, 1)
    with pytest.raises(UsageError, match="keeps no such version") as caught:
        store.activate("bias", 5)
    assert caught.value.details["expected"] == "1 or 2"
    assert store.activate("bias", 1).what == "unchanged"
    assert store.activate("bias", 2).what == "activated"
    store.roll_back("bias")
    store.install(files["bias2"])  # the newest there was, and the same file
    assert versions(store)["bias"] == 2
    store.collect()
    store.roll_back("bias")
    assert versions(store)["bias"] == 1, "collect keeps what can be rolled back to"


def test_tasks_that_are_not_installed_are_named(store: Store) -> None:
    for call in (lambda: store.remove("none"), lambda: store.roll_back("none"), lambda: store.patch("none")):
        with pytest.raises(UsageError, match="not installed") as caught:
            call()
        assert caught.value.details["expected"] == "bias, mask" and caught.value.details["file"] == str(store.path)


def test_the_tasks_that_are_named_are_those_before_the_change(store: Store, files: script.Files) -> None:
    with pytest.raises(UsageError, match="not installed") as caught:
        store.install(files["head_only1"], remove=["bias", "none"])
    assert caught.value.details["expected"] == "bias, mask"


def test_force_is_advised_for_no_version_above_the_largest(store: Store, files: script.Files) -> None:
    store.install(files["bias3"])
    for version, forced in ((2, True), (4, False)):
        with pytest.raises(UsageError, match="keeps no such version") as caught:
            store.activate("bias", version)
        assert ("--force" in caught.value.details["mend"]) == forced


def test_a_task_without_a_version_to_go_back_to_is_told_with_its_store_and_what_helps(store: Store) -> None:
    with pytest.raises(UsageError, match="no previous version") as caught:
        store.roll_back("bias")
    assert caught.value.details["file"] == str(store.path)
    assert caught.value.details["mend"].endswith(f"edgepatch store install {store.path} FILE --force")


# graphs


@pytest.mark.parametrize("name", ["int8", "onnx"])
def test_a_graph_of_the_same_backbone_keeps_the_patches(name: str, store: Store, files: script.Files) -> None:
    store.install(files["bias2"])
    store.install(files[name])
    assert store.graph.read_bytes() == files[name].read_bytes()
    assert versions(store) == {"bias": 2, "mask": 1}
    store.roll_back("bias")
    with store.runtime() as runtime:
        assert set(runtime.tasks) == {"bias", "mask"}


def test_a_graph_that_an_active_patch_does_not_fit_is_refused(files: script.Files, tmp_path: Path) -> None:
    plain = tmp_path / "plain.epatch"
    blob.write(dataclasses.replace(blob.read(files["bias1"]), ranges=None), plain)
    store = Store.create(tmp_path / "store", files["fp32"], plain)
    with pytest.raises(MismatchError, match="not calibrated"):
        store.install(files["int8"])
    assert store.state == Store.open(store.path).state and store.state.serial == 1


def test_a_graph_of_another_backbone_needs_every_patch_replaced_or_removed(store: Store, files: script.Files) -> None:
    before = tree(store.path)
    with pytest.raises(MismatchError, match="another backbone") as caught:
        store.install(files["other"], remove=["bias"])
    assert "mask" in caught.value.details["mend"] and tree(store.path) == before
    store.install(files["other"], files["mobilenet_int81"], remove=["bias", "mask"])
    assert versions(store) == {"mobilenet_int8": 1}
    with store.runtime() as runtime:
        assert runtime.tasks == ("mobilenet_int8",)


def test_what_was_of_another_backbone_cannot_be_rolled_back_to(
    store: Store, files: script.Files, tmp_path: Path
) -> None:
    same = tmp_path / "same.epatch"
    patch = blob.read(files["mobilenet_int81"])
    blob.write(dataclasses.replace(patch, task="bias", version=2), same)
    store.install(files["other"], same, remove=["mask"])
    assert versions(store) == {"bias": 2} and store.state.tasks["bias"].previous is None
    with pytest.raises(UsageError, match="no previous"):
        store.roll_back("bias")
