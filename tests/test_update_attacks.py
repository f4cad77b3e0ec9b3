"""One test an attack: what the device says, with which exit code, and that the store is as it was.

The attacker is the web server, the line, or somebody with some of the keys (docs/updates.md lists who could do what).
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tuf", reason="needs the extra [publish]")

from misbehaving import Handler, changed, endless, longer, other, shorter, waiting
from sites import Site, patch_bytes

from edgepatch import blob
from edgepatch.errors import BadFileError, EdgepatchError
from edgepatch.updates import clock, described, names
from edgepatch.updates.host import ceremony, publishing, signing

HELD_BACK = "Somebody may be holding back or changing files: the store is as it was. Try another network or --url."
HELD_BACK_BY_A_KEY = (
    "{url}/metadata/timestamp.json: is not signed by the keys that this device trusts (field signatures, got 0 of 1 "
    "for timestamp, expected enough signatures of the keys that the root names)"
)


@pytest.fixture
def site(site: Site) -> Site:
    """A device with the tasks cats and dogs, in version 2."""
    site.publish("cats", "dogs", version=2)
    site.update()
    return site


@pytest.fixture
def refused(site: Site, edgepatch: Any) -> Any:
    """Updates by the command line, and holds its exit code and its words against what they should be."""

    def call(code: int, *lines: str, out: bool = False) -> None:
        before = site.contents()
        done = edgepatch(*site.call())
        said = (done.out if out else done.err.removeprefix("edgepatch: ")).splitlines()
        assert (done.code, said[: len(lines)]) == (code, list(lines))
        assert site.contents() == before
        assert not (done.err if out else done.out)

    return call


@contextlib.contextmanager
def at(moment: datetime.datetime) -> Iterator[None]:
    """Publishing, or a device's clock, at another time."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(clock, "now", lambda: moment)
        yield


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# rollback


def test_rollback_to_an_older_timestamp(site: Site, refused: Any) -> None:
    old = site.old_copy()
    site.publish("cats", version=3)
    site.update()
    site.server.folder = old
    refused(
        3,
        f"{site.url}/metadata/timestamp.json: is older than what this device has seen (field version, got 2, "
        "expected 3 or more)",
        HELD_BACK,
    )


def test_rollback_to_an_older_snapshot_under_a_new_timestamp(site: Site, refused: Any) -> None:
    site.publish("cats", version=3)
    site.update()
    found = site.read()
    assert found.timestamp and found.snapshot
    timestamp = found.timestamp.signed
    timestamp.version += 1
    timestamp.snapshot_meta.version -= 1
    site.write("timestamp", timestamp)
    refused(
        3,
        f"{site.url}/metadata/timestamp.json: is older than what this device has seen (field version, got 2, "
        "expected 3 or more)",
        HELD_BACK,
    )


def test_rollback_to_older_targets_under_a_new_snapshot(site: Site, refused: Any) -> None:
    from tuf.api.metadata import MetaFile, Snapshot, Timestamp

    site.publish("cats", version=3)
    site.update()
    meta = {"targets.json": MetaFile(2)}
    later = clock.now() + datetime.timedelta(days=1)
    site.write("snapshot", Snapshot(version=9, expires=later, meta=meta))
    site.write("timestamp", Timestamp(version=9, expires=later, snapshot_meta=MetaFile(9)))
    refused(
        3,
        f"{site.url}/metadata/9.snapshot.json: is older than what this device has seen (field version of "
        "targets.json, got 2, expected 3 or more)",
        HELD_BACK,
    )


def test_rollback_of_one_patch_by_who_may_sign_it(site: Site, refused: Any) -> None:
    site.force("cats", 1)
    refused(
        3,
        "refused: patches/cats.epatch: is published in an older version than this device was given before "
        "(field version, got 1, expected 2 or more)",
        out=True,
    )


def test_another_patch_under_the_same_version(site: Site, refused: Any) -> None:
    site.force("cats", 2, kind="scale_bias")
    refused(
        3,
        "refused: patches/cats.epatch: is published with other bytes under a version that this device was given before "
        "(field version, got 2, expected more than 2)",
        out=True,
    )


