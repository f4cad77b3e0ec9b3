"""What a publisher is told: what was made, what is still to be done, what devices refuse, and what mends it."""

from __future__ import annotations

import datetime
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tuf", reason="needs the extra [publish]")

from sites import Site, golden_graph

from edgepatch.errors import UsageError
from edgepatch.updates import clock
from edgepatch.updates.host import ceremony, keys, patterns, publishing


@pytest.fixture
def site(birdhouse: Site) -> Site:
    return birdhouse


@pytest.fixture
def publish(site: Site, edgepatch: Any) -> Any:
    """Runs `edgepatch publish COMMAND SITE ... --keys KEYS`."""

    def call(command: str, *arguments: object, folder: Path | None = None) -> Any:
        return edgepatch("publish", command, site.repo, *arguments, "--keys", folder or site.keys)

    return call


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Moves the clock on by some days."""
    now = clock.now

    def move(days: float) -> None:
        monkeypatch.setattr(clock, "now", lambda: now() + datetime.timedelta(days=days))

    return move


def apart(site: Site, folder: Path, *roles: str) -> Path:
    """Moves the keys of some roles to another machine."""
    folder.mkdir(mode=0o700, exist_ok=True)
    for role in roles:
        for path in site.keys.glob(f"{role}-*"):
            shutil.move(path, folder)
    return folder


def next_key(site: Site, edgepatch: Any) -> tuple[Path, Path]:
    """A team's new key: the folder where it lies, and its public half."""
    folder, public = site.folder / "theirs", site.folder / "next.pub"
    assert edgepatch("publish", "key", "birders", "--keys", folder, "--out", public).code == 0
    return folder, public


# refresh


def test_a_refresh_that_signs_nothing_fails(site: Site, publish: Any, tmp_path: Path) -> None:
    before = (site.repo / "metadata" / "timestamp.json").read_bytes()
    expected = next(site.keys.glob("timestamp-*")).name
    done = publish("refresh", folder=tmp_path / "nowhere")
    assert done.code == 2
    assert f"the key of timestamp is not here (field --keys, got no such folder, expected {expected})" in done.err
    apart(site, tmp_path / "online", "timestamp")
    done = publish("refresh")
    assert (
        done.code == 2
        and f"the key of timestamp is not here (field --keys, got 0 of 1, expected {expected}" in done.err
    )
    assert publish("refresh", "snapshot").code == 2 and publish("refresh", "targets", "snapshot").code == 0
    assert (site.repo / "metadata" / "timestamp.json").read_bytes() == before


def test_a_refresh_for_want_of_a_due_snapshots_key_fails(
    site: Site, publish: Any, tmp_path: Path, later: Callable[[float], None]
) -> None:
    apart(site, tmp_path / "elsewhere", "snapshot")
    assert publish("refresh").code == 0
    later(20)
    done = publish("refresh")
    assert done.code == 2 and "the key of snapshot is not here" in done.err


def test_what_is_signed_without_online_keys_is_done_and_says_what_follows(
    site: Site, publish: Any, tmp_path: Path
) -> None:
    apart(site, tmp_path / "online", "snapshot", "timestamp")
    for command in (
        ["add", site.file("bird-tits"), "--team", "birders"],
        ["refresh", "targets", "root"],
        ["rotate", "targets"],
        ["team", "fishers", "--tasks", "fish-*"],
        ["remove", "cats"],
    ):
        done = publish(*command)
        assert done.code == 0 and "Not signed, for their keys are elsewhere: snapshot and timestamp" in done.out
        assert f"edgepatch publish refresh {site.repo} has been run where they are" in done.out


@pytest.mark.parametrize("role", ["root", "targets"])
def test_what_has_expired_is_called_so_and_fails(
    site: Site, publish: Any, edgepatch: Any, later: Callable[[float], None], role: str
) -> None:
    other = {"root": "targets", "targets": "root"}[role]
    later(364)
    publishing.refresh(site.repo, site.keys, [other, "birders"])
    later(366)
    done = publish("refresh")
    mend = f"edgepatch publish refresh {site.repo} {role}, where its key is"
    assert (
        done.code == 1 and f"{role} has expired on " in done.out and f"and devices refuse this site: {mend}" in done.out
    )
    assert edgepatch("publish", "list", site.repo).code == 1
    done = publish("refresh", role)
    assert done.code == 0 and "has expired" not in done.out
    assert edgepatch("publish", "list", site.repo).code == 0


