"""What a team can do with its own key and its own list: nothing to other tasks, to the graph, or to the device."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from sites import Site, patch_bytes

from edgepatch import blob
from edgepatch.runtime import graph_file
from edgepatch.runtime.store import Store
from edgepatch.updates import described, names
from edgepatch.updates.device import trust
from edgepatch.updates.host import ceremony


@pytest.fixture
def site(site: Site) -> Site:
    """Cats are the publisher's, all birds a team's, and a device has both."""
    site.publish("cats")
    site.team("birders", "bird-*")
    site.publish("bird-owls", team="birders")
    site.update()
    return site


def reasons(site: Site, code: int = 3) -> list[str]:
    """Update; what of it was refused."""
    report = site.update()
    assert report.exit_code == code
    return [each.error.message for each in report.plan.refused]


def custom(site: Site, **changes: Any) -> dict[str, Any]:
    """What is signed of a graph, changed."""
    graph = graph_file.read(site.graph)
    return {**described.of_graph(graph.backbone_id, graph.format, graph.precision), **changes}


@pytest.mark.parametrize(
    ("kind", "problem"), [(None, "it names no kind"), ("graph", "a team has no right to publish graphs")]
)
def test_a_graph_signed_by_a_team_is_none(site: Site, tmp_path: Path, kind: str | None, problem: str) -> None:
    before = Store.open(site.store).graph
    site.list_file(names.patch_path("bird-x"), site.graph.read_bytes(), custom(site, kind=kind), "birders")
    assert reasons(site) == [f"is listed in a way that cannot be taken: {problem}"]
    assert Store.open(site.store).graph == before
    shutil.rmtree(site.store)  # nor does it keep a new device from the graph that there is
    reasons(site)
    assert Store.open(site.store).graph == before and site.versions() == {"cats": 1, "bird-owls": 1}


def test_tasks_named_like_a_pattern_hide_no_others(site: Site) -> None:
    site.publish("bird-", version=1)  # what is left of the pattern without its star
    site.publish("bird-tits", team="birders")
    site.update()
    assert site.versions() == {"cats": 1, "bird-": 1, "bird-owls": 1, "bird-tits": 1}


def test_patterns_that_overlap_hide_nothing_but_what_both_match(site: Site) -> None:
    site.team("left", "digits*")
    site.team("right", "*digits")
    site.publish("digits-arabic", team="left")
    site.publish("roman-digits", team="right")
    site.update()
    assert {"digits-arabic", "roman-digits"} < site.versions().keys()


def test_a_list_larger_than_a_device_can_hold_is_the_teams_alone(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.publish("cats", version=2)
    data = patch_bytes("bird-tits")
    entry = {**described.of_patch(blob.parse(data, "x")), "more": "x" * 20_000}
    site.list_file(names.patch_path("bird-tits"), data, entry, "birders")
    monkeypatch.setattr(names, "MAX_METADATA", 20_000)
    assert reasons(site) == ["is longer than it may be"]
    assert site.versions() == {"cats": 2, "bird-owls": 1}


def test_a_list_full_of_nonsense_is_told_in_few_words_and_keeps_out_nobody(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tuf.api.metadata import TargetFile

    monkeypatch.setattr(trust, "MAX_REFUSED", 5)
    site.team("fishers", "fish-*")
    site.publish("fish-trout", team="fishers")
    odd = {
        f"patches/bird-{n}.epatch": TargetFile(1, {"sha256": "0" * 64}, f"patches/bird-{n}.epatch") for n in range(50)
    }
    foreign = {f"elsewhere/{n}": TargetFile(1, {"sha256": "0" * 64}, f"elsewhere/{n}") for n in range(50)}
    site.sign("birders", lambda targets: targets.targets.update(odd | foreign))
    told = reasons(site)
    assert len(told) == 6 and told[-1] == "lists more that cannot be taken"
    assert site.versions() == {"cats": 1, "bird-owls": 1, "fish-trout": 1}


def test_what_a_device_cannot_read_is_not_taken_for_gone(site: Site) -> None:
    """An entry that a newer edgepatch wrote, say."""
    data = patch_bytes("bird-owls", 2)
    entry = {**described.of_patch(blob.parse(data, "x")), "kind": "k" * 201}
    site.list_file(names.patch_path("bird-owls"), data, entry, "birders")
    assert "cannot be taken" in reasons(site)[0]
    assert site.versions() == {"cats": 1, "bird-owls": 1}


def test_a_list_that_is_not_published_now_removes_nothing(site: Site) -> None:
    """Its key was replaced, and the team has not signed with the new one."""
    from tuf.api.metadata import MetaFile

    found = site.read()
    assert found.snapshot and found.timestamp
    ceremony.rotate(site.repo, "snapshot", site.keys)  # so that a device forgets the snapshot it has seen
    snapshot, timestamp = site.read().snapshot, site.read().timestamp
    assert snapshot and timestamp
    del snapshot.signed.meta["birders.json"]
    snapshot.signed.version += 1
    timestamp.signed.version += 1
    timestamp.signed.snapshot_meta = MetaFile(snapshot.signed.version)
    site.write("snapshot", snapshot.signed)
    site.write("timestamp", timestamp.signed)
    report = site.update()
    assert report.plan.kept == {"bird-owls": "stays: whether it is still published cannot be known now"}
    assert site.versions() == {"cats": 1, "bird-owls": 1}


def test_a_list_that_was_not_uploaded_is_the_teams_alone(site: Site) -> None:
    site.publish("bird-tits", team="birders")
    site.publish("cats", version=2)
    site.server.tricks[".birders.json"] = lambda handler, data: handler.answer(404, b"")
    report = site.update()
    assert [each.error.message for each in report.plan.refused] == ["the server answers 404"]
    assert report.exit_code == 1 and site.versions() == {"cats": 2, "bird-owls": 1}


def test_a_list_by_a_key_that_is_not_the_teams_says_what_mends_it(site: Site) -> None:
    site.publish("cats", version=2)
    site.sign("targets", lambda targets: setattr(targets.delegations.roles["birders"], "keyids", ["0" * 64]))
    (refusal,) = site.update().plan.refused
    assert refusal.error.message == "is not signed by the team's key"
    assert refusal.error.to_json()["error"]["mend"] == (
        "If that was replaced, the team publishes again with the new one. Of birders all stays as it is here."
    )
    assert site.versions() == {"cats": 2, "bird-owls": 1}
