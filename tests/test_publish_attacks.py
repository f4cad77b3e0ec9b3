"""What a team's key, a lost file or a pulled plug does to a publisher: nothing to others, nothing for ever."""

from __future__ import annotations

import contextlib
import datetime
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tuf", reason="needs the extra [publish]")

from sites import Site, golden_graph, killed, patch_bytes

from edgepatch import blob
from edgepatch.errors import BadFileError, EdgepatchError, UsageError
from edgepatch.updates import clock, described, names
from edgepatch.updates.host import ceremony, documents, keys, publishing, reminders, repository, signing, versions

BIRD = "patches/bird-a.epatch"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def aviary(site: Site) -> Site:
    """A site with a task of its own and two teams, each with a task."""
    site.publish("cats")
    for team, task in (("birders", "bird-a"), ("fishers", "fish-a")):
        site.team(team, f"{task[:4]}*")
        site.publish(task, team=team)
    return site


def sign_alone(site: Site, change: Callable[[Any], None], team: str = "birders") -> None:
    """What a team's key alone can do: its next list, which no snapshot names yet."""
    signing.renew(site.read(), team, site.keys, change)


def entry(path: str, custom: Any, length: int = 1) -> Callable[[Any], None]:
    """Puts a file into a list."""
    from tuf.api.metadata import TargetFile

    target = TargetFile(length, {"sha256": "a" * 64}, path, {"custom": custom})
    return lambda targets: targets.targets.update({path: target})


# a team's key


@pytest.mark.parametrize(
    ("path", "field", "value"),
    [
        (BIRD, "version", 0),
        (BIRD, "version", "1"),
        (BIRD, "kind", None),
        (BIRD, "kind", "graph"),
        (BIRD, "backbone_id", []),
        ("patches/mice.epatch", "task", "mice"),
        ("graphs/own.tflite", "kind", "graph"),
        ("../../x", "task", "x"),
        ("patches/bird-=1B[2J.epatch", "version", -1),
    ],
)
def test_a_teams_nonsense_stops_neither_cron_nor_others(
    aviary: Site, edgepatch: Any, path: str, field: str, value: Any
) -> None:
    good = {"task": "bird-a", "version": 1, "backbone_id": "0" * 64, "kind": "bias", field: value}
    sign_alone(aviary, entry(path, {name: value for name, value in good.items() if value is not None}))
    reminder = f"birders: devices refuse its word on {path}"
    done = edgepatch("publish", "refresh", aviary.repo, "--keys", aviary.keys)
    assert done.code == 0 and "valid until" in done.out and reminder in done.out
    fp16 = golden_graph("gated-fp16.tflite", aviary.folder)
    call = ["publish", "add", aviary.repo, "--keys", aviary.keys]
    assert edgepatch(*call, aviary.file("cats", 2), "--graph", fp16).code == 0
    assert edgepatch(*call, aviary.file("fish-a", 2), "--team", "fishers").code == 0
    assert edgepatch("publish", "remove", aviary.repo, "cats", "--keys", aviary.keys).code == 0
    done = edgepatch("publish", "list", aviary.repo, "--json")
    assert done.code == 0 and [text for text in done.document["reminders"] if text.startswith(reminder)]
    assert path not in [each["path"] for each in done.document["patches"] + done.document["graphs"]]
    done = edgepatch(*call, aviary.file("bird-b"), "--team", "birders")  # its own list it has to mend
    assert done.code == 3 and "names a file that devices refuse" in done.err and "publish remove" in done.err


def test_a_team_takes_out_what_devices_refuse(aviary: Site, edgepatch: Any) -> None:
    """After its pattern has become narrower, say."""
    aviary.publish("bird-b", team="birders")
    aviary.team("birders", "bird-b*")
    call = ["--team", "birders", "--keys", aviary.keys]
    done = edgepatch("publish", "add", aviary.repo, aviary.file("bird-b", 2), *call)
    assert done.code == 3 and f"{BIRD}" in done.err and "--team birders" in done.err
    assert edgepatch("publish", "remove", aviary.repo, "bird-a", *call).code == 0
    assert edgepatch("publish", "add", aviary.repo, aviary.file("bird-b", 2), *call).code == 0


def test_thousands_of_foreign_entries_are_one_sentence(aviary: Site) -> None:
    def evil(targets: Any) -> None:
        for number in range(2000):
            entry(f"patches/mice-{number}.epatch", {})(targets)

    sign_alone(aviary, evil)
    found = publishing.refresh(aviary.repo, aviary.keys).repository
    (reminder,) = reminders.of(found)
    assert "and of 1999 more" in reminder and len(found.files()) == 4


