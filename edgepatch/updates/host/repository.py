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
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepatch import files
from edgepatch.errors import BadFileError, EdgepatchError, UsageError, require
from edgepatch.updates import described, names
from edgepatch.updates.described import Published

if TYPE_CHECKING:
    from securesystemslib.signer import SSlibKey
    from tuf.api.metadata import Metadata, Root, Snapshot, Targets, Timestamp

_NUMBERED = re.compile(r"([1-9][0-9]{0,8})\.([a-z0-9_-]+)\.json")


@dataclasses.dataclass
class Repository:
    """What a folder holds: of each role the newest document that its keys signed.

    Attributes:
        path: the folder.
        root, targets: always there.
        teams: of each team that `targets` delegates to, its document, or None until it has signed one.
        snapshot, timestamp: None before the first was signed, or if they do not fit their keys.
    """

    path: Path
    root: Metadata[Root]
    targets: Metadata[Targets]
    teams: dict[str, Metadata[Targets] | None]
    snapshot: Metadata[Snapshot] | None
    timestamp: Metadata[Timestamp] | None

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
            raise UsageError("this team has signed nothing yet", file=self.path, field="team", got=name)
        return found

    def keys(self, role: str) -> tuple[list[SSlibKey], int]:
        """The public keys of a role, and how many of them have to sign.

        Raises:
            UsageError: there is no such role or team.
        """
        if role not in names.ROLES and role not in self.teams:
            self.role(role)  # says so
        delegator: Any = self.root.signed if role in names.ROLES else self.targets.signed
        found = delegator.get_delegated_role(role)
        return [delegator.get_key(keyid) for keyid in found.keyids], found.threshold

    def files(self) -> list[Published]:
        """All that is published, by path; where two roles name a path, what a device believes: `targets`' word.

        Raises:
            BadFileError: a signed document says something that no device would take.
        """
        found: dict[str, Published] = {}
        for role, document in [("targets", self.targets), *self.teams.items()]:
            for path, target in document.signed.targets.items() if document else []:
                try:
                    each = described.read(path, target.length, target.hashes, target.custom, role)
                except ValueError as error:
                    raise BadFileError(
                        f"names a file that devices refuse: {error}", file=self._file(role), field=path[:120]
                    ) from error
                if role == "targets" or self.may_sign(role, path):
                    found.setdefault(path, each)
        return [found[path] for path in sorted(found)]

    def patterns(self, team: str) -> list[str]:
        """What paths a team may sign."""
        delegations = self.targets.signed.delegations
        roles = delegations.roles if delegations else None
        return list((roles or {})[team].paths or [])

    def may_sign(self, team: str, path: str) -> bool:
        """Whether a team's word on a path counts: the first team whose pattern matches it is the one."""
        delegations = self.targets.signed.delegations
        return (
            delegations is not None and next((role for role, _ in delegations.get_roles_for_target(path)), "") == team
        )

    def hosted(self, each: Published) -> Path:
        """Where a published file lies in the folder."""
        return self.path / names.TARGETS / each.hosted_path

    def next_version(self, role: str) -> int:
        """One more than any version of a role's document that a device may have seen."""
        document = getattr(self, role) if role in names.ROLES else self.teams.get(role)
        seen = [document.signed.version] if document else []
        if role == "snapshot" and self.timestamp:
            seen.append(self.timestamp.signed.snapshot_meta.version)
        elif self.snapshot and (meta := self.snapshot.signed.meta.get(f"{role}.json")):
            seen.append(meta.version)
        return 1 + max(seen, default=0 if document else max(_versions(self.path).get(role, [0])))

    def put_file(self, path: str, data: bytes) -> tuple[int, str]:
        """Lay a file under `targets/`, unless it is there already; returns its length and SHA-256."""
        sha256 = hashlib.sha256(data).hexdigest()
        place = self.path / names.TARGETS / names.hosted_path(path, sha256)
        if not (place.is_file() and hashlib.sha256(files.read(place, limit=len(data))).hexdigest() == sha256):
            files.write(place, data)
        return len(data), sha256

    def put(self, role: str, metadata: Metadata[Any]) -> None:
        """Write a signed document, and take it for the newest of its role."""
        from tuf.api.serialization.json import JSONSerializer

        self.take(role, metadata)
        files.write(self._file(role), metadata.to_bytes(JSONSerializer(compact=True)))

    def take(self, role: str, metadata: Metadata[Any]) -> None:
        """Take a document for the newest of its role before it is written."""
        if role in names.ROLES:
            setattr(self, role, metadata)
        else:
            self.teams[role] = metadata

    def bytes_of(self, role: str) -> bytes:
        """The newest document of a role, as it is hosted."""
        return files.read(self._file(role), limit=names.MAX_METADATA)

    def _file(self, role: str) -> Path:
        if role == "timestamp":
            return self.path / names.METADATA / "timestamp.json"
        document: Any = getattr(self, role) if role in names.ROLES else self.teams[role]
        return self.path / names.METADATA / f"{document.signed.version}.{role}.json"


