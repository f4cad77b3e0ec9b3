"""edgepatch publish: a folder of signed updates, which any static web server hosts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgepatch.cli.common import json_option, kib, number_of, show, table

if TYPE_CHECKING:
    from edgepatch.updates.host.done import Done

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
    help="How long what a role signs is valid, in m, h or d: timestamp=36h. By default root, targets and teams 365d, "
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
    edgepatch publish create site/ --keys ~/keys --root-keys 3 --threshold 2
    edgepatch publish create site/ --keys ~/keys --expires timestamp=36h --expires targets=90d
    """
    from edgepatch.errors import UsageError
    from edgepatch.updates import clock, names
    from edgepatch.updates.host import ceremony, keys

    periods = {}
    for text in expires:
        role, _, span = text.partition("=")
        if role not in names.ROLES:
            raise UsageError("is no role", field="--expires", got=text[:40], expected=" or ".join(names.ROLES))
        periods[role] = clock.period(span)
    made = ceremony.create(repo, keys_folder, periods=periods, root_keys=root_keys, threshold=threshold)
    root = made.path / names.METADATA / "1.root.json"
    own = sorted(str(keys.place(keys_folder, role, key)) for role in names.ROLES for key in made.keys(role)[0])
    document = {"repository": repo, "root": str(root), "keys": own}
    lines = [f"{repo}: an empty repository.", f"Devices need {root}, once, by a safe way.", "Keys:"]
    show(document, "\n".join([*lines, *(f"  {path}" for path in own)]), as_json)


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
@click.option("--remove", "without", metavar="TASK", multiple=True, help="Take a task out in the same step.")
@click.option("--remove-graph", "without_graphs", metavar="NAME", multiple=True, help="Take a graph out, too.")
@json_option
def add(
    repo: str,
    patches: tuple[str, ...],
    keys_folder: Path,
    graphs: tuple[str, ...],
    team: str | None,
    renumber: bool,
    without: tuple[str, ...],
    without_graphs: tuple[str, ...],
    as_json: bool,
) -> None:
    """Check files, and publish all of them or none.

    Every patch has to fit every graph of the repository, and its version has to be above the one that is published.
    Where the keys of snapshot and timestamp are elsewhere, `publish refresh` there lets devices see it.

    \b
    edgepatch publish add site/ --graph mobilenet.tflite flowers.epatch --keys ~/keys
    edgepatch publish add site/ bird-owls.epatch --team birders --keys ~/keys
    edgepatch publish add site/ old-flowers.epatch --renumber --keys ~/keys
    edgepatch publish add site/ birds-2.epatch --graph next.tflite --remove-graph mobilenet.tflite --remove flowers \\
      --keys ~/keys
    """
    from edgepatch.errors import UsageError
    from edgepatch.updates.host import publishing

    if not patches and not graphs:
        raise UsageError("there is nothing to publish", expected="patches, or --graph FILE")
    done = publishing.add(
        repo,
        patches,
        keys_folder,
        graph_files=graphs,
        team=team,
        renumber=renumber,
        without=without,
        without_graphs=without_graphs,
    )
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
    edgepatch publish remove site/ bird-owls --team birders --keys ~/keys
    edgepatch publish remove site/ --graph mobilenet-int8.tflite --keys ~/keys
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

    if dismiss:
        done = ceremony.dismiss(repo, name, keys_folder)
    else:
        done = ceremony.team(repo, name, keys_folder, patterns=patterns, public=public)
    _report(done, as_json)


@command.command()
@click.argument("repo", metavar="REPO")
@click.argument("roles", metavar="[ROLE]...", nargs=-1)
@keys_option
@json_option
def refresh(repo: str, roles: tuple[str, ...], keys_folder: Path, as_json: bool) -> int:
    """Sign a new timestamp and, where due, a new snapshot, before they expire: for cron, daily.

    With ROLE (root, targets or a team) what that role signed is signed anew, for as long again. Documents that expire
    within a month are named; if root or targets has expired, so that devices refuse the whole site, the exit code is 1.

    \b
    edgepatch publish refresh site/ --keys ~/online
    edgepatch publish refresh site/ targets root --keys /media/stick
    """
    from edgepatch.updates.host import publishing, reminders

    done = publishing.refresh(repo, keys_folder, roles)
    _report(done, as_json)
    return 1 if reminders.expired(done.repository) else 0