@pytest.mark.parametrize(
    "newest", [5, [], "a", {"patches/cats.epatch": 2**52}, {"patches/cats.epatch": "a"}, {BIRD: 2**53}, {BIRD: -1}]
)
def test_a_team_sets_no_versions_for_others(aviary: Site, newest: Any) -> None:
    aviary.team("birders", "bird*", "c*")  # of these, `targets` signs for cats
    sign_alone(aviary, lambda targets: targets.unrecognized_fields.update({versions.NEWEST: newest}))
    aviary.publish("cats", version=2)
    aviary.publish("bird-a", version=2, team="birders")
    publishing.remove(aviary.repo, ["bird-a"], aviary.keys, team="birders")
    with pytest.raises(BadFileError, match="expected 3 or more"):
        aviary.publish("bird-a", version=2, team="birders")


@pytest.mark.parametrize("size", [names.MAX_METADATA + 1, 65 * 2**20])
def test_a_list_larger_than_devices_take_is_as_if_it_were_not_there(aviary: Site, edgepatch: Any, size: int) -> None:
    with open(aviary.repo / "metadata" / "9.birders.json", "wb") as stream:
        stream.truncate(size)
    assert edgepatch("publish", "refresh", aviary.repo, "--keys", aviary.keys).code == 0
    aviary.publish("cats", version=2)
    aviary.publish("bird-b", team="birders")
    sign_alone(aviary, lambda targets: targets.unrecognized_fields.update(x="x" * names.MAX_METADATA))
    assert edgepatch("publish", "refresh", aviary.repo, "--keys", aviary.keys).code == 0
    aviary.update()
    assert aviary.versions() == {"cats": 2, "bird-a": 1, "bird-b": 1, "fish-a": 1}


def test_a_document_that_cannot_be_verified_is_as_if_it_were_not_there(aviary: Site, edgepatch: Any) -> None:
    """Canonical JSON has no fractions; signatures are over that."""
    metadata = aviary.repo / "metadata"
    text = (metadata / "2.birders.json").read_text()
    for number, rubbish in enumerate((text.replace('"version":2', '"version":8,"x":0.5'), "[" * 100_000, "\ud800")):
        (metadata / f"{8 + number}.birders.json").write_bytes(rubbish.encode(errors="surrogatepass"))
    assert edgepatch("publish", "refresh", aviary.repo, "--keys", aviary.keys).code == 0
    assert aviary.read().teams["birders"].signed.version == 2  # type: ignore[union-attr]


