"""Programs that this one starts, and why it may not come to anything."""

from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

HOURS = 3600
# how apt and pip say that nobody answers
OFFLINE = re.compile(
    "could not resolve|could not connect|cannot initiate the connection|unable to connect|connection timed out|"
    "temporary failure|network is unreachable|newconnectionerror|max retries exceeded|connection refused|timed out",
    re.IGNORECASE,
)


class SkippedError(Exception):
    """Something is absent that this needs: qemu, Debian's tools, the network."""


class FailedError(Exception):
    """A program failed; its last words."""


def need(program: str, package: str) -> str:
    """Where a program is.

    Raises:
        SkippedError: nowhere.
    """
    if not (found := shutil.which(program)):
        raise SkippedError(f"there is no {program} (apt-get install {package})")
    return found


def run(
    command: Sequence[str | Path], environment: Mapping[str, str] | None = None, folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; both its outputs as text, whatever came of it."""
    return subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        env=environment,
        cwd=folder,
        timeout=2 * HOURS,
        stdin=subprocess.DEVNULL,
        preexec_fn=_no_core,
    )


def must(
    command: Sequence[str | Path],
    what: str,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> str:
    """As `run`, for what has to succeed; its standard output.

    Raises:
        SkippedError: it found no network.
        FailedError: it failed otherwise.
    """
    done = run(command, environment, folder)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        if unanswered := [line for line in said if OFFLINE.search(line)]:
            raise SkippedError(f"{what} needs a network: {unanswered[-1].strip()[:160]}")
        raise FailedError(f"{what} failed ({done.returncode}):\n" + "\n".join(said[-20:]))
    return done.stdout


def outside(**more: str) -> dict[str, str]:
    """The environment of programs of this machine, in plain English."""
    return {**os.environ, "LC_ALL": "C", **more}


def _no_core() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
