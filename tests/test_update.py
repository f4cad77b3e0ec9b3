"""Updates as they should go: what is fetched, what is installed, what is remembered."""

from __future__ import annotations

import ast
import dataclasses
import datetime
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tuf", reason="needs the extra [publish]")

import misbehaving
from crashing.examining import damage
from misbehaving import honest, zipped
from sites import CALM, Site, golden_graph, patch_bytes

from edgepatch import blob
from edgepatch.errors import BadFileError, EdgepatchError, MismatchError, UsageError
from edgepatch.runtime.store import Store, lock
from edgepatch.updates import clock, described, names
from edgepatch.updates.host import ceremony, publishing

ROOT = Path(__file__).resolve().parents[1]


def test_the_first_update_makes_the_store_and_the_next_fetches_only_what_changed(site: Site, edgepatch: Any) -> None:
    site.publish("birds", "cats")
    done = edgepatch("update", site.store, "--url", site.url, "--root", site.root, "--json")
    assert (done.code, done.err) == (0, ""), done.out
    assert [each["task"] for each in done.document["patches"]] == ["birds", "cats"]
    assert done.document["graph"]["backbone_id"] == Store.open(site.store).backbone_id
    assert site.versions() == {"birds": 1, "cats": 1}
    site.server.forget()
    assert edgepatch("update", site.store).out == f"{site.store}: nothing new, 2 tasks up to date\n"
    assert site.server.paths() == ["metadata/2.root.json", "metadata/timestamp.json"]
    site.publish("cats", version=2)
    site.publish("dogs")
    site.server.forget()
    assert edgepatch("update", site.store).out.splitlines() == [
        "cats: version 2, 2.4 KiB, is installed",
        "dogs: version 1, 2.4 KiB, is installed",
    ]
    assert [Path(path).suffix for path in site.server.paths()] == [".json"] * 4 + [".epatch"] * 2
    assert site.versions() == {"birds": 1, "cats": 2, "dogs": 1}
    with Store.open(site.store).runtime() as runtime:
        assert set(runtime.tasks) == {"birds", "cats", "dogs"}


def test_one_change_of_the_store_holds_everything(site: Site) -> None:
    site.publish("birds")
    site.update()
    before = Store.open(site.store).state.serial
    site.publish("birds", "cats", "dogs", version=2)
    publishing.remove(site.repo, ["cats"], site.keys)
    site.update()
    assert Store.open(site.store).state.serial == before + 1
    assert site.versions() == {"birds": 2, "dogs": 2}


def test_a_dry_run_says_what_is_new_and_writes_nothing(site: Site, edgepatch: Any, tmp_path: Path) -> None:
    site.publish("birds")
    done = edgepatch("update", site.store, "--url", site.url, "--root", site.root, "--dry-run")
    assert done.code == 0 and done.out.splitlines()[-1] == "birds: version 1, 2.4 KiB, would be installed"
    assert not site.store.exists()
    site.update()
    site.publish("birds", version=2)
    before = {path: path.stat().st_mtime_ns for path in site.store.rglob("*")}
    assert [each.task for each in site.update(dry_run=True).plan.patches] == ["birds"]
    assert {path: path.stat().st_mtime_ns for path in site.store.rglob("*")} == before


def test_nothing_new_writes_nothing(site: Site) -> None:
    site.publish("birds")
    site.update()
    before = {path: path.stat().st_mtime_ns for path in site.store.rglob("*") if path.is_file() and path.name != "lock"}
    site.update()
    after = {path: path.stat().st_mtime_ns for path in site.store.rglob("*") if path.is_file() and path.name != "lock"}
    assert after == before


def test_tasks_that_are_chosen_are_remembered(site: Site) -> None:
    site.publish("birds", "cats", "dogs")
    site.update(tasks=["cats"])
    assert site.versions() == {"cats": 1}
    site.publish("cats", "dogs", version=2)
    site.update()
    assert site.versions() == {"cats": 2}
    site.update(every_task=True)
    assert site.versions() == {"birds": 1, "cats": 2, "dogs": 2}
    with pytest.raises(UsageError, match=r"this task is not published \(field --task, got mice, expected birds, cats"):
        site.update(tasks=["mice"])


