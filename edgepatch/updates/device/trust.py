"""What a repository offers, as far as its signatures go: python-tuf's client over our own connection.

python-tuf checks signatures, versions and dates, in the order that The Update Framework lays down. It works on a copy
of the documents kept from before; what it verified is put back file by file, each written whole and synced. It has no
call that lists a repository, so names are taken from the lists it has just verified, and what is believed of a name is
its answer to that name alone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import tempfile
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepatch import files
from edgepatch.errors import BadFileError, EdgepatchError, require
from edgepatch.updates import clock, described, names
from edgepatch.updates.described import Published
from edgepatch.updates.device import download, refusals
from edgepatch.updates.device.limits import MAX_METADATA
from edgepatch.updates.device.web import StatusError, Web

if TYPE_CHECKING:
    from tuf.ngclient import Updater

MAX_FILES = 100_000  # that a repository may list


@dataclasses.dataclass(frozen=True)
class Refusal:
    """Something that is offered and not taken, without harm to the rest.

    Attributes:
        name: a task, a path or a team.
        role: who signed it.
        error: why.
    """

    name: str
    role: str
    error: EdgepatchError

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "role": self.role, "text": str(self.error), **self.error.to_json()}


@dataclasses.dataclass
class Offer:
    """What a repository offers now.

    Attributes:
        files: by path.
        refused: what it lists and has no right to, or what no device takes.
        unknown: teams whose lists could not be verified: of their tasks nothing is known.
        issued: when the timestamp was signed.
    """

    files: dict[str, Published] = dataclasses.field(default_factory=dict)
    refused: list[Refusal] = dataclasses.field(default_factory=list)
    unknown: set[str] = dataclasses.field(default_factory=set)
    issued: datetime.datetime | None = None
    _teams: Any = None  # python-tuf's Targets, which knows the patterns

    def signer(self, path: str) -> str | None:
        """The team that signs for a path which `targets` does not list, if there is one."""
        delegations = self._teams.delegations if self._teams else None
        return next((role for role, _ in delegations.get_roles_for_target(path)), None) if delegations else None

    def is_gone(self, path: str) -> bool:
        """Whether nobody signs for a path any more; not so if that cannot be known."""
        return path not in self.files and self.signer(path) not in self.unknown


def look(web: Web, url: str, folder: Path, root: bytes, root_file: object, *, keep: bool) -> Offer:
    """Fetch and verify what has changed of a repository's documents.

    Args:
        url: of the repository.
        folder: where verified documents are kept.
        root, root_file: the root that this device trusts, and where it came from.
        keep: whether to put what was verified there; not in a dry run.

    Raises:
        BadFileError: a document is not signed as it must be, is older than one seen before, expired, or damaged.
        EdgepatchError: the server cannot be reached, or this device's clock is wrong.
        MissingPackageError: the extra `[update]` is not installed.
    """
    require("tuf", extra="update", why="edgepatch update")
    from tuf.api.exceptions import RepositoryError
    from tuf.ngclient import Updater, UpdaterConfig

    base = f"{url.rstrip('/')}/{names.METADATA}/"
    with tempfile.TemporaryDirectory(prefix="edgepatch-") as made:
        work = Path(made)
        for path in sorted(folder.glob("*.json")) if folder.is_dir() else []:
            (work / path.name).write_bytes(files.read(path, limit=MAX_METADATA))
        (work / "root.json").unlink(missing_ok=True)  # python-tuf makes a link of that name
        fetcher = _fetcher(web)
        with _refusing(web, fetcher, work):
            try:
                updater = Updater(made, base, fetcher=fetcher, config=UpdaterConfig(), bootstrap=root)
            except RepositoryError as error:
                raise BadFileError(
                    "is no root of a repository", file=root_file, got=str(error)[:200], expected="metadata/1.root.json"
                ) from error
            _refuse_clock(_issued(root), "the root")
            updater.refresh()
        offer = Offer(issued=_issued((work / "timestamp.json").read_bytes()))
        _refuse_clock(offer.issued, "the timestamp")
        _list(updater, work, offer, web, fetcher)
        if keep:
            for path in sorted(work.glob("*.json")):
                data = path.read_bytes()
                place = folder / path.name
                if not place.exists() or place.read_bytes() != data:
                    files.write(place, data)
        return offer


def _list(updater: Updater, work: Path, offer: Offer, web: Web, fetcher: Any) -> None:
    targets: Any = _signed((work / "targets.json").read_bytes())
    listed = _signed((work / "snapshot.json").read_bytes()).meta
    offer._teams = targets
    for path, target in targets.targets.items():
        _take(offer, path, target, "targets")
    roles = (targets.delegations.roles or {}) if targets.delegations else {}
    for team, role in roles.items():
        if f"{team}.json" not in listed:  # it has not signed anything yet
            continue
        try:
            with _refusing(web, fetcher, work):
                for pattern in role.paths or []:
                    updater.get_targetinfo(pattern.replace("*", "").replace("?", "x"))  # fetches the team's list
                cached = work / f"{urllib.parse.quote(team, '')}.json"
                own: Any = _signed(cached.read_bytes()).targets if cached.exists() else {}
                for path in own:
                    if path in targets.targets:
                        continue
                    target = updater.get_targetinfo(path) if offer.signer(path) == team else None
                    if target is None:
                        error = BadFileError(
                            "is listed by a team that may not sign for it",
                            file=web.url,
                            field=team,
                            got=path[:200],
                            expected=" or ".join(names.pattern_text(each) for each in role.paths or [])[:200],
                            mend="The team's key may be in other hands. Nothing of this was taken.",
                        )
                        offer.refused.append(Refusal(path[:200], team, error))
                    else:
                        _take(offer, path, target, team)
        except BadFileError as error:  # of this team's list; the others' are none the worse for it
            offer.unknown.add(team)
            offer.refused.append(Refusal(team, team, error))


def _take(offer: Offer, path: str, target: Any, role: str) -> None:
    if len(offer.files) + len(offer.refused) > MAX_FILES:
        raise BadFileError("lists too many files", field=role, expected=f"at most {MAX_FILES}")
    try:
        offer.files[path] = described.read(path, target.length, target.hashes, target.custom, role)
    except ValueError as error:
        problem = BadFileError(f"is listed in a way that cannot be taken: {error}", file=path[:200], field=role)
        offer.refused.append(Refusal(path[:200], role, problem))


@contextlib.contextmanager
def _refusing(web: Web, fetcher: Any, work: Path) -> Iterator[None]:
    """python-tuf's errors as ours."""
    from tuf.api import exceptions as tuf

    try:
        yield
    except tuf.DownloadHTTPError as error:
        raise EdgepatchError(
            f"the server answers {error.status_code}",
            file=web.url,
            mend="Is this the repository's address, and was all of it uploaded, metadata/timestamp.json last? "
            "The store is as it was.",
        ) from error
    except (tuf.RepositoryError, tuf.DownloadError) as error:
        at_hand = [fetcher.last, *(path.read_bytes() for path in work.glob("*.json") if path.is_file())]
        raise refusals.explain(error, web.url, at_hand) from error
    except OSError as error:
        raise EdgepatchError(f"cannot be written: {error.strerror}", file=error.filename) from error


def _refuse_clock(issued: datetime.datetime | None, what: str) -> None:
    if issued is not None and clock.now() < issued - clock.TOLERANCE:
        raise refusals.wrong_clock(issued, what)


def _issued(data: bytes) -> datetime.datetime | None:
    return clock.read(_signed(data).unrecognized_fields.get(clock.ISSUED))


def _signed(data: bytes) -> Any:
    from tuf.api.metadata import Metadata

    return Metadata.from_bytes(data).signed


def _fetcher(web: Web) -> Any:
    """python-tuf's interface to our downloads. Made here, so that importing this module needs no python-tuf."""
    from tuf.api.exceptions import DownloadHTTPError
    from tuf.ngclient import FetcherInterface

    class Fetcher(FetcherInterface):
        last = b""

        def _fetch(self, url: str) -> Iterator[bytes]:
            raise NotImplementedError("documents are fetched whole")

        def download_bytes(self, url: str, max_length: int) -> bytes:
            try:
                self.last = download.document(web, url, max_length)
            except StatusError as error:
                raise DownloadHTTPError(str(error), error.status) from error
            return self.last

    return Fetcher()
