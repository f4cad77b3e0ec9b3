"""Folders of images: what is found, how it is split, what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgepatch import metrics
from edgepatch.data import folder, pictures
from edgepatch.errors import BadFileError, UsageError
from edgepatch.imaging import Preprocessing
from edgepatch.progress import Quiet

PLAIN = Preprocessing(32, "stretch", (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))


def test_classes_are_sorted_folders_and_hidden_files_are_left_alone(digits: Path) -> None:
    (digits / ".cache").mkdir()
    (digits / "0" / ".hidden.png").write_bytes(b"")
    (digits / "0" / "notes.txt").write_text("not an image")
    found = folder.scan(digits)
    assert found.classes == ("0", "1", "7")
    assert found.counts().tolist() == [24, 24, 24]


def test_a_split_is_stratified_seeded_and_whole(digits: Path) -> None:
    for path in sorted((digits / "7").iterdir())[4:]:
        path.unlink()
    everything = folder.scan(digits)
    train, val = folder.training_splits(digits, share=0.25, seed=3)
    assert val.counts().tolist() == [6, 6, 1]
    assert sorted(train.paths + val.paths) == sorted(everything.paths)
    again = folder.training_splits(digits, share=0.25, seed=3)[1]
    other = folder.training_splits(digits, share=0.25, seed=4)[1]
    assert again.paths == val.paths != other.paths


def test_train_and_val_folders_are_used_as_they_are(digits: Path) -> None:
    (digits.parent / "data" / "train").mkdir(parents=True)
    for name in ("0", "1"):
        (digits / name).rename(digits.parent / "data" / "train" / name)
    (digits.parent / "data" / "val" / "1").mkdir(parents=True)
    moved = next((digits.parent / "data" / "train" / "1").iterdir())
    moved.rename(digits.parent / "data" / "val" / "1" / moved.name)
    train, val = folder.training_splits(digits.parent / "data")
    assert (train.classes, len(train), len(val)) == (("0", "1"), 47, 1)
    assert val.labels.tolist() == [1]
    found, split = folder.evaluation_split(digits.parent / "data", train.classes)
    assert (split, len(found)) == ("val", 1)
    (digits.parent / "alone").mkdir()
    (digits.parent / "data" / "val").rename(digits.parent / "alone" / "test")
    found, split = folder.evaluation_split(digits.parent / "alone", train.classes)  # without anything to train on
    assert (split, len(found)) == ("test", 1)


def test_one_class_an_empty_class_and_no_class_are_refused(digits: Path, tmp_path: Path) -> None:
    (digits / "empty").mkdir()
    with pytest.raises(UsageError, match="empty class") as caught:
        folder.scan(digits)
    assert caught.value.details["field"] == "empty"
    (tmp_path / "one" / "only").mkdir(parents=True)
    with pytest.raises(UsageError, match="one class only"):
        folder.scan(tmp_path / "one")
    with pytest.raises(UsageError, match="no class folders"):
        folder.scan(digits / "0")
    with pytest.raises(UsageError, match="no such folder"):
        folder.scan(tmp_path / "absent")


def test_a_split_beside_class_folders_is_refused(digits: Path) -> None:
    """DATA/test beside DATA/0 would be taken for a class, and tested on what was trained on."""
    (digits / "test").mkdir()
    with pytest.raises(UsageError, match="named as a split"):
        folder.scan(digits)


def test_a_class_of_one_image_cannot_be_split(digits: Path) -> None:
    for path in sorted((digits / "7").iterdir())[1:]:
        path.unlink()
    with pytest.raises(UsageError, match="too small to split"):
        folder.training_splits(digits)


def test_a_class_the_task_does_not_know_is_refused(digits: Path) -> None:
    with pytest.raises(UsageError, match="does not know, 7"):
        folder.evaluation_split(digits, ["0", "1"])


def test_unreadable_files_are_named_and_skipped_up_to_a_limit(digits: Path) -> None:
    broken = sorted((digits / "1").iterdir())[:2]
    for path in broken:
        path.write_bytes(path.read_bytes()[:40])
    files = folder.scan(digits)
    loaded = pictures.load(files, PLAIN, Quiet())
    assert len(loaded) == len(files) - 2 == len(loaded.pixels)
    assert [str(path) in problem for path, problem in zip(broken, loaded.skipped, strict=True)] == [True, True]
    assert loaded.files.counts().tolist() == [24, 22, 24]
    assert all(row.std() > 0 for row in loaded.pixels), "no picture was mistaken for a skipped one"
    for path in sorted((digits / "1").iterdir())[2:10]:
        path.write_bytes(b"")
    with pytest.raises(BadFileError, match="too many files that cannot be read"):
        pictures.load(folder.scan(digits), PLAIN, Quiet())


def test_a_class_without_a_readable_image_is_refused(digits: Path) -> None:
    for path in sorted((digits / "7").iterdir())[2:]:
        path.unlink()
    for path in (digits / "7").iterdir():
        path.write_bytes(b"")
    with pytest.raises(BadFileError, match="without a readable image"):
        pictures.load(folder.scan(digits), PLAIN, Quiet())


def test_sets_too_large_for_memory_are_mapped_from_a_file(digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = folder.scan(digits)
    small = pictures.load(files, PLAIN, Quiet())
    monkeypatch.setattr(pictures, "IN_MEMORY", 0)
    large = pictures.load(files, PLAIN, Quiet())
    assert isinstance(large.pixels, np.memmap)
    np.testing.assert_array_equal(large.pixels, small.pixels)
    files.paths[3].write_bytes(b"")
    fewer = pictures.load(files, PLAIN, Quiet())
    assert isinstance(fewer.pixels, np.memmap), "a skipped file must not bring the rest into memory"
    np.testing.assert_array_equal(fewer.pixels, np.delete(small.pixels, 3, axis=0))


def test_class_weights_are_mean_one_over_images_and_favour_the_rare() -> None:
    counts = np.array([90, 10])
    weights = metrics.class_weights(counts)
    assert weights[1] == pytest.approx(3 * weights[0])
    assert (weights * counts).sum() == pytest.approx(counts.sum())


def test_metrics_of_known_logits() -> None:
    logits, labels = np.array([[2.0, 0], [2, 0], [0, 2], [2, 0]]), np.array([0, 0, 1, 1])
    assert metrics.accuracy(logits, labels) == 0.75
    assert metrics.balanced_accuracy(logits, labels) == 0.75
    assert metrics.confusion(logits, labels, 2).tolist() == [[2, 0], [1, 1]]
    low, high = -np.log(1 / (1 + np.exp(-2))), -np.log(1 / (1 + np.exp(2)))
    assert metrics.cross_entropy(logits, labels) == pytest.approx((3 * low + high) / 4)