def test_a_list_nested_without_end_is_left_behind(aviary: Site, tmp_path: Path, edgepatch: Any) -> None:
    found = aviary.read()
    document: Any = found.teams["birders"]
    limit, nested = sys.getrecursionlimit(), 1
    for _ in range(limit * 6 // 10):
        nested = [nested]  # type: ignore[assignment]
    document.signed.version = 3
    document.signed.unrecognized_fields["x"] = nested
    sys.setrecursionlimit(20 * limit)
    try:
        found.put("birders", signing.signed(document.signed, keys.find(aviary.keys, "birders", *found.keys("birders"))))
    finally:
        sys.setrecursionlimit(limit)
    assert edgepatch("publish", "refresh", aviary.repo, "--keys", aviary.keys).code == 0
    aviary.publish("cats", version=2)
    for command in (
        ["add", aviary.repo, aviary.file("bird-b"), "--team", "birders"],
        ["rotate", aviary.repo, "birders"],
    ):
        done = edgepatch("publish", *command, "--keys", aviary.keys)
        assert done.code == 3 and "is nested too deeply to be signed anew" in done.err and "--public" in done.err
    assert edgepatch("publish", "key", "birders", "--keys", aviary.keys, "--out", tmp_path / "new.pub").code == 0
    ceremony.rotate(aviary.repo, "birders", aviary.keys, public=tmp_path / "new.pub")
    aviary.publish("bird-b", team="birders")
    aviary.update()
    assert aviary.versions() == {"cats": 2, "bird-b": 1, "fish-a": 1}


def test_a_team_that_lost_its_list_stops_nobody_else(aviary: Site, edgepatch: Any) -> None:
    aviary.publish("bird-b", team="birders")
    newest = aviary.repo / "metadata" / "3.birders.json"
    data = newest.read_bytes()
    newest.unlink()
    done = edgepatch("publish", "refresh", aviary.repo, "--keys", aviary.keys)
    assert done.code == 0 and "3.birders.json is missing, which devices ask for: put it back" in done.out
    aviary.publish("cats", version=2)
    with pytest.raises(BadFileError, match="is older than what was published"):
        aviary.publish("bird-c", team="birders")
    newest.write_bytes(data)
    aviary.publish("bird-c", team="birders")
    aviary.update()
    assert aviary.versions() == {"cats": 2, "bird-a": 1, "bird-b": 1, "bird-c": 1, "fish-a": 1}


def leap(site: Site, version: int) -> None:
    """A list of the team with any number."""
    found = site.read()
    document = signing.renewed(found, "birders", site.keys).signed
    document.version = version
    found.put("birders", signing.signed(document, keys.find(site.keys, "birders", *found.keys("birders"))))
    publishing.refresh(site.repo, site.keys)


@pytest.mark.parametrize("version", [999_999_999, 10**15 - 3])
def test_a_team_goes_on_after_a_leap_of_its_versions(aviary: Site, version: int) -> None:
    leap(aviary, version)
    ceremony.rotate(aviary.repo, "birders", aviary.keys)
    aviary.publish("bird-b", team="birders")
    assert aviary.read().teams["birders"].signed.version == version + 2  # type: ignore[union-attr]
    aviary.update()
    assert set(aviary.versions()) == {"cats", "bird-a", "bird-b", "fish-a"}


def test_a_leap_to_the_last_version_is_said_and_costs_the_team_its_name(aviary: Site) -> None:
    leap(aviary, documents.MAX_VERSION)
    before = contents(aviary.repo)
    with pytest.raises(EdgepatchError, match=r"no number is left for another version .*\(field birders"):
        aviary.publish("bird-b", team="birders")
    assert contents(aviary.repo) == before
    aviary.publish("cats", version=2)
    ceremony.dismiss(aviary.repo, "birders", aviary.keys)
    aviary.team("ornithologists", "bird-*")
    aviary.publish("bird-a", version=2, team="ornithologists")
    aviary.update()
    assert aviary.versions() == {"cats": 2, "bird-a": 2, "fish-a": 1}


@pytest.mark.parametrize(("task", "refused"), [("bird-\x1b[2J", True), ("bird-x", False)])
def test_escapes_in_a_teams_words_do_not_reach_the_terminal(
    aviary: Site, edgepatch: Any, task: str, refused: bool
) -> None:
    data = patch_bytes("bird-x")
    custom = {**described.of_patch(blob.parse(data, "x")), "task": task, "kind": "\x1b[2J"}
    aviary.list_file(names.patch_path(task), data, custom, "birders")
    done = edgepatch("publish", "list", aviary.repo)
    assert done.code == 0 and "\x1b" not in done.out and "birders" in done.out
    assert ("is not 1 to 100 printable characters" in done.out) == refused


# before anything is signed


@pytest.mark.parametrize("version", [2**53, 2**62])
def test_a_version_that_devices_refuse_is_not_signed(aviary: Site, edgepatch: Any, version: int) -> None:
    before = contents(aviary.repo)
    done = edgepatch("publish", "add", aviary.repo, aviary.file("cats", version), "--keys", aviary.keys)
    assert done.code == 3 and "would be refused by devices: its version" in done.err
    assert contents(aviary.repo) == before
    aviary.publish("cats", version=2**53 - 1)
    done = edgepatch("publish", "add", aviary.repo, aviary.file("cats"), "--renumber", "--keys", aviary.keys)
    assert done.code == 3 and "would be refused by devices: its version" in done.err
    assert edgepatch("publish", "list", aviary.repo).code == 0


def test_a_list_larger_than_devices_take_is_not_signed(
    aviary: Site, edgepatch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names, "MAX_METADATA", 64 * 1024 + 2000)
    before = contents(aviary.repo)
    many = [aviary.file(f"bird-{number}") for number in range(8)]
    done = edgepatch("publish", "add", aviary.repo, *many, "--team", "birders", "--keys", aviary.keys)
    assert done.code == 2 and "the list would be larger than devices take (field size" in done.err
    assert "edgepatch publish team" in done.err
    done = edgepatch(
        "publish", "team", aviary.repo, "x", "--tasks", "x" * 100, *["--tasks", "y"] * 400, "--keys", aviary.keys
    )
    assert done.code == 2
    assert contents(aviary.repo) == before
    aviary.publish("bird-1", team="birders")


def test_names_that_come_twice(aviary: Site, tmp_path: Path, edgepatch: Any) -> None:
    graph = tmp_path / "other" / aviary.graph.name
    graph.parent.mkdir()
    shutil.copy(golden_graph("gated-fp16.tflite", tmp_path), graph)
    before = contents(aviary.repo)
    call = ["publish", "add", aviary.repo, "--graph", aviary.graph, "--graph", graph, "--keys", aviary.keys]
    done = edgepatch(*call)
    assert done.code == 2 and "two graphs have the same file name (field --graph" in done.err
    assert contents(aviary.repo) == before
    done = edgepatch("publish", "remove", aviary.repo, "cats", "cats", "--keys", aviary.keys, "--json")
    assert done.code == 0 and done.document["removed"] == ["patches/cats.epatch"]


# a new backbone


def new_backbone(site: Site) -> list[object]:
    """The command that publishes another backbone's graph under the old one's name, and a patch for it."""
    graph = site.folder / "new" / site.graph.name
    graph.parent.mkdir(exist_ok=True)
    shutil.copy(golden_graph("mobilenet-fp16.tflite", site.folder), graph)
    patch = site.file("cats", 2, "mobilenet_int8")
    return ["publish", "add", site.repo, patch, "--graph", graph, "--keys", site.keys]


def test_a_new_backbone_and_a_team_that_has_patches_of_the_old_one(aviary: Site, edgepatch: Any) -> None:
    aviary.update()
    ceremony.dismiss(aviary.repo, "fishers", aviary.keys)
    done = edgepatch(*new_backbone(aviary))
    assert done.code == 4 and "bird-a is signed by birders: let this team take it out" in done.err
    call = ["publish", "remove", aviary.repo, "bird-a", "--team", "birders"]
    assert " ".join(map(str, call)).replace("bird-a", "'bird-a'") in done.err
    assert edgepatch(*call, "--keys", aviary.keys).code == 0
    assert edgepatch(*new_backbone(aviary)).code == 0
    assert aviary.update().exit_code == 0 and aviary.versions() == {"cats": 2}
    aviary.publish("bird-a", version=2, team="birders", kind="mobilenet_int8")
    assert aviary.update().exit_code == 0 and aviary.versions() == {"cats": 2, "bird-a": 2}


@pytest.mark.parametrize("what", ["no file", "other bytes", "no patch", "another version"])
def test_a_team_whose_patch_no_device_takes_keeps_no_graph_away(aviary: Site, edgepatch: Any, what: str) -> None:
    ceremony.dismiss(aviary.repo, "fishers", aviary.keys)
    (bird,) = [each for each in aviary.read().files() if each.task == "bird-a"]
    hosted = aviary.read().hosted(bird)
    if what == "no file":
        hosted.unlink()
    elif what == "other bytes":
        shutil.copy(aviary.file("bird-a", 1, "mask"), hosted)
    else:
        data = b"no patch" if what == "no patch" else hosted.read_bytes()
        custom = {"task": "bird-a", "version": 2, "backbone_id": bird.backbone_id, "kind": "bias"}
        aviary.list_file(BIRD, data, custom, "birders")
    assert edgepatch(*new_backbone(aviary)).code == 0


def test_a_damaged_graph_can_be_replaced(site: Site) -> None:
    site.publish("cats")
    (graph,) = [each for each in site.read().files() if each.is_graph]
    site.read().hosted(graph).write_bytes(b"rot")
    publishing.add(site.repo, [], site.keys, graph_files=[str(site.graph)])
    site.update()
    assert site.versions() == {"cats": 1}


# a lost file


def test_a_lost_timestamp_is_not_begun_anew(site: Site, edgepatch: Any) -> None:
    site.publish("cats")
    site.update()
    place = site.repo / "metadata" / "timestamp.json"
    good = place.read_bytes()
    for rubbish in (b"", good[:100], b"{}", (site.repo / "metadata" / "1.root.json").read_bytes(), None):
        place.unlink() if rubbish is None else place.write_bytes(rubbish)
        before = contents(site.repo)
        done = edgepatch("publish", "refresh", site.repo, "--keys", site.keys)
        assert done.code == 3 and "timestamp.json: is " in done.err and "Put back the one that is hosted" in done.err
        assert contents(site.repo) == before
    place.write_bytes(good)
    publishing.refresh(site.repo, site.keys)
    assert site.update().exit_code == 0


def test_a_timestamp_of_the_old_key_is_counted_on_from(site: Site) -> None:
    site.publish("cats")
    for _ in range(3):
        publishing.refresh(site.repo, site.keys)
    counted = site.read().timestamp.signed.version  # type: ignore[union-attr]
    old = (site.repo / "metadata" / "timestamp.json").read_bytes()
    ceremony.rotate(site.repo, "timestamp", site.keys)
    (site.repo / "metadata" / "timestamp.json").write_bytes(old)  # the new key is on its way to another machine
    assert site.read().timestamp is None
    publishing.refresh(site.repo, site.keys)
    assert site.read().timestamp.signed.version == counted + 1  # type: ignore[union-attr]
    site.update()
    assert site.versions() == {"cats": 1}


@pytest.mark.parametrize("missing", [1, 2])
def test_a_gap_in_the_roots_is_noticed(site: Site, edgepatch: Any, missing: int) -> None:
    site.publish("cats")
    for role in ("timestamp", "snapshot"):
        ceremony.rotate(site.repo, role, site.keys)
    (site.repo / "metadata" / f"{missing}.root.json").unlink()
    done = edgepatch("publish", "refresh", site.repo, "--keys", site.keys)
    assert done.code == 3 and f"{missing}.root.json: is missing, and devices go from each root to the next" in done.err


def test_a_root_signed_by_a_clock_that_was_ahead_is_said(
    site: Site, edgepatch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.publish("cats")
    with monkeypatch.context() as patched:
        ahead = clock.now() + datetime.timedelta(days=400)
        patched.setattr(clock, "now", lambda: ahead)
        publishing.refresh(site.repo, site.keys, ["root"])
    done = edgepatch("publish", "refresh", site.repo, "--keys", site.keys)
    assert done.code == 0 and f"root was signed on {clock.write(ahead)}, and by this machine's clock" in done.out
    done = edgepatch("publish", "refresh", site.repo, "root", "--keys", site.keys)
    assert done.code == 0 and "root was signed" not in done.out
    site.update()
    assert site.versions() == {"cats": 1}


# the plug


def test_the_plug_at_any_write_leaves_no_document_that_is_written_otherwise_later(
    aviary: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands under a number may have been uploaded, and lie in caches for a year."""
    steps: dict[str, Callable[[], object]] = {
        **{f"rotate {role}": _rotation(aviary, role) for role in (*names.ROLES, "birders")},
        "add": lambda: publishing.add(aviary.repo, [aviary.file("dogs")], aviary.keys),
        "team": lambda: aviary.team("menagerie", "m*"),
        "dismiss": lambda: ceremony.dismiss(aviary.repo, "birders", aviary.keys),
        "refresh": lambda: publishing.refresh(aviary.repo, aviary.keys, ["root", "targets", "birders"]),
    }
    clean, points = aviary.old_copy(), 0
    for name, step in steps.items():
        for point in range(20):
            shutil.rmtree(aviary.repo)
            shutil.copytree(clean, aviary.repo)
            done = killed(step, point, monkeypatch)
            before = contents(aviary.repo)
            publishing.add(aviary.repo, [aviary.file("cats", 2)], aviary.keys)
            if not done:
                points += 1
                with contextlib.suppress(UsageError):  # of what was dismissed already
                    step()
            after = contents(aviary.repo)
            replaced = [path for path, data in before.items() if after.get(path) != data]
            assert replaced == ["metadata/timestamp.json"], (name, point)
            if done:
                break
        assert done, name
    assert points > 20


def test_the_plug_while_a_repository_is_created(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repo, folder = tmp_path / "site", tmp_path / "keys"
    for point in range(2):  # before its root; later it is one
        assert not killed(lambda: ceremony.create(repo, folder), point, monkeypatch)
        before = contents(repo)
    ceremony.create(repo, folder)
    assert {path: contents(repo)[path] for path in before} == before and before
    shutil.rmtree(repo)
    assert not killed(lambda: ceremony.create(repo, folder), 3, monkeypatch)
    publishing.refresh(repo, folder)
    assert repository.read(repo).timestamp is not None


def _rotation(site: Site, role: str) -> Callable[[], object]:
    return lambda: ceremony.rotate(site.repo, role, site.keys)
