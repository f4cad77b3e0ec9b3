"""state.json as a hostile disk has it: refused field by field, and what is opened in its place."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from crashing import script

from edgepatch import blob
from edgepatch.errors import BadFileError, EdgepatchError
from edgepatch.runtime.store import Newest, SharedGraph, State, Store, Task, Version, state

pytestmark = pytest.mark.usefixtures("trusted")

HASH, OTHER = "a" * 64, "b" * 64
GOOD = State(
    7,
    SharedGraph(HASH, 100, "tflite", "fp32", OTHER),
    {
        "digits": Task(Version(OTHER, 10, 3), Version(HASH, 11, 2), Newest(4, HASH)),
        "gone": Task(None, None, Newest(1, HASH)),
    },
)


def signed(document: dict[str, Any]) -> bytes:
    """A document with its own hash, as `state.dump` writes it: what is wrong with it is something else."""
    document = {name: value for name, value in document.items() if name != "sha256"}
    text = json.dumps(document, separators=(",", ":"), sort_keys=True, ensure_ascii=False)
    return json.dumps({**document, "sha256": hashlib.sha256(text.encode()).hexdigest()}).encode()


def test_what_is_written_is_read_back() -> None:
    assert state.parse(state.dump(GOOD), "x") == GOOD
    assert GOOD.active == {"digits": Version(OTHER, 10, 3)}
    assert GOOD.objects == {f"{HASH}.tflite": 100, f"{OTHER}.epatch": 10, f"{HASH}.epatch": 11}
    assert signed(json.loads(state.dump(GOOD))) == state.dump(GOOD)


def at(*path: str) -> Callable[[dict[str, Any], Any], None]:
    """Sets the value at a place of a document."""

    def put(document: dict[str, Any], value: Any) -> None:
        for name in path[:-1]:
            document = document[name]
        document[path[-1]] = value

    return put


WRONG_HASHES = [
    "../../../etc/passwd",
    "a" * 63,
    "a" * 65,
    "A" * 64,
    "a" * 63 + "/",
    "a" * 64 + "\n",
    "",
    None,
    5,
    ["a" * 64],
]
WRONG_NUMBERS = [0, -1, 1.0, True, "1", None, 2**63, [1]]
HOSTILE: list[tuple[str, Callable[[dict[str, Any], Any], None], list[Any]]] = [
    ("format", at("format"), [0, 2, True, 1.0, "1", None]),
    ("serial", at("serial"), WRONG_NUMBERS),
    ("graph", at("graph"), [None, [], "x", {}, {"sha256": HASH}]),
    ("graph.sha256", at("graph", "sha256"), WRONG_HASHES),
    ("graph.backbone_id", at("graph", "backbone_id"), WRONG_HASHES),
    ("graph.bytes", at("graph", "bytes"), WRONG_NUMBERS),
    ("graph.format", at("graph", "format"), ["exe", "tflite/../../x", "", None, 1]),
    ("graph.precision", at("graph", "precision"), ["fp64", None, 1]),
    ("graph", at("graph", "more"), [1]),
    ("state", at("more"), [1]),
    ("tasks", at("tasks"), [None, [], "x", 1]),
    ("tasks", at("tasks", "x" * 101), [None]),
    ("tasks", at("tasks", ""), [None]),
    ("tasks", at("tasks", "a\nb"), [None]),
    ("tasks", at("tasks", "\x1b[2J"), [None]),
    ("tasks.digits", at("tasks", "digits"), [None, [], {}, {"active": None}]),
    ("tasks.digits.active", at("tasks", "digits", "active"), [[], "x", {}, {"sha256": HASH}]),
    ("tasks.digits.active.sha256", at("tasks", "digits", "active", "sha256"), WRONG_HASHES),
    ("tasks.digits.active.version", at("tasks", "digits", "active", "version"), WRONG_NUMBERS),
    ("tasks.digits.active.bytes", at("tasks", "digits", "active", "bytes"), WRONG_NUMBERS),
    ("tasks.digits.previous.sha256", at("tasks", "digits", "previous", "sha256"), WRONG_HASHES),
    ("tasks.digits.previous", at("tasks", "digits", "active"), [None]),  # one to go back to, and none to go back from
    ("tasks.digits.newest", at("tasks", "digits", "newest"), [None, [], {}]),
    ("tasks.digits.newest.version", at("tasks", "digits", "newest", "version"), [*WRONG_NUMBERS, 2]),
    ("tasks.digits.newest.sha256", at("tasks", "digits", "newest", "sha256"), WRONG_HASHES),
]


@pytest.mark.parametrize(
    ("field", "put", "value"),
    [pytest.param(field, put, value, id=f"{field}={value!r}") for field, put, values in HOSTILE for value in values],
)
def test_a_field_that_is_wrong_is_refused_by_name(
    field: str, put: Callable[[dict[str, Any], Any], None], value: Any
) -> None:
    document = json.loads(state.dump(GOOD))
    put(document, value)
    with pytest.raises(BadFileError) as caught:
        state.parse(signed(document), "state.json")
    assert caught.value.details["field"] == field and caught.value.details["file"] == "state.json"


@pytest.mark.parametrize("field", ["format", "serial", "graph", "tasks"])
def test_a_field_that_is_absent_is_refused(field: str) -> None:
    document = json.loads(state.dump(GOOD))
    del document[field]
    with pytest.raises(BadFileError):
        state.parse(signed(document), "state.json")


BYTES = {
    "empty": b"",
    "zeros": bytes(500),
    "no JSON": b"{",
    "a list": b"[]",
    "a number": b"1",
    "deep": b"[" * 1_000_000,
    "deep objects": b'{"a":' * 200_000 + b"1" + b"}" * 200_000,
    "huge": b" " * (state.MAX_BYTES + 1),
    "huge number": b'{"format":' + b"9" * 10_000 + b"}",
    "NaN": b'{"format":NaN}',
    "infinity": b'{"format":1e999}',
    "half a pair": b'{"format":"\\ud800"}',
    "not UTF-8": b'{"format":"\xff"}',
    "no hash": b'{"format":1}',
    "wrong hash": state.dump(GOOD).replace(b'"version": 3', b'"version": 2'),
    "hash of another type": state.dump(GOOD).replace(b'"sha256": "', b'"sha256": 1, "x": "', 1),
    "twice": state.dump(GOOD).replace(b'"serial": 7', b'"serial": 7, "serial": 7'),
    "cut short": state.dump(GOOD)[:-1],
    "trailing": state.dump(GOOD) + b"{}",
}


@pytest.mark.parametrize("data", BYTES.values(), ids=BYTES)
def test_bytes_that_are_no_state_are_refused(data: bytes) -> None:
    with pytest.raises(BadFileError):
        state.parse(data, "state.json")


def test_every_flipped_bit_is_seen() -> None:
    data = state.dump(GOOD)
    for place in range(len(data)):
        for bit in range(8):
            broken = bytearray(data)
            broken[place] ^= 1 << bit
            with pytest.raises(BadFileError):
                state.parse(bytes(broken), "state.json")


def test_more_tasks_than_are_read_are_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    many = State(1, GOOD.graph, {f"task {number}": GOOD.tasks["digits"] for number in range(100)})
    monkeypatch.setattr(state, "MAX_BYTES", len(state.dump(many)) - 1)
    with pytest.raises(EdgepatchError, match="cannot hold so many tasks"):
        state.dump(many)


# what is opened instead


@pytest.fixture
def store(store: Store, files: script.Files) -> Store:
    """With a state before the one there is."""
    store.install(files["bias2"])
    return store


def ruin(path: Path, how: str) -> None:
    """Put something that is no state in a state's place."""
    path.unlink()
    if how == "directory":
        path.mkdir()
    elif how == "pipe":
        os.mkfifo(path)
    elif how == "link":
        path.symlink_to("/dev/zero")
    elif how == "sparse":
        with open(path, "wb") as stream:
            stream.truncate(2**40)
    elif how != "gone":
        path.write_bytes(BYTES[how])


