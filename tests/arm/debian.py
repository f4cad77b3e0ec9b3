"""A folder with a Python of another architecture, of Debian's packages.

apt chooses, fetches and checks them, with a state of its own in which nothing is installed and which this machine's
dpkg never hears of. Unpacking needs no rights and runs nothing of theirs.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from .devices import Machine
from .errands import SkippedError, must, need, outside

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
PACKAGES = ("python3", "python3-pip-whl", "libstdc++6", "libgomp1")  # of any machine; wheels bring the rest
CORES = 2  # that the emulated machine says it has


def root(folder: Path, machine: Machine, packages: tuple[str, ...]) -> Path:
    """The machine's files; at once where they are there already.

    Raises:
        SkippedError: apt, dpkg-deb, Debian's keys, its mirror or the network are absent.
        FailedError: apt or dpkg-deb failed otherwise.
    """
    made = folder / "root"
    recipe = json.dumps([machine.suite, machine.architecture, *packages])
    stamp = folder / "root.json"
    if not (stamp.exists() and stamp.read_text() == recipe):
        archives = _fetch(folder / "apt", machine, packages)
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir(parents=True)
        for archive in archives:
            must(["dpkg-deb", "-x", archive, made], f"unpacking {archive.name}")
        _finish(made)
        stamp.write_text(recipe)
    (made / "proc").mkdir(exist_ok=True)
    rows = "".join(machine.cpuinfo.format(number=number) for number in range(CORES))
    (made / "proc" / "cpuinfo").write_text(rows)
    return made


def versions(folder: Path) -> list[str]:
    """`NAME_VERSION` of the packages unpacked."""
    found = (path.name.rpartition("_")[0].replace("%3a", ":") for path in (folder / "apt").rglob("*.deb"))
    return sorted(found)


def _finish(made: Path) -> None:
    """What the packages' own scripts would have done, as far as it is needed: two links."""
    for name in ("bin", "lib", "sbin"):
        if not (made / name).exists():
            (made / name).symlink_to(f"usr/{name}")
    for library in ("blas", "lapack"):  # one of several that Debian lets one choose from
        for path in made.glob(f"usr/lib/*/{library}/lib{library}.so.3"):
            link = path.parent.parent / path.name
            if not link.is_symlink():
                link.symlink_to(f"{library}/{path.name}")


def _fetch(folder: Path, machine: Machine, packages: tuple[str, ...]) -> list[Path]:
    """The packages and all they depend on, as files. A broken download goes on where it stopped."""
    need("dpkg-deb", "dpkg")
    for name in ("state/lists/partial", "cache/archives/partial", "etc/apt.conf.d", "etc/preferences.d"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "state" / "status").touch()
    (folder / "etc" / "sources.list").write_text(f"deb [signed-by={KEYRING}] {mirror()} {machine.suite} main\n")
    settings = {
        "APT::Architecture": machine.architecture,
        "APT::Architectures": machine.architecture,
        "APT::Install-Recommends": "false",
        "APT::Sandbox::User": "",
        "Acquire::Languages": "none",
        "Acquire::Retries": "3",
        "Dir::State": f"{folder.resolve()}/state/",
        "Dir::State::status": f"{folder.resolve()}/state/status",
        "Dir::Cache": f"{folder.resolve()}/cache/",
        "Dir::Etc": f"{folder.resolve()}/etc/",
    }
    (folder / "apt.conf").write_text("".join(f'{name} "{value}";\n' for name, value in settings.items()))
    environment = outside(APT_CONFIG=str(folder.resolve() / "apt.conf"))
    what = f"fetching Debian's {machine.suite} for {machine.architecture}"
    must(["apt-get", "update", "-qq", "-o", "APT::Update::Error-Mode=any"], what, environment)
    must(["apt-get", "install", "-qq", "-y", "--download-only", *packages], what, environment)
    must(["apt-get", "autoclean", "-qq"], what, environment)  # what is not the newest
    return sorted((folder / "cache" / "archives").glob("*.deb"))


def mirror() -> str:
    """Where this machine has its own Debian packages from.

    Raises:
        SkippedError: it has none.
    """
    need("apt-get", "apt")
    listed = must(
        ["apt-get", "indextargets", "--format", "$(ORIGIN) $(LABEL) $(SITE)"], "asking for the mirror", outside()
    )
    sites = [line.split()[2] for line in listed.splitlines() if line.split()[:2] == ["Debian", "Debian"]]
    if not sites or not KEYRING.exists():
        raise SkippedError("apt knows no mirror of Debian here, or not its keys (apt-get update)")
    return sites[0]