def test_a_teams_expired_list_stops_no_cron(
    site: Site, publish: Any, edgepatch: Any, later: Callable[[float], None]
) -> None:
    later(-400)
    publishing.refresh(site.repo, site.keys, ["birders"])
    later(0)
    done = publish("refresh")
    assert done.code == 0 and "birders has expired on " in done.out
    assert f"devices refuse the tasks of birders: edgepatch publish refresh {site.repo} birders" in done.out
    assert edgepatch("publish", "list", site.repo).code == 1
    (refusal,) = site.update().plan.refused
    assert "edgepatch publish refresh SITE birders, where the key of birders is" in str(refusal.error)


# a team's key


def test_a_team_with_a_new_key_is_told_to_publish_again(site: Site, publish: Any, edgepatch: Any) -> None:
    site.publish("bird-tits", team="birders")
    site.update()
    theirs, public = next_key(site, edgepatch)
    (old,) = site.keys.glob("birders-*")
    done = publish("rotate", "birders", "--public", public)
    words = "birders: has signed nothing with its present key. Devices keep what they have of its tasks until the team"
    again = f"edgepatch publish add {site.repo} FILE.epatch... --team birders"
    assert done.code == 0 and words in done.out and again in done.out and "(bird-owls, bird-tits)" in done.out
    assert f"birders: new key {public}. Delete {old.name} wherever it lies" in done.out
    done = edgepatch("publish", "list", site.repo)
    assert done.code == 1 and "NOT SIGNED" in done.out and words in done.out
    done = publish("refresh", "birders", folder=theirs)
    assert done.code == 2 and "signed nothing with its present key (field team, got birders)" in done.err
    assert "again, all in one command: bird-owls, bird-tits: edgepatch publish add" in done.err
    publishing.add(site.repo, [site.file("bird-owls"), site.file("bird-tits")], theirs, team="birders")
    assert publish("refresh").code == 0 and edgepatch("publish", "list", site.repo).code == 0
    assert site.update().exit_code == 0 and site.versions() == {"cats": 1, "bird-owls": 1, "bird-tits": 1}


@pytest.mark.parametrize("role", ["snapshot", "timestamp", "targets", "root"])
def test_a_rotation_after_a_teams_new_key_drops_nothing_in_silence(
    site: Site, publish: Any, edgepatch: Any, tmp_path: Path, role: str
) -> None:
    """With the online keys on another machine, as they should be."""
    theirs, public = next_key(site, edgepatch)
    publish("rotate", "birders", "--public", public)
    online = apart(site, tmp_path / "online", "snapshot", "timestamp")
    assert publish("rotate", role).code == 0
    apart(site, online, "snapshot", "timestamp")
    done = publish("refresh", folder=online)
    assert done.code == 0 and "birders: has signed nothing with its present key" in done.out
    site.update()
    assert site.versions() == {"cats": 1, "bird-owls": 1}
    publishing.add(site.repo, [site.file("bird-owls", 2)], theirs, team="birders")
    publish("refresh", folder=online)
    assert site.update().exit_code == 0 and site.versions() == {"cats": 1, "bird-owls": 2}


def test_what_a_team_does_not_publish_again_is_said(site: Site, publish: Any, edgepatch: Any) -> None:
    site.publish("bird-tits", team="birders")
    theirs, public = next_key(site, edgepatch)
    publish("rotate", "birders", "--public", public)
    done = publish("add", site.file("bird-owls"), "--team", "birders", folder=theirs)
    assert done.code == 0 and "birders: devices drop what is not published again: bird-tits" in done.out