def test_tasks_that_are_published_no_more_are_removed_but_not_those_of_the_device(site: Site, tmp_path: Path) -> None:
    site.publish("birds", "cats", "dogs")
    site.update()
    store = Store.open(site.store)
    store.install(site.file("own"))
    store.install(site.file("dogs", 7))
    publishing.remove(site.repo, ["birds", "dogs"], site.keys)
    report = site.update()
    assert report.plan.remove == {"birds": "is published no more"}
    assert report.plan.kept == {"dogs": "is published no more; the one here was changed on this device"}
    assert site.versions() == {"cats": 1, "own": 1, "dogs": 7}
    publishing.add(site.repo, [site.file("birds", 2)], site.keys)
    site.update()
    assert site.versions()["birds"] == 2


def test_what_the_device_did_by_itself_stays(site: Site) -> None:
    site.publish("birds", "cats")
    site.update()
    site.publish("birds", "cats", version=2)
    site.update()
    store = Store.open(site.store)
    store.roll_back("birds")
    store.install(site.file("cats", 5))  # enrolled into, say
    report = site.update()
    assert report.exit_code == 0 and not report.plan.changes
    assert report.plan.kept == {
        "birds": "was rolled back from version 2 on this device",
        "cats": "was changed on this device: its version 5 is not older than 2",
    }
    assert site.versions() == {"birds": 1, "cats": 5}
    site.publish("birds", version=3)
    site.update()
    assert site.versions() == {"birds": 3, "cats": 5}


def test_a_task_that_was_removed_on_the_device_stays_so_until_a_newer_version(site: Site) -> None:
    site.publish("birds", "cats")
    site.update()
    Store.open(site.store).remove("birds")
    report = site.update()
    assert report.plan.kept == {"birds": "was removed on this device; a newer version brings it back, or --task"}
    assert site.versions() == {"cats": 1}
    site.update(tasks=["birds", "cats"])
    assert site.versions() == {"birds": 1, "cats": 1}
    Store.open(site.store).remove("birds")
    site.publish("birds", version=2)
    site.update(every_task=True)
    assert site.versions() == {"birds": 2, "cats": 1}


def test_a_task_that_an_update_removed_comes_back_as_it_was(site: Site) -> None:
    site.publish("birds", "cats")
    site.update()
    publishing.remove(site.repo, ["birds"], site.keys)
    site.update()
    assert site.versions() == {"cats": 1}
    site.force("birds", 1)
    site.update()
    assert site.versions() == {"birds": 1, "cats": 1}


def test_a_graph_that_was_chosen_and_is_published_no_more_is_replaced_by_the_one_there_is(site: Site) -> None:
    site.publish("birds")
    site.update(graph=site.graph.name)
    publishing.remove(site.repo, ["birds"], site.keys)
    publishing.remove(site.repo, [], site.keys, graphs=[site.graph.name])
    renamed = site.graph.rename(site.graph.with_name("other.tflite"))
    publishing.add(site.repo, [site.file("birds", 2)], site.keys, graph_files=[str(renamed)])
    site.update()
    assert site.versions() == {"birds": 2}
    with pytest.raises(UsageError, match="this graph is not published"):
        site.update(graph=site.graph.name)


def test_a_graph_that_cannot_be_read_here_is_no_reason_to_take_another(site: Site, tmp_path: Path) -> None:
    site.publish("birds")
    integers = golden_graph("gated-int8.tflite", tmp_path)
    publishing.add(site.repo, [], site.keys, graph_files=[str(integers)])
    site.update(graph=site.graph.name)
    entry = {"custom": {"kind": "graph", "format": "t" * 201}}
    place = names.graph_path(site.graph.name)
    site.sign("targets", lambda targets: setattr(targets.targets[place], "unrecognized_fields", entry))
    report = site.update()
    assert report.exit_code == 3 and not report.plan.changes
    assert Store.open(site.store).state.graph.precision == "fp32" and site.versions() == {"birds": 1}


