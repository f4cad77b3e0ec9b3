"""Makes the files anew, and README.md's table with what edgepatch says of each: `python -m tests.attacks`."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from . import FILES, HERE, SOUND, attacks, sound, trying
from .attack import LARGEST, Attack

BEGIN, END = "<!-- table -->", "<!-- end table -->"


def row(attack: Attack) -> str:
    """The table's line of a file."""
    with tempfile.TemporaryDirectory() as folder, _inside(folder):
        trying.laid_out(attack, Path(folder))
        found = trying.answer(attack)
    cells = [f"`{attack.name}`", attack.threat, attack.elsewhere, str(found.code), f"`{found.said}`"]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


class _inside:  # noqa: N801  # contextlib.chdir, which Python 3.10 lacks
    def __init__(self, folder: str) -> None:
        self._folder, self._before = folder, Path.cwd()

    def __enter__(self) -> None:
        os.chdir(self._folder)

    def __exit__(self, *_: object) -> None:
        os.chdir(self._before)


def main() -> None:
    shutil.rmtree(FILES, ignore_errors=True)
    FILES.mkdir()
    for name in SOUND:
        (FILES / name).write_bytes(sound(name))
    rows = []
    for attack in attacks():
        data = attack.make()
        if len(data) <= LARGEST:
            attack.path.write_bytes(data)
        rows.append(row(attack))
        print(rows[-1])
    page = HERE / "README.md"
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    head = "| file | threat | elsewhere | exit code | refusal |\n|---|---|---|---|---|"
    page.write_text(f"{before}{BEGIN}\n{head}\n" + "\n".join(rows) + f"\n{END}{after}", encoding="utf-8")
    sizes = [path.stat().st_size for path in FILES.iterdir()]
    print(f"{len(sizes)} files, {sum(sizes):,} bytes")


if __name__ == "__main__":
    main()
