"""Kills updates at every step at which they change a name on the disk; run by tests/test_update_attacks.py.

    python tests/killed_updates.py STORE WORK EVERY

Each child updates a fresh copy of STORE and exits, by os._exit, right before its n-th creation, rename or removal of a
file (Python's audit events, so that nobody can forget one). What it leaves has to be the old store or the new one, and
the next update has to complete. Prints {"points", "old", "new"}. EVERY: kill at each n-th of them only.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

from edgepatch.runtime.store import Store
from edgepatch.updates.device.limits import Limits
from edgepatch.updates.device.updating import update

CALM = Limits(stall=20.0, total=120.0, attempts=2, pause=0.01)
KILLED = 99


def kill_at(point: int, folder: str) -> None:
    """End this process before its `point`-th change below a folder."""
    left = [point]

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            changes = isinstance(flags, int) and bool(flags & (os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_RDWR))
        else:
            path, changes = arguments[0] if arguments else "", event in ("os.rename", "os.remove", "os.mkdir")
        if changes and str(path).startswith(folder):
            left[0] -= 1
            if left[0] == 0:
                os._exit(KILLED)

    sys.addaudithook(hook)


def installed(store: Path) -> dict[str, int]:
    return {task: active.version for task, active in Store.open(store).patches().items()}


def main(store: Path, work: Path, every: int) -> dict[str, int]:
    before = installed(store)
    shutil.copytree(store, work)
    update(work, limits=CALM)
    after = installed(work)
    assert after != before
    found = {"points": 0, "old": 0, "new": 0}
    point = 1
    while True:
        shutil.rmtree(work)
        shutil.copytree(store, work)
        child = os.fork()
        if child == 0:
            try:
                kill_at(point, str(work))
                update(work, limits=CALM)
                os._exit(0)
            finally:
                os._exit(1)
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        assert code in (0, KILLED), f"point {point}: exit code {code}"
        if code == 0:
            return found
        found["points"] += 1
        now = installed(work)
        assert now in (before, after), f"point {point}: {now}"
        found["old" if now == before else "new"] += 1
        assert update(work, limits=CALM).exit_code == 0, f"point {point}"
        assert installed(work) == after, f"point {point}"
        assert not list((work / "updates" / "parts").iterdir()), f"point {point}"
        point += every


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))))