def test_damage_that_nobody_publishes_is_told_and_keeps_no_other_task_away(site: Site) -> None:
    site.publish("birds")
    site.update()
    store = Store.open(site.store)
    store.install(site.file("own"))
    damage(store.refresh().patches()["own"].path)
    site.publish("birds", version=2)
    report = site.update()
    assert [(each.name, each.error.message) for each in report.plan.refused] == [
        ("own", "is damaged on this device, and not published as it was")
    ]
    assert report.exit_code == 3 and site.versions() == {"birds": 2, "own": 1}


def test_an_older_version_of_a_task_that_an_update_removed_is_a_rollback(site: Site) -> None:
    site.publish("birds", "cats", version=2)
    site.update()
    publishing.remove(site.repo, ["birds"], site.keys)
    site.update()
    site.force("birds", 1)
    (refusal,) = site.update().plan.refused
    assert refusal.error.message.startswith("is published in an older version") and refusal.error.exit_code == 3


def test_a_rolled_back_task_is_brought_back_by_naming_it_and_stops_no_new_backbone(site: Site, tmp_path: Path) -> None:
    site.publish("birds", "cats")
    site.update()
    site.publish("birds", "cats", version=2)
    site.update()
    Store.open(site.store).roll_back("birds", "cats")
    site.update(tasks=["birds"])
    assert site.versions() == {"birds": 2, "cats": 1}
    mobilenet = golden_graph("mobilenet-fp16.tflite", tmp_path)
    publishing.remove(site.repo, ["birds", "cats"], site.keys)
    publishing.remove(site.repo, [], site.keys, graphs=[site.graph.name])
    publishing.add(site.repo, [site.file("birds", 3, "mobilenet_int8")], site.keys, graph_files=[str(mobilenet)])
    report = site.update()
    assert report.plan.remove == {"cats": "is of the backbone before"}
    assert site.versions() == {"birds": 3}


def test_documents_too_large_to_be_kept_are_fetched_again(site: Site) -> None:
    site.publish("birds")
    site.update()
    (site.store / "updates" / "metadata" / "targets.json").write_bytes(bytes(names.MAX_METADATA + 1))
    site.publish("birds", version=2)
    site.update()
    assert site.versions() == {"birds": 2}