def read(path: str | os.PathLike[str]) -> Repository:
    """The repository in a folder, every document verified from the first root on, as a device does.

    A document that its role's keys did not sign is as if it were not there.

    Raises:
        UsageError: it is no repository.
        BadFileError: the roots do not follow from each other, or no `targets` is signed by its keys.
        MissingPackageError: the extra `[publish]` is not installed.
    """
    require("tuf", extra="publish", why="publishing")
    from tuf.api.metadata import Root, Snapshot, Targets, Timestamp

    folder = Path(path)
    versions = _versions(folder)
    if "root" not in versions:
        raise UsageError(
            "is no repository of updates",
            file=folder,
            expected=f"a folder with {names.METADATA}/1.root.json",
            mend=f"edgepatch publish create {folder} --keys DIR",
        )
    root: Any = None
    for version in sorted(versions["root"]):
        file = folder / names.METADATA / f"{version}.root.json"
        root = _signed_by([root, "itself"] if root else ["itself"], "root", Root, file)
        if root is None or root.signed.version != version:
            raise BadFileError("is not signed as the next root has to be", file=file, field="signatures")
    targets = _newest(folder, "targets", versions, root, Targets)
    if targets is None:
        raise BadFileError("has no list of targets that its keys signed", file=folder / names.METADATA, field="targets")
    roles = (targets.signed.delegations.roles or {}) if targets.signed.delegations else {}
    return Repository(
        path=folder,
        root=root,
        targets=targets,
        teams={team: _newest(folder, team, versions, targets, Targets) for team in roles},
        snapshot=_newest(folder, "snapshot", versions, root, Snapshot),
        timestamp=_signed_by([root], "timestamp", Timestamp, folder / names.METADATA / "timestamp.json"),
    )


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


def _versions(folder: Path) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    place = folder / names.METADATA
    for entry in sorted(place.iterdir()) if place.is_dir() else []:
        if name := _NUMBERED.fullmatch(entry.name):
            found.setdefault(name[2], []).append(int(name[1]))
    return found


def _newest(folder: Path, role: str, versions: dict[str, list[int]], delegator: Any, kind: Any) -> Any:
    for version in sorted(versions.get(role, []), reverse=True):
        file = folder / names.METADATA / f"{version}.{role}.json"
        found = _signed_by([delegator], role, kind, file)
        if found is not None and found.signed.version == version:
            return found
    return None


def _signed_by(delegators: list[Any], role: str, kind: Any, file: Path) -> Any:
    """A document, if it is one of this kind and all delegators' keys signed it."""
    from tuf.api.exceptions import UnsignedMetadataError
    from tuf.api.metadata import Metadata
    from tuf.api.serialization import DeserializationError

    try:
        found: Any = Metadata.from_bytes(files.read(file, limit=names.MAX_METADATA))
        if found.signed.type != kind.type:
            return None
        for delegator in delegators:
            signed = found.signed if delegator == "itself" else delegator.signed
            signed.verify_delegate(role, found.signed_bytes, found.signatures)
    except (DeserializationError, UnsignedMetadataError, ValueError, UsageError):
        return None
    return found