def test_a_snapshot_that_forgets_a_list(site: Site, refused: Any) -> None:
    from tuf.api.metadata import MetaFile, Snapshot, Timestamp

    site.team("birders", "bird-*")
    site.update()
    later = clock.now() + datetime.timedelta(days=1)
    site.write("snapshot", Snapshot(version=9, expires=later, meta={"targets.json": MetaFile(3)}))
    site.write("timestamp", Timestamp(version=9, expires=later, snapshot_meta=MetaFile(9)))
    refused(
        3,
        f"{site.url}/metadata/9.snapshot.json: names fewer documents than this device has seen (field meta, "
        "expected birders.json)",
        HELD_BACK,
    )


# freeze


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets", "root"])
def test_freeze_with_documents_that_expired(site: Site, refused: Any, role: str) -> None:
    from tuf.api.metadata import MetaFile, Snapshot, Timestamp

    before = clock.now() - datetime.timedelta(days=400)
    if role in ("root", "targets"):
        with at(before):
            site.sign(role, lambda document: None)
        publishing.refresh(site.repo, site.keys, ["snapshot"])
    elif role == "timestamp":
        with at(before):
            publishing.refresh(site.repo, site.keys)
    else:
        site.write("snapshot", Snapshot(version=3, expires=before, meta={"targets.json": MetaFile(2)}))
        later = clock.now() + datetime.timedelta(days=1)
        site.write("timestamp", Timestamp(version=3, expires=later, snapshot_meta=MetaFile(3)))
    signed = getattr(site.read(), role).signed
    file = "timestamp.json" if role == "timestamp" else f"{signed.version}.{role}.json"
    named = f" {role}" if role in ("root", "targets") else ""
    with at(clock.now()):
        refused(
            3,
            f"{site.url}/metadata/{file}: expired on {clock.write(signed.expires)} (field expires, got "
            f"{clock.write(clock.now())} on this device's clock)",
            f"If this clock is right, the publisher has to run edgepatch publish refresh SITE{named}, where the key of "
            f"{role} is. Has that been done, somebody is holding the new files back: try another network or --url. The "
            "store is as it was.",
        )


def test_a_device_that_hears_the_same_again_and_again_notices_when_it_expires(site: Site) -> None:
    from tuf.api.metadata import Timestamp

    found = site.read()
    assert found.timestamp
    soon = clock.now() + datetime.timedelta(seconds=2)
    site.write("timestamp", Timestamp(version=3, expires=soon, snapshot_meta=found.timestamp.signed.snapshot_meta))
    site.update()
    while clock.now() <= soon:
        time.sleep(0.05)
    with pytest.raises(BadFileError, match=r"metadata/timestamp\.json: expired on"):
        site.update()


def test_a_clock_that_stands_at_1970(site: Site, refused: Any) -> None:
    issued = clock.write(site.read().timestamp.signed.expires - datetime.timedelta(days=7))
    with at(datetime.datetime(1970, 1, 1, 0, 3, tzinfo=datetime.timezone.utc)):
        refused(
            1,
            "this device's clock is wrong, and by it nothing ever expires (field clock, got 1970-01-01T00:03:00Z, "
            "expected "
            f"not before {issued}, when what this device has seen was signed)",
            "Set the clock (timedatectl set-ntp true; or by hand: date -s), then run this again.",
        )
        shutil.rmtree(site.store)  # at the first update the root tells
        with pytest.raises(EdgepatchError, match="when the root was signed"):
            site.update()
    assert not (site.store / "state.json").exists()


# mix and match


