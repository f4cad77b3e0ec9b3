"""The ways back that docs/store.md names, for a store that `edgepatch update` fills."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

pytest.importorskip("tuf", reason="needs the extra [publish]")

from sites import Site

from edgepatch.errors import BadFileError
from edgepatch.runtime.store import Store


def test_after_a_forced_downgrade_the_published_version_is_active_again_by_activate(site: Site) -> None:
    for version in (1, 2, 3):
        site.publish("birds", version=version)
        site.update()
    store = Store.open(site.store)
    store.install(site.file("birds", 2), force=True)
    assert "birds" in site.update().plan.kept
    store.activate("birds", 3)
    assert not site.update().plan.kept
    site.publish("birds", version=4)
    site.update()
    assert site.versions() == {"birds": 4}


def test_after_a_change_on_the_device_the_published_version_comes_back_once_that_is_forgotten(site: Site) -> None:
    site.publish("birds")
    site.update()
    store = Store.open(site.store)
    store.install(site.file("birds", 2))
    store.install(site.file("birds", 3))
    assert "birds" in site.update().plan.kept
    store.remove("birds", forget=True)
    site.update()
    assert site.versions() == {"birds": 1}


def test_a_store_without_a_state_is_filled_again_by_an_update_as_its_message_says(site: Site) -> None:
    site.publish("birds", "cats")
    site.update()
    for path in site.store.glob("state*.json"):
        path.write_bytes(b"")
    with pytest.raises(BadFileError) as caught:
        site.update()
    make, move, update = caught.value.details["mend"].splitlines()[-1].split("; ")
    store, kept, target = Path(make.split()[-1]), *map(Path, move.split()[1:])
    store.rename(kept.parent)
    store.mkdir()
    shutil.move(kept, target / kept.name)
    assert (store, update) == (site.store, f"edgepatch update {site.store}")
    site.update(url=None, root=None)
    assert site.versions() == {"birds": 1, "cats": 1}
