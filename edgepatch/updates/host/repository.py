"""The folder that is hosted: its signed documents, found and verified, and written so that no reader sees half of them.

    REPO/metadata/N.root.json N.targets.json N.TEAM.json N.snapshot.json timestamp.json
    REPO/targets/patches/SHA256.TASK.epatch   REPO/targets/graphs/SHA256.NAME.tflite

Only timestamp.json is ever replaced, and it is written last: a reader who came before sees the old state whole, for
whatever that names is still there. A crash before it leaves files that nothing names yet; the next command goes on from
them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepatch import files
from edgepatch.errors import BadFileError, EdgepatchError, UsageError, require
from edgepatch.updates import described, names
from edgepatch.updates.described import Published
from edgepatch.updates.host import documents, keys

if TYPE_CHECKING:
    from securesystemslib.signer import SSlibKey
    from tuf.api.metadata import Metadata, Root, Snapshot, TargetFile, Targets, Timestamp


@dataclasses.dataclass
class Repository:
    """What a folder holds: of each role the newest document that its keys signed.

    Attributes:
        path: the folder.
        root, targets: always there.
        teams: of each team that `targets` delegates to, its document, or None until it has signed one.
        snapshot, timestamp: None before the first was signed, or if they do not fit their keys.
        counted: the number of timestamp.json, whoever signed it.
    """

    path: Path
    root: Metadata[Root]
    targets: Metadata[Targets]
    teams: dict[str, Metadata[Targets] | None]
    snapshot: Metadata[Snapshot] | None
    timestamp: Metadata[Timestamp] | None
    counted: int = 0

    @property
    def periods(self) -> dict[str, int]:
        """For each role, how many seconds its documents are valid."""
        from edgepatch.updates import clock

        found = self.root.signed.unrecognized_fields.get(clock.PERIODS)
        own = found if isinstance(found, dict) else {}
        valid = {role: span for role, span in own.items() if type(span) is int and span > 0}
        return {**clock.DEFAULT_PERIODS, **valid}

    def role(self, name: str) -> Metadata[Targets]:
        """The document of `targets` or of a team that has signed one.

        Raises:
            UsageError: there is no such team, or it has signed nothing yet.
        """
        if name == "targets":
            return self.targets
        if name not in self.teams:
            raise UsageError(
                "there is no such team",
                file=self.path,
                field="--team",
                got=name,
                expected=", ".join(self.teams) or "none yet",
                mend=f"edgepatch publish team {self.path} {name} --tasks 'PATTERN'",
            )
        found = self.teams[name]
        if found is None:
            tasks = self.waiting(name)
            raise UsageError(
                "this team has signed nothing with its present key" if tasks else "this team has signed nothing yet",
                file=self.path,
                field="team",
                got=name,
                mend=f"It publishes {'again, all in one command: ' + ', '.join(tasks[:20]) if tasks else 'its tasks'}: "
                f"edgepatch publish add {self.path} FILE.epatch... --team {name}",
            )
        return found

    def check_role(self, name: str) -> None:
        """Refuse the name of a role that there is not.

        Raises:
            UsageError: it is neither one of the four nor a team.
        """
        if name not in names.ROLES and name not in self.teams:
            known = [*names.ROLES, *self.teams]
            raise UsageError(
                "there is no such role", file=self.path, field="ROLE", got=name, expected=", ".join(known)[:400]
            )

    def waiting(self, team: str) -> list[str]:
        """Of a team that has signed nothing with its present key: the tasks of the list that it signed before.

        Nobody vouches for that list any more. It serves to remind, and for nothing else.
        """
        if self.teams[team] is not None:
            return []
        for version in sorted(documents.versions(self.path).get(team, []), reverse=True):
            found = documents.parsed(documents.place(self.path, team, version))
            if found is not None and found.signed.type == "targets":
                before = dataclasses.replace(self, teams={**self.teams, team: found})
                return [each.task for each in before.listed(team).values() if isinstance(each, Published)]
        return []

    def keys(self, role: str) -> tuple[list[SSlibKey], int]:
        """The public keys of a role, and how many of them have to sign.

        Raises:
            UsageError: there is no such role or team.
        """
        self.check_role(role)
        delegator: Any = self.root.signed if role in names.ROLES else self.targets.signed
        found = delegator.get_delegated_role(role)
        return [delegator.get_key(keyid) for keyid in found.keyids], found.threshold

    def files(self) -> list[Published]:
        """All that devices take, by path."""
        listed = [each for role in ["targets", *self.teams] for each in self.listed(role).values()]
        return sorted((each for each in listed if isinstance(each, Published)), key=lambda each: each.path)

    def listed(self, role: str) -> dict[str, Published | str]:
        """What devices make of each path that a role signs for: a file, or the reason why they refuse it.

        Whoever holds a team's key wrote its list: what is wrong with it is to be said, and must stop nobody else.
        """
        document = self.targets if role == "targets" else self.teams[role]
        found: dict[str, Published | str] = {}
        for path, target in document.signed.targets.items() if document else []:
            if role != "targets" and path in self.targets.signed.targets:
                continue  # nobody asks the team
            try:
                found[path] = self.taken(role, path, target)
            except ValueError as error:
                found[path] = str(error)
        return found

    def taken(self, role: str, path: str, target: TargetFile) -> Published:
        """What devices make of a file that a role signs for.

        Raises:
            ValueError: they refuse it; the text says why.
        """
        if role != "targets" and self.team_of(path) != role:
            raise ValueError("this team may not sign for it")
        return described.read(path, target.length, target.hashes, target.custom, role)

    def patterns(self, team: str) -> list[str]:
        """What paths a team may sign."""
        delegations = self.targets.signed.delegations
        roles = delegations.roles if delegations else None
        return list((roles or {})[team].paths or [])

    def team_of(self, path: str) -> str | None:
        """The team that signs for a path unless `targets` lists it: the first whose pattern matches."""
        delegations = self.targets.signed.delegations
        return next((role for role, _ in delegations.get_roles_for_target(path)), None) if delegations else None

    def hosted(self, each: Published) -> Path:
        """Where a published file lies in the folder."""
        return self.path / names.TARGETS / each.hosted_path

    def newer(self, role: str) -> int:
        """The version of a list that the snapshot names, if the one that is here is older; else 0."""
        document = self.targets if role == "targets" else self.teams[role]
        named = self.snapshot.signed.meta.get(f"{role}.json") if self.snapshot else None
        return named.version if document and named and named.version > document.signed.version else 0

    def refuse_old(self, role: str) -> None:
        """Refuse to sign over an old copy that was put back.

        Raises:
            BadFileError: a newer list was published.
        """
        if newer := self.newer(role):
            raise BadFileError(
                "is older than what was published",
                file=self.file(role),
                field="version",
                got=self.role(role).signed.version,
                expected=f"{newer} or more",
                mend="Put the newest copy of the repository back before you publish: devices refuse older ones.",
            )

    def next_version(self, role: str) -> int:
        """One more than any version of a role's document that a device may have seen, and no file's number yet."""
        document = getattr(self, role) if role in names.ROLES else self.teams.get(role)
        seen = [document.signed.version] if document else []
        if role == "timestamp":
            seen.append(self.counted)
        elif role == "snapshot" and self.timestamp:
            seen.append(self.timestamp.signed.snapshot_meta.version)
        elif self.snapshot and (meta := self.snapshot.signed.meta.get(f"{role}.json")):
            seen.append(meta.version)
        on_disk = documents.versions(self.path).get(role, [0])
        return documents.unused(self.path, role, 1 + max(seen, default=max(on_disk)))

    def put_file(self, path: str, data: bytes) -> bool:
        """Lay a file under `targets/`; false if it is there already."""
        place = self.path / names.TARGETS / names.hosted_path(path, hashlib.sha256(data).hexdigest())
        with contextlib.suppress(EdgepatchError):  # what is no file of this size has to give way
            if files.read(place, limit=len(data)) == data:
                return False
        files.write(place, data)
        return True

    def put(self, role: str, metadata: Metadata[Any]) -> None:
        """Write a signed document, and take it for the newest of its role."""
        self.take(role, metadata)
        files.write(self.file(role), documents.to_bytes(metadata))

    def take(self, role: str, metadata: Metadata[Any]) -> None:
        """Take a document for the newest of its role before it is written."""
        if role in names.ROLES:
            setattr(self, role, metadata)
        else:
            self.teams[role] = metadata

    def bytes_of(self, role: str) -> bytes:
        """The newest document of a role, as it is hosted."""
        return files.read(self.file(role), limit=names.MAX_METADATA)

    def file(self, role: str) -> Path:
        """Where the newest document of a role stands."""
        document: Any = getattr(self, role) if role in names.ROLES else self.teams[role]
        return documents.place(self.path, role, document.signed.version)


def read(path: str | os.PathLike[str]) -> Repository:
    """The repository in a folder, every document verified from the first root on, as a device does.

    A document that its role's keys did not sign, or that is too large for devices, is as if it were not there.

    Raises:
        UsageError: it is no repository.
        BadFileError: the roots do not follow from each other, no `targets` is signed by its keys, or timestamp.json
            or the snapshot that it names is lost.
        MissingPackageError: the extra `[publish]` is not installed.
    """
    require("tuf", extra="publish", why="publishing")
    from tuf.api.metadata import Snapshot, Targets

    folder = Path(path)
    numbers = documents.versions(folder)
    if "root" not in numbers:
        raise _none(folder)

    def newest(role: str, delegator: Any, kind: Any) -> Any:
        return documents.newest(folder, role, numbers.get(role, []), delegator, kind)

    root = documents.last_root(folder, numbers["root"])
    targets = newest("targets", root, Targets)
    if targets is None:
        raise BadFileError("has no list of targets that its keys signed", file=folder / names.METADATA, field="targets")
    roles = (targets.signed.delegations.roles or {}) if targets.signed.delegations else {}
    timestamp, counted = documents.timestamp(folder, root, numbers.get("snapshot", []))
    documents.refuse_lost_snapshot(folder, timestamp)
    return Repository(
        path=folder,
        root=root,
        targets=targets,
        teams={team: newest(team, targets, Targets) for team in roles},
        snapshot=newest("snapshot", root, Snapshot),
        timestamp=timestamp,
        counted=counted,
    )


@contextlib.contextmanager
def opened(path: str | os.PathLike[str], folder: Path) -> Iterator[Repository]:
    """The repository in a folder, to be changed with the keys in another one.

    Raises:
        UsageError, MissingPackageError: as `keys.refuse_inside`, `locked` and `read`.
        BadFileError: as `read`, or `targets` is older than what was published.
    """
    keys.refuse_inside(folder, Path(path))
    with locked(path):
        found = read(path)
        found.refuse_old("targets")
        yield found


@contextlib.contextmanager
def locked(path: str | os.PathLike[str]) -> Iterator[None]:
    """Keep other publishers on this machine out of a repository. The folder itself is locked, so no file is left.

    Raises:
        UsageError: there is no such folder.
        EdgepatchError: another one is at work there.
    """
    try:
        import fcntl
    except ImportError:  # Windows: two publishers at once are the caller's to avoid
        yield
        return
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _none(path) from error
    except OSError as error:
        raise UsageError(f"cannot be opened: {error.strerror}", file=path) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise EdgepatchError(
                "another edgepatch publish is at work here", file=path, mend="Run this again when it is done."
            ) from error
        yield
    finally:
        os.close(descriptor)


def _none(folder: str | os.PathLike[str]) -> UsageError:
    return UsageError(
        "is no repository of updates",
        file=folder,
        expected=f"a folder with {names.METADATA}/1.root.json",
        mend=f"edgepatch publish create {folder} --keys DIR",
    )