@pytest.mark.parametrize("how", ["empty", "zeros", "deep", "twice", "gone", "directory", "pipe", "link", "sparse"])
def test_the_state_before_is_taken_and_said_so(how: str, store: Store, files: script.Files) -> None:
    ruin(store.path / "state.json", how)
    found = Store.open(store.path)
    assert found.warning and "state.json" in found.warning and "the state before it was taken" in found.warning
    assert found.patches()["bias"].version == 1 and found.state.serial == 1
    with found.runtime() as runtime:
        assert runtime.tasks == ("bias", "mask")
    assert [row.what for row in found.verify() if row.error] == ["state"]
    if how == "directory":
        with pytest.raises(EdgepatchError, match="cannot be written"):
            found.install(files["bias3"])
        (store.path / "state.json").rmdir()
    found.install(files["bias3"])
    assert found.warning is None and Store.open(store.path).patches()["bias"].version == 3


def test_a_change_without_effect_mends_a_damaged_state(store: Store, files: script.Files) -> None:
    ruin(store.path / "state.json", "zeros")
    (outcome,) = Store.open(store.path).install(files["bias1"])
    assert outcome.what == "unchanged"
    found = Store.open(store.path)
    assert found.warning is None and found.patches()["bias"].version == 1


def test_collect_mends_a_damaged_state(store: Store) -> None:
    ruin(store.path / "state.json", "zeros")
    gone = Store.open(store.path).collect()
    found = Store.open(store.path)
    assert found.warning is None and found.state.serial == 1 and gone.files == 1
    assert not [row for row in found.verify() if row.error]