def test_a_root_of_the_future_is_not_kept_and_harms_nobody_once_it_is_replaced(site: Site) -> None:
    """The machine that signs has no network, and a clock that is a year ahead."""
    with at(clock.now() + datetime.timedelta(days=400)):
        signing.renew(site.read(), "root", site.keys)
    publishing.refresh(site.repo, site.keys)
    with pytest.raises(EdgepatchError, match="this device's clock is wrong") as caught:
        site.update()  # it cannot know that it is another's
    assert caught.value.exit_code == 1
    assert site.kept_documents()["root"] == 1
    signing.renew(site.read(), "root", site.keys)
    publishing.refresh(site.repo, site.keys)
    site.publish("cats", version=3)
    site.update()
    assert site.versions() == {"cats": 3, "dogs": 2} and site.kept_documents()["root"] == 3


def test_times_that_cannot_be_reckoned_with_are_times(site: Site, edgepatch: Any) -> None:
    for text in ("0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"):
        timestamp = site.read().timestamp
        assert timestamp
        timestamp.signed.version += 1
        timestamp.signed.unrecognized_fields[clock.ISSUED] = text
        site.write("timestamp", timestamp.signed)
        done = edgepatch(*site.call())
        assert done.code in (0, 1) and "bug" not in done.err, text


def test_mix_and_match_of_documents_of_two_times(site: Site, refused: Any) -> None:
    old = (site.repo / "metadata" / "2.targets.json").read_bytes()
    site.publish("cats", version=3)
    site.server.tricks["3.targets.json"] = other(old)
    refused(
        3,
        f"{site.url}/metadata/3.targets.json: is not the document that was signed for (field sha256, got "
        f"{sha256(old)}, expected {sha256(site.read().bytes_of('targets'))})",
        HELD_BACK,
    )


def test_mix_and_match_of_snapshot_and_timestamp(site: Site, refused: Any) -> None:
    old = (site.repo / "metadata" / "2.snapshot.json").read_bytes()
    site.publish("cats", version=3)
    site.server.tricks["3.snapshot.json"] = other(old)
    refused(3)
    with pytest.raises(BadFileError, match=r"3\.snapshot\.json: is not the document that was signed for"):
        site.update()


def test_mix_and_match_of_two_patches(site: Site, refused: Any) -> None:
    site.publish("cats", "dogs", version=3)
    dogs = next(each for each in site.read().files() if each.task == "dogs")
    cats = next(each for each in site.read().files() if each.task == "cats")
    site.server.tricks[cats.sha256] = other(site.read().hosted(dogs).read_bytes())
    refused(
        3,
        f"{site.url}/targets/{cats.hosted_path}: is not the file that was signed (field sha256, got another, expected "
        f"{cats.sha256})",
        "The store is as it was.",
    )


# wrong keys