def test_a_rotation_to_the_same_key_is_refused(site: Site, publish: Any, edgepatch: Any) -> None:
    _, public = next_key(site, edgepatch)
    assert publish("rotate", "birders", "--public", public).code == 0
    done = publish("rotate", "birders", "--public", public)
    assert (
        done.code == 2 and "is the key that this team has" in done.err and "edgepatch publish key birders" in done.err
    )


# what was made


def test_commands_say_which_keys_they_made(site: Site, publish: Any, edgepatch: Any) -> None:
    (old,) = site.keys.glob("timestamp-*")
    done = publish("rotate", "timestamp")
    (new,) = set(site.keys.glob("timestamp-*")) - {old}
    assert f"timestamp: new key {new}. Delete {old.name} wherever it lies" in done.out
    done = publish("team", "fishers", "--tasks", "fish-*", "--tasks", "eel")
    (own,) = site.keys.glob("fishers-*")
    assert "fishers: may sign fish-* and eel" in done.out and f"its private key is {own}" in done.out
    done = publish("team", "birders", "--remove")
    assert "birders: signs no more, and devices drop its tasks: bird-owls" in done.out
    done = edgepatch("publish", "create", site.folder / "second", "--keys", site.keys, "--json")
    assert len(done.document["keys"]) == 4 and not {str(new), str(own)} & set(done.document["keys"])


def test_more_signatures_than_keys_are_told_from_too_many_keys(tmp_path: Path, edgepatch: Any) -> None:
    call = ["publish", "create", tmp_path / "site", "--keys", tmp_path / "keys"]
    done = edgepatch(*call, "--root-keys", "2", "--threshold", "3")
    assert done.code == 2 and "(field --threshold, got 3, expected 1 to 2, the number of root's keys)" in done.err
    done = edgepatch(*call, "--root-keys", "17")
    assert done.code == 2 and "(field --root-keys, got 17, expected 1 to 16)" in done.err


def test_a_role_mistyped_is_no_team_to_be_made(site: Site, publish: Any) -> None:
    roles = "expected root, targets, snapshot, timestamp, birders)"
    for call in (["rotate", "timstamp"], ["refresh", "tagets"]):
        done = publish(*call)
        assert done.code == 2 and f"there is no such role (field ROLE, got {call[1]}, {roles}" in done.err
        assert "publish team" not in done.err
    done = publish("team", "birdes", "--remove")
    assert done.code == 2 and "there is no such team (field NAME, got birdes, expected birders)" in done.err


@pytest.mark.parametrize("command", ["add", "remove", "refresh", "rotate", "list"])
def test_a_folder_that_is_no_repository_is_called_so(site: Site, edgepatch: Any, command: str) -> None:
    more = {"add": [site.file("x")], "remove": ["x"], "rotate": ["root"]}.get(command, [])
    more += [] if command == "list" else ["--keys", site.keys]
    for folder in (site.folder / "nowhere", site.folder / "empty"):
        if folder.name == "empty":
            folder.mkdir()
        done = edgepatch("publish", command, folder, *more)
        assert done.code == 2 and "is no repository of updates" in done.err and "edgepatch publish create" in done.err


def test_a_graph_among_patches_is_told_its_option(site: Site, publish: Any) -> None:
    done = publish("add", site.graph)
    assert done.code == 3 and "expected an .epatch)" in done.err and f"--graph {site.graph}" in done.err


def test_what_is_taken_out_is_named_and_once(site: Site, publish: Any) -> None:
    site.publish("dogs")
    assert "dogs: taken out" in publish("remove", "dogs").out
    done = publish("remove", "dogs")
    assert done.code == 2 and "is not published (field targets, got dogs, expected gated-fp32.tflite, cats)" in done.err
    done = publish("remove", "bird-owls")
    assert done.code == 2 and "is signed by birders" in done.err and "--team birders" in done.err


# who signs for a name


