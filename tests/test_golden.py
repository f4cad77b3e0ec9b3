"""The golden vectors that Python and Kotlin share: Python still comes to all of them.

Where a change of the format or of the arithmetic is meant, `python -m tests.golden` makes them anew.
"""

from __future__ import annotations

import dataclasses
import functools
import pkgutil
import tempfile
from pathlib import Path
from typing import Any

import golden
import numpy as np
import pytest
from golden import breaking, decoding, digests, pictures, recipes, running
from PIL import Image

from edgepatch import blob, container
from edgepatch import patches as patch_kinds
from edgepatch.errors import EdgepatchError
from edgepatch.imaging import Preprocessing
from edgepatch.runtime import graph_file, heads
from edgepatch.runtime.graph_file import Graph

PATCHES, GRAPHS, BROKEN = golden.document("patches"), golden.document("graphs"), golden.document("broken")
WORDS = golden.document("words")
# of logits, as a share of their root mean square; boxes and masks follow from numbers that are as near
TOLERANCE = {"fp32": 1e-4, "fp16": 1e-3, "dynamic": 0.02, "int8": 0.05}


@functools.cache
def graph(name: str) -> Graph:
    return graph_file.parse(golden.graph(name), name)


def test_every_kind_codec_head_format_and_precision_is_there() -> None:
    kinds = {name.partition("@")[0].partition(":")[0] for row in PATCHES.values() for name in row["kind"].split("+")}
    assert kinds == set(patch_kinds.kinds())
    used = {blob.parse(golden.patch(name), name).decode["head"] for name in PATCHES}
    assert used == {module.name for module in pkgutil.iter_modules(heads.__path__)}
    assert {bool(blob.parse(golden.patch(name), name).codec) for name in PATCHES} == {True, False}
    assert {tuple(row[each] for each in ("format", "precision")) for row in GRAPHS.values()} == {
        (kind, precision) for kind in running.FORMATS for precision in running.PRECISIONS
    }
    sizes = [path.stat().st_size for path in golden.DATA.rglob("*") if path.is_file()]
    assert sum(sizes) < 1_650_000


@pytest.mark.parametrize("case", golden.document("pictures"), ids=lambda case: f"{case['picture']}")
def test_pictures_are_prepared(case: dict[str, Any]) -> None:
    folder, how = golden.DATA / "pictures", Preprocessing.from_json(case["input"])
    prepared = how(pictures.opened(folder, case))
    if "fitted" in case:
        fitted = how.normalise(np.asarray(Image.open(folder / case["fitted"])))[None]
        np.testing.assert_array_equal(prepared, fitted)  # says where they differ
    assert digests.of_tensor(prepared)["sha256"] == case["sha256"]


@pytest.mark.parametrize("name", PATCHES)
def test_patches_hold_and_mean_the_same(name: str) -> None:
    row = running.stored(golden.patch(name), graph(running.GATED[0]))
    assert {"backbone": PATCHES[name]["backbone"], **row} == PATCHES[name]


def test_the_trunk_is_the_graphs() -> None:
    document, tensors = container.parse((golden.DATA / "trunk.tensors").read_bytes(), "trunk")
    own, values = running.trunk(graph(running.GATED[0]))
    assert document == own
    for name, value in values.items():
        np.testing.assert_array_equal(tensors[name], value)


@pytest.mark.parametrize("name", GRAPHS)
def test_graphs_are_bound_and_baked_to_the_same_bytes(name: str) -> None:
    assert digests.of_bytes(golden.graph(name)) == GRAPHS[name]["sha256"]
    for task, row in GRAPHS[name]["runs"].items():
        assert running.run(graph(name), golden.patch(task)) | {"answers": row["answers"]} == row, task


@pytest.mark.parametrize("name", GRAPHS)
def test_engines_answer_alike(name: str) -> None:
    near = TOLERANCE[GRAPHS[name]["precision"]]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"graph.{graph(name).format}"
        path.write_bytes(golden.graph(name))
        for task, row in GRAPHS[name]["runs"].items():
            answers = running.answers(path, graph(name), blob.parse(golden.patch(task), task))
            assert answers.keys() == row["answers"].keys()
            for mode, got in answers.items():
                require_near(got, row["answers"][mode], near)


