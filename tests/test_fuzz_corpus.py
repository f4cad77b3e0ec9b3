"""What fuzzing has found and kept is read again, and some hundred new inputs, without atheris: nothing may be raised.

Each target runs in a process of its own, whose memory and time are bounded (tests/fuzz/guard.py).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fuzz import archives, common, containers, corpus, documents, guard, minimise, plain, targets
from fuzz.dice import Dice

from edgepatch.errors import BadFileError

ROOT = Path(__file__).resolve().parents[1]
EXECUTIONS = 60  # of each target, besides what is kept


def test_what_is_kept_and_some_new_inputs_are_read_or_refused() -> None:
    call = [
        sys.executable,
        "-m",
        "tests.fuzz",
        "--json",
        "--plain",
        "--executions",
        str(EXECUTIONS * len(targets.names())),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, check=False, env=environment)
    assert done.stdout, done.stderr[-2000:]
    found = json.loads(done.stdout)["targets"]
    assert list(found) == targets.names()
    for name, row in found.items():
        assert row["crashes"] == [], name
        assert row["executions"] == len(plain.known(name, targets.load(name))) + EXECUTIONS


def test_what_is_kept_is_small_and_of_known_targets() -> None:
    crashes = list(corpus.CRASHES.iterdir())
    assert sum(path.stat().st_size for path in [*crashes, corpus.CORPUS, common.HERE / "seeds.tar.xz"]) < 400_000
    for path in crashes:
        assert path.name.partition("-")[0] in targets.names()
    assert {name.partition("/")[0] for name in corpus._all()} == set(targets.names())


@pytest.mark.parametrize("name", targets.names())
def test_the_same_seed_gives_the_same_inputs_and_they_differ(name: str) -> None:
    target = targets.load(name)
    known = list(target.seeds().values())
    made = [plain.grown(target, known, Dice(seed)) for seed in range(30)]
    assert made == [plain.grown(target, known, Dice(seed)) for seed in range(30)]
    assert len(set(made)) > 20
    assert all(len(data) <= target.LIMIT for data in made)


def test_a_changed_patch_mostly_has_a_sound_checksum() -> None:
    """Else every input would end at it, and nothing behind it were tried."""
    target = targets.load("patch")
    data = common.own(".epatch")["tiny-scale_bias.epatch"]
    words = []
    for seed in range(400):
        try:
            containers.container.parse(target.mutate(data, Dice(seed), target.LIMIT), "x")
            words.append("")
        except BadFileError as error:
            words.append(error.message)
    assert words.count("") > 80
    assert words.count("was changed after it was written") < 40
    assert len(set(words)) > 10


def test_what_goes_wrong_is_seen() -> None:
    def raises(data: bytes) -> None:
        raise KeyError("x")

    def sleeps(data: bytes) -> None:
        while True:
            pass

    def grows(data: bytes) -> None:
        np.zeros(200 << 20, np.uint8)[::4096] = 1

    def quotes(data: bytes) -> None:
        with common.refusals():
            raise BadFileError("x" * 400, file="y" * 3000)

    assert guard.outcome(lambda data: None, b"") is None
    assert guard.outcome(raises, b"") == "KeyError at the target"
    assert guard.outcome(guard.limited(grows), b"").startswith("Exceeded")  # type: ignore[union-attr]
    assert guard.outcome(quotes, b"").startswith("AssertionError: a refusal of")  # type: ignore[union-attr]
    with pytest.raises(guard.Exceeded), guard.in_time(0.05):
        sleeps(b"")
    worst = guard.Peak()
    guard.limited(lambda data: np.ones(32 << 20, np.uint8).sum(), worst)(b"abc")
    assert worst.size == 3
    assert 16 << 20 < worst.taken < guard.MEMORY


def test_a_crash_is_made_small() -> None:
    def still(data: bytes) -> bool:
        return b"needle" in data and data.endswith(b"!")

    assert minimise.smallest(b"x" * 500 + b"needle" + b"y" * 300 + b"!", still) == b"needle!"


def test_raw_texts_come_out_raw() -> None:
    value = {"a": f"{documents._MARK}2", "b": [1]}
    assert documents.text(value) == '{"a":NaN,"b":[1]}'
    seen = {documents.text(documents.changed({"a": [1, {"b": "c"}]}, Dice(seed))) for seed in range(2000)}
    assert len(seen) > 100
    assert any("1e999" in text for text in seen)


def test_pickles_are_taken_apart_by_operation() -> None:
    data = b"\x80\x02}q\x00X\x01\x00\x00\x00aK\x05s.behind"
    assert archives.opcodes(data) == [
        b"\x80\x02",
        b"}",
        b"q\x00",
        b"X\x01\x00\x00\x00a",
        b"K\x05",
        b"s",
        b".",
        b"behind",
    ]
    assert archives.opcodes(b"\xff") == [b"\xff"]


def test_numbers_cover_the_edges() -> None:
    found = {Dice(seed).number() for seed in range(3000)}
    assert {0, 2**31, 2**63 - 1, 10**4000} <= found