def test_a_task_that_is_taken_from_a_team_is_said(site: Site, publish: Any) -> None:
    done = publish("add", site.file("bird-tits"))
    assert done.code == 0 and "bird-tits: matches the tasks of the team birders" in done.out
    done = publish("add", site.file("bird-tits", 2), "--team", "birders")
    mend = f"edgepatch publish remove {site.repo} bird-tits"
    assert done.code == 2 and "is published by another role" in done.err and mend in done.err
    assert publish("remove", "bird-tits").code == 0
    assert publish("add", site.file("bird-tits", 2), "--team", "birders").code == 0
    done = publish("add", site.file("bird-tits", 3))
    assert done.code == 2 and "--team birders" in done.err
    done = publish("team", "catters", "--tasks", "cat*")
    assert done.code == 0 and "catters: targets signs for cats itself, and goes before" in done.out


def test_patterns_that_overlap_are_said(site: Site, publish: Any) -> None:
    done = publish("team", "owlers", "--tasks", "fox", "--tasks", "bird-o*")
    sentence = "owlers: bird-o* overlaps bird-* of birders: tasks that match both are signed by birders alone"
    assert done.code == 0 and sentence in done.out
    assert "overlaps" not in publish("team", "fishers", "--tasks", "fish-*").out


@pytest.mark.parametrize(
    ("one", "other", "do"),
    [
        ("bird-*", "bird-o*", True),
        ("*", "x", True),
        ("*-a", "b-*", True),
        ("a*c", "ab*", True),
        ("a", "a", True),
        ("a*b", "ab", True),
        ("a*a", "a", False),
        ("bird-*", "fish-*", False),
        ("*-a", "*-b", False),
        ("a", "b", False),
    ],
)
def test_whether_patterns_overlap(one: str, other: str, do: bool) -> None:
    assert patterns.overlap(one, other) is patterns.overlap(other, one) is do


# list


def state(edgepatch: Any, site: Site, code: int) -> dict[str, str]:
    """By the name of a role, a task or a graph's path, what `publish list` says of it, if not that all is well."""
    done = edgepatch("publish", "list", site.repo, "--json")
    assert done.code == code
    document = done.document
    assert edgepatch("publish", "list", site.repo).code == code
    rows = [*document["roles"], *document["graphs"], *document["patches"]]
    return {
        row.get("role") if "threshold" in row else row["path"]: row["state"] for row in rows if row["state"] != "ok"
    }


def test_list_says_what_devices_do_not_see(site: Site, edgepatch: Any, tmp_path: Path) -> None:
    assert state(edgepatch, site, 0) == {}
    online = apart(site, tmp_path / "online", "snapshot", "timestamp")
    site.publish("bird-tits", team="birders")
    assert state(edgepatch, site, 1) == {"birders": "NOT VISIBLE", "patches/bird-tits.epatch": "NOT VISIBLE"}
    told = f"birders: devices see this when edgepatch publish refresh {site.repo} has been run"
    assert told in edgepatch("publish", "list", site.repo).out
    publishing.refresh(site.repo, online)
    assert state(edgepatch, site, 0) == {}
    publishing.remove(site.repo, ["cats"], site.keys)
    assert state(edgepatch, site, 1) == {"targets": "NOT VISIBLE"}


def test_list_says_what_has_expired_or_will(
    site: Site, edgepatch: Any, publish: Any, later: Callable[[float], None]
) -> None:
    later(4)
    assert "timestamp expires on " in edgepatch("publish", "list", site.repo).out
    later(8)
    assert state(edgepatch, site, 1) == {"timestamp": "EXPIRED"}
    assert "timestamp has expired on " in edgepatch("publish", "list", site.repo).out
    assert publish("refresh").code == 0
    assert state(edgepatch, site, 0) == {}


def test_list_holds_files_against_what_was_signed(site: Site, edgepatch: Any, publish: Any) -> None:
    found = site.read()
    hosted = {each.path: found.hosted(each) for each in found.files()}
    owls, cats = hosted["patches/bird-owls.epatch"], hosted["patches/cats.epatch"]
    owls.unlink()
    cats.write_bytes(b"X" + cats.read_bytes()[1:])
    expected = {"patches/bird-owls.epatch": "MISSING", "patches/cats.epatch": "DAMAGED"}
    assert state(edgepatch, site, 1) == expected
    cats.write_bytes(b"X" * 5_000_000)
    assert state(edgepatch, site, 1) == expected
    assert "cats: its file was damaged or missing here, and is whole again" in publish("add", site.file("cats")).out
    assert "is whole again" not in publish("add", site.file("cats")).out
    publish("add", site.file("bird-owls"), "--team", "birders")
    assert state(edgepatch, site, 0) == {}