def test_another_repository_in_the_place_of_ours(site: Site, refused: Any, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    ceremony.create(theirs, tmp_path / "their-keys")
    publishing.add(theirs, [site.file("cats", 99)], tmp_path / "their-keys", graph_files=[str(site.graph)])
    site.server.folder = theirs
    refused(
        3,
        f"{site.url}/metadata/timestamp.json: is not signed by the keys that this device trusts (field signatures, got "
        "0 of 1 for timestamp, expected enough signatures of the keys that the root names)",
    )


def test_a_new_root_that_the_old_one_did_not_sign(site: Site, refused: Any, tmp_path: Path) -> None:
    theirs, keys = tmp_path / "theirs", tmp_path / "their-keys"
    ceremony.create(theirs, keys)
    ceremony.rotate(theirs, "root", keys)
    shutil.copy(theirs / "metadata" / "2.root.json", site.repo / "metadata" / "2.root.json")
    refused(
        3,
        f"{site.url}/metadata/2.root.json: is not signed by the keys that this device trusts (field signatures, got "
        "0 of 1 for root, expected enough signatures of the keys that the root names)",
    )


def test_a_list_signed_by_another_key(site: Site, refused: Any) -> None:
    from tuf.api.metadata import Metadata

    site.publish("cats", version=3)
    path = site.repo / "metadata" / "3.targets.json"
    metadata: Any = Metadata.from_bytes(path.read_bytes())
    (keyid,) = metadata.signatures
    metadata.signatures[keyid].signature = "00" * 64
    forged = metadata.to_bytes()
    site.server.tricks["3.targets.json"] = other(forged)
    refused(3)  # by its hash, already
    from tuf.api.metadata import MetaFile, Snapshot, Timestamp

    later = clock.now() + datetime.timedelta(days=1)  # with the online keys stolen, hashes help no more
    site.write("snapshot", Snapshot(version=9, expires=later, meta={"targets.json": MetaFile(3)}))
    site.write("timestamp", Timestamp(version=9, expires=later, snapshot_meta=MetaFile(9)))
    refused(
        3,
        f"{site.url}/metadata/3.targets.json: is not signed by the keys that this device trusts (field signatures, got "
        "0 of 1 for targets, expected enough signatures of the keys that the root names)",
    )


def test_a_team_that_signs_what_it_may_not(site: Site, refused: Any) -> None:
    site.team("birders", "bird-*")
    site.update()
    site.force("mice", 1, "birders")
    version = site.read().teams["birders"].signed.version  # type: ignore[union-attr]
    refused(
        3,
        f"refused: {site.url}/metadata/{version}.birders.json: is listed by a team that may not sign for it (field "
        "birders, got patches/mice.epatch, expected bird-*)",
        "The team's key may be in other hands. Nothing of this was taken.",
        out=True,
    )
    site.force("cats", 99, "birders")  # what targets signs is not looked at in any other list
    site.update()
    assert site.versions() == {"cats": 2, "dogs": 2}


def test_a_team_that_signs_another_teams_task(site: Site, refused: Any) -> None:
    site.team("birders", "bird-*")
    site.team("fishers", "fish-*")
    site.publish("fish-trout", team="fishers")
    site.update()
    site.force("fish-trout", 99, "birders")
    refused(
        3,
        f"refused: {site.url}/metadata/2.birders.json: is listed by a team that may not sign for it (field birders, "
        "got "
        "patches/fish-trout.epatch, expected bird-*)",
        out=True,
    )
    assert site.versions()["fish-trout"] == 1


def test_a_patch_that_anybody_could_have_made(site: Site, refused: Any) -> None:
    """Arbitrary software: the file is as long as the one that was signed, sound, and another."""
    site.publish("cats", version=3)
    cats = next(each for each in site.read().files() if each.task == "cats")
    site.server.tricks[cats.sha256] = changed
    refused(
        3,
        f"{site.url}/targets/{cats.hosted_path}: is not the file that was signed (field sha256, got another, expected "
        f"{cats.sha256})",
        "The store is as it was.",
    )
    assert list((site.store / "updates" / "parts").iterdir()) == []


@pytest.mark.parametrize(
    ("trick", "got"), [(longer, lambda size: size + 10), (shorter, lambda size: size - 10)], ids=["larger", "smaller"]
)
def test_a_file_of_another_size_than_signed(site: Site, refused: Any, trick: Any, got: Any) -> None:
    site.publish("cats", version=3)
    cats = next(each for each in site.read().files() if each.task == "cats")
    site.server.tricks[cats.sha256] = trick
    refused(
        3,
        f"{site.url}/targets/{cats.hosted_path}: is not the file that was signed (field size, got {got(cats.length)}, "
        f"expected {cats.length})",
        "The store is as it was.",
    )


def test_endless_documents(site: Site, refused: Any) -> None:
    site.publish("cats", version=3)
    sizes = {
        "timestamp.json": 16384,
        "3.snapshot.json": (site.repo / "metadata" / "3.snapshot.json").stat().st_size,
        "3.targets.json": (site.repo / "metadata" / "3.targets.json").stat().st_size,
        "2.root.json": 512000,
    }
    for name, size in sizes.items():
        site.server.tricks = {name: endless}
        site.server.forget()
        refused(
            3,
            f"{site.url}/metadata/{name}: is longer than it may be (field size, got more than {size}, expected at most "
            f"{size} bytes)",
            "The store is as it was.",
        )


def test_a_compressed_document_without_end(site: Site, refused: Any) -> None:
    import zlib

    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    body = packer.compress(b" " * 50_000_000) + packer.flush()
    assert len(body) < 60_000

    def bomb(handler: Handler, data: bytes | None) -> None:
        handler.answer(200, body, Content_Encoding="gzip")

    site.server.tricks["timestamp.json"] = bomb
    refused(
        3,
        f"{site.url}/metadata/timestamp.json: is longer than it may be (field size, got more than 16384, expected "
        "at most "
        "16384 bytes)",
    )


def test_an_endless_patch(site: Site, refused: Any) -> None:
    site.publish("cats", version=3)
    cats = next(each for each in site.read().files() if each.task == "cats")
    site.server.tricks[cats.sha256] = endless
    refused(
        3,
        f"{site.url}/targets/{cats.hosted_path}: is not the file that was signed (field size, got more than "
        f"{cats.length}, "
        f"expected {cats.length})",
    )
    parts = site.store / "updates" / "parts"
    assert sum(path.stat().st_size for path in parts.iterdir()) <= cats.length


def test_paths_that_lead_elsewhere(site: Site, edgepatch: Any, tmp_path: Path) -> None:
    """By somebody with the key of targets: names of files and of hashes are data, and never paths on the device."""
    data = patch_bytes("mice")
    custom = described.of_patch(blob.parse(data, "mice"))
    evil = [
        "../../evil.epatch",
        "patches/../../evil.epatch",
        "/etc/evil",
        "patches/mice.epatch/",
        "graphs/../evil.tflite",
    ]
    for path in evil:
        site.list_file(path, data, {**custom, "kind": "graph"} if path.startswith("graphs") else custom)
    site.list_file("patches/mice.epatch", data, custom, sha256="../../../evil")
    before = {path for path in tmp_path.rglob("*") if "site" not in path.parts}
    contents = site.contents()
    done = edgepatch(*site.call("--json"))
    assert done.code == 3 and {each["name"] for each in done.document["refused"]} == {*evil, "patches/mice.epatch"}
    reasons = {each["name"]: each["error"]["message"] for each in done.document["refused"]}
    assert reasons["../../evil.epatch"] == (
        "is listed in a way that cannot be taken: its path is not that of the task 'mice'"
    )
    assert reasons["patches/mice.epatch"] == "is listed in a way that cannot be taken: it has no SHA-256"
    assert site.contents() == contents
    assert {path for path in tmp_path.rglob("*") if "site" not in path.parts} == before


def test_lists_of_nonsense(site: Site, edgepatch: Any) -> None:
    data = patch_bytes("mice")
    good = described.of_patch(blob.parse(data, "mice"))
    place = names.patch_path("mice")
    for bad in (
        {**good, "version": 0},
        {**good, "version": True},
        {**good, "version": 2**60},
        {**good, "version": "1"},
        {**good, "backbone_id": "x"},
        {**good, "task": "cats"},
        {**good, "task": 3},
        {**good, "kind": ["graph"]},
        {},
    ):
        site.list_file(place, data, bad)
        done = edgepatch(*site.call("--json"))
        assert done.code == 3 and [each["name"] for each in done.document["refused"]] == [place], bad
    site.sign("targets", lambda targets: setattr(targets.targets[place], "unrecognized_fields", {}))
    assert edgepatch(*site.call("--json")).code == 3
    site.list_file(place, data, good)
    assert edgepatch(*site.call("--json")).code == 0


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"signed": {"_type": "timestamp"}, "signatures": []}',
        b"null",
        b"1e999",
    ],
    ids=["empty", "object", "bytes", "deep", "hollow", "null", "number"],
)
def test_documents_of_nonsense(site: Site, edgepatch: Any, body: bytes) -> None:
    for name in ("timestamp.json", "2.root.json"):
        site.server.tricks = {name: other(body)}
        before = site.contents()
        done = edgepatch(*site.call())
        assert done.code == 3, done.err
        assert site.contents() == before