@command.command()
@click.argument("repo", metavar="REPO")
@click.argument("role")
@keys_option
@click.option("--public", metavar="FILE.pub", help="Of a team: its own new public key.")
@json_option
def rotate(repo: str, role: str, keys_folder: Path, public: str | None, as_json: bool) -> None:
    """Put a new key in the place of ROLE's: root, targets, snapshot, timestamp or a team.

    Needs the key of root, of a team that of targets; what ROLE signed is signed anew. The old key is good for nothing
    from then on: delete it. With --public only the team can sign anew what it signed: it publishes all its tasks again,
    in one command, and until then devices keep what they have of them.

    \b
    edgepatch publish rotate site/ timestamp --keys ~/keys
    edgepatch publish rotate site/ root --keys /media/stick
    edgepatch publish rotate site/ birders --public birders-2.pub --keys ~/keys
    """
    from edgepatch.updates.host import ceremony

    _report(ceremony.rotate(repo, role, keys_folder, public=public), as_json)


@command.command("list")
@click.argument("repo", metavar="REPO")
@json_option
def list_(repo: str, as_json: bool) -> int:
    """Say what is published, who signs, until when it is valid, and whether devices take it. Needs no key.

    EXPIRED is refused by devices, NOT VISIBLE is before them after the next refresh, NOT SIGNED by the role's present
    key; of files MISSING or DAMAGED on this disk. One of these is exit code 1. Signatures: how many keys of a role have
    to sign, and how many it has.

    \b
    edgepatch publish list site/
    """
    from edgepatch.errors import printable
    from edgepatch.updates.host import listing

    document = listing.describe(repo)
    roles = [["role", "version", "state", "expires", "signatures", "may sign"]]
    for row in document["roles"]:
        keys = f"{row['threshold']} of {number_of(len(row['keys']), 'key')}"
        may = " ".join(row.get("tasks", []))
        roles.append([row["role"], str(row["version"]), row["state"], row["expires"] or "-", keys, may])
    rows = [["file", "version", "state", "size", "kind", "by"]]
    for each in [*document["graphs"], *document["patches"]]:
        name, version = each.get("task", each["path"]), str(each.get("version", ""))
        kind = f"{each['format']} {each['precision']}" if each["kind"] == "graph" else each["kind"]
        rows.append([printable(name), version, each["state"], kib(each["length"]), printable(kind), each["role"]])
    show(document, "\n".join([table(roles), "", table(rows), *document["reminders"]]), as_json)
    return 0 if listing.is_sound(document) else 1


def _report(done: Done, as_json: bool) -> None:
    from edgepatch.updates import clock
    from edgepatch.updates.host import reminders

    found = done.repository
    told = reminders.of(found)
    document = {
        "repository": str(found.path),
        "added": [each.to_json() for each in done.added],
        "same": [each.to_json() for each in done.same],
        "removed": list(done.removed),
        "timestamp": found.timestamp.signed.version if found.timestamp else None,
        "expires": clock.write(found.timestamp.signed.expires) if found.timestamp else None,
        "pending": done.pending,
        "notes": done.notes,
        "expired": reminders.expired(found),
        "reminders": told,
    }
    lines = [
        f"{each.name}: version {each.version}, {kib(each.length)}, signed by {each.role}"
        if each.version
        else f"{each.name}: {kib(each.length)}, signed by {each.role}"
        for each in done.added
    ]
    lines += [f"{each.name}: is published already" for each in done.same]
    lines += [f"{name}: taken out" for name in done.removed.values()]
    lines += done.notes
    if done.pending:
        lines.append(
            f"Not signed, for their keys are elsewhere: {' and '.join(done.pending)}. Devices see this when "
            f"edgepatch publish refresh {found.path} has been run where they are."
        )
    elif found.timestamp:
        lines.append(
            f"{found.path}: {number_of(len(found.files()), 'file')}, valid until "
            f"{clock.write(found.timestamp.signed.expires)}"
        )
    show(document, "\n".join(lines + told), as_json)
