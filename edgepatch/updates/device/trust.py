"""What a repository offers, as far as its signatures go: python-tuf's client over our own connection.

python-tuf checks signatures, versions and dates, in the order that The Update Framework lays down. It works on a copy
of the documents kept from before; what it verified is put back file by file, each written whole and synced, whatever
fails later: what has been seen must not be forgotten (The Update Framework 1.0.34, 5.3.8 and 5.4.5). It has no call
that lists a repository, so names are taken from the lists it has just verified, and what is believed of a name is its
answer to that name alone.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import datetime
import shutil
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
from edgepatch.updates.device.web import StatusError, Web

if TYPE_CHECKING:
    from tuf.ngclient import Updater

WORK = "work"  # beside the folder of documents: python-tuf's copy of them
MAX_REFUSED = 100  # of a role's that are told one by one


class AbsentError(EdgepatchError):
    """The server does not have a document that it should have."""


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


class Refusals(list[Refusal]):
    """What is left out; of the many that a stolen key may sign, the first ones are told."""

    def __init__(self) -> None:
        super().__init__()
        self._counts: collections.Counter[str] = collections.Counter()

    def add(self, name: str, role: str, error: EdgepatchError) -> None:
        self._counts[role] += 1
        if self._counts[role] <= MAX_REFUSED:
            self.append(Refusal(name, role, error))
        elif self._counts[role] == MAX_REFUSED + 1:
            self.append(Refusal(role, role, BadFileError("lists more that cannot be taken", field=role)))


@dataclasses.dataclass
class Offer:
    """What a repository offers now.

    Attributes:
        files: by path.
        refused: what it lists and has no right to, or what no device takes.
        unreadable: paths that are listed in a way that this device does not understand.
        unknown: teams whose lists are not there or could not be verified: of their tasks nothing is known.
        issued: when the timestamp was signed.
    """

    files: dict[str, Published] = dataclasses.field(default_factory=dict)
    refused: Refusals = dataclasses.field(default_factory=Refusals)
    unreadable: set[str] = dataclasses.field(default_factory=set)
    unknown: set[str] = dataclasses.field(default_factory=set)
    issued: datetime.datetime | None = None
    _teams: Any = None  # python-tuf's Targets, which knows the patterns

    def signer(self, path: str) -> str | None:
        """The team that signs for a path which `targets` does not list, if there is one."""
        delegations = self._teams.delegations if self._teams else None
        return next((role for role, _ in delegations.get_roles_for_target(path)), None) if delegations else None

    def is_gone(self, path: str) -> bool:
        """Whether nobody signs for a path any more; not so if that cannot be known."""
        listed = path in self.files or path in self.unreadable
        return not listed and self.signer(path) not in self.unknown


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
    fetcher = _fetcher(web)
    with _copy(folder, beside=keep) as work, _refusing(web, fetcher, work):
        try:
            updater = Updater(str(work), base, fetcher=fetcher, config=UpdaterConfig(), bootstrap=root)
        except RepositoryError as error:
            raise BadFileError(
                "is no root of a repository", file=root_file, got=str(error)[:200], expected="metadata/1.root.json"
            ) from error
        # a root that was mistaken for this repository's must not take the place of the one that is trusted
        proven = root in _roots(folder)
        try:
            updater.refresh()
            proven = True
            offer = Offer(issued=_issued(work / "timestamp.json"))
            for issued, what in ((_issued(work / "root.json"), "the root"), (offer.issued, "the timestamp")):
                if issued is not None and clock.is_ahead(issued):
                    raise refusals.wrong_clock(issued, what)
            _list(updater, work, offer, web, fetcher)
        finally:
            if keep and proven:
                _keep(work, folder)
    return offer


@contextlib.contextmanager
def _copy(folder: Path, *, beside: bool) -> Iterator[Path]:
    """A copy of the documents that were kept, in a folder that is gone afterwards: beside them, or a temporary one."""
    with contextlib.ExitStack() as stack:
        with _writing():
            if beside:
                work = folder.parent / WORK
                shutil.rmtree(work, ignore_errors=True)  # of an update that was killed
                work.mkdir(parents=True)
                stack.callback(shutil.rmtree, work, ignore_errors=True)
            if not beside or not _takes_links(work):
                work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgepatch-")))
            for path in _documents(folder):
                place = work / path.relative_to(folder)
                place.parent.mkdir(exist_ok=True)
                with contextlib.suppress(BadFileError):  # what the disk has spoilt is fetched again
                    place.write_bytes(files.read(path, limit=names.MAX_METADATA))
            (work / "root.json").unlink(missing_ok=True)  # python-tuf makes a link of that name
        yield work


def _takes_links(folder: Path) -> bool:
    """Whether a filesystem has links, which python-tuf makes: FAT has none."""
    try:
        (folder / "link").symlink_to("nothing")
        (folder / "link").unlink()
    except OSError:
        return False
    return True


def _keep(work: Path, folder: Path) -> None:
    """Put what was verified where the next update begins, unless it was signed in this clock's future.

    Roots that led here are kept, too: one that is given by hand and is older is led on by them, whatever the server
    shows.
    """
    roots = not _is_ahead(work / "root.json")
    rest = roots and not _is_ahead(work / "timestamp.json")
    for path in _documents(work):
        if not (roots if path.name.endswith("root.json") else rest):
            continue
        data, place = path.read_bytes(), folder / path.relative_to(work)
        if not place.exists() or place.read_bytes() != data:
            files.write(place, data)


def _documents(folder: Path) -> list[Path]:
    return sorted([*folder.glob("*.json"), *folder.glob("root_history/*.json")])


def _roots(folder: Path) -> list[bytes]:
    """The roots that were verified before."""
    return [path.read_bytes() for path in _documents(folder) if path.name.endswith("root.json")]


def _list(updater: Updater, work: Path, offer: Offer, web: Web, fetcher: Any) -> None:
    """What `targets` lists, and each team in the tasks that are its own."""
    targets: Any = _signed(work / "targets.json")
    listed = _signed(work / "snapshot.json").meta
    offer._teams = targets
    for path, target in targets.targets.items():
        _take(offer, path, target, "targets")
    roles = (targets.delegations.roles or {}) if targets.delegations else {}
    for team, role in roles.items():
        if f"{team}.json" not in listed:  # it has not signed anything yet, or not since its key was replaced
            offer.unknown.add(team)
            continue
        try:
            with _refusing(web, fetcher, work, team):
                foreign = _list_team(updater, work, offer, team)
        except (BadFileError, AbsentError) as error:  # of this team's list; the others' are none the worse for it
            offer.unknown.add(team)
            offer.refused.add(team, team, error)
            continue
        if foreign:
            offer.refused.add(foreign[0][:200], team, _beyond(foreign, web.url, team, role))


def _list_team(updater: Updater, work: Path, offer: Offer, team: str) -> list[str]:
    """Take what a team lists and may; the paths that it may not."""
    # python-tuf's own call fetches a list on its way to a file, through other teams' lists and this one's delegations,
    # whose number and patterns are the team's to choose
    updater._load_targets(team, names.TARGETS)
    cached = work / f"{urllib.parse.quote(team, '')}.json"
    foreign = []
    for path in _signed(cached).targets if cached.exists() else ():
        if path in offer._teams.targets:
            continue
        target = updater.get_targetinfo(path) if offer.signer(path) == team else None
        if target is None:
            foreign.append(path)
        else:
            _take(offer, path, target, team)
    return foreign


def _beyond(foreign: list[str], url: str, team: str, role: Any) -> BadFileError:
    return BadFileError(
        "is listed by a team that may not sign for it",
        file=url,
        field=team,
        got=foreign[0][:200] + (f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""),
        expected=" or ".join(names.pattern_text(each) for each in role.paths or [])[:200],
        mend="The team's key may be in other hands. Nothing of this was taken.",
    )


def _take(offer: Offer, path: str, target: Any, role: str) -> None:
    try:
        offer.files[path] = described.read(path, target.length, target.hashes, target.custom, role)
    except ValueError as error:
        problem = BadFileError(f"is listed in a way that cannot be taken: {error}", file=path[:200], field=role)
        offer.unreadable.add(path)
        offer.refused.add(path[:200], role, problem)


@contextlib.contextmanager
def _refusing(web: Web, fetcher: Any, work: Path, team: str | None = None) -> Iterator[None]:
    """python-tuf's errors as ours; `team`: whose list is being fetched."""
    from tuf.api import exceptions as tuf

    try:
        with _writing():
            yield
    except tuf.DownloadHTTPError as error:
        raise AbsentError(
            f"the server answers {error.status_code}",
            file=web.url,
            mend="Is this the repository's address, and was all of it uploaded, metadata/timestamp.json last? "
            "The store is as it was.",
        ) from error
    except (tuf.RepositoryError, tuf.DownloadError) as error:
        at_hand = [fetcher.last, *(path.read_bytes() for path in work.glob("*.json") if path.is_file())]
        raise refusals.explain(error, web.url, at_hand, team) from error


@contextlib.contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise EdgepatchError(f"cannot be written: {error.strerror or error}", file=error.filename) from error


def _is_ahead(path: Path) -> bool:
    issued = _issued(path)
    return issued is not None and clock.is_ahead(issued)


def _issued(path: Path) -> datetime.datetime | None:
    """When a document was signed; None of one that is not there, does not say, or was damaged since it was kept."""
    from tuf.api.exceptions import RepositoryError

    try:
        return clock.read(_signed(path).unrecognized_fields.get(clock.ISSUED))
    except (FileNotFoundError, RepositoryError):
        return None


def _signed(path: Path) -> Any:
    from tuf.api.metadata import Metadata

    return Metadata.from_bytes(path.read_bytes()).signed


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