def test_a_filesystem_without_links_will_do(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    symlink = Path.symlink_to

    def none(path: Path, target: Any, **options: Any) -> None:
        if path.is_relative_to(site.store):
            raise PermissionError(1, "Operation not permitted", str(path))
        symlink(path, target, **options)

    monkeypatch.setattr(Path, "symlink_to", none)
    site.publish("birds")
    site.update()
    assert site.versions() == {"birds": 1}


def test_damaged_objects_are_fetched_again(site: Site, edgepatch: Any) -> None:
    site.publish("birds", "cats")
    site.update()
    store = Store.open(site.store)
    store.patches()["birds"].path.unlink()
    damage(store.graph)
    done = edgepatch(*site.call())
    assert (done.code, done.err) == (0, ""), done.err
    assert "nothing new" not in done.out
    assert not [row for row in store.verify() if row.error] and site.versions() == {"birds": 1, "cats": 1}
    damage(store.patches()["cats"].path)
    site.publish("birds", version=2)
    site.update()
    assert not [row for row in store.verify() if row.error] and site.versions() == {"birds": 2, "cats": 1}


def test_a_damaged_state_is_mended(site: Site) -> None:
    site.publish("birds")
    site.update()
    (site.store / "state.json").write_bytes(b"rot")
    assert Store.open(site.store).warning
    site.update()
    assert Store.open(site.store).warning is None and site.versions() == {"birds": 1}


def test_an_older_patch_is_published_again_under_a_new_number(site: Site, edgepatch: Any) -> None:
    site.publish("birds")
    site.publish("birds", version=2, kind="scale_bias")
    site.update()
    done = edgepatch("publish", "add", site.repo, site.file("birds", 1), "--keys", site.keys, "--renumber")
    assert done.code == 0
    site.update()
    assert site.versions() == {"birds": 3}
    assert Store.open(site.store).patch("birds").kind == "bias+classifier"


def test_several_graphs_of_one_backbone(site: Site, tmp_path: Path) -> None:
    onnx = golden_graph("gated-fp32.onnx", tmp_path)
    publishing.add(site.repo, [site.file("birds")], site.keys, graph_files=[str(site.graph), str(onnx)])
    with pytest.raises(UsageError, match="several graphs are published"):
        site.update()
    assert not (site.store / "state.json").exists()
    site.update(graph="gated-fp32.onnx")
    assert Store.open(site.store).state.graph.format == "onnx"
    site.update()
    assert Store.open(site.store).state.graph.format == "onnx"
    site.update(graph="gated-fp32.tflite")
    assert Store.open(site.store).state.graph.format == "tflite"
    with pytest.raises(UsageError, match=r"this graph is not published \(field --graph, got other.tflite"):
        site.update(graph="other.tflite")


def test_a_team_publishes_alone_and_its_key_can_be_its_own(site: Site, tmp_path: Path, edgepatch: Any) -> None:
    site.publish("cats")
    theirs = tmp_path / "theirs"
    out = edgepatch("publish", "key", "birders", "--keys", theirs, "--out", tmp_path / "birders.pub", "--json")
    assert out.code == 0
    call = ["publish", "team", site.repo, "birders", "--tasks", "bird-*", "--public", tmp_path / "birders.pub"]
    assert edgepatch(*call, "--keys", site.keys).code == 0
    site.update()  # a team that has not signed anything yet is in nobody's way
    done = edgepatch("publish", "add", site.repo, site.file("bird-owls"), "--team", "birders", "--keys", theirs)
    assert done.code == 0 and "Not signed, for their keys are elsewhere: snapshot and timestamp" in done.out
    assert site.update().plan.patches == []
    assert edgepatch("publish", "refresh", site.repo, "--keys", site.keys).code == 0
    site.update()
    assert site.versions() == {"cats": 1, "bird-owls": 1}
    assert edgepatch("publish", "team", site.repo, "birders", "--remove", "--keys", site.keys).code == 0
    assert list(site.update().plan.remove) == ["bird-owls"]


def test_odd_names_of_tasks_go_all_the_way(site: Site) -> None:
    odd = ["../../etc/passwd", "a b", "Ümläut/…", ".hidden", "100%", "x" * 100, "ü" * 100, "con", "a?b#c", "=41"]
    site.publish(*odd)
    site.update()
    assert set(site.versions()) == set(odd)
    assert len({names.patch_path(task) for task in odd}) == len(odd)


def test_lists_come_compressed_where_the_server_can(site: Site) -> None:
    site.server.tricks["metadata/"] = zipped
    site.publish(*(f"task-{number}" for number in range(20)))
    site.update()
    assert len(site.versions()) == 20
    sent = next(request for request in site.server.requests if "targets.json" in request.path)
    assert sent.body < (site.repo / "metadata" / "2.targets.json").stat().st_size / 2


def test_a_proxy_of_the_environment_is_used(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.publish("birds")
    monkeypatch.setenv("http_proxy", site.url.replace("//", "//user:secret@"))
    monkeypatch.setenv("no_proxy", "")
    seen = []

    def proxy(handler: Any, data: bytes | None) -> None:
        seen.append((handler.path, handler.headers["Proxy-Authorization"]))
        honest(handler, handler.server.read(handler.path))

    site.server.tricks["http://updates.example/"] = proxy
    site.update(url="http://updates.example/")
    assert site.versions() == {"birds": 1}
    assert seen[0] == ("http://updates.example/metadata/2.root.json", "Basic dXNlcjpzZWNyZXQ=")


@pytest.mark.parametrize("address", ["http://127.0.0.1:99999", "http://[::1/", "http://", ":80"])
def test_a_proxy_that_is_none_is_a_usage_error(
    site: Site, monkeypatch: pytest.MonkeyPatch, edgepatch: Any, address: str
) -> None:
    monkeypatch.setenv("http_proxy", address)
    monkeypatch.setenv("no_proxy", "")
    done = edgepatch("update", site.store, "--url", "http://updates.example/", "--root", site.root)
    assert done.code == 2 and "is no address of a proxy (field http_proxy" in done.err


def test_a_redirect_on_the_same_server_is_followed(site: Site) -> None:
    site.publish("birds")
    site.server.tricks["/here/"] = lambda handler, data: handler.answer(
        302, b"", Location=handler.path.replace("/here/", "/")
    )
    site.update(url=f"{site.url}/here/")
    assert site.versions() == {"birds": 1}


def test_the_device_needs_no_compiled_cryptography(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    import securesystemslib.signer._key as verifier

    site.publish("birds")
    other = site.folder / "other"
    ceremony.create(other, site.folder / "other-keys")
    publishing.add(other, [site.file("birds", 9)], site.folder / "other-keys", graph_files=[str(site.graph)])
    monkeypatch.setattr(verifier, "CRYPTO_IMPORT_ERROR", "not installed")
    monkeypatch.setattr(verifier.SSlibKey, "_verify", lambda *arguments: pytest.fail("cryptography was used"))
    site.update()
    assert site.versions() == {"birds": 1}
    site.server.folder = other
    with pytest.raises(BadFileError, match="is not signed by the keys that this device trusts"):
        site.update()
    site.server.folder = site.repo
    document = json.loads((site.repo / "metadata" / "timestamp.json").read_bytes())
    for signature in ("", "zz", "00" * 10, "00" * 64, "ff" * 64, "01" * 64, "é"):
        document["signatures"][0]["sig"] = signature
        document["signed"]["version"] = 9
        site.server.tricks["timestamp.json"] = misbehaving.other(json.dumps(document).encode())
        with pytest.raises(BadFileError, match="is not signed by the keys that this device trusts"):
            site.update()


def test_the_device_side_imports_nothing_compiled_and_help_loads_no_network() -> None:
    wrong = []
    for path in (ROOT / "edgepatch" / "updates" / "device").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            found = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            wrong += [f"{path.name}: {name}" for name in found if name.split(".")[0] in ("cryptography", "requests")]
            wrong += [f"{path.name}: {name}" for name in found if name.startswith("edgepatch.updates.host")]
    assert wrong == []
    script = (
        "import sys; from edgepatch.cli import update; import edgepatch.runtime; "
        "print([name for name in sys.modules if name.split('.')[0] in ('tuf', 'http', 'ssl', 'urllib3', 'socket')])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout == "[]\n"


def test_without_the_extra_the_line_that_installs_it(
    site: Site, edgepatch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tuf", None)
    done = edgepatch("update", site.store, "--url", site.url, "--root", site.root)
    assert done.code == 5 and done.err.splitlines()[-1] == 'pip install "edgepatch[update]"'
    done = edgepatch("publish", "list", site.repo)
    assert done.code == 5 and done.err.splitlines()[-1] == 'pip install "edgepatch[publish]"'


def test_usage(site: Site, edgepatch: Any, tmp_path: Path) -> None:
    done = edgepatch("update", site.store)
    assert done.code == 2 and done.err.splitlines()[1] == f"edgepatch update {site.store} --url URL --root ROOT.json"
    for url in ("file:///etc", "http://", "ftp://host/", "http://host:0/", "http://a b/", "http://host:x/"):
        done = edgepatch("update", site.store, "--url", url, "--root", site.root)
        assert done.code == 2 and "is no address of a web server" in done.err, url
    done = edgepatch("update", site.store, "--url", site.url, "--root", tmp_path / "none.json")
    assert done.code == 2 and done.err == f"edgepatch: {tmp_path / 'none.json'}: there is no such file\n"
    (tmp_path / "bad.json").write_text("{}")
    done = edgepatch("update", site.store, "--url", site.url, "--root", tmp_path / "bad.json")
    assert done.code == 3 and done.err.startswith(f"edgepatch: {tmp_path / 'bad.json'}: is no root of a repository")
    assert edgepatch("update", site.store, "--stall", "-1").code == 2
    assert edgepatch("update", site.store, "--task", "a", "--all-tasks").code == 2


def test_a_repository_without_a_graph(site: Site, edgepatch: Any) -> None:
    done = edgepatch(*site.call())
    assert done.code == 1 and done.err.startswith("edgepatch: no graph is published yet")


def test_damaged_settings_are_said_and_mended(site: Site, edgepatch: Any) -> None:
    site.publish("birds")
    site.update()
    path = site.store / "updates" / "settings.json"
    first = ["--url", site.url, "--root", site.root]
    for text in ("", "{", "[]", '{"format": 2}', '{"format": 1, "delivered": {"a": 3}}'):
        path.write_text(text)
        done = edgepatch("update", site.store)
        assert done.code == 3 and done.err.startswith(f"edgepatch: {path}: is damaged"), text
        assert edgepatch("update", site.store, *first).code == 0
        assert json.loads(path.read_text())["delivered"]["birds"]["version"] == 1


def test_damaged_documents_beside_the_store_are_fetched_again(site: Site) -> None:
    site.publish("birds")
    site.update()
    for path in (site.store / "updates" / "metadata").glob("*.json"):
        if path.name != "root.json":
            path.write_bytes(b"")
    site.publish("birds", version=2)
    site.update()
    assert site.versions() == {"birds": 2}
    (site.store / "updates" / "metadata" / "timestamp.json").write_bytes(b"")
    with pytest.raises(EdgepatchError, match="cannot be reached"):
        site.update(url="http://127.0.0.1:9/", limits=dataclasses.replace(CALM, attempts=1))
    (site.store / "updates" / "metadata" / "root.json").write_bytes(b"")
    with pytest.raises(BadFileError, match="is no root of a repository"):
        site.update()
    site.update(root=site.root)


def test_two_updates_at_once(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.publish("birds")
    monkeypatch.setattr("edgepatch.updates.device.updating.LOCK_WAIT", 0.05)
    (site.store / "updates").mkdir(parents=True)
    with (
        lock.held(site.store / "updates", 1),
        pytest.raises(EdgepatchError, match="is still being changed by somebody else"),
    ):
        site.update()


def test_a_disk_that_is_too_small_is_known_before_the_download(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.publish("birds")
    site.update()
    site.publish("birds", version=2)
    before = site.contents()
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    site.server.forget()
    with pytest.raises(EdgepatchError, match=r"the disk has too little room \(got 1000 bytes, expected 5004 bytes"):
        site.update()
    assert site.contents() == before and not any("targets/" in path for path in site.server.paths())


def test_room_that_a_broken_download_takes_is_not_asked_for_again(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.publish("birds")
    size = site.graph.stat().st_size
    total = 2 * (size + Path(site.file("birds")).stat().st_size)

    def usage(parts: Path) -> Any:
        return type("Usage", (), {"free": total - sum(path.stat().st_size for path in parts.iterdir())})

    def cut(handler: Any, data: bytes) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data[: size - 100])
        handler.close_connection = True

    monkeypatch.setattr("shutil.disk_usage", usage)
    graph = next(each for each in site.read().files() if each.is_graph)
    site.server.tricks[graph.sha256] = cut
    with pytest.raises(EdgepatchError, match="the answer ended after"):
        site.update(limits=dataclasses.replace(CALM, attempts=1))
    site.server.tricks.clear()
    site.update()
    assert site.versions() == {"birds": 1}


def test_downloads_of_updates_that_fail_do_not_pile_up(site: Site) -> None:
    site.publish("birds")
    site.update()
    for version in range(2, 5):
        patch = blob.parse(patch_bytes("birds", version, "scale_bias"), "birds")
        scale = np.full_like(patch.tensors["scale"], 60_000)
        patch = dataclasses.replace(patch, tensors={**patch.tensors, "scale": scale})
        site.list_file("patches/birds.epatch", blob.dump(patch), described.of_patch(patch))
        with pytest.raises(EdgepatchError, match="NaN or infinity"):
            site.update()
        assert len(list((site.store / "updates" / "parts").iterdir())) == 1


def test_what_a_killed_update_left_is_cleared(site: Site) -> None:
    site.publish("birds")
    site.update()
    own = site.store / "updates"
    (own / "work" / "root_history").mkdir(parents=True)
    left = [own / "work" / "targets.json", own / ".settings.json.x.part", own / "metadata" / ".root.json.x.part"]
    for path in left:
        path.write_bytes(b"half")
    site.update()
    assert not [path for path in left if path.exists()] and not (own / "work").exists()


def test_a_full_disk_for_documents_is_no_traceback(site: Site, monkeypatch: pytest.MonkeyPatch, edgepatch: Any) -> None:
    site.publish("birds")
    site.update()
    monkeypatch.setattr("tempfile.tempdir", "/dev/full")
    site.update()  # needs no temporary folder of the system's
    done = edgepatch(*site.call("--dry-run"))
    assert done.code == 1 and "cannot be written" in done.err and "bug" not in done.err


def test_a_patch_of_a_team_that_does_not_fit_harms_no_other(site: Site, tmp_path: Path) -> None:
    site.publish("cats")
    site.team("birders", "bird-*")
    site.team("fishers", "fish-*")
    site.publish("fish-trout", team="fishers")
    site.force("bird-owls", 1, "birders", kind="mobilenet_int8")  # of another backbone, which its list admits
    report = site.update()
    assert [(each.name, each.error.exit_code) for each in report.plan.refused] == [("bird-owls", 4)]
    assert report.exit_code == 4 and site.versions() == {"cats": 1, "fish-trout": 1}
    custom = {"kind": "x", "task": "bird-owls", "version": 3, "backbone_id": Store.open(site.store).backbone_id}
    site.list_file("patches/bird-owls.epatch", b"no patch at all", custom, "birders")
    report = site.update()
    assert [(each.name, each.role, each.error.exit_code) for each in report.plan.refused] == [
        ("bird-owls", "birders", 3)
    ]
    site.force("bird-owls", 4, "birders")
    site.publish("cats", version=2)
    assert site.update().exit_code == 0 and site.versions() == {"cats": 2, "fish-trout": 1, "bird-owls": 4}


def test_a_patch_that_is_another_than_its_list_says(site: Site, edgepatch: Any) -> None:
    site.publish("cats")
    site.update()
    other = patch_bytes("dogs", 2)
    patch = blob.parse(other, "dogs")
    custom = {"kind": patch.kind, "task": "cats", "version": 2, "backbone_id": patch.backbone_id}
    site.list_file(names.patch_path("cats"), other, custom)
    done = edgepatch(*site.call())
    assert done.code == 3 and done.out.splitlines()[0] == (
        "refused: patches/cats.epatch: says something else of itself than what was signed "
        "(field task, got dogs, expected cats)"
    )
    assert site.versions() == {"cats": 1}


def test_a_team_whose_patch_does_not_answer_is_left_out(site: Site) -> None:
    site.publish("cats")
    site.team("birders", "bird-*")
    site.publish("bird-owls", "bird-tits", team="birders")
    loud = blob.parse(patch_bytes("bird-owls", 2, "scale_bias"), "bird-owls")
    loud = dataclasses.replace(loud, tensors={**loud.tensors, "scale": np.full_like(loud.tensors["scale"], 60_000)})
    site.list_file("patches/bird-owls.epatch", blob.dump(loud), described.of_patch(loud), "birders")
    report = site.update()  # it fits, but its answers overflow
    assert {each.name for each in report.plan.refused} == {"bird-owls", "bird-tits"}
    assert report.plan.refused[0].error.message == "the task answers NaN or infinity: its patch is of no use"
    assert report.exit_code == 1 and site.versions() == {"cats": 1}


def test_the_expiry_of_a_team_stops_that_team_alone(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.publish("cats")
    site.team("birders", "bird-*")
    site.publish("bird-owls", team="birders")
    site.update()
    past = clock.now() - datetime.timedelta(days=400)
    with monkeypatch.context() as patched:
        patched.setattr(clock, "now", lambda: past)
        site.sign("birders", lambda targets: None)
    publishing.refresh(site.repo, site.keys)
    site.publish("cats", version=2)
    report = site.update()
    assert report.exit_code == 3 and site.versions() == {"cats": 2, "bird-owls": 1}
    assert [each.name for each in report.plan.refused] == ["birders"]
    assert report.plan.refused[0].error.message.startswith("expired on ")


def test_a_new_backbone_replaces_everything_in_one_step(site: Site, tmp_path: Path) -> None:
    site.publish("cats", "dogs")
    site.update()
    mobilenet = golden_graph("mobilenet-fp16.tflite", tmp_path)
    publishing.remove(site.repo, ["cats", "dogs"], site.keys)
    publishing.remove(site.repo, [], site.keys, graphs=[site.graph.name])
    publishing.add(
        site.repo, [site.file("cats", 2, "mobilenet_int8")], site.keys, graph_files=[str(mobilenet)], renumber=True
    )
    site.update()
    assert site.versions() == {"cats": 2}
    assert Store.open(site.store).state.tasks["cats"].previous is None


def test_a_new_backbone_leaves_behind_what_updates_brought_and_nothing_replaces(
    site: Site, tmp_path: Path, edgepatch: Any
) -> None:
    site.publish("cats", "dogs")
    site.team("birders", "bird-*")
    site.publish("bird-owls", team="birders")
    site.update()
    site.update(tasks=["cats", "bird-owls"])  # dogs stay as they are from now on
    mobilenet = golden_graph("mobilenet-fp16.tflite", tmp_path)
    publishing.remove(site.repo, ["bird-owls"], site.keys, team="birders")
    publishing.remove(site.repo, ["cats", "dogs"], site.keys)
    publishing.remove(site.repo, [], site.keys, graphs=[site.graph.name])
    new = [site.file(task, 2, "mobilenet_int8") for task in ("cats", "dogs")]
    publishing.add(site.repo, new, site.keys, graph_files=[str(mobilenet)])
    site.force("bird-owls", 2, "birders")  # the team is behind
    done = edgepatch(*site.call())
    assert done.code == 4 and "is published for another backbone than the graph" in done.out
    for task in ("dogs", "bird-owls"):
        assert f"{task}: is of the backbone before, is removed" in done.out
    assert site.versions() == {"cats": 2}
    site.force("bird-owls", 3, "birders", kind="mobilenet_int8")
    site.update(every_task=True)
    assert site.versions() == {"cats": 2, "dogs": 2, "bird-owls": 3}


def test_a_new_backbone_waits_for_tasks_that_are_not_of_it(site: Site, tmp_path: Path) -> None:
    site.publish("cats")
    site.update()
    Store.open(site.store).install(site.file("own"))
    mobilenet = golden_graph("mobilenet-fp16.tflite", tmp_path)
    publishing.remove(site.repo, ["cats"], site.keys)
    publishing.remove(site.repo, [], site.keys, graphs=[site.graph.name])
    publishing.add(site.repo, [site.file("cats", 2, "mobilenet_int8")], site.keys, graph_files=[str(mobilenet)])
    before = site.contents()
    with pytest.raises(MismatchError, match="the graph is of another backbone than what was changed on this device"):
        site.update()
    assert site.contents() == before


def test_updates_leave_no_rubbish(site: Site) -> None:
    for version in range(1, 6):
        site.publish("birds", version=version)
        site.update()
    assert len(list((site.store / "objects").iterdir())) == 3  # the graph, the active patch and the one before it
    assert list((site.store / "updates" / "parts").iterdir()) == []
