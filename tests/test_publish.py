"""Publishing: keys, roles, what is refused before it is signed, and that no crash leaves devices with half of it."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tuf", reason="needs the extra [publish]")

from sites import GOLDEN, Site, golden_graph, killed, patch_bytes

from edgepatch import blob
from edgepatch.errors import BadFileError, EdgepatchError, MismatchError, UsageError
from edgepatch.updates import clock, described, names
from edgepatch.updates.host import ceremony, keys, publishing, repository


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def online_only(site: Site, folder: Path) -> Path:
    """A machine that has the keys of snapshot and timestamp, and no others."""
    folder.mkdir(mode=0o700)
    for path in [*site.keys.glob("snapshot-*"), *site.keys.glob("timestamp-*")]:
        shutil.copy(path, folder)
    return folder


# create


def test_create_makes_keys_for_their_owner_alone(tmp_path: Path, edgepatch: Any) -> None:
    done = edgepatch("publish", "create", tmp_path / "site", "--keys", tmp_path / "keys", "--root-keys", "2", "--json")
    assert done.code == 0 and done.document["root"] == str(tmp_path / "site" / "metadata" / "1.root.json")
    made = sorted((tmp_path / "keys").iterdir())
    assert [path.name.partition("-")[0] for path in made] == ["root", "root", "snapshot", "targets", "timestamp"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in made} == {0o600}
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700
    assert sorted(contents(tmp_path / "site")) == [
        "metadata/1.root.json",
        "metadata/1.snapshot.json",
        "metadata/1.targets.json",
        "metadata/timestamp.json",
    ]
    assert not any(b"PRIVATE" in data for data in contents(tmp_path / "site").values())
    done = edgepatch("publish", "create", tmp_path / "site", "--keys", tmp_path / "keys")
    assert done.code == 2 and "is a repository already" in done.err


def test_keys_are_not_laid_where_they_would_be_hosted(tmp_path: Path, site: Site, edgepatch: Any) -> None:
    for folder in (tmp_path / "new", tmp_path / "new" / "keys", tmp_path / "new" / "x" / ".." / "keys"):
        done = edgepatch("publish", "create", tmp_path / "new", "--keys", folder)
        assert done.code == 2 and "private keys must not lie in the folder that is hosted" in done.err
        assert not (tmp_path / "new").exists()
    (tmp_path / "link").symlink_to(site.repo)
    assert edgepatch("publish", "rotate", site.repo, "root", "--keys", tmp_path / "link" / "keys").code == 2


def test_expiries_are_chosen_and_travel_with_the_root(tmp_path: Path, edgepatch: Any) -> None:
    call = ["publish", "create", tmp_path / "site", "--keys", tmp_path / "keys"]
    assert edgepatch(*call, "--expires", "timestamp=36h", "--expires", "targets=90d").code == 0
    rows = {row["role"]: row for row in edgepatch("publish", "list", tmp_path / "site", "--json").document["roles"]}
    assert {role: row["period_s"] for role, row in rows.items()} == {
        "root": 365 * 86400,
        "targets": 90 * 86400,
        "snapshot": 30 * 86400,
        "timestamp": 36 * 3600,
    }
    left = clock.read(rows["timestamp"]["expires"]) - clock.now()  # type: ignore[operator]
    assert datetime.timedelta(hours=35) < left <= datetime.timedelta(hours=36)
    for bad in ("timestamp", "timestamp=", "timestamp=7", "timestamp=0d", "timestamp=-1d", "nobody=7d", "root=9999d"):
        done = edgepatch("publish", "create", tmp_path / "bad", "--keys", tmp_path / "k", "--expires", bad)
        assert done.code == 2 and not (tmp_path / "bad").exists(), bad


def test_a_passphrase_locks_keys(tmp_path: Path, edgepatch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(keys.PASSPHRASE, "correct horse")
    ceremony.create(tmp_path / "site", tmp_path / "keys")
    assert all(b"ENCRYPTED" in path.read_bytes() for path in (tmp_path / "keys").iterdir())
    publishing.refresh(tmp_path / "site", tmp_path / "keys")
    monkeypatch.delenv(keys.PASSPHRASE)
    done = edgepatch("publish", "refresh", tmp_path / "site", "--keys", tmp_path / "keys")
    assert done.code == 2 and "is locked by a passphrase" in done.err and keys.PASSPHRASE in done.err
    monkeypatch.setenv(keys.PASSPHRASE, "wrong")
    done = edgepatch("publish", "refresh", tmp_path / "site", "--keys", tmp_path / "keys")
    assert done.code == 3 and "is not opened by this passphrase" in done.err


def test_keys_that_are_none(site: Site, tmp_path: Path) -> None:
    (path,) = site.keys.glob("timestamp-*")
    good = path.read_bytes()
    path.chmod(0o640)
    with pytest.raises(BadFileError, match=r"is a private key that others on this machine may read \(got mode 640"):
        publishing.refresh(site.repo, site.keys)
    path.chmod(0o600)
    path.write_bytes(next(site.keys.glob("snapshot-*")).read_bytes())
    with pytest.raises(BadFileError, match="is not the key that its name says"):
        publishing.refresh(site.repo, site.keys)
    for rubbish in (b"", b"rubbish", good[:60], b"x" * 20_000):
        path.write_bytes(rubbish)
        with pytest.raises(BadFileError):
            publishing.refresh(site.repo, site.keys)
    path.unlink()
    with pytest.raises(UsageError, match="the key of timestamp is not here"):
        publishing.refresh(site.repo, site.keys)
    with pytest.raises(BadFileError, match="is no public key"):
        keys.read_public(site.root)
    with pytest.raises(BadFileError, match="is a private key"):
        keys.read_public(next(site.keys.glob("root-*")))


# add


def test_what_is_published_is_checked_and_nothing_is_written_if_one_is_bad(site: Site, tmp_path: Path) -> None:
    site.publish("cats")
    before = contents(site.repo)
    good = site.file("dogs")
    broken = tmp_path / "broken.epatch"
    broken.write_bytes(patch_bytes("mice")[:-1] + b"\x00")
    cases: list[tuple[list[str], type[EdgepatchError], str]] = [
        ([good, str(broken)], BadFileError, "was changed after it was written"),
        ([good, str(site.graph)], BadFileError, "is not an edgepatch file"),
        ([good, str(tmp_path / "none.epatch")], UsageError, "there is no such file"),
        ([good, str(GOLDEN / "patches" / "mobilenet_int8.epatch")], MismatchError, "is a patch of another backbone"),
        ([good, good], UsageError, "two patches are of the same task"),
        ([good, site.file("cats", 1, "scale_bias")], BadFileError, "has a version that was published before"),
    ]
    for patches, kind, message in cases:
        with pytest.raises(kind, match=message):
            publishing.add(site.repo, patches, site.keys)
        assert contents(site.repo) == before, message


def test_a_graph_has_to_take_every_patch(site: Site, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no graph is published yet"):
        publishing.add(site.repo, [site.file("cats")], site.keys)
    site.publish("cats")
    before = contents(site.repo)
    mobilenet = golden_graph("mobilenet-fp16.tflite", tmp_path)
    with pytest.raises(MismatchError, match="is a patch of another backbone") as caught:
        publishing.add(site.repo, [], site.keys, graph_files=[str(mobilenet)])
    assert "Publish a patch for it in the same command" in str(caught.value)
    odd = tmp_path / "a name with spaces.tflite"
    shutil.copy(site.graph, odd)
    with pytest.raises(UsageError, match="is no name for a published graph"):
        publishing.add(site.repo, [], site.keys, graph_files=[str(odd)])
    assert contents(site.repo) == before


def test_two_graphs_are_of_one_backbone(site: Site, tmp_path: Path) -> None:
    publishing.add(site.repo, [], site.keys, graph_files=[str(site.graph)])
    with pytest.raises(MismatchError, match="the graphs are of several backbones"):
        publishing.add(site.repo, [], site.keys, graph_files=[str(golden_graph("mobilenet-fp16.tflite", tmp_path))])


def test_publishing_the_same_again_changes_no_list(site: Site) -> None:
    site.publish("cats")
    done = publishing.add(site.repo, [site.file("cats")], site.keys, graph_files=[str(site.graph)])
    assert [each.name for each in done.same] == ["cats", site.graph.name] and done.added == []
    assert done.repository.targets.signed.version == 2


def test_versions_grow_over_a_removal_too(site: Site) -> None:
    site.publish("cats", version=5)
    publishing.remove(site.repo, ["cats"], site.keys)
    with pytest.raises(BadFileError, match=r"\(field version, got 3, expected 6 or more\)"):
        publishing.add(site.repo, [site.file("cats", 3)], site.keys)
    done = publishing.add(site.repo, [site.file("cats", 3)], site.keys, renumber=True)
    assert [each.version for each in done.added] == [6]
    assert blob.read(done.repository.hosted(done.added[0])).version == 6


def test_remove_refuses_what_it_cannot(site: Site, edgepatch: Any) -> None:
    site.publish("cats")
    for arguments, words in (
        (["dogs"], "is not published (field targets, got dogs, expected gated-fp32.tflite, cats)"),
        (["--graph", site.graph.name], "would leave tasks without a graph"),
        ([], "there is nothing to remove"),
    ):
        done = edgepatch("publish", "remove", site.repo, *arguments, "--keys", site.keys)
        assert done.code == 2 and words in done.err
    assert edgepatch("publish", "add", site.repo, "--keys", site.keys).code == 2
    assert edgepatch("publish", "remove", site.repo, "cats", "--graph", site.graph.name, "--keys", site.keys).code == 0


# teams


def test_a_team_signs_its_own_tasks_and_no_others(site: Site, edgepatch: Any) -> None:
    site.publish("cats")
    assert edgepatch("publish", "team", site.repo, "birders", "--tasks", "bird-*", "--keys", site.keys).code == 0
    before = contents(site.repo)
    call = ["publish", "add", site.repo, "--keys", site.keys]
    done = edgepatch(*call, site.file("mice"), "--team", "birders")
    assert done.code == 2 and "is not among the tasks of this team (field task, got mice, expected bird-*)" in done.err
    done = edgepatch(*call, "--graph", site.graph, "--team", "birders")
    assert done.code == 2 and "a team cannot publish graphs" in done.err
    done = edgepatch(*call, site.file("bird-owls"), "--team", "fishers")
    assert done.code == 2 and "there is no such team" in done.err
    assert contents(site.repo) == before
    assert edgepatch(*call, site.file("bird-owls"), "--team", "birders").code == 0
    done = edgepatch(*call, site.file("bird-owls", 2))
    assert done.code == 2 and "is published by another role" in done.err
    for name in ("root", "snapshot", "Birders", "../x", "", "x" * 51):
        assert edgepatch("publish", "team", site.repo, name, "--tasks", "*", "--keys", site.keys).code == 2
    for pattern in ("", "\n", "x" * 200):
        assert edgepatch("publish", "team", site.repo, "other", "--tasks", pattern, "--keys", site.keys).code == 2
    assert edgepatch("publish", "team", site.repo, "other", "--keys", site.keys).code == 2
    done = edgepatch("publish", "list", site.repo)
    assert "birders" in done.out and "bird-*" in done.out and "bird-owls" in done.out


def test_patterns_match_names_as_people_write_them(site: Site) -> None:
    site.publish("cats")
    site.team("menagerie", "vögel/*", "a b")
    site.publish("vögel/eule", "a b", team="menagerie")
    with pytest.raises(UsageError, match="is not among the tasks of this team"):
        site.publish("vögel", team="menagerie")
    site.update()
    assert set(site.versions()) == {"cats", "vögel/eule", "a b"}


def test_a_team_needs_no_other_key_and_the_online_machine_no_offline_one(site: Site, tmp_path: Path) -> None:
    site.publish("cats")
    site.team("birders", "bird-*")
    theirs, online = tmp_path / "theirs", online_only(site, tmp_path / "online")
    theirs.mkdir(mode=0o700)
    (key,) = site.keys.glob("birders-*")
    shutil.move(key, theirs)
    done = publishing.add(site.repo, [site.file("bird-owls")], theirs, team="birders")
    assert done.pending == ["snapshot", "timestamp"]
    assert publishing.refresh(site.repo, online).pending == []
    site.update()
    assert set(site.versions()) == {"cats", "bird-owls"}
    with pytest.raises(
        UsageError, match=r"the key of targets is not here \(field --keys, got 0 of 1, expected targets-"
    ):
        publishing.add(site.repo, [site.file("dogs")], online)
    with pytest.raises(UsageError, match="the key of birders is not here"):
        publishing.add(site.repo, [site.file("bird-tits")], online, team="birders")


def test_a_team_brings_its_next_key_itself(site: Site, tmp_path: Path, edgepatch: Any) -> None:
    site.publish("cats")
    site.team("birders", "bird-*")
    site.publish("bird-owls", team="birders")
    site.update()
    theirs, public = tmp_path / "theirs", tmp_path / "new.pub"
    assert edgepatch("publish", "key", "birders", "--keys", theirs, "--out", public).code == 0
    call = ["publish", "rotate", site.repo, "birders", "--public", public, "--keys", site.keys]
    assert edgepatch(*call).code == 0
    report = site.update()  # what the old key signed counts no more
    assert report.exit_code == 3 and site.versions() == {"cats": 1, "bird-owls": 1}
    assert publishing.add(site.repo, [site.file("bird-owls", 2)], theirs, team="birders").pending
    publishing.refresh(site.repo, site.keys)
    assert site.update().exit_code == 0
    assert site.versions() == {"cats": 1, "bird-owls": 2}


# keys over the years


@pytest.mark.parametrize("role", [*names.ROLES, "birders"])
def test_every_key_can_be_replaced_and_devices_follow(site: Site, role: str, edgepatch: Any) -> None:
    site.publish("cats")
    site.team("birders", "bird-*")
    site.publish("bird-owls", team="birders")
    site.update()
    old = site.read().keys(role)[0][0].keyid
    assert edgepatch("publish", "rotate", site.repo, role, "--keys", site.keys).code == 0
    assert [key.keyid for key in site.read().keys(role)[0]] != [old]
    (site.keys / f"{role}-{old[:16]}.pem").unlink()
    site.publish("cats", version=2)
    site.publish("bird-owls", version=2, team="birders")
    assert site.update().exit_code == 0
    assert site.versions() == {"cats": 2, "bird-owls": 2}
    shutil.rmtree(site.store)  # and those who begin with the first root
    site.update()
    assert site.versions() == {"cats": 2, "bird-owls": 2}


def test_two_of_three_root_keys(tmp_path: Path, edgepatch: Any) -> None:
    repo, folder = tmp_path / "site", tmp_path / "keys"
    ceremony.create(repo, folder, root_keys=3, threshold=2)
    first, second, _ = sorted(folder.glob("root-*"))
    first.unlink()
    assert edgepatch("publish", "rotate", repo, "timestamp", "--keys", folder).code == 0
    second.unlink()
    done = edgepatch("publish", "rotate", repo, "timestamp", "--keys", folder)
    assert done.code == 2 and "too few keys of root are here (field --keys, got 1 of 3" in done.err
    for keys_, threshold in ((1, 2), (0, 0), (17, 1), (2, 0)):
        with pytest.raises(UsageError, match="is out of range"):
            ceremony.create(tmp_path / "other", folder, root_keys=keys_, threshold=threshold)


def test_refresh_signs_what_is_due(site: Site, monkeypatch: pytest.MonkeyPatch, edgepatch: Any) -> None:
    site.publish("cats")

    def versions() -> dict[str, int]:
        found = site.read()
        return {role: getattr(found, role).signed.version for role in names.ROLES}

    before = versions()
    publishing.refresh(site.repo, site.keys)
    assert versions() == {**before, "timestamp": before["timestamp"] + 1}
    later = clock.now() + datetime.timedelta(days=16)
    monkeypatch.setattr(clock, "now", lambda: later)
    done = edgepatch("publish", "refresh", site.repo, "--keys", site.keys)
    assert versions()["snapshot"] == before["snapshot"] + 1 and "expires" not in done.out
    later = clock.now() + datetime.timedelta(days=330)
    monkeypatch.setattr(clock, "now", lambda: later)
    done = edgepatch("publish", "refresh", site.repo, "--keys", site.keys, "--json")
    assert [text.partition(" ")[0] for text in done.document["reminders"]] == ["root", "targets"]
    done = edgepatch("publish", "refresh", site.repo, "root", "targets", "--keys", site.keys, "--json")
    assert done.document["reminders"] == []
    assert edgepatch("publish", "refresh", site.repo, "nobody", "--keys", site.keys).code == 2


# the folder


def test_what_nobody_signed_is_not_looked_at(site: Site, edgepatch: Any) -> None:
    site.publish("cats")
    metadata = site.repo / "metadata"
    (metadata / "999999.targets.json").write_bytes((metadata / "2.targets.json").read_bytes())
    (metadata / "7.snapshot.json").write_bytes(b"{}")
    (metadata / "rubbish").mkdir()
    site.publish("dogs")
    site.update()
    assert set(site.versions()) == {"cats", "dogs"}
    (metadata / "2.root.json").write_bytes((metadata / "1.root.json").read_bytes())
    done = edgepatch("publish", "list", site.repo)
    assert done.code == 3 and "is not signed as the next root has to be" in done.err
    done = edgepatch("publish", "list", site.folder)
    assert done.code == 2 and "is no repository of updates" in done.err
    done = edgepatch("publish", "add", site.folder / "nowhere", site.file("x"), "--keys", site.keys)
    assert done.code == 2


def test_an_old_copy_that_was_put_back_is_not_published(site: Site) -> None:
    site.publish("cats")
    old = site.old_copy()
    site.publish("dogs")
    for name in ("2.targets.json",):
        shutil.copy(old / "metadata" / name, site.repo / "metadata" / name)
    (site.repo / "metadata" / "3.targets.json").unlink()
    with pytest.raises(
        BadFileError, match=r"is older than what was published \(field version, got 2, expected 3 or more"
    ):
        publishing.refresh(site.repo, site.keys)


def test_one_publisher_at_a_time(site: Site) -> None:
    with repository.locked(site.repo), pytest.raises(EdgepatchError, match="another edgepatch publish is at work here"):
        publishing.refresh(site.repo, site.keys)


def test_a_list_that_no_device_would_take_is_said(site: Site) -> None:
    site.publish("cats")
    site.list_file("patches/dogs.epatch", b"x", {"task": "mice", "version": 1, "backbone_id": "0" * 64, "kind": "x"})
    with pytest.raises(BadFileError, match="names a file that devices refuse: its path is not that of the task 'mice'"):
        publishing.add(site.repo, [site.file("mice")], site.keys)


def test_the_plug_at_any_write_leaves_devices_the_old_or_the_new(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file is written whole; between two of them anything may happen."""
    site.publish("cats")
    site.team("birders", "bird-*")
    site.update()
    steps = {
        "add": lambda: publishing.add(site.repo, [site.file("cats", 2), site.file("dogs")], site.keys),
        "rotate targets": lambda: ceremony.rotate(site.repo, "targets", site.keys),
        "rotate snapshot": lambda: ceremony.rotate(site.repo, "snapshot", site.keys),
        "rotate birders": lambda: ceremony.rotate(site.repo, "birders", site.keys),
        "remove": lambda: publishing.remove(site.repo, ["cats"], site.keys),
    }
    points = 0
    for name, step in steps.items():
        clean = site.old_copy()
        for point in range(20):
            shutil.rmtree(site.repo)
            shutil.copytree(clean, site.repo)
            if killed(step, point, monkeypatch):
                break
            points += 1
            if "rotate" not in name:  # between a new root and the next timestamp devices wait
                assert site.update(dry_run=True).exit_code == 0, (name, point)
            publishing.refresh(site.repo, site.keys)  # what cron does next
            assert site.update(dry_run=True).exit_code == 0, (name, point)
            with contextlib.suppress(UsageError):  # of a removal that was done already
                step()
            assert site.update(dry_run=True).exit_code == 0, (name, point)
        site.update()
    assert points == 19
    assert site.versions() == {"dogs": 1}


