"""What a team can do with its own key and its own list: nothing to other tasks, to the graph, or to the device."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sites import Site, golden_graph, patch_bytes

from edgepatch import blob
from edgepatch.runtime import graph_file
from edgepatch.runtime.store import Store, state
from edgepatch.updates import described, names
from edgepatch.updates.device import trust
from edgepatch.updates.host import ceremony, publishing


@pytest.fixture
def site(birdhouse: Site) -> Site:
    return birdhouse


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


@pytest.mark.parametrize(("length", "message"), [(0, "the server answers 404 Not Found"), (-7, "is not the file")])
def test_a_file_that_cannot_be_fetched_is_the_teams_alone(site: Site, length: int, message: str) -> None:
    data = patch_bytes("bird-tits")
    site.list_file(names.patch_path("bird-tits"), data, described.of_patch(blob.parse(data, "x")), "birders")
    site.force("bird-owls", 2, "birders")
    if length:
        site.sign("birders", lambda targets: resize(targets, "bird-tits", length))
    else:
        (path,) = (site.repo / "targets" / "patches").glob("*.bird-tits.epatch")
        path.unlink()
    site.publish("cats", version=2)
    told = site.update().plan.refused
    assert {each.name for each in told} == {"bird-owls", "bird-tits"}
    assert all(each.error.message.startswith(message) for each in told)
    assert site.versions() == {"cats": 2, "bird-owls": 1}


def resize(targets: Any, task: str, by: int) -> None:
    targets.targets[names.patch_path(task)].length += by


def test_files_that_no_disk_has_room_for_are_the_teams_alone(site: Site) -> None:
    from tuf.api.metadata import TargetFile

    entry = described.of_patch(blob.parse(patch_bytes("bird-tits"), "x"))
    huge = {
        names.patch_path(f"bird-{number}"): TargetFile(
            blob.MAX_BYTES,
            {"sha256": f"{number:064x}"},
            names.patch_path(f"bird-{number}"),
            {"custom": {**entry, "task": f"bird-{number}"}},
        )
        for number in range(2000)
    }
    site.sign("birders", lambda targets: targets.targets.update(huge))
    site.publish("cats", version=2)
    told = site.update().plan.refused
    assert len(told) == trust.MAX_REFUSED + 1 and told[0].error.message == "the disk has too little room"
    assert site.versions() == {"cats": 2, "bird-owls": 1}


def test_tasks_that_fill_the_stores_state_are_the_teams_alone(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "MAX_BYTES", 3000)
    site.publish("cats", version=2)
    site.publish(*(f"bird-{'x' * 80}{number}" for number in range(9)), team="birders")
    told = site.update().plan.refused
    assert len(told) == 9 and told[0].error.message.startswith("a store cannot hold so many tasks")
    assert site.versions() == {"cats": 2, "bird-owls": 1}


def test_a_list_that_delegates_further_is_not_followed(site: Site) -> None:
    """Its patterns would be compiled, and its lists fetched, as many as the team likes."""
    from tuf.api.metadata import DelegatedRole, Delegations

    hawks = DelegatedRole("hawks", [], 1, False, ["patches/bird-*", "patches/" + "*a" * 500])
    site.sign("birders", lambda targets: setattr(targets, "delegations", Delegations({}, {"hawks": hawks})))
    site.force("bird-owls", 2, "birders")
    assert site.update().exit_code == 0 and site.versions() == {"cats": 1, "bird-owls": 2}


def test_a_broken_list_harms_no_team_whose_pattern_it_covers(site: Site) -> None:
    site.team("fishers", "bird-fish", "fish-*")
    site.publish("fish-trout", team="fishers")
    site.publish("bird-owls", version=2, team="birders")
    site.server.tricks[".birders.json"] = lambda handler, data: handler.answer(404, b"")
    report = site.update()
    assert [each.name for each in report.plan.refused] == ["birders"]
    assert site.versions() == {"cats": 1, "bird-owls": 1, "fish-trout": 1}


def test_a_patch_that_a_new_graph_does_not_run_goes_and_keeps_nobody_from_the_graph(site: Site) -> None:
    patch = blob.parse(patch_bytes("bird-owls", 2, "scale_bias"), "x")
    patch = dataclasses.replace(patch, tensors={**patch.tensors, "scale": np.full_like(patch.tensors["scale"], 10)})
    site.list_file(names.patch_path("bird-owls"), blob.dump(patch), described.of_patch(patch), "birders")
    site.update()
    assert site.versions()["bird-owls"] == 2  # it answers in float
    integers = golden_graph("gated-int8.tflite", site.folder)
    publishing.add(site.repo, [site.file("cats", 2)], site.keys, graph_files=[str(integers)])
    publishing.remove(site.repo, [], site.keys, graphs=[site.graph.name])
    report = site.update()
    assert report.plan.remove == {"bird-owls": "does not answer with the new graph"} and report.exit_code == 4
    assert Store.open(site.store).state.graph.precision == "int8" and site.versions() == {"cats": 2}


def test_installed_bytes_under_another_version_set_no_floor(site: Site) -> None:
    site.sign("birders", lambda targets: reversion(targets, "bird-owls", 2**53 - 1))
    assert reasons(site) == ["says something else of itself than what was signed"]
    site.force("bird-owls", 2, "birders")
    assert site.update().exit_code == 0 and site.versions()["bird-owls"] == 2


def reversion(targets: Any, task: str, version: int) -> None:
    targets.targets[names.patch_path(task)].unrecognized_fields["custom"]["version"] = version


def test_a_task_that_would_write_to_a_terminal_is_not_taken(site: Site) -> None:
    task = "bird-\x1b]0;pwn\x07"
    entry = {**described.of_patch(blob.parse(patch_bytes("bird-x"), "x")), "task": task}
    site.list_file(names.patch_path(task), patch_bytes("bird-x"), entry, "birders")
    assert "is not 1 to 100 printable characters" in reasons(site)[0]


def test_a_list_by_a_key_that_is_not_the_teams_says_what_mends_it(site: Site) -> None:
    site.publish("cats", version=2)
    site.sign("targets", lambda targets: setattr(targets.delegations.roles["birders"], "keyids", ["0" * 64]))
    (refusal,) = site.update().plan.refused
    assert refusal.error.message == "is not signed by the team's key"
    assert refusal.error.to_json()["error"]["mend"] == (
        "If that was replaced, the team publishes again with the new one. Of birders all stays as it is here."
    )
    assert site.versions() == {"cats": 2, "bird-owls": 1}