# keys in other hands


def test_stolen_keys_are_replaced_and_good_for_nothing_then(site: Site, refused: Any, tmp_path: Path) -> None:
    """All keys but root's are stolen; the thief publishes, and leaps ahead in versions so that nothing can follow."""
    from tuf.api.metadata import MetaFile, Snapshot, Timestamp

    stolen = tmp_path / "stolen"
    shutil.copytree(site.keys, stolen)
    before = site.old_copy()
    site.force("cats", 3, kind="scale_bias")
    later = clock.now() + datetime.timedelta(days=9)
    targets = site.read().targets.signed.version
    site.write("snapshot", Snapshot(version=10**6, expires=later, meta={"targets.json": MetaFile(targets)}))
    site.write("timestamp", Timestamp(version=10**6, expires=later, snapshot_meta=MetaFile(10**6)))
    site.update()
    assert site.versions() == {"cats": 3, "dogs": 2}  # so far the thief has won

    shutil.rmtree(site.repo)  # the publisher begins with a clean copy, and with the key of root
    shutil.copytree(before, site.repo)
    for role in ("targets", "snapshot", "timestamp"):
        ceremony.rotate(site.repo, role, site.keys)
    publishing.add(site.repo, [site.file("cats", 4)], site.keys)
    site.update()
    assert site.versions() == {"cats": 4, "dogs": 2}
    assert site.kept_documents()["timestamp"] < 100

    thief = tmp_path / "thief"
    shutil.copytree(before, thief)
    for path in (site.repo / "metadata").glob("*.root.json"):
        shutil.copy(path, thief / "metadata" / path.name)
    with pytest.raises(EdgepatchError):  # edgepatch itself finds that these keys are none of this root
        publishing.refresh(thief, stolen)
    site.server.folder = thief  # with what the thief signed before
    refused(
        3,
        f"{site.url}/metadata/timestamp.json: is not signed by the keys that this device trusts (field signatures, got "
        "0 of 1 for timestamp, expected enough signatures of the keys that the root names)",
    )