def test_list_explains_its_signatures(site: Site, edgepatch: Any) -> None:
    assert "1 of 1 key" in edgepatch("publish", "list", site.repo).out
    assert "how many keys of a role have to" in " ".join(edgepatch("publish", "list", "--help").out.split())


# another backbone


def test_a_site_moves_to_another_backbone_in_one_command(site: Site, publish: Any) -> None:
    ceremony.dismiss(site.repo, "birders", site.keys)
    site.publish("dogs")
    site.update()
    graph = golden_graph("mobilenet-fp16.tflite", site.folder)
    patch = site.file("cats", 2, "mobilenet_int8")
    done = publish("add", patch)
    assert done.code == 4 and f"the graph {site.graph.name}, which is published" in done.err
    done = publish("add", "--graph", graph, patch)
    assert done.code == 4 and f"--remove-graph {site.graph.name}" in done.err
    done = publish("add", "--graph", graph, patch, "--remove-graph", site.graph.name)
    assert done.code == 4 and "dogs is published. Publish a patch for it" in done.err and "--remove dogs" in done.err
    call = ["add", "--graph", graph, patch, "--remove-graph", site.graph.name, "--remove", "dogs"]
    done = publish(*call)
    assert done.code == 0 and "dogs: taken out" in done.out and f"{site.graph.name}: taken out" in done.out
    assert site.update().exit_code == 0 and site.versions() == {"cats": 2}
    with pytest.raises(UsageError, match="is not published"):
        publishing.remove(site.repo, ["dogs"], site.keys)
    done = publish("add", site.file("dogs", 1, "mobilenet_int8"))
    assert done.code == 3 and "expected 2 or more" in done.err  # versions grow over a removal, this way too


def test_what_is_added_and_taken_out_at_once_is_refused_where_it_makes_no_sense(site: Site, publish: Any) -> None:
    done = publish("add", site.file("cats", 2), "--remove", "cats")
    assert done.code == 2 and "is published and taken out in one command (field --remove, got cats)" in done.err
    done = publish("add", site.file("cats", 2), "--remove-graph", site.graph.name)
    assert done.code == 2
    assert publish("add", site.file("dogs"), "--remove", "mice").code == 2
    assert publish("add", site.file("dogs"), "--remove", "bird-owls").code == 2
    assert site.read().targets.signed.version == 3


# a damaged folder


@pytest.mark.parametrize("rubbish", [b"", b"hello", b"{}", None])
def test_a_lost_snapshot_is_not_forgotten(site: Site, publish: Any, edgepatch: Any, rubbish: bytes | None) -> None:
    place = site.read().file("snapshot")
    good = place.read_bytes()
    place.unlink() if rubbish is None else place.write_bytes(rubbish)
    for done in (publish("refresh"), publish("add", site.file("dogs")), edgepatch("publish", "list", site.repo)):
        assert done.code == 3 and f"{place.name}: is " in done.err and "Put back the one that is hosted" in done.err
    place.write_bytes(good)
    assert publish("refresh").code == 0 and site.update().exit_code == 0


def test_the_key_of_a_role_lies_where_it_is_looked_for(site: Site) -> None:
    (key,), _ = site.read().keys("root")
    assert keys.place(site.keys, "root", key).is_file()


@pytest.mark.parametrize(
    ("command", "examples"),
    [
        ("create", ["--expires timestamp=36h", "--threshold 2"]),
        ("add", ["--remove-graph mobilenet.tflite --remove flowers"]),
        ("remove", ["--graph mobilenet-int8.tflite"]),
        ("rotate", ["rotate site/ root", "--public birders-2.pub"]),
    ],
)
def test_help_has_examples_of_what_matters(edgepatch: Any, command: str, examples: list[str]) -> None:
    out = edgepatch("publish", command, "--help").out
    assert all(example in out for example in examples)
