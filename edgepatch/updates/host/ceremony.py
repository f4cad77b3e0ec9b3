"""Who may sign what: a repository's first keys, teams, and new keys in place of old ones."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgepatch import files
from edgepatch.errors import UsageError, require
from edgepatch.updates import clock, names
from edgepatch.updates.host import documents, keys, repository, signing
from edgepatch.updates.host import patterns as patterns_of
from edgepatch.updates.host.done import Done
from edgepatch.updates.host.repository import Repository

if TYPE_CHECKING:
    from securesystemslib.signer import SSlibKey
    from tuf.api.metadata import Root, Targets

MAX_KEYS = 16


def create(
    path: str | os.PathLike[str],
    folder: Path,
    *,
    periods: Mapping[str, int] | None = None,
    root_keys: int = 1,
    threshold: int = 1,
) -> Repository:
    """Make keys and an empty repository.

    Args:
        path: the folder to be hosted; it is made, or has none of our metadata yet.
        folder: where the keys are to lie, outside `path`.
        periods: for some roles, how many seconds their documents are valid.
        root_keys, threshold: how many keys root has, and how many of them must sign for it.

    Raises:
        UsageError: there is a repository already, keys would be hosted, or a number is out of range.
    """
    require("tuf", extra="publish", why="publishing")
    from tuf.api.metadata import Metadata, Root, Targets

    place = Path(path)
    keys.refuse_inside(folder, place)
    if not 1 <= root_keys <= MAX_KEYS:
        raise UsageError("is out of range", field="--root-keys", got=root_keys, expected=f"1 to {MAX_KEYS}")
    if not 1 <= threshold <= root_keys:
        raise UsageError(
            "is out of range",
            field="--threshold",
            got=threshold,
            expected=f"1 to {root_keys}, the number of root's keys" if root_keys > 1 else "1, for root has 1 key",
        )
    files.refuse_unwritable(place / names.METADATA / "1.root.json")
    (place / names.METADATA).mkdir(parents=True, exist_ok=True)
    (place / names.TARGETS).mkdir(exist_ok=True)
    with repository.locked(place):
        if any((place / names.METADATA).glob("*.root.json")):
            raise UsageError("is a repository already", file=place, mend="edgepatch publish add puts files into it.")
        signers = {
            role: [keys.make(folder, role) for _ in range(root_keys if role == "root" else 1)] for role in names.ROLES
        }
        spans = {**clock.DEFAULT_PERIODS, **(periods or {})}
        root = Root(unrecognized_fields={clock.PERIODS: spans})
        for role, made in signers.items():
            for signer in made:
                root.add_key(signer.public_key, role)
        root.roles["root"].threshold = threshold
        made_now = Repository(place, Metadata(root), Metadata(Targets()), {}, None, None)
        root.unrecognized_fields[clock.ISSUED] = clock.write(clock.now())
        root.expires = signing.expiry(made_now, "root")
        version = 1 + max(documents.versions(place).get("targets", [0]))  # of a `create` that was killed
        targets = Targets(version=version, expires=signing.expiry(made_now, "targets"))
        made_now.put("targets", signing.signed(targets, signers["targets"]))
        made_now.put("root", signing.signed(root, signers["root"]))
        signing.refresh(made_now, folder)
        return made_now


def team(
    path: str | os.PathLike[str],
    name: str,
    folder: Path,
    *,
    patterns: Sequence[str],
    public: str | os.PathLike[str] | None = None,
) -> Done:
    """Let a team sign, alone, the tasks whose names match its patterns; or give a team other patterns.

    The first team whose pattern matches a task is the one that signs for it.

    Args:
        patterns: such as `bird-*`.
        public: the team's public key; without it a key is made in `folder`, for the team to take away.

    Raises:
        UsageError: the name or a pattern is none; the key of targets is not here.
    """
    require("tuf", extra="publish", why="publishing")
    from tuf.api.metadata import DelegatedRole, Delegations, Targets

    names.check_team(name)
    if not patterns:
        raise UsageError("says no tasks", field="--tasks", expected="a pattern such as 'bird-*'")
    paths = [names.pattern_path(pattern) for pattern in patterns]
    with repository.opened(path, folder) as found:
        is_new = name not in found.teams
        if public is not None and not is_new:
            raise UsageError(
                "has a key already",
                field="--public",
                got=name,
                mend=f"edgepatch publish rotate {path} {name} --public FILE",
            )
        keys.find(folder, "targets", *found.keys("targets"))  # before a key is made for nothing
        own = [] if public or not is_new else [keys.make(folder, name)]
        key = keys.read_public(public) if public else own[0].public_key if own else None

        def delegate(targets: Targets) -> None:
            targets.delegations = targets.delegations or Delegations({}, {})
            roles = targets.delegations.roles
            assert roles is not None
            if key is None:
                roles[name].paths = paths
            else:
                roles[name] = DelegatedRole(name, [], 1, terminating=True, paths=paths)
                targets.add_key(key, name)

        targets = signing.renewed(found, "targets", folder, delegate)
        documents.refuse_large(found.path, targets)
        found.take("targets", targets)
        if own:
            document = Targets(version=found.next_version(name), expires=signing.expiry(found, name))
            found.put(name, signing.signed(document, own))
        else:
            found.teams.setdefault(name, None)
        found.put("targets", targets)
        notes = [f"{name}: may sign {' and '.join(map(names.pattern_text, paths))}"]
        if own:
            made = keys.place(folder, name, own[0].public_key)
            notes.append(f"{name}: its private key is {made}: for the team, which keeps it where it publishes")
        notes += patterns_of.of_team(found, name)
        return Done(found, pending=signing.refresh(found, folder), notes=notes)


def dismiss(path: str | os.PathLike[str], name: str, folder: Path) -> Done:
    """Let a team sign nothing any more. Devices then drop its tasks.

    Raises:
        UsageError: there is no such team, or the key of targets is not here.
    """
    with repository.opened(path, folder) as found:
        if name not in found.teams:
            expected = ", ".join(found.teams) or "none yet"
            raise UsageError("there is no such team", file=path, field="NAME", got=name, expected=expected)
        tasks = [each.task for each in found.files() if each.role == name]

        def revoke(targets: Targets) -> None:
            assert targets.delegations is not None and targets.delegations.roles is not None
            for keyid in list(targets.delegations.roles[name].keyids):
                targets.revoke_key(keyid, name)
            del targets.delegations.roles[name]

        signing.renew(found, "targets", folder, revoke)
        del found.teams[name]
        dropped = f", and devices drop its tasks: {', '.join(tasks)}" if tasks else ""
        return Done(found, pending=signing.refresh(found, folder), notes=[f"{name}: signs no more{dropped}"])


def rotate(
    path: str | os.PathLike[str], role: str, folder: Path, *, public: str | os.PathLike[str] | None = None
) -> Done:
    """Put new keys in the place of a role's old ones, after a loss, a leak or a number of years.

    A new root is signed by the old keys and the new ones. What the role signed is signed anew with its new key; with
    `public`, a team's own new key, only the team can do that: until it has published again, devices keep what they have
    of its tasks.

    Raises:
        UsageError: there is no such role, a key that has to sign is not here, or the new key is the old one.
    """
    with repository.opened(path, folder) as found:
        found.check_role(role)
        if role in found.teams:
            old = found.keys(role)[0]
            made = _rotate_team(found, role, folder, public)
            return Done(found, pending=signing.refresh(found, folder), notes=[_exchanged(role, made, old)])
        if public is not None:
            raise UsageError("is for teams", field="--public", got=role, expected=", ".join(found.teams) or "none yet")
        old, threshold = found.keys(role)
        keys.find(folder, "root", *found.keys("root"))  # before keys are made for nothing
        new = [keys.make(folder, role) for _ in old]

        def replace(root: Root) -> None:
            for key in old:
                root.revoke_key(key.keyid, role)
            for signer in new:
                root.add_key(signer.public_key, role)
            root.roles[role].threshold = threshold

        # in memory first: the list that the new key signs is written before the root that asks for it, so that a
        # crash between the two leaves everything as it was
        root = signing.renewed(found, "root", folder, replace, also=new if role == "root" else ())
        found.take("root", root)
        if role == "targets":
            signing.renew(found, "targets", folder)
        found.put("root", root)
        made = [keys.place(folder, role, signer.public_key) for signer in new]
        pending = signing.refresh(found, folder, anew=role == "snapshot")
        return Done(found, pending=pending, notes=[_exchanged(role, made, old)])


def _exchanged(role: str, made: Sequence[os.PathLike[str] | str], old: Sequence[SSlibKey]) -> str:
    """Which keys are new, and which are good for nothing now."""
    gone = " and ".join(keys.place(Path(), role, key).name for key in old)
    return f"{role}: new key {' and '.join(map(str, made))}. Delete {gone} wherever it lies"


def _rotate_team(
    found: Repository, name: str, folder: Path, public: str | os.PathLike[str] | None
) -> list[os.PathLike[str] | str]:
    keys.find(folder, "targets", *found.keys("targets"))
    old, _ = found.keys(name)
    key: SSlibKey = keys.read_public(public) if public else keys.make(folder, name).public_key
    if any(key.keyval == each.keyval for each in old):
        raise UsageError(
            "is the key that this team has",
            file=public,
            field="--public",
            expected="another one",
            mend=f"Let the team make it: edgepatch publish key {name} --keys DIR --out NEW.pub",
        )

    def replace(targets: Targets) -> None:
        for each in old:
            targets.revoke_key(each.keyid, name)
        targets.add_key(key, name)

    targets = signing.renewed(found, "targets", folder, replace)
    found.take("targets", targets)
    if public is None and found.teams[name] is not None:  # the new key's document first: as above
        signing.renew(found, name, folder)
    elif public is not None:
        found.teams[name] = None
    found.put("targets", targets)
    return [public or keys.place(folder, name, key)]