def test_a_stolen_root_key_is_replaced_while_it_is_ours_too(site: Site, refused: Any, tmp_path: Path) -> None:
    stolen, thief = tmp_path / "stolen", tmp_path / "thief"
    shutil.copytree(site.keys, stolen)
    shutil.copytree(site.repo, thief)
    ceremony.rotate(site.repo, "root", site.keys)
    site.update()
    assert site.kept_documents()["root"] == 2
    ceremony.rotate(thief, "root", stolen)  # signs a root 2, too, and a root 3 after it
    ceremony.rotate(thief, "timestamp", stolen)
    site.server.folder = thief
    refused(
        3,
        f"{site.url}/metadata/3.root.json: is not signed by the keys that this device trusts (field signatures, got "
        "0 of 1 for root, expected enough signatures of the keys that the root names)",
    )


def test_a_root_that_was_seen_is_not_forgotten_when_the_rest_fails(site: Site, refused: Any, tmp_path: Path) -> None:
    """The thief of a timestamp's key cannot hide afterwards that it was taken back."""
    stolen, before = tmp_path / "stolen", site.old_copy()
    shutil.copytree(site.keys, stolen)
    ceremony.rotate(site.repo, "timestamp", site.keys)
    site.server.tricks["timestamp.json"] = other((before / "metadata" / "timestamp.json").read_bytes())
    refused(3, HELD_BACK_BY_A_KEY.format(url=site.url))
    assert site.kept_documents()["root"] == 2
    site.server.tricks.clear()
    publishing.refresh(before, stolen)
    site.server.folder = before
    refused(3, HELD_BACK_BY_A_KEY.format(url=site.url))


def test_a_root_given_at_every_call_does_not_bring_back_a_key_that_was_replaced(
    site: Site, refused: Any, tmp_path: Path
) -> None:
    stolen, before = tmp_path / "stolen", site.old_copy()
    shutil.copytree(site.keys, stolen)
    ceremony.rotate(site.repo, "timestamp", site.keys)
    site.update()
    for _ in range(3):
        publishing.refresh(before, stolen)
    site.server.folder = before
    contents = site.contents()
    with pytest.raises(BadFileError, match="is not signed by the keys that this device trusts"):
        site.update(url=site.url, root=site.root)
    assert site.contents() == contents and site.kept_documents()["root"] == 2
    refused(3, HELD_BACK_BY_A_KEY.format(url=site.url))


