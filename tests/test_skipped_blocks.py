"""Blocks that a task skips are gone from its baked model, in every format and precision; lying tables are refused."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import onnx as onnx_library
import plans
import pytest
import reference
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from conftest import make_patch
from edgepatch.converters import dedicated, onnx, standard, tflite
from plans import KINDS, PRECISIONS, answers, made, require_near, values_of
from test_baking import forged

from edgepatch.backbones import network
from edgepatch.backbones.backbone import Backbone
from edgepatch.backbones.plan import IMAGE, Builder
from edgepatch.errors import BadFileError, MismatchError
from edgepatch.runtime import graph_file
from edgepatch.runtime.fitting import fit
from edgepatch.runtime.formats import FORMATS, flatbuffer
from edgepatch.runtime.graph_file import Graph
from edgepatch.runtime.model import Model

CONVERTERS: dict[str, Any] = {"tflite": tflite, "onnx": onnx}


@pytest.fixture(scope="module")
def hand_made() -> Backbone:
    """Three blocks that can be skipped, the first two a chain; with gates, so that values inside are read twice."""
    return made(plans.gated)


@pytest.fixture(scope="module")
def hand_made_graphs(hand_made: Backbone) -> dict[tuple[str, str], bytes]:
    return {
        (kind, precision): CONVERTERS[kind].export(hand_made, precision) for kind in KINDS for precision in PRECISIONS
    }


def baked(graph: Graph, backbone: Backbone, skip: np.ndarray) -> tuple[Model, np.ndarray]:
    """A model that skips blocks, and what numpy answers for the same pictures."""
    values, images = values_of(backbone, skip=skip), plans.pictures(backbone)
    exact = np.concatenate([reference.logits(backbone, values, image[None]) for image in images])
    return FORMATS[graph.format].bake_model(
        graph, values, reference.ranges(backbone, values, images), graph.input.size
    ), exact


def subsets(count: int) -> list[np.ndarray]:
    """None, all, each end, every other one, two chains, and some by chance."""
    numbers = np.arange(count)
    chosen = [numbers < 0, numbers >= 0, numbers < 1, numbers == count - 1, numbers % 2 == 0, numbers < 2, numbers > 1]
    return chosen + list(np.random.default_rng(0).random((2, count)) < 0.5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_task_without_some_blocks_answers_as_numpy_does(
    hand_made: Backbone, hand_made_graphs: dict[tuple[str, str], bytes], kind: str, precision: str
) -> None:
    graph = graph_file.parse(hand_made_graphs[kind, precision], "the exported graph")
    for skip in subsets(3):
        model, exact = baked(graph, hand_made, skip)
        require_near(answers(model, kind, plans.pictures(hand_made)), exact, precision)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_mobilenet_v2_skips_any_of_its_blocks(
    tiny: Backbone, every_graph: dict[tuple[str, str], Any], kind: str, precision: str
) -> None:
    graph = graph_file.read(every_graph[kind, precision])
    for skip in subsets(len(tiny.plan.residuals)):
        model, exact = baked(graph, tiny, skip)
        require_near(answers(model, kind, plans.pictures(tiny)), exact, precision)


def made_by(model: Model, kind: str) -> list[str]:
    """The names of what each operator of a baked model makes."""
    if kind == "onnx":
        return [node.output[0] for node in onnx_library.load_from_string(model.data).graph.node]
    (graph,) = schema.ModelT.InitFromPackedBuf(model.data, 0).subgraphs
    return [graph.tensors[operator.outputs[0]].name.decode() for operator in graph.operators]


@pytest.mark.parametrize("kind", KINDS)
def test_the_operators_of_skipped_blocks_are_gone_and_no_others(
    tiny: Backbone, every_graph: dict[tuple[str, str], Any], kind: str
) -> None:
    graph, residuals = graph_file.read(every_graph[kind, "fp32"]), tiny.plan.residuals
    whole = made_by(baked(graph, tiny, np.zeros(len(residuals), bool))[0], kind)
    for skip in subsets(len(residuals)):
        left = made_by(baked(graph, tiny, skip)[0], kind)
        assert left == [name for name in whole if name in set(left)]
        rows = [row for row, out in zip(graph.document["residuals"], skip, strict=True) if out]
        gone = {tiny.plan.sites[number].name: tiny.plan.sites[number] for row in rows for number in row["sites"]}
        assert not any(name.split("/")[0] in gone for name in left)
        clips = 0 if kind == "tflite" else sum(site.activation == "relu6" for site in gone.values())
        assert len(whole) - len(left) == len(gone) + clips + len(rows)


@pytest.mark.parametrize("kind", KINDS)
def test_an_int8_graph_loses_the_whole_of_a_block(
    hand_made: Backbone, hand_made_graphs: dict[tuple[str, str], bytes], kind: str
) -> None:
    graph = graph_file.parse(hand_made_graphs[kind, "int8"], "the exported graph")
    whole, left = (made_by(baked(graph, hand_made, np.full(3, out))[0], kind) for out in (False, True))
    runs = [row["operators" if kind == "tflite" else "nodes"] for row in graph.document["bake"]["residuals"]]
    assert len(whole) - len(left) == sum(end - begin for begin, end in runs)
    assert not any(name.startswith(("b2_", "b3_", "b5_", "add")) for name in left)


def test_xnnpack_runs_what_is_left_of_a_float_model(tiny: Backbone, every_graph: dict[tuple[str, str], Any]) -> None:
    graph = graph_file.read(every_graph["tflite", "fp32"])
    for skip in subsets(len(tiny.plan.residuals)):
        interpreter = Interpreter(model_content=baked(graph, tiny, skip)[0].data)
        interpreter.allocate_tensors()
        delegates = [each for each in interpreter._get_ops_details() if each["op_name"] == "DELEGATE"]
        assert [list(each["outputs"]) for each in delegates] == [[interpreter.get_output_details()[0]["index"]]]


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_its_own_holds_nothing_of_a_skipped_block(
    hand_made: Backbone, hand_made_graphs: dict[tuple[str, str], bytes], kind: str
) -> None:
    task, images = hand_made.own_patch(), plans.pictures(hand_made)
    for precision in PRECISIONS:
        graph = graph_file.parse(hand_made_graphs[kind, precision], "the exported graph")
        values = hand_made.values(task) | {"skip": np.array([True, False, True])}
        model = FORMATS[kind].bake_model(graph, values, reference.ranges(hand_made, values, images), graph.input.size)
        data = {"tflite": standard._tflite, "onnx": standard._onnx}[kind](model, task)
        np.testing.assert_array_equal(answers(Model(data), kind, images), answers(model, kind, images))
        if kind == "onnx":
            found = onnx_library.load_from_string(data).graph
            read = {name for node in found.node for name in node.input}
            assert {tensor.name for tensor in found.initializer} <= read
        else:
            parsed = schema.ModelT.InitFromPackedBuf(data, 0)
            (graph_,) = parsed.subgraphs
            ends = {number for each in graph_.operators for number in [*each.inputs, *each.outputs]}
            assert ends == set(range(len(graph_.tensors)))
            held = {tensor.buffer for tensor in graph_.tensors} | {entry.buffer for entry in parsed.metadata}
            assert held == set(range(len(parsed.buffers)))
            assert {each.opcodeIndex for each in graph_.operators} == set(range(len(parsed.operatorCodes)))


@pytest.mark.parametrize("kind", KINDS)
def test_dedicated_models_have_a_tasks_own_kernels_and_lack_its_skipped_blocks(
    hand_made: Backbone, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    kernel = hand_made.tensors["b3_expand/kernel"] * np.float32(1.5)
    values = values_of(hand_made, skip=np.array([True, False, False])) | {"b3_expand/kernel": kernel}
    monkeypatch.setattr(Backbone, "values", lambda self, patch: values)
    images = plans.pictures(hand_made)
    exact = np.concatenate([reference.logits(hand_made, values, image[None]) for image in images])
    data = {"tflite": dedicated.tflite, "onnx": dedicated.onnx}[kind](hand_made, hand_made.own_patch())
    require_near(answers(Model(data), kind, images), exact, "fp32")
    assert not any(name.startswith("b2_") for name in made_by(Model(data), kind))


@pytest.mark.parametrize("kind", KINDS)
def test_a_task_that_skips_other_blocks_is_refused(
    hand_made: Backbone, hand_made_graphs: dict[tuple[str, str], bytes], kind: str
) -> None:
    graph = graph_file.parse(hand_made_graphs[kind, "fp32"], "the exported graph")
    for count in (1, 4):
        with pytest.raises(ValueError, match="argument"):
            FORMATS[kind].bake_model(
                graph, values_of(hand_made, skip=np.ones(count, bool)), np.zeros((0, 2)), graph.input.size
            )


def test_the_document_says_which_sites_each_block_has(
    hand_made: Backbone, hand_made_graphs: dict[tuple[str, str], bytes]
) -> None:
    sites = [site.name for site in hand_made.plan.sites]
    for data in hand_made_graphs.values():
        rows = graph_file.parse(data, "the exported graph").document["residuals"]
        assert [row["block"] for row in rows] == [2, 3, 5]
        assert [sites[number] for number in rows[2]["sites"]] == ["b5_depthwise", "b5_project"]
        assert all(hand_made.plan.nodes[row["nodes"][1]].op == "add" for row in rows)


def change_row(row: dict[str, Any], key: str, value: Any) -> None:
    if key == "run":
        key = "operators" if "operators" in row else "nodes"
    row[key] = value(row.get(key)) if callable(value) else value


def in_table(number: int, key: str, value: Any) -> Any:
    return lambda document: change_row(document["bake"]["residuals"][number], key, value)


def in_document(number: int, key: str, value: Any) -> Any:
    return lambda document: change_row(document["residuals"][number], key, value)


def swallow(document: dict[str, Any]) -> None:
    """The first block claims the second's operators too, so that a join lies within another block."""
    first, second = document["bake"]["residuals"][:2]
    key = "operators" if "operators" in first else "nodes"
    first[key][1] = second[key][1]


