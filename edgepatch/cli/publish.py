"""edgepatch publish: a folder of signed updates, which any static web server hosts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgepatch.cli.common import json_option, kib, number_of, show, table

if TYPE_CHECKING:
    from edgepatch.updates.host.publishing import Done

keys_option = click.option(
    "--keys",
    "keys_folder",
    metavar="DIR",
    envvar="EDGEPATCH_KEYS",
    required=True,
    type=click.Path(path_type=Path),
    help="The folder of private keys, outside REPO.  [env: EDGEPATCH_KEYS]",
)
team_option = click.option("--team", metavar="NAME", help="Sign with this team's key, for its tasks.")


@click.group()
def command() -> None:
    """Publish graphs and patches by The Update Framework: signed, for `edgepatch update` on devices.

    REPO is a plain folder: copy it to a web server or a bucket, metadata/timestamp.json last. Keys that are locked by a
    passphrase are opened with the environment variable EDGEPATCH_KEY_PASSPHRASE. Every command takes --json.

    \b
    edgepatch publish create site/ --keys ~/keys
    edgepatch publish add site/ --graph mobilenet.tflite flowers.epatch birds.epatch --keys ~/keys
    edgepatch publish team site/ birders --tasks 'bird-*' --public birders.pub --keys ~/keys
    edgepatch publish refresh site/ --keys ~/online
    edgepatch publish list site/
    """


@command.command()
@click.argument("repo", metavar="REPO")
@keys_option
@click.option(
    "--expires",
    metavar="ROLE=PERIOD",
    multiple=True,
    help="How long what a role signs is valid, such as timestamp=36h. By default root and targets (and teams) 365d, "
    "snapshot 30d, timestamp 7d.",
)
@click.option("--root-keys", type=int, default=1, show_default=True, help="Keys of root, to be kept in several places.")
@click.option("--threshold", type=int, default=1, show_default=True, help="How many of these must sign a new root.")
@json_option
def create(
    repo: str, keys_folder: Path, expires: tuple[str, ...], root_keys: int, threshold: int, as_json: bool
) -> None:
    """Make the keys of root, targets, snapshot and timestamp, and an empty repository.

    REPO/metadata/1.root.json is what a device has to be given by a safe way, once. The keys of root and targets belong
    offline; those of snapshot and timestamp where `publish refresh` runs.

    \b
    edgepatch publish create site/ --keys ~/keys --root-keys 2
    """
    from edgepatch.errors import UsageError
    from edgepatch.updates import clock, names
    from edgepatch.updates.host import ceremony

    periods = {}
    for text in expires:
        role, _, span = text.partition("=")
        if role not in names.ROLES:
            raise UsageError("is no role", field="--expires", got=text[:40], expected=" or ".join(names.ROLES))
        periods[role] = clock.period(span)
    made = ceremony.create(repo, keys_folder, periods=periods, root_keys=root_keys, threshold=threshold)
    root = made.path / names.METADATA / "1.root.json"
    keys = sorted(str(path) for path in keys_folder.glob("*.pem"))
    document = {"repository": repo, "root": str(root), "keys": keys}
    lines = [f"{repo}: an empty repository.", f"Devices need {root}, once, by a safe way.", "Keys:"]
    show(document, "\n".join([*lines, *(f"  {path}" for path in keys)]), as_json)


@command.command()
@click.argument("name")
@keys_option
@click.option("--out", metavar="FILE.pub", required=True, help="Where to write the public half.")
@json_option
def key(name: str, keys_folder: Path, out: str, as_json: bool) -> None:
    """Make a key for the team NAME, at the team's own machine. Its public half goes to `publish team --public`.

    \b
    edgepatch publish key birders --keys ~/keys --out birders.pub
    """
    from edgepatch import files
    from edgepatch.updates import names
    from edgepatch.updates.host import keys

    files.refuse_unwritable(out)
    made = keys.make(keys_folder, names.check_team(name))
    keys.write_public(made, out)
    document = {"team": name, "keyid": made.public_key.keyid, "public": out, "keys": str(keys_folder)}
    show(document, f"{out}: hand this to the publisher. The private key is in {keys_folder}.", as_json)


@command.command()
@click.argument("repo", metavar="REPO")
@click.argument("patches", metavar="FILE.epatch...", nargs=-1)
@keys_option
@click.option("--graph", "graphs", metavar="FILE", multiple=True, help="A shared graph, published under its file name.")
@team_option
@click.option("--renumber", is_flag=True, help="Give patches whose version is not new the next one.")
@json_option
def add(
    repo: str,
    patches: tuple[str, ...],
    keys_folder: Path,
    graphs: tuple[str, ...],
    team: str | None,
    renumber: bool,
    as_json: bool,
) -> None:
    """Check files, and publish all of them or none.

    Every patch has to fit every graph of the repository, and its version has to be above the one that is published.
    Where the keys of snapshot and timestamp are elsewhere, `publish refresh` there lets devices see it.

    \b
    edgepatch publish add site/ --graph mobilenet.tflite flowers.epatch --keys ~/keys
    edgepatch publish add site/ bird-owls.epatch --team birders --keys ~/keys
    edgepatch publish add site/ old-flowers.epatch --renumber --keys ~/keys
    """
    from edgepatch.errors import UsageError
    from edgepatch.updates.host import publishing

    if not patches and not graphs:
        raise UsageError("there is nothing to publish", expected="patches, or --graph FILE")
    done = publishing.add(repo, patches, keys_folder, graph_files=graphs, team=team, renumber=renumber)
    _report(done, as_json)


@command.command()
@click.argument("repo", metavar="REPO")
@click.argument("tasks", metavar="TASK...", nargs=-1)
@keys_option
@click.option("--graph", "graphs", metavar="NAME", multiple=True, help="A graph's file name.")
@team_option
@json_option
def remove(
    repo: str, tasks: tuple[str, ...], keys_folder: Path, graphs: tuple[str, ...], team: str | None, as_json: bool
) -> None:
    """Take tasks out: devices drop them at their next update.

    \b
    edgepatch publish remove site/ flowers --keys ~/keys
    """
    from edgepatch.errors import UsageError
    from edgepatch.updates.host import publishing

    if not tasks and not graphs:
        raise UsageError("there is nothing to remove", expected="tasks, or --graph NAME")
    _report(publishing.remove(repo, tasks, keys_folder, graphs=graphs, team=team), as_json)


@command.command()
@click.argument("repo", metavar="REPO")
@click.argument("name")
@keys_option
@click.option("--tasks", "patterns", metavar="PATTERN", multiple=True, help="Tasks it may sign, such as 'bird-*'.")
@click.option("--public", metavar="FILE.pub", help="The team's public key; without it one is made in --keys.")
@click.option("--remove", "dismiss", is_flag=True, help="Take the right away again.")
@json_option
def team(
    repo: str,
    name: str,
    keys_folder: Path,
    patterns: tuple[str, ...],
    public: str | None,
    dismiss: bool,
    as_json: bool,
) -> None:
    """Let the team NAME publish some tasks with a key of its own; needs the key of targets, the team's work does not.

    \b
    edgepatch publish team site/ birders --tasks 'bird-*' --public birders.pub --keys ~/keys
    edgepatch publish team site/ birders --remove --keys ~/keys
    """
    from edgepatch.updates.host import ceremony
    from edgepatch.updates.host.publishing import Done

    if dismiss:
        found, pending = ceremony.dismiss(repo, name, keys_folder)
    else:
        found, pending = ceremony.team(repo, name, keys_folder, patterns=patterns, public=public)
    _report(Done(found, pending=pending), as_json)


@command.command()
@click.argument("repo", metavar="REPO")
@click.argument("roles", metavar="[ROLE]...", nargs=-1)
@keys_option
@json_option
def refresh(repo: str, roles: tuple[str, ...], keys_folder: Path, as_json: bool) -> None:
    """Sign a new timestamp and, where due, a new snapshot, before they expire: for cron, daily.

    With ROLE (root, targets or a team) what that role signed is signed anew, for as long again. Documents that expire
    within a month are named.

    \b
    edgepatch publish refresh site/ --keys ~/online
    edgepatch publish refresh site/ targets root --keys /media/stick
    """
    from edgepatch.updates.host import publishing

    _report(publishing.refresh(repo, keys_folder, roles), as_json)


@command.command()
@click.argument("repo", metavar="REPO")
@click.argument("role")
@keys_option
@click.option("--public", metavar="FILE.pub", help="Of a team: its own new public key.")
@json_option
def rotate(repo: str, role: str, keys_folder: Path, public: str | None, as_json: bool) -> None:
    """Put a new key in the place of ROLE's: root, targets, snapshot, timestamp or a team.

    Needs the key of root, of a team that of targets; what ROLE signed is signed anew. The old key is good for nothing
    from then on: keep it no longer.

    \b
    edgepatch publish rotate site/ timestamp --keys ~/keys
    """
    from edgepatch.updates.host import ceremony
    from edgepatch.updates.host.publishing import Done

    found, pending = ceremony.rotate(repo, role, keys_folder, public=public)
    _report(Done(found, pending=pending), as_json)


@command.command("list")
@click.argument("repo", metavar="REPO")
@json_option
def list_(repo: str, as_json: bool) -> None:
    """Say what is published, who signs, and until when it is valid. Needs no key.

    \b
    edgepatch publish list site/
    """
    from edgepatch.errors import printable
    from edgepatch.updates.host import listing

    document = listing.describe(repo)
    roles = [["role", "version", "expires", "keys", "may sign"]]
    for row in document["roles"]:
        keys = f"{row['threshold']} of {len(row['keys'])}"
        roles.append([row["role"], str(row["version"]), row["expires"] or "-", keys, " ".join(row.get("tasks", []))])
    rows = [["file", "version", "size", "kind", "by"]]
    for each in [*document["graphs"], *document["patches"]]:
        name, version = each.get("task", each["path"]), str(each.get("version", ""))
        kind = f"{each['format']} {each['precision']}" if each["kind"] == "graph" else each["kind"]
        rows.append([printable(name), version, kib(each["length"]), printable(kind), each["role"]])
    show(document, "\n".join([table(roles), "", table(rows), *document["reminders"]]), as_json)


def _report(done: Done, as_json: bool) -> None:
    from edgepatch.updates import clock
    from edgepatch.updates.host import signing

    found = done.repository
    reminders = signing.reminders(found)
    document = {
        "repository": str(found.path),
        "added": [each.to_json() for each in done.added],
        "same": [each.to_json() for each in done.same],
        "removed": done.removed,
        "timestamp": found.timestamp.signed.version if found.timestamp else None,
        "expires": clock.write(found.timestamp.signed.expires) if found.timestamp else None,
        "pending": done.pending,
        "reminders": reminders,
    }
    lines = [
        f"{each.name}: version {each.version}, {kib(each.length)}, signed by {each.role}"
        if each.version
        else f"{each.name}: {kib(each.length)}, signed by {each.role}"
        for each in done.added
    ]
    lines += [f"{each.name}: is published already" for each in done.same]
    lines += [f"{place}: taken out" for place in done.removed]
    if done.pending:
        lines.append(
            f"Not signed, for their keys are elsewhere: {' and '.join(done.pending)}. Devices see this when "
            f"edgepatch publish refresh {found.path} has been run there."
        )
    elif found.timestamp:
        lines.append(
            f"{found.path}: {number_of(len(found.files()), 'file')}, valid until "
            f"{clock.write(found.timestamp.signed.expires)}"
        )
    show(document, "\n".join(lines + reminders), as_json)