def require_near(got: dict[str, Any], expected: dict[str, Any], near: float) -> None:
    """As near as engines of another version or machine come."""
    assert got.keys() == expected.keys()
    for key, values in expected.items():
        if key == "mask":
            differing = np.mean(pixels(got[key]) != pixels(values))
            assert differing <= near
        elif key == "boxes":
            assert [row["class"] for row in got[key]] == [row["class"] for row in values]
            for mine, theirs in zip(got[key], values, strict=True):
                assert abs(mine["score"] - theirs["score"]) <= near
                np.testing.assert_allclose(mine["xyxy"], theirs["xyxy"], atol=100 * near)
        else:
            error = np.sqrt(np.mean(np.subtract(got[key], values) ** 2))
            assert error <= near * np.sqrt(np.mean(np.square(values)))


def pixels(png: str) -> np.ndarray:
    return np.asarray(Image.open(running.unpacked(png)))


def test_outputs_are_decoded() -> None:
    read = {name: blob.parse(golden.patch(name), name) for name in ("finder", "painter", "scale_bias")}
    found = golden.document("decoding")
    cases = list(decoding.cases(read["finder"], read["painter"], read["scale_bias"]))
    assert [case[0] for case in cases] == list(found)
    for name, patch, outputs, picture in cases:
        document, tensors = container.parse((golden.DATA / "decoding" / f"{name}.tensors").read_bytes(), name)
        assert document["picture"] == list(picture)
        for each, value in outputs.items():
            np.testing.assert_array_equal(tensors[each], value)
        as_stored = dataclasses.replace(patch, labels=tuple(document["labels"]), decode=document["decode"])
        require_near(decoding.answer(as_stored, tensors, picture), found[name], 1e-6)


@pytest.mark.parametrize("row", BROKEN["patches"], ids=lambda row: row["name"])
def test_broken_patches_are_refused(row: dict[str, Any]) -> None:
    data = recipes.followed(row["recipe"], golden.source(row["of"]))
    require_said("library", row["name"], breaking.library_error(data, graph(running.GATED[0])), row["library"])
    require_said("runtime", row["name"], breaking.runtime_error(data, graph("gated-int8.tflite")), row["runtime"])


@pytest.mark.parametrize("row", BROKEN["graphs"], ids=lambda row: row["name"])
def test_broken_graphs_are_refused(row: dict[str, Any]) -> None:
    error = breaking.graph_error(recipes.followed(row["recipe"], golden.source(row["of"])))
    require_said("graphs", row["name"], error, row["error"])


@pytest.mark.parametrize("row", BROKEN["fits"], ids=lambda row: row["name"])
def test_patches_fit_the_graphs_that_take_them(row: dict[str, Any]) -> None:
    error = breaking.fit_error(recipes.followed(row["recipe"], golden.source(row["of"])), row["patch"])
    require_said("fits", row["name"], error, row["error"])


@pytest.mark.parametrize("row", BROKEN["binds"], ids=lambda row: row["name"])
def test_graphs_that_cannot_be_laid_out_are_refused(row: dict[str, Any]) -> None:
    error = breaking.bind_error(recipes.followed(row["recipe"], golden.source(row["of"])), row["patch"])
    require_said("binds", row["name"], error, row["error"])


def require_said(part: str, name: str, error: EdgepatchError | None, expected: dict[str, Any] | None) -> None:
    assert breaking.row(error) == expected
    if error is not None and name in WORDS[part]:
        assert breaking.words(error) == WORDS[part][name]
        assert str(error).replace("\n", "").isprintable()  # the line break is before what mends it


def test_the_broken_files_are_those_that_are_made() -> None:
    fits, binds = ([case[:3] for case in cases] for cases in (breaking.fits(), breaking.binds()))
    parts = {"patches": breaking.cases(), "graphs": breaking.graphs(), "fits": fits, "binds": binds}
    assert parts.keys() == BROKEN.keys()
    for part, cases in parts.items():
        kept = {row["name"]: recipes.followed(row["recipe"], golden.source(row["of"])) for row in BROKEN[part]}
        assert kept == {name: data for name, _, data in cases}


def test_a_recipe_gives_back_the_file() -> None:
    rng = np.random.default_rng(0)
    old = rng.bytes(5000)
    for new in (b"", old, old[::-1], old[100:300] + b"!" + old[50:4000] + bytes(40), rng.bytes(70)):
        recipe = recipes.told(new, old)
        assert recipes.followed(recipe, old) == new
    assert recipes.told(old[:2000] + b"?" + old[2000:], old) == [[0, 2000], "Pw==", [2000, 5000]]