def test_a_fallback_lowers_the_floor_by_one_change_at_most(store: Store, files: script.Files) -> None:
    store.install(files["bias3"])
    ruin(store.path / "state.json", "zeros")
    found = Store.open(store.path)
    assert found.state.tasks["bias"].newest.version == 2
    with pytest.raises(EdgepatchError, match="older than version 2"):
        found.install(files["bias1"])
    found.install(files["bias3"])
    assert found.state.tasks["bias"].newest.version == 3


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("empty", "is damaged (got nothing: the file is empty"),
        ("no JSON", "is damaged (got 1 bytes that are no JSON from character 1 on"),
        ("not UTF-8", "is damaged (got 14 bytes that are no UTF-8 from byte 11 on"),
        ("gone", "and there is no state.previous.json"),
        ("pipe", "state.previous.json, JSON: is damaged"),
    ],
)
def test_with_both_states_damaged_nothing_is_opened_and_each_is_said_why(
    how: str, why: str, store: Store, files: script.Files
) -> None:
    ruin(store.path / "state.json", "zeros")
    ruin(store.path / "state.previous.json", how)
    said = []
    for call in (lambda: Store.open(store.path), lambda: Store.create(store.path, files["fp32"])):
        with pytest.raises(BadFileError, match=r"state\.previous\.json") as caught:
            call()
        said.append(str(caught.value))
        assert why in said[-1] and "state.json, JSON: is damaged (got 500 bytes, all of them zero" in said[-1]
    assert said[0] == said[1], "none sends to the other"


def test_what_is_advised_for_a_store_without_a_state_makes_one(store: Store) -> None:
    ruin(store.path / "state.json", "zeros")
    ruin(store.path / "state.previous.json", "gone")
    with pytest.raises(BadFileError) as caught:
        Store.open(store.path)
    patches = [path.name for path in (store.path / "objects").glob("*.epatch")]
    move, create = [line.split() for line in caught.value.details["mend"].splitlines()[-2:]]
    Path(move[1]).rename(move[2])
    assert (move[0], create[:3]) == ("mv", ["edgepatch", "store", "create"])
    folder = Path(create[5]).parent
    found = {blob.read(folder / name).task: folder / name for name in patches}
    made = Store.create(create[3], create[4], *found.values())
    assert made.state.active.keys() == {"bias", "mask"}


def test_a_state_of_a_newer_edgepatch_is_no_damage(store: Store) -> None:
    path = store.path / "state.json"
    document = json.loads(path.read_bytes())
    path.write_bytes(signed({**document, "format": 2}))
    with pytest.raises(BadFileError, match="format this version does not know") as caught:
        Store.open(store.path)
    assert "upgrade" in caught.value.details["mend"]


def test_a_state_that_may_not_be_read_is_no_damage(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """As root may read everything, the operating system's answer is made up."""

    def refuse(path: Path, limit: int) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("edgepatch.runtime.store.disk.read", refuse)
    with pytest.raises(EdgepatchError, match="cannot be read: Permission denied") as caught:
        Store.open(store.path)
    assert caught.value.exit_code == 1
