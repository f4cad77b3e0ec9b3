"""Every hostile file of tests/attacks is refused, in the words that its README says."""

from __future__ import annotations

import re
import sys
import tracemalloc
from pathlib import Path

import pytest
from attacks import FILES, HERE, SOUND, attack, attacks, sound, trying
from attacks.attack import Attack

from edgepatch import container, files
from edgepatch.backbones.weights import archive
from edgepatch.errors import LONGEST, BadFileError
from edgepatch.head_network import MAX_VALUES, Layer, Network
from edgepatch.runtime.formats import protobuf

ALL = attacks()
ROW = re.compile(r"^\| `([^`]+)` \| (.*?) \| (.*?) \| (\d) \| `(.+)` \|$", re.MULTILINE)
TABLE = {found[0]: found for found in ROW.findall((HERE / "README.md").read_text(encoding="utf-8"))}
GRAPHS = ("tflite", "onnx")
# sound in themselves: what is wrong with them shows beside another file, or when they run
ONLY_BESIDE_OTHERS = {
    "other_backbone.epatch",
    "sites_beyond.epatch",
    "fewer_classes.epatch",
    "out_of_range.epatch",
    "wide_head.epatch",
    "other_backbone.tflite",
}
# `inspect` asks a file what it is, and is told another kind
OF_ANOTHER_KIND = {"graph_as_patch.epatch", "other_kind.epatch"}


def same(got: str, expected: str) -> bool:
    """To the letter; on another Python than the table's, whose own parsers have other words, up to what was found."""
    if sys.version_info[:2] == (3, 11):
        return got == expected
    return got.partition(" (field")[0] == expected.partition(" (field")[0]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_table_is_of_these_files() -> None:
    assert {name: row[1:3] for name, row in TABLE.items()} == {each.name: (each.threat, each.elsewhere) for each in ALL}
    assert len({each.name for each in ALL}) == len(ALL)


def test_the_files_are_those_that_are_made() -> None:
    kept = {path.name: path.read_bytes() for path in FILES.iterdir()}
    assert sum(map(len, kept.values())) < 500_000
    for name in SOUND:
        assert kept.pop(name) == sound(name)
    for each in ALL:
        data = kept.pop(each.name, None)
        if not each.slow:
            made = each.make()
            assert data == (made if len(made) <= attack.LARGEST else None), each.name
    assert not kept


@pytest.mark.parametrize("each", ALL, ids=lambda each: each.name)
def test_the_command_line_refuses(each: Attack, folder: Path) -> None:
    trying.laid_out(each, folder)
    found, row = trying.answer(each), TABLE[each.name]
    assert found.code == int(row[3]) != 0
    assert same(found.said, row[4])


@pytest.mark.parametrize(
    "each", [each for each in ALL if each.name.endswith(("epatch", *GRAPHS))], ids=lambda each: each.name
)
def test_a_runtime_refuses_and_inspect_says_the_same(each: Attack, folder: Path) -> None:
    trying.laid_out(each, folder)
    found, row = trying.loaded(each), TABLE[each.name]
    assert found.code == int(row[3])
    assert same(found.said, row[4])
    looked = trying.called(["inspect", each.name])
    if each.name in ONLY_BESIDE_OTHERS:
        assert looked.code == 0
    else:
        assert looked.code == int(row[3])
        assert same(looked.said, row[4]) or each.name in OF_ANOTHER_KIND


def test_the_sound_ones_are_accepted(folder: Path) -> None:
    trying.laid_out(ALL[0], folder)
    for graph in ("sound.tflite", "sound.onnx"):
        assert trying.called(["verify", graph, "sound.epatch"]).code == 0
        assert trying.loaded(Attack(graph, "", "", lambda: b"")).code == 0