def test_a_root_given_by_mistake_does_not_take_the_place_of_the_one_that_is_trusted(site: Site, tmp_path: Path) -> None:
    other_root = tmp_path / "other" / "metadata" / "1.root.json"
    ceremony.create(tmp_path / "other", tmp_path / "other-keys")
    kept = site.store / "updates" / "metadata" / "root.json"
    before = kept.read_bytes()
    with pytest.raises(BadFileError, match="is not signed by the keys that this device trusts"):
        site.update(url=site.url, root=other_root)
    assert kept.read_bytes() == before
    site.publish("cats", version=3)
    site.update()
    assert site.versions() == {"cats": 3, "dogs": 2}


def test_a_root_that_takes_a_key_back_is_kept_beside_a_timestamp_of_the_future(site: Site, tmp_path: Path) -> None:
    stolen, before = tmp_path / "stolen", site.old_copy()
    shutil.copytree(site.keys, stolen)
    ceremony.rotate(site.repo, "timestamp", site.keys)
    with at(clock.now() + datetime.timedelta(days=30)):
        publishing.refresh(site.repo, site.keys)
    with pytest.raises(EdgepatchError, match="this device's clock is wrong"):
        site.update()
    assert site.kept_documents()["root"] == 2
    publishing.refresh(before, stolen)
    site.server.folder = before
    with pytest.raises(BadFileError, match="is not signed by the keys that this device trusts"):
        site.update()


def test_a_teams_stolen_key_is_replaced(site: Site) -> None:
    site.team("birders", "bird-*")
    site.publish("bird-owls", team="birders")
    site.update()
    old = site.old_copy()
    ceremony.rotate(site.repo, "birders", site.keys)
    site.update()
    assert site.versions()["bird-owls"] == 1
    theirs = max((old / "metadata").glob("*.birders.json"), key=lambda path: int(path.name.split(".")[0]))
    version = site.read().teams["birders"].signed.version  # type: ignore[union-attr]
    shutil.copy(theirs, site.repo / "metadata" / f"{version}.birders.json")
    found = site.read()
    assert found.teams["birders"] is None  # its key did not sign this
    report = site.update()  # the device has the good one still
    assert report.exit_code == 0 and site.versions()["bird-owls"] == 1


# the plug


@pytest.mark.parametrize("moment", ["timestamp.json", ".targets.json", "again"])
def test_killed_in_the_middle_the_next_update_completes(site: Site, moment: str) -> None:
    site.publish("cats", "dogs", version=3)
    before = site.contents()
    trick = ".epatch" if moment == "again" else moment
    for _ in range(2 if moment == "again" else 1):
        with waiting(site.server, trick) as begun:
            child = subprocess.Popen(
                [sys.executable, "-m", "edgepatch", *map(str, site.call("--stall", "20"))],
                env={**os.environ, "PYTHONPATH": os.pathsep.join([p for p in sys.path if p])},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            assert begun.wait(60)
            child.send_signal(signal.SIGKILL)
            child.wait()
        assert site.contents() == before
    site.update()
    assert site.versions() == {"cats": 3, "dogs": 3}


def test_killed_at_any_change_of_the_disk_the_store_is_the_old_or_the_new(site: Site, tmp_path: Path) -> None:
    """In this short form at every fourth; `EDGEPATCH_EVERY=1` makes it each."""
    site.publish("cats", "mice", version=3)
    publishing.remove(site.repo, ["dogs"], site.keys)
    every = int(os.environ.get("EDGEPATCH_EVERY", "4"))
    script = Path(__file__).with_name("killed_updates.py")
    done = subprocess.run(
        [sys.executable, script, site.store, tmp_path / "work", str(every)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([p for p in sys.path if p])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    print(found)
    assert found["points"] >= 30 // every and found["old"] > 0 and found["new"] > 0
