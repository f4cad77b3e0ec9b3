"""Pictures with boxes or masks: what is read, what is dropped and told, what is refused."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgepatch import imaging
from edgepatch.data import account, annotations, coco, masks, pictures, upright
from edgepatch.data.listing import Boxes
from edgepatch.data.voc import LIMIT as XML_LIMIT
from edgepatch.errors import BadFileError, UsageError
from edgepatch.imaging import Preprocessing
from edgepatch.progress import Quiet

PLAIN = Preprocessing(32, "stretch", (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
CROP = Preprocessing(32, "crop", (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))


class Listening(Quiet):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


def picture(path: Path, width: int = 40, height: int = 20, turn: int = 1) -> None:
    """A picture whose left half is red and whose right half is blue, as it lies in the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, : width // 2, 0] = pixels[:, width // 2 :, 2] = 255
    exif = Image.Exif()
    exif[upright.ORIENTATION] = turn
    Image.fromarray(pixels).save(path, exif=exif)


def document(count: int = 4) -> dict[str, Any]:
    """Pictures 1.. of 40 x 20 with a box of a cat each; the even ones hold a dog, too."""
    images = [{"id": n, "file_name": f"{n}.png", "width": 40, "height": 20} for n in range(1, count + 1)]
    boxes = [{"id": n, "image_id": n, "category_id": 7, "bbox": [4, 2, 10, 8]} for n in range(1, count + 1)]
    dogs = [{"id": 100 + n, "image_id": n, "category_id": 3, "bbox": [20, 0, 20, 20]} for n in range(2, count + 1, 2)]
    categories = [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}]
    return {"images": images, "annotations": boxes + dogs, "categories": categories}