def test_an_error_quotes_a_file_on_one_line_and_in_few_words() -> None:
    error = BadFileError(
        "says\n\x1b[2J", file="a\nb", field="\u202e" + "f" * 9000, got=["\x07"], expected=10**4000, mend="Do\nthis."
    )
    text, _, mend = str(error).partition("\nDo")
    assert text.isprintable()
    assert len(text) < 4 * LONGEST
    assert "says\\n\\x1b[2J" in text
    assert mend == "\nthis."  # ours, and not the file's
    assert error.to_json()["error"]["file"] == "a\nb"
    assert str(BadFileError("is größer — 漢字", file="f")) == "f: is größer — 漢字"


def test_a_small_file_is_read_in_little_memory_whatever_the_limit(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 1000)
    tracemalloc.start()
    assert files.read(tmp_path / "a", limit=1 << 30) == b"x" * 1000
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 1 << 20


@pytest.mark.parametrize(("left", "right"), [("[", "]"), ('{"a":[', "]}")])
def test_nests_are_read_up_to_a_depth(left: str, right: str) -> None:
    most = container.MAX_DEPTH // len(right)
    container.load_json(left * most + right * most)
    with pytest.raises(ValueError, match="nested too deeply"):
        container.load_json(left * (most + 1) + right * (most + 1))


def test_whole_numbers_are_read_up_to_a_length_whatever_python_would_take() -> None:
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        assert container.load_json("-" + "1" * container.MAX_DIGITS) < 0
        with pytest.raises(ValueError, match="a number of 4301 digits"):
            container.load_json("-" + "1" * (container.MAX_DIGITS + 1))
    finally:
        sys.set_int_max_str_digits(before)


def test_messages_are_read_up_to_a_number_of_fields() -> None:
    data = bytes(2 * (protobuf.MAX_FIELDS + 1))  # each of a zero's number and a zero
    assert sum(1 for _ in protobuf.fields(data, 0, len(data) - 2)) == protobuf.MAX_FIELDS
    with pytest.raises(ValueError, match="a message of a million fields"):
        sum(1 for _ in protobuf.fields(data, 0, len(data)))


def test_a_head_may_be_as_large_as_devices_have_memory() -> None:
    def network(channels: int) -> Network:
        return Network(("a",), (Layer("b", "conv", ("a",), channels), Layer("c", "conv", ("b",), 1)), ("c",))

    side, most = 1 << 10, (MAX_VALUES >> 20) - 1
    for channels in (most, most + 1):
        wide = network(channels)
        sizes = wide.sides({"a": side}), wide.widths({"a": 3})
        if channels == most:
            wide.require_room(*sizes)
        else:
            with pytest.raises(ValueError, match="are the most"):
                wide.require_room(*sizes)


def test_a_zip_file_is_unpacked_within_bounds() -> None:
    import io
    import zipfile
    import zlib

    def packed(*entries: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", method) as made:
            for name, content in entries:
                made.writestr(name, content)
        return stream.getvalue()

    with archive.opened(packed(("a", b"x" * 100), ("b", b"y")), 101) as found:
        assert archive.content(found, "a", 100) == b"x" * 100
        with pytest.raises(ValueError, match="longer than 99"):
            archive.content(found, "a", 99)
    for data, problem in (
        (packed(("a", b"x" * 102)), "unpacks to more than 101"),
        (packed(("a", b""), method=zipfile.ZIP_LZMA), "packed by method 14"),
    ):
        with pytest.raises(ValueError, match=problem), archive.opened(data, 101):
            pass
    with pytest.warns(UserWarning, match="Duplicate name"):
        twice = packed(("a", b"1"), ("a", b"2"))
    with pytest.raises(ValueError, match="an entry twice"), archive.opened(twice, 101):
        pass
    lying = packed(("a", bytes(1 << 20)))
    said = (1 << 20).to_bytes(4, "little")
    assert lying.count(said) == 2
    with archive.opened(lying.replace(said, (10).to_bytes(4, "little")), 101) as found:
        tracemalloc.start()
        with pytest.raises((zipfile.BadZipFile, zlib.error)):
            archive.content(found, "a")
        assert tracemalloc.get_traced_memory()[1] < 1 << 18
        tracemalloc.stop()