def test_the_frameworks_own_client_takes_it(site: Site, tmp_path: Path) -> None:
    """python-tuf's client as it comes, with its own HTTP: what we publish is The Update Framework, not a dialect."""
    from tuf.ngclient import Updater

    site.publish("cats")
    site.team("birders", "bird-*")
    site.publish("bird-owls", team="birders")
    ceremony.rotate(site.repo, "targets", site.keys)
    (tmp_path / "documents").mkdir()
    (tmp_path / "files").mkdir()
    client = Updater(
        str(tmp_path / "documents"),
        f"{site.url}/metadata/",
        str(tmp_path / "files"),
        f"{site.url}/targets/",
        bootstrap=site.root.read_bytes(),
    )
    for task, role in (("cats", "targets"), ("bird-owls", "birders")):
        found = client.get_targetinfo(names.patch_path(task))
        assert found is not None
        said = described.read(found.path, found.length, found.hashes, found.custom, role)
        assert (said.task, said.version) == (task, 1)
        assert Path(client.download_target(found)).read_bytes() == patch_bytes(task)
    assert client.get_targetinfo(names.patch_path("bird-tits")) is None


def test_documents_are_small(site: Site) -> None:
    site.publish(*(f"task-{number:03d}" for number in range(50)))
    found = site.read()
    assert len(found.bytes_of("targets")) / 50 < 320
    json.loads(found.bytes_of("targets"))
    assert dataclasses.asdict(found.files()[0])["role"] == "targets"