LIES = {
    "out of bounds": in_table(2, "run", lambda run: [run[0], 10**9]),
    "far out of bounds": in_table(2, "run", [10**9, 2 * 10**9]),
    "below zero": in_table(0, "run", lambda run: [-run[1], run[1]]),
    "empty": in_table(1, "run", lambda run: [run[0], run[0]]),
    "back to front": in_table(1, "run", lambda run: run[::-1]),
    "one end": in_table(1, "run", lambda run: run[:1]),
    "no numbers": in_table(1, "run", ["a", "b"]),
    "fractions": in_table(1, "run", lambda run: [float(end) for end in run]),
    "no run": in_table(1, "run", None),
    "moved": in_table(1, "run", lambda run: [end + 1 for end in run]),
    "shorter": in_table(1, "run", lambda run: [run[0] + 1, run[1]]),
    "without its sum": in_table(1, "run", lambda run: [run[0], run[1] - 1]),
    "longer": in_table(2, "run", lambda run: [run[0], run[1] + 1]),
    "overlapping": in_table(1, "run", lambda run: [run[0] - 1, run[1]]),
    "everything": in_table(0, "run", [0, 50]),
    "twice": lambda document: document["bake"]["residuals"].__setitem__(1, document["bake"]["residuals"][0]),
    "a join within another": swallow,
    "other order": lambda document: document["bake"]["residuals"].reverse(),
    "other entry": in_table(1, "entry", lambda entry: entry + entry),
    "other join": in_table(1, "join", lambda join: join + join),
    "a row less": lambda document: document["bake"]["residuals"].pop(),
    "no rows": lambda document: document["bake"]["residuals"].clear(),
    "rows that are none": lambda document: document["bake"].update(residuals=7),
    "row of text": lambda document: document["bake"]["residuals"].__setitem__(0, "x"),
    "more in a row": in_table(0, "more", 1),
    "document: a row less": lambda document: document["residuals"].pop(),
    "document: rows that are none": lambda document: document.update(residuals={}),
    "document: other sites": in_document(1, "sites", lambda sites: sites[1:]),
    "document: sites out of bounds": in_document(1, "sites", [10**6]),
    "document: no block": in_document(1, "block", "x"),
    "document: negative nodes": in_document(1, "nodes", [-1, 3]),
    "document: nodes back to front": in_document(1, "nodes", lambda nodes: nodes[::-1]),
    "document: three nodes": in_document(1, "nodes", [1, 2, 3]),
    "document: text for nodes": in_document(1, "nodes", ["1", "2"]),
    "document: more": in_document(1, "more", 1),
    "shift of text": lambda document: document["bake"]["sites"][0].update(shift="3"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lie", LIES)
def test_a_table_that_lies_about_blocks_is_refused(
    hand_made_graphs: dict[tuple[str, str], bytes], kind: str, lie: str
) -> None:
    data = forged(hand_made_graphs[kind, "fp32"], kind, LIES[lie])
    with pytest.raises(BadFileError):
        graph_file.parse(data, "the forged graph")


@pytest.mark.parametrize(
    "change",
    [
        lambda table: table.update(order=[16, 200]),
        lambda table: table.pop("order"),
        lambda table: table["residuals"][0]["readers"].pop(),
        lambda table: table["residuals"][0]["readers"].append([10**12, 10**12 + 4]),
        lambda table: table["residuals"][0].update(readers=table["residuals"][1]["readers"]),
    ],
)
def test_places_to_cut_that_are_not_the_files_own_are_refused(
    hand_made_graphs: dict[tuple[str, str], bytes], change: Any
) -> None:
    data = forged(hand_made_graphs["tflite", "fp32"], "tflite", lambda document: change(document["bake"]))
    with pytest.raises(BadFileError):
        graph_file.parse(data, "the forged graph")


def test_ranges_that_a_block_needs_must_be_there(hand_made_graphs: dict[tuple[str, str], bytes]) -> None:
    for kind in KINDS:
        data = forged(hand_made_graphs[kind, "int8"], kind, in_document(2, "nodes", [5, 10**6]))
        with pytest.raises(BadFileError, match="no range"):
            graph_file.parse(data, "the forged graph")


def test_rows_are_held_against_bake_nodes_that_are_no_model(hand_made_graphs: dict[tuple[str, str], bytes]) -> None:
    graph = graph_file.parse(hand_made_graphs["onnx", "fp32"], "the exported graph")
    whole = graph.skeleton
    for nodes in (
        b"",
        b"\xff" * 99,
        whole[: len(whole) // 2],
        whole[:-1],
        onnx_library.ModelProto().SerializeToString(),
    ):
        tensors = {"bake_graph": np.array(list(nodes), np.uint8)}
        with pytest.raises((ValueError, IndexError, KeyError)):
            FORMATS["onnx"].locate(graph.data, graph.document, tensors)


@pytest.mark.parametrize("kind", KINDS)
def test_graphs_from_before_blocks_could_be_skipped_are_read_and_baked(
    hand_made: Backbone, hand_made_graphs: dict[tuple[str, str], bytes], kind: str
) -> None:
    def older(document: dict[str, Any]) -> None:
        del document["residuals"], document["bake"]["residuals"]
        document["bake"].pop("order", None)

    graph = graph_file.parse(forged(hand_made_graphs[kind, "fp32"], kind, older), "an older graph")
    assert graph.document["residuals"] == []
    values, images = values_of(hand_made), plans.pictures(hand_made)
    exact = np.concatenate([reference.logits(hand_made, values, image[None]) for image in images])
    model = FORMATS[kind].bake_model(graph, values, np.zeros((0, 2)), graph.input.size)
    with pytest.raises(MismatchError, match="Export the graph again"):
        fit(graph, make_patch(hand_made, 0, 3, kinds="policy"), None)
    require_near(answers(model, kind, images), exact, "fp32")


def test_a_vector_cut_short_points_where_it_did() -> None:
    data = struct.pack("<I4I", 4, 100, 200, 300, 400)
    assert flatbuffer.shorten(data, 0, [1, 3]) == (0, struct.pack("<3I", 2, 204, 408))


def nested(net: Builder) -> None:
    """n0 + f(n1 + g(n1)): only the inner block can be cut out on its own."""
    outer = net.site(IMAGE, "stem", 0, "stem", 8, 3, 2, "relu6")
    inner = net.site(outer, "a", 1, "top", 8, 1, 1, "linear")
    joined = net.add(inner, net.site(inner, "b", 2, "top", 8, 1, 1, "linear"))
    net.add(outer, net.site(joined, "c", 3, "top", 8, 1, 1, "linear"))


def shared_entry(net: Builder) -> None:
    """n2 = n0 + f(n0), n4 = n0 + h(n2): the second block holds the first."""
    entry = net.site(IMAGE, "stem", 0, "stem", 8, 3, 2, "relu6")
    joined = net.add(entry, net.site(entry, "a", 1, "top", 8, 1, 1, "linear"))
    net.add(entry, net.site(joined, "b", 1, "top", 8, 1, 1, "linear"))


@pytest.mark.parametrize("lay", [nested, shared_entry])
@pytest.mark.parametrize("kind", KINDS)
def test_of_blocks_that_overlap_the_one_that_ends_first_can_be_skipped(lay: Any, kind: str) -> None:
    backbone = plans.made(lay)
    assert len(backbone.plan.residuals) == 1
    graph = graph_file.parse(CONVERTERS[kind].export(backbone), "the exported graph")
    model, exact = baked(graph, backbone, np.ones(1, bool))
    require_near(answers(model, kind, plans.pictures(backbone)), exact, "fp32")
    assert network.deployment_form(backbone).count_params()