def lay(folder: Path, content: dict[str, Any], name: str = "train") -> Path:
    """NAME.json with all its pictures beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    for image in content["images"]:
        picture(folder / name / image["file_name"], image["width"], image["height"])
    (folder / f"{name}.json").write_text(json.dumps(content))
    return folder / f"{name}.json"


def xml(name: str, *objects: tuple[str, tuple[object, object, object, object], int], size: str = "") -> str:
    """The VOC annotation of a picture of 40 x 20."""
    texts = [
        f"<object><name>{label}</name><difficult>{difficult}</difficult><bndbox><xmin>{box[0]}</xmin>"
        f"<ymin>{box[1]}</ymin><xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox></object>"
        for label, box, difficult in objects
    ]
    size = size or "<width>40</width><height>20</height><depth>3</depth>"
    return f"<annotation><filename>{name}</filename><size>{size}</size>{''.join(texts)}</annotation>"


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """Six pictures, a to f, with a dog each, and a cat in a."""
    root = tmp_path / "voc"
    (root / "Annotations").mkdir(parents=True)
    for name in "abcdef":
        picture(root / "JPEGImages" / f"{name}.png")
        (root / "Annotations" / f"{name}.xml").write_text(xml(f"{name}.png", ("dog", (1, 1, 40, 20), 0)))
    (root / "Annotations" / "a.xml").write_text(xml("a.png", ("dog", (1, 1, 40, 20), 0), ("cat", (5, 3, 14, 10), 1)))
    return root


def lists(root: Path, **parts: str) -> None:
    (root / "ImageSets" / "Main").mkdir(parents=True, exist_ok=True)
    for part, names in parts.items():
        (root / "ImageSets" / "Main" / f"{part}.txt").write_text("\n".join(names) + "\n")


def wrong(path: Path) -> list[str]:
    """The problems that a file is refused for."""
    with pytest.raises(BadFileError) as caught:
        annotations.read(path)
    assert caught.value.details["file"] == str(path)
    return [f"{problem['field']} {problem['message']}" for problem in caught.value.details["problems"]]


# COCO


def test_coco_is_read_with_labels_in_the_order_of_their_ids(tmp_path: Path) -> None:
    content = document()
    content["annotations"][0]["iscrowd"] = 1
    found = annotations.read(lay(tmp_path, content))
    assert found.classes == ("dog", "cat")
    assert [path.name for path in found.paths] == ["1.png", "2.png", "3.png", "4.png"]
    assert found.sizes == ((40, 20),) * 4
    assert (found.boxes[1].dtype, found.labels[1].dtype) == (np.float32, np.int64)
    assert found.boxes[1].tolist() == [[4, 2, 14, 10], [20, 0, 40, 20]]
    assert found.labels[1].tolist() == [1, 0]
    assert [ignored.tolist() for ignored in found.ignored] == [[True], [False, False], [False], [False, False]]
    assert found.counts().tolist() == [2, 3]
    assert found.dropped.counts == {account.IGNORED: 1}


def test_a_loaded_set_has_relative_boxes_and_stretched_pictures(tmp_path: Path) -> None:
    listener = Listening()
    loaded = annotations.load(annotations.read(lay(tmp_path, document())), PLAIN, listener)
    assert loaded.pixels.shape == (4, 32, 32, 3)
    assert loaded.pixels[0, 16, 2].tolist() == [255, 0, 0]
    assert loaded.pixels[0, 16, 30].tolist() == [0, 0, 255]
    np.testing.assert_allclose(loaded.boxes[1], [[0.1, 0.1, 0.35, 0.5], [0.5, 0, 1, 1]])
    assert loaded.boxes[1].dtype == np.float32
    assert (loaded.classes, len(loaded)) == (("dog", "cat"), 4)
    assert listener.said == [loaded.summary]
    assert "pictures 4, boxes 6, labels 2" in loaded.summary


def test_labels_of_a_later_file_are_matched_by_name_not_by_id(tmp_path: Path) -> None:
    lay(tmp_path, document())
    other = document()
    for category in other["categories"]:
        category["id"] = {"cat": 1, "dog": 2}[category["name"]]
    for box in other["annotations"]:
        box["category_id"] = {7: 1, 3: 2}[box["category_id"]]
    lay(tmp_path, other, "val")
    train, val = annotations.training_splits(tmp_path)
    assert train.classes == val.classes == ("dog", "cat")
    assert [labels.tolist() for labels in val.labels] == [labels.tolist() for labels in train.labels]


def test_a_class_that_training_does_not_know_is_refused(tmp_path: Path) -> None:
    path = lay(tmp_path, document())
    with pytest.raises(UsageError, match="does not know") as caught:
        annotations.evaluation_split(path, ["cat"])
    assert caught.value.details["field"] == "dog"


def test_a_share_is_put_aside_seeded_and_whole(tmp_path: Path) -> None:
    content = document(20)
    content["annotations"] = [box for box in content["annotations"] if box["image_id"] <= 15]
    path = lay(tmp_path, content)
    train, val = annotations.training_splits(path, share=0.2, seed=3)
    assert (len(train), len(val)) == (16, 4)
    assert sorted(train.paths + val.paths) == sorted(annotations.read(path).paths)
    assert sum(not len(boxes) for boxes in val.boxes) == 1, "of pictures without boxes there is a share, too"
    assert annotations.training_splits(path, share=0.2, seed=3)[1].paths == val.paths
    assert annotations.training_splits(path, share=0.2, seed=4)[1].paths != val.paths
    assert annotations.training_splits(path, share=0.001)[1].counts().any(), "one with a box, however small the share"
    assert (train.dropped.counts, val.dropped.counts) == ({account.NEGATIVE: 4}, {account.NEGATIVE: 1})


def test_the_only_box_of_a_class_stays_in_training(tmp_path: Path) -> None:
    content = document(6)
    content["annotations"] = [box for box in content["annotations"] if box["category_id"] == 7 or box["id"] == 104]
    path = lay(tmp_path, content)
    for seed in range(8):
        assert annotations.training_splits(path, share=0.5, seed=seed)[0].counts()[0] == 1
    with pytest.raises(UsageError, match="too few pictures"):
        annotations.training_splits(lay(tmp_path, document(1), "one"))


def test_a_folder_of_splits_is_trained_on_train_and_tested_on_test_else_val(tmp_path: Path) -> None:
    lay(tmp_path, document(6))
    lay(tmp_path, document(3), "val")
    train, val = annotations.training_splits(tmp_path)
    assert (len(train), len(val)) == (6, 3)
    assert annotations.evaluation_split(tmp_path, train.classes)[1] == "val"
    lay(tmp_path, document(2), "test")
    found, name = annotations.evaluation_split(tmp_path, train.classes)
    assert (len(found), name) == (2, "test")
    found, name = annotations.evaluation_split(tmp_path / "val.json", train.classes)
    assert (len(found), name) == (3, "all")
    assert len(annotations.training_splits(tmp_path, tmp_path / "test.json")[1]) == 2


def test_what_is_annotated_is_known_by_its_files(tmp_path: Path, digits: Path, voc: Path) -> None:
    path = lay(tmp_path / "coco", document())
    assert annotations.is_annotated(path)
    assert annotations.is_annotated(path.parent)
    assert annotations.is_annotated(voc)
    assert not annotations.is_annotated(digits)
    assert not annotations.is_annotated(tmp_path / "absent")
    for call in (annotations.read, annotations.training_splits):
        with pytest.raises(UsageError) as caught:
            call(digits)
        assert "train.json" in str(caught.value)
    with pytest.raises(UsageError, match="no such file"):
        annotations.read(tmp_path / "absent.json")


def test_boxes_are_clipped_and_those_under_a_pixel_dropped_and_both_are_told(tmp_path: Path) -> None:
    content = document(3)
    content["annotations"] = [
        {"id": number, "image_id": image, "category_id": 7, "bbox": box}
        for number, (image, box) in enumerate(
            [
                (1, [-5, -5, 15, 15]),  # clipped
                (1, [35, 15, 1000, 1000]),  # clipped
                (1, [0, 0, 40.0000001, 20]),  # rounding
                (2, [50, 5, 10, 10]),  # outside
                (2, [10, 10, -5, 5]),  # inside out
                (2, [10, 10, 0.5, 5]),
                (3, [39.5, 5, 10, 10]),  # half a pixel within
            ]
        )
    ]
    found = annotations.read(lay(tmp_path, content))
    assert found.boxes[0].tolist() == [[0, 0, 10, 10], [35, 15, 40, 20], [0, 0, 40, 20]]
    assert [len(boxes) for boxes in found.boxes] == [3, 0, 0]
    assert found.boxes[1].shape == (0, 4)
    assert found.dropped.counts == {
        account.CLIPPED: 2,
        account.DEGENERATE: 4,
        account.NEGATIVE: 2,
        account.NO_BOX: 1,
    }
    assert found.dropped.examples[account.CLIPPED] == "train.json, image 1 (1.png), annotation 0"
    assert found.dropped.examples[account.DEGENERATE] == "train.json, image 2 (2.png), annotation 3"
    assert found.dropped.examples[account.NO_BOX] == "dog"
    assert found.classes == ("dog", "cat"), "a label without a box is kept"
    assert f"{account.DEGENERATE}: 4 (first: train.json, image 2 (2.png), annotation 3)" in found.summary()
    assert found.dropped.to_json()[account.CLIPPED]["count"] == 2


@pytest.mark.parametrize("name", ["", "a\nb", "\x1b[31mred", "x" * 201, 7, None])
def test_label_names_that_cannot_be_shown_are_refused(tmp_path: Path, name: object) -> None:
    content = document()
    content["categories"][1]["name"] = name
    assert wrong(lay(tmp_path, content)) == ["categories[1].name is not what it should be"]
    content["categories"][1]["name"] = "x" * 200
    assert annotations.read(lay(tmp_path, content)).classes == ("x" * 200, "cat")


def test_all_contradictions_of_a_file_are_told_at_once(tmp_path: Path) -> None:
    content = document()
    content["categories"] += [{"id": 7, "name": "bird"}, {"id": 9, "name": "cat"}]
    content["images"] += [
        {**content["images"][0], "file_name": "x.png"},
        {**content["images"][1], "id": 50, "file_name": "./2.png"},
    ]
    content["annotations"] += [
        {"id": 1, "image_id": 1, "category_id": 7, "bbox": [1, 1, 5, 5]},
        {"id": 61, "image_id": 99, "category_id": 7, "bbox": [1, 1, 5, 5]},
        {"id": 62, "image_id": 1, "category_id": 99, "bbox": [1, 1, 5, 5]},
    ]
    assert wrong(lay(tmp_path, content)) == [
        "categories[2].id stands there twice",
        "categories[3].name stands there twice",
        "images[4].id stands there twice",
        "images[5].file_name stands there twice",
        "annotations[6].id stands there twice",
        "annotations[7].image_id is the id of no image",
        "annotations[8].category_id is the id of no category",
    ]


def test_entries_of_another_structure_are_told_with_what_was_expected(tmp_path: Path) -> None:
    content = document()
    path = lay(tmp_path, content)
    faults: list[tuple[str, int, str, Any]] = [
        ("categories", 0, "name", ""),
        ("images", 0, "id", "1"),
        ("images", 1, "width", 0),
        ("images", 2, "height", 20.5),
        ("images", 3, "width", 10**8),
        ("annotations", 0, "bbox", [1, 2, 3]),
        ("annotations", 1, "bbox", [1, 2, 3, None]),
        ("annotations", 2, "bbox", [1, 2, 3, 10**400]),
        ("annotations", 3, "iscrowd", 2),
        ("annotations", 4, "image_id", True),
    ]
    for table, index, key, value in faults:
        content[table][index][key] = value
    del content["annotations"][5]["id"]
    content["annotations"].append("box")
    path.write_text(json.dumps(content))
    told = wrong(path)
    for table, index, key, _ in faults:
        assert any(problem.startswith(f"{table}[{index}].{key} is ") for problem in told), (table, index, key)
    assert "annotations[5].id is missing" in told
    assert "annotations[6] is not what it should be" in told
    with pytest.raises(BadFileError) as caught:
        annotations.read(path)
    assert "expected [x, y, width, height], in pixels" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ("[]", "is not COCO JSON"),
        ('{"images": [], "images": []}', "is not JSON"),
        ('{"images": NaN}', "is not JSON"),
        ('{"images": {}, "annotations": [], "categories": []}', "images: is not what it should be"),
        ('{"images": [], "annotations": [], "categories": []}', "images: is empty"),
        ("{}", "annotations: is missing"),
        ("[" * 100_000, "is not JSON"),
    ],
)
def test_a_file_that_is_no_coco_json_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = lay(tmp_path, document())
    path.write_text(text)
    with pytest.raises(BadFileError) as caught:
        annotations.read(path)
    assert said in str(caught.value)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "1e10", "-1e10"])
def test_coco_boxes_of_nan_infinity_or_far_beyond_any_picture_are_refused(tmp_path: Path, number: str) -> None:
    path = lay(tmp_path, document())
    path.write_text(path.read_text().replace("[4, 2, 10, 8]", f"[4, 2, {number}, 8]", 1))
    with pytest.raises(BadFileError) as caught:
        annotations.read(path)
    is_json = number.endswith("e10")
    assert ("annotations[0].bbox: is not what it should be" if is_json else "is not JSON") in str(caught.value)


def test_a_file_of_endless_size_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = lay(tmp_path, document())
    monkeypatch.setattr(coco, "LIMIT", 100)
    with pytest.raises(BadFileError, match="too large"):
        annotations.read(path)


def test_a_thousand_problems_do_not_fill_the_screen(tmp_path: Path) -> None:
    content = document()
    content["annotations"] = [{}] * 1000
    path = lay(tmp_path, content)
    assert len(wrong(path)) == account.SHOWN
    with pytest.raises(BadFileError, match="4000 things are wrong"):
        annotations.read(path)


@pytest.mark.parametrize("name", ["../1.png", "a/../../1.png", "/etc/1.png", "..\\1.png", "C:\\1.png", "a\0.png", ""])
def test_a_file_name_that_leaves_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    content = document()
    path = lay(tmp_path, content)
    picture(tmp_path / "1.png")
    content["images"][0]["file_name"] = name
    path.write_text(json.dumps(content))
    assert wrong(path) == ["images[0].file_name is not what it should be"]


def test_files_in_folders_within_the_folder_are_found(tmp_path: Path) -> None:
    content = document()
    content["images"][0]["file_name"] = "./deep//down/1.png"
    found = annotations.read(lay(tmp_path, content))
    assert found.paths[0] == tmp_path / "train" / "deep" / "down" / "1.png"
    assert not found.dropped.counts


def test_missing_and_unlisted_pictures_are_told_and_too_many_missing_refused(tmp_path: Path) -> None:
    content = document(10)
    path = lay(tmp_path, content)
    picture(tmp_path / "train" / "extra.png")
    (tmp_path / "train" / "notes.txt").write_text("no picture")
    picture(tmp_path / "train" / ".hidden.png")
    for number in (3, 4):
        (tmp_path / "train" / f"{number}.png").unlink()
    found = annotations.read(path)
    assert len(found) == 8
    assert found.dropped.counts == {account.MISSING: 2, account.UNLISTED: 1}
    assert found.dropped.examples[account.MISSING] == "train.json, image 3 (3.png)"
    assert found.dropped.examples[account.UNLISTED].endswith("extra.png")
    (tmp_path / "train" / "5.png").unlink()
    with pytest.raises(BadFileError, match="3 of 10") as caught:
        annotations.read(path)
    assert "image 3 (3.png)" in str(caught.value)


def test_a_set_without_any_picture_is_refused(tmp_path: Path) -> None:
    path = lay(tmp_path, document(2))
    for number in (1, 2):
        (tmp_path / "train" / f"{number}.png").unlink()
    with pytest.raises(BadFileError, match="2 of 2"):
        annotations.read(path)
    (tmp_path / "train").rmdir()
    with pytest.raises(UsageError, match="no folder of pictures"):
        annotations.read(path)


def test_pictures_without_boxes_are_negatives_but_not_all_can_be(tmp_path: Path) -> None:
    content = document()
    content["annotations"] = content["annotations"][:1]
    found = annotations.read(lay(tmp_path, content))
    assert len(found) == 4
    assert found.dropped.counts[account.NEGATIVE] == 3
    content["annotations"] = []
    path = lay(tmp_path, content)
    assert annotations.evaluation_split(path, found.classes)[0].dropped.counts[account.NEGATIVE] == 4
    with pytest.raises(BadFileError, match="no box to train on"):
        annotations.training_splits(path, lay(tmp_path, document(), "val"))
    with pytest.raises(BadFileError, match="no box to choose on"):
        annotations.training_splits(tmp_path / "val.json", path)


def test_pictures_of_another_size_than_listed_are_dropped(tmp_path: Path) -> None:
    path = lay(tmp_path, document(6))
    picture(tmp_path / "train" / "2.png", 80, 40)
    picture(tmp_path / "train" / "5.png", 20, 40)
    loaded = annotations.load(annotations.read(path), PLAIN, Quiet())
    assert [own.name for own in loaded.files.paths] == ["1.png", "3.png", "4.png", "6.png"]
    assert len(loaded.pixels) == len(loaded.boxes) == 4
    assert all(row.std() > 0 for row in loaded.pixels), "no picture was mistaken for a dropped one"
    assert loaded.files.dropped.counts == {account.OTHER_SIZE: 2}
    assert loaded.files.dropped.examples[account.OTHER_SIZE].endswith("2.png: is 80 x 40, not 40 x 20")
    picture(tmp_path / "train" / "6.png", 80, 40)
    with pytest.raises(BadFileError, match="3 of 6"):
        annotations.load(annotations.read(path), PLAIN, Quiet())


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_exif_that_turns_a_picture_away_from_its_boxes_drops_it(tmp_path: Path, suffix: str) -> None:
    content = document(4)
    for image in content["images"]:
        image["file_name"] = f"{image['id']}.{suffix}"
    content["images"][1].update(width=20, height=40)  # listed as it is shown
    content["annotations"] = [box for box in content["annotations"] if box["category_id"] == 7]
    del content["categories"][1]
    path = lay(tmp_path, content)
    picture(tmp_path / "train" / f"1.{suffix}", 40, 20, turn=6)  # listed as it lies
    picture(tmp_path / "train" / f"2.{suffix}", 40, 20, turn=6)
    picture(tmp_path / "train" / f"3.{suffix}", 40, 20, turn=3)  # either way
    loaded = annotations.load(annotations.read(path), PLAIN, Quiet())
    assert [own.stem for own in loaded.files.paths] == ["2", "3", "4"]
    assert loaded.files.dropped.counts == {account.TURNED: 1, account.UNSURE: 1}
    assert loaded.files.dropped.examples[account.TURNED].endswith("is 40 x 20, and EXIF turns it")
    assert loaded.pixels[0, 2, 16, 0] > 200, "left lies on top after a turn to the right"
    assert loaded.pixels[0, 30, 16, 2] > 200
    assert loaded.pixels[1, 16, 2, 2] > 200, "upside down"


def test_unreadable_pictures_are_told_once_for_all(tmp_path: Path) -> None:
    path = lay(tmp_path, document(8))
    (tmp_path / "train" / "2.png").write_bytes(b"no picture")
    whole = (tmp_path / "train" / "4.png").read_bytes()
    (tmp_path / "train" / "4.png").write_bytes(whole[: len(whole) // 2])
    listener = Listening()
    loaded = annotations.load(annotations.read(path), PLAIN, listener)
    assert len(loaded) == 6
    assert loaded.files.dropped.counts == {account.UNREADABLE: 2}
    assert len(listener.said) == 1
    assert f"{account.UNREADABLE}: 2 (first: {tmp_path / 'train' / '2.png'}: is not a picture" in listener.said[0]
    (tmp_path / "train" / "1.png").write_bytes(b"")
    with pytest.raises(BadFileError, match="cannot be used"):
        annotations.load(annotations.read(path), PLAIN, Quiet())


def test_all_that_was_dropped_changed_or_doubtful_stands_in_one_summary(tmp_path: Path) -> None:
    content = document(80)
    content["annotations"] = [box for box in content["annotations"] if box["category_id"] == 7]
    for number, change in {
        1: {"bbox": [-5, 2, 20, 8]},
        2: {"bbox": [50, 30, 5, 5]},
        3: {"iscrowd": 1},
    }.items():
        content["annotations"][number - 1].update(change)
    path = lay(tmp_path, content)
    folder = tmp_path / "train"
    (folder / "4.png").unlink()
    picture(folder / "extra.jpg")
    (folder / "5.png").write_bytes(b"no picture")
    picture(folder / "6.png", 80, 40)
    picture(folder / "7.png", 40, 20, turn=6)
    picture(folder / "8.png", 40, 20, turn=3)
    listener = Listening()
    loaded = annotations.load(annotations.read(path), PLAIN, listener)
    assert listener.said == [loaded.summary]
    expected = {
        account.CLIPPED: "train.json, image 1 (1.png), annotation 1",
        account.DEGENERATE: "train.json, image 2 (2.png), annotation 2",
        account.NEGATIVE: f"{folder / '2.png'}",
        account.IGNORED: f"{folder / '3.png'}",
        account.MISSING: "train.json, image 4 (4.png)",
        account.UNLISTED: f"{folder / 'extra.jpg'}",
        account.UNREADABLE: f"{folder / '5.png'}: is not a picture that can be read: cannot identify image file",
        account.OTHER_SIZE: f"{folder / '6.png'}: is 80 x 40, not 40 x 20",
        account.TURNED: f"{folder / '7.png'}: is 40 x 20, and EXIF turns it",
        account.UNSURE: f"{folder / '8.png'}",
        account.NO_BOX: "dog",
    }
    lines = listener.said[0].splitlines()
    assert lines[0] == f"{path}: pictures 76, boxes 75, labels 2"
    assert len(lines) == 1 + len(expected)
    for rule, first in expected.items():
        assert any(line.startswith(f"  {rule}: 1 (first: {first}") for line in lines), rule


def test_of_too_many_pictures_that_cannot_be_used_one_of_each_kind_is_told(tmp_path: Path) -> None:
    path = lay(tmp_path, document(40))
    for number in range(1, 21):
        (tmp_path / "train" / f"{number}.png").write_bytes(b"no picture")
    picture(tmp_path / "train" / "30.png", 80, 40)
    with pytest.raises(BadFileError, match="21 of 40") as caught:
        annotations.load(annotations.read(path), PLAIN, Quiet())
    assert str(caught.value).count(".png") == 3, "the path and the decoder's own words, and the other size"
    with pytest.raises(BadFileError) as caught:
        account.refuse_many(9, 10, path, [f"example {number}" for number in range(9)])
    assert "example 2" in str(caught.value)
    assert "example 3" not in str(caught.value)


def test_data_whose_only_pictures_with_boxes_are_dropped_is_refused(tmp_path: Path) -> None:
    content = document(6)
    content["annotations"] = content["annotations"][:1]
    path = lay(tmp_path, content)
    (tmp_path / "train" / "1.png").write_bytes(b"no picture")
    with pytest.raises(BadFileError, match="no box to use"):
        annotations.load(annotations.read(path), PLAIN, Quiet())
    content["annotations"] = []
    path.write_text(json.dumps(content))
    assert len(annotations.load(annotations.read(path), PLAIN, Quiet())) == 5, "where there was none, none is lost"


def test_a_label_whose_pictures_are_all_dropped_is_told(tmp_path: Path) -> None:
    path = lay(tmp_path, document(3))
    (tmp_path / "train" / "2.png").write_bytes(b"no picture")
    loaded = annotations.load(annotations.read(path), PLAIN, Quiet())
    assert loaded.files.dropped.examples[account.NO_BOX] == "dog"


def test_a_crop_would_cut_boxes_off_and_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        annotations.load(annotations.read(lay(tmp_path, document())), CROP, Quiet())
    assert (caught.value.details["field"], caught.value.details["got"]) == ("resize", "crop")


def test_sets_of_boxes_too_large_for_memory_are_mapped_from_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = annotations.read(lay(tmp_path, document()))
    small = annotations.load(found, PLAIN, Quiet())
    monkeypatch.setattr(pictures, "IN_MEMORY", 0)
    large = annotations.load(found, PLAIN, Quiet())
    assert isinstance(large.pixels, np.memmap)
    np.testing.assert_array_equal(large.pixels, small.pixels)


@pytest.mark.parametrize("name", ["bccd3", "raccoon"])
def test_the_shared_sets_are_read_without_a_fault(shared: Path, name: str) -> None:
    data = shared / "detect" / name
    if not data.is_dir():
        pytest.skip(f"{data} is not there")
    train, val = annotations.training_splits(data)
    test, split = annotations.evaluation_split(data, train.classes)
    expected = {"bccd3": (205, 87, 72, 2804, 1137, 945), "raccoon": (128, 32, 40, 139, 33, 45)}[name]
    parts = (train, val, test)
    assert (*map(len, parts), *(sum(map(len, part.boxes)) for part in parts)) == expected
    assert split == "test"
    loaded = annotations.load(test, PLAIN, Quiet())
    assert not loaded.files.dropped.counts
    relative = np.concatenate(loaded.boxes)
    assert relative.min() >= 0
    assert relative.max() <= 1
    assert (relative[:, 2:] > relative[:, :2]).all()


# Pascal VOC


def test_voc_boxes_count_from_one_and_include_their_last_pixel(voc: Path) -> None:
    found = annotations.read(voc)
    assert found.classes == ("cat", "dog")
    assert [path.stem for path in found.paths] == list("abcdef")
    assert found.boxes[0].tolist() == [[0, 0, 40, 20], [4, 2, 14, 10]]
    assert found.labels[0].tolist() == [1, 0]
    assert found.ignored[0].tolist() == [False, True]
    assert found.sizes[0] == (40, 20)
    assert found.dropped.counts == {account.IGNORED: 1, account.NO_BOX: 1}, "a cat that is difficult is no cat"
    assert len(annotations.load(found, PLAIN, Quiet())) == 6


def names(found: Boxes) -> str:
    return "".join(path.stem for path in found.paths)


def test_voc_lists_say_what_is_trained_on_and_what_is_tested(voc: Path) -> None:
    train, val = annotations.training_splits(voc, share=0.4, seed=1)
    assert (len(train), len(val)) == (4, 2)
    lists(voc, test="ef")
    train, val = annotations.training_splits(voc)
    assert "".join(sorted(names(train) + names(val))) == "abcd", "what is tested on is not trained on"
    lists(voc, trainval="abcd", val="cd")
    train, val = annotations.training_splits(voc)
    assert (names(train), names(val)) == ("ab", "cd")
    lists(voc, train="a")
    train, val = annotations.training_splits(voc)
    assert (names(train), names(val)) == ("a", "cd")
    found, split = annotations.evaluation_split(voc, train.classes)
    assert (names(found), split) == ("ef", "test")
    assert train.classes == found.classes == ("cat", "dog")
    other = annotations.training_splits(lay(voc.parent, document()), voc)[1]
    assert other.classes == ("dog", "cat")


def test_voc_lists_that_share_pictures_are_refused(voc: Path) -> None:
    lists(voc, train="abc", val="cd", test="ee")
    with pytest.raises(BadFileError) as caught:
        annotations.training_splits(voc)
    told = [problem["message"] for problem in caught.value.details["problems"]]
    assert told == ["lists a picture twice", "shares pictures with val.txt"]


def test_a_voc_list_names_what_is_not_there(voc: Path) -> None:
    lists(voc, test=["a", "b", "../../secret"])  # type: ignore[arg-type]
    found, _ = annotations.evaluation_split(voc, ["cat", "dog"])
    assert names(found) == "ab"
    assert found.dropped.counts[account.MISSING] == 1
    assert "secret" in found.dropped.examples[account.MISSING]


def test_missing_unlisted_and_renamed_voc_pictures_are_told(voc: Path) -> None:
    (voc / "Annotations" / "a.xml").unlink()
    (voc / "JPEGImages" / "b.png").unlink()
    (voc / "Annotations" / "c.xml").write_text(xml("IMG_0001.png", ("dog", (1, 1, 40, 20), 0)))
    found = annotations.read(voc)
    assert names(found) == "cdef"
    assert found.dropped.counts == {account.MISSING: 1, account.UNLISTED: 1, account.RENAMED: 1}
    assert found.dropped.examples[account.RENAMED] == "Annotations/c.xml names IMG_0001.png"


def test_voc_boxes_that_are_inside_out_or_outside_are_dropped_and_told(voc: Path) -> None:
    odd = [(20, 5, 10, 9), (60, 1, 70, 5), (0, 0, 10, 10), (-30, 1, 99, 5), (7, 7, 6, 9)]
    (voc / "Annotations" / "b.xml").write_text(xml("b.png", *(("dog", box, 0) for box in odd)))
    found = annotations.read(voc)
    assert found.boxes[1].tolist() == [[0, 0, 10, 10], [0, 0, 40, 5]]
    assert found.dropped.counts[account.DEGENERATE] == 3
    assert found.dropped.counts[account.CLIPPED] == 2
    assert found.dropped.examples[account.DEGENERATE] == "Annotations/b.xml, object 1"
    assert found.dropped.examples[account.CLIPPED] == "Annotations/b.xml, object 3"


@pytest.mark.parametrize("number", ["nan", "-inf", "Infinity", "1e999", "1e10"])
def test_voc_boxes_of_nan_infinity_or_far_beyond_any_picture_are_refused(voc: Path, number: str) -> None:
    (voc / "Annotations" / "b.xml").write_text(xml("b.png", ("dog", (1, 1, number, 5), 0)))
    (voc / "Annotations" / "c.xml").write_text(xml("c.png", size=f"<width>40</width><height>{number}</height>"))
    assert wrong(voc) == [
        "Annotations/b.xml object 1 bndbox/xmax is not a number",
        "Annotations/c.xml size/height is not a number",
    ]


def test_voc_pictures_without_boxes_unreadable_or_of_another_size_are_told(voc: Path) -> None:
    (voc / "Annotations" / "b.xml").write_text(xml("b.png"))
    (voc / "JPEGImages" / "c.png").write_bytes(b"no picture")
    picture(voc / "JPEGImages" / "d.png", 20, 20)
    listener = Listening()
    loaded = annotations.load(annotations.read(voc, ["dog", "cat", "horse"]), PLAIN, listener)
    assert names(loaded.files) == "abef"
    assert [len(boxes) for boxes in loaded.boxes] == [2, 0, 1, 1]
    assert loaded.files.dropped.counts == {
        account.NEGATIVE: 1,
        account.UNREADABLE: 1,
        account.OTHER_SIZE: 1,
        account.IGNORED: 1,
        account.NO_BOX: 2,
    }
    assert listener.said == [loaded.summary]


def test_voc_lists_that_are_empty_or_no_text_are_refused(voc: Path) -> None:
    lists(voc, train="", val="ab")
    (voc / "ImageSets" / "Main" / "val.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(BadFileError) as caught:
        annotations.training_splits(voc)
    told = [(problem["field"], problem["message"]) for problem in caught.value.details["problems"]]
    assert told == [("train.txt", "is empty"), ("val.txt", "is not text")]


def test_all_faults_of_voc_files_are_told_at_once(voc: Path) -> None:
    texts = {
        "a": "<annotation><size>",
        "b": xml("../b.png"),
        "c": xml("c.png", ("", (1, 1, "five", 5), 0)),
        "d": xml("d.png", ("dog", (1, 1, 5, 5), 7)),  # type: ignore[arg-type]
        "e": xml("e.png", size="<width>0</width><height>20</height>"),
        "g": xml("g.png", size="<width>40.5</width><height>20</height>"),
        "h": xml("h.png", size="<width>100000</width><height>100000</height>"),
        "f": "<annotation/>",
    }
    for name, text in texts.items():
        (voc / "Annotations" / f"{name}.xml").write_text(text)
    picture(voc / "JPEGImages" / "a.jpg")
    assert sorted(wrong(voc)) == [
        "Annotations/a.xml is not XML that can be read",
        "Annotations/b.xml filename leads out of the folder",
        "Annotations/c.xml object 1 bndbox/xmax is not a number",
        "Annotations/c.xml object 1 name is not what it should be",
        "Annotations/d.xml object 1 difficult is not what it should be",
        "Annotations/e.xml size is not what it should be",
        "Annotations/f.xml size/height is missing",
        "Annotations/f.xml size/width is missing",
        "Annotations/g.xml size is not what it should be",
        "Annotations/h.xml size is not what it should be",
        "JPEGImages/a.png is one of two of its name",
    ]


def test_xml_that_declares_entities_is_refused_before_they_grow(voc: Path) -> None:
    grown = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 12))
    bombs = [
        f'<!DOCTYPE a [<!ENTITY e0 "aaaaaaaaaa">{grown}]><annotation>&e11;</annotation>',
        '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation><filename>&x;</filename></annotation>',
    ]
    for bomb in bombs:
        for data in (bomb.encode(), bomb.encode("utf-16")):
            (voc / "Annotations" / "a.xml").write_bytes(data)
            began = time.monotonic()
            with pytest.raises(BadFileError, match="DOCTYPE"):
                annotations.read(voc)
            assert time.monotonic() - began < 20
    (voc / "Annotations" / "a.xml").write_bytes(b" " * (XML_LIMIT + 1))
    with pytest.raises(BadFileError, match="too large"):
        annotations.read(voc)


def test_voc_without_pictures_or_with_an_unknown_class_is_refused(voc: Path) -> None:
    with pytest.raises(UsageError, match="does not know") as caught:
        annotations.read(voc, ["dog"])
    assert caught.value.details["field"] == "cat"
    (voc / "JPEGImages").rename(voc / "elsewhere")
    with pytest.raises(UsageError, match="no folder of pictures"):
        annotations.read(voc)


# Masks


@pytest.fixture
def masked(tmp_path: Path) -> Path:
    """DATA/train with six pictures of 40 x 20, whose left half is class 1, DATA/test with two."""
    root = tmp_path / "masked"
    for part, count in (("train", 6), ("test", 2)):
        for number in range(count):
            picture(root / part / f"{number}.jpg")
            Image.fromarray(half()).save(root / part / f"{number}.png")
    (root / "classes.json").write_text('{"classes": ["ground", "left"]}')
    return root


def half(value: int = 1, kind: Callable[..., Any] = np.uint8) -> np.ndarray:
    mask = np.zeros((20, 40), kind)
    mask[:, :20] = value
    return mask


def test_masks_are_stretched_with_their_pictures_and_keep_their_values(masked: Path) -> None:
    mask = half()
    mask[:10, 20:] = masks.IGNORED
    Image.fromarray(mask).save(masked / "train" / "0.png")
    loaded = masks.load(masks.read(masked / "train"), PLAIN, Quiet())
    assert (loaded.classes, len(loaded)) == (("ground", "left"), 6)
    assert (loaded.pixels.shape, loaded.masks.shape) == ((6, 32, 32, 3), (6, 32, 32))
    assert loaded.masks.dtype == np.uint8
    assert (loaded.masks[1, :, :16] == 1).all()
    assert (loaded.masks[1, :, 16:] == 0).all()
    assert (loaded.masks[0, :16, 16:] == masks.IGNORED).all()
    assert not loaded.files.dropped.counts


@pytest.mark.parametrize("mode", ["L", "P", "1", "I;16"])
def test_masks_of_every_kind_of_index_image_are_read(masked: Path, mode: str) -> None:
    image = Image.fromarray(half())
    if mode == "P":
        image = Image.frombytes("P", image.size, half().tobytes())
        image.putpalette([200, 0, 0, 0, 200, 0])
    elif mode == "1":
        image = Image.fromarray(half(255)).convert("1")
    elif mode == "I;16":
        image = Image.fromarray(half(kind=np.uint16))
    image.save(masked / "test" / "0.png")
    loaded = masks.load(masks.read(masked / "test"), PLAIN, Quiet())
    np.testing.assert_array_equal(loaded.masks[0], loaded.masks[1])


def test_masks_are_split_as_folders_are(masked: Path) -> None:
    train, val = masks.training_splits(masked, share=0.3, seed=1)
    assert (len(train), len(val)) == (4, 2)
    assert sorted(train.paths + val.paths) == sorted(masks.read(masked / "train").paths)
    assert [path.stem for path in train.paths] == [path.stem for path in train.masks]
    assert masks.training_splits(masked, share=0.3, seed=1)[1].paths == val.paths
    found, name = masks.evaluation_split(masked, train.classes)
    assert (len(found), name) == (2, "test")
    assert masks.is_masked(masked)
    assert not masks.is_masked(masked.parent)
    (masked / "test").rename(masked / "val")
    train, val = masks.training_splits(masked)
    assert (len(train), len(val), masks.evaluation_split(masked, train.classes)[1]) == (6, 2, "val")
    assert len(masks.training_splits(masked / "train", masked / "val")[1]) == 2


def test_pictures_and_masks_without_each_other_and_of_other_sizes_are_told(masked: Path) -> None:
    folder = masked / "train"
    picture(folder / "alone.jpg")
    Image.fromarray(half()).save(folder / "lonely.png")
    picture(folder / "1.jpg", 80, 40)
    picture(folder / "2.jpg", turn=6)
    listener = Listening()
    loaded = masks.load(masks.read(folder), PLAIN, listener)
    assert [path.stem for path in loaded.files.paths] == ["0", "3", "4", "5"]
    assert [path.stem for path in loaded.files.masks] == ["0", "3", "4", "5"]
    assert loaded.files.dropped.counts == {
        account.NO_MASK: 1,
        account.NO_PICTURE: 1,
        account.OTHER_SIZE: 1,
        account.TURNED: 1,
    }
    assert listener.said == [loaded.summary]
    (folder / "3.png").write_bytes(b"no picture")
    with pytest.raises(BadFileError, match="3 of 6") as caught:
        masks.load(masks.read(folder), PLAIN, Quiet())
    assert "3.png: is not a mask that can be read" in str(caught.value)


def test_values_that_are_no_class_are_refused_with_all_files_at_once(masked: Path) -> None:
    Image.fromarray(half(2)).save(masked / "train" / "1.png")
    Image.fromarray(half(300, np.uint16)).save(masked / "train" / "4.png")
    with pytest.raises(BadFileError, match="2 things are wrong") as caught:
        masks.load(masks.read(masked / "train"), PLAIN, Quiet())
    assert [(each["field"], each["got"]) for each in caught.value.details["problems"]] == [("1.png", 2), ("4.png", 300)]


def test_values_below_zero_are_no_class(masked: Path) -> None:
    Image.fromarray(half(-1, np.int32)).save(masked / "train" / "1.png", format="TIFF")
    with pytest.raises(BadFileError) as caught:
        masks.load(masks.read(masked / "train"), PLAIN, Quiet())
    assert [(each["field"], each["got"]) for each in caught.value.details["problems"]] == [("1.png", -1)]


def test_a_mask_of_too_many_pixels_is_dropped_unread(masked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(half().repeat(2, axis=0)).save(masked / "train" / "1.png")
    monkeypatch.setattr(imaging, "MAX_PIXELS", 1000)
    loaded = masks.load(masks.read(masked / "train"), PLAIN, Quiet())
    assert loaded.files.dropped.counts == {account.UNREADABLE: 1}
    assert "1600 pixels" in loaded.files.dropped.examples[account.UNREADABLE]


def test_masks_that_say_nothing_are_told_and_a_set_of_them_is_refused(masked: Path) -> None:
    nothing = Image.fromarray(np.full((20, 40), masks.IGNORED, np.uint8))
    nothing.save(masked / "train" / "1.png")
    loaded = masks.load(masks.read(masked / "train"), PLAIN, Quiet())
    assert len(loaded) == 6
    assert loaded.files.dropped.counts == {account.EMPTY: 1}
    assert loaded.files.dropped.examples[account.EMPTY].endswith("1.png")
    for path in (masked / "test").glob("*.png"):
        nothing.save(path)
    with pytest.raises(BadFileError, match="no pixel of any class"):
        masks.load(masks.read(masked / "test"), PLAIN, Quiet())


def test_a_picture_and_its_mask_are_opened_together_or_named(masked: Path) -> None:
    folder = masked / "train"
    found = masks.read(folder)
    image, mask, is_unsure = masks.pair(found, 0)
    assert (image.size, image.mode, is_unsure) == ((40, 20), "RGB", False)
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, half())
    Image.fromarray(half(7)).save(folder / "1.png")
    (folder / "2.png").write_bytes(b"no picture")
    (folder / "3.jpg").write_bytes(b"no picture")
    Image.fromarray(half()[:10]).save(folder / "4.png")
    picture(folder / "5.jpg", turn=6)
    with pytest.raises(BadFileError, match="no class") as caught:
        masks.pair(found, 1)
    assert not isinstance(caught.value, account.UnfitError), "it is refused, not dropped"
    assert caught.value.details["file"] == str(folder / "1.png")
    for index, name, rule in (
        (2, "2.png", account.UNREADABLE),
        (3, "3.jpg", account.UNREADABLE),
        (4, "4.jpg", account.OTHER_SIZE),
        (5, "5.jpg", account.TURNED),
    ):
        with pytest.raises(account.UnfitError) as unfit:
            masks.pair(found, index)
        assert (unfit.value.rule, unfit.value.details["file"]) == (rule, str(folder / name))


def test_a_mask_of_colours_is_dropped_and_a_class_that_no_mask_has_is_told(masked: Path) -> None:
    (masked / "classes.json").write_text('{"classes": ["ground", "left", "right"]}')
    picture(masked / "train" / "2.png")
    loaded = masks.load(masks.read(masked / "train"), PLAIN, Quiet())
    assert loaded.files.dropped.counts == {account.UNREADABLE: 1, account.NO_PIXEL: 1}
    assert "no image of indices" in loaded.files.dropped.examples[account.UNREADABLE]
    assert loaded.files.dropped.examples[account.NO_PIXEL] == "right"


def test_masks_without_pictures_classes_or_a_folder_are_refused(masked: Path) -> None:
    (masked / "empty").mkdir()
    with pytest.raises(UsageError, match="no picture with a mask"):
        masks.read(masked / "empty")
    with pytest.raises(UsageError, match="no such folder"):
        masks.read(masked / "absent")
    with pytest.raises(UsageError, match="in another order"):
        masks.evaluation_split(masked, ["left", "ground"])
    with pytest.raises(UsageError) as caught:
        masks.load(masks.read(masked / "train"), CROP, Quiet())
    assert caught.value.details["field"] == "resize"
    single = masks.read(masked / "test")
    single.paths[1].unlink()
    with pytest.raises(UsageError, match="too few pictures"):
        masks.training_splits(masked / "test")
    for text in ("", "[]", '{"classes": ["one"]}', '{"classes": ["a", "a"]}', '{"classes": ["a", 1]}'):
        (masked / "classes.json").write_text(text)
        with pytest.raises(BadFileError):
            masks.read(masked / "train")
    (masked / "classes.json").unlink()
    with pytest.raises(UsageError, match="no such file"):
        masks.read(masked / "train")


def test_the_shared_masks_are_read_without_a_fault(shared: Path) -> None:
    data = shared / "segment" / "coffee3"
    if not data.is_dir():
        pytest.skip(f"{data} is not there")
    train, val = masks.training_splits(data)
    test, split = masks.evaluation_split(data, train.classes)
    assert (train.classes, len(train), len(val), len(test)) == (("background", "leaf", "symptom"), 400, 50, 50)
    assert split == "test"
    loaded = masks.load(test, PLAIN, Quiet())
    assert not loaded.files.dropped.counts
    assert np.unique(loaded.masks).tolist() == [0, 1, 2]


def test_reading_does_not_change_what_it_was_given(tmp_path: Path) -> None:
    found = annotations.read(lay(tmp_path, document(4)))
    before = copy.deepcopy(found.dropped.to_json())
    (tmp_path / "train" / "1.png").write_bytes(b"")
    annotations.load(found, PLAIN, Quiet())
    assert found.dropped.to_json() == before
