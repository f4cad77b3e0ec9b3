"""Golden vectors, which Python (tests/test_golden.py) and Kotlin (android_demo/patchkit) both must come to.

`python -m tests.golden` makes everything under data/ anew; README.md says what is there.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "data"


def document(name: str) -> Any:
    """What data/NAME.json says."""
    return json.loads((DATA / f"{name}.json").read_text(encoding="utf-8"))


def graph(name: str) -> bytes:
    """The bytes of a shared graph, by its file's name without .gz."""
    return gzip.decompress((DATA / "graphs" / f"{name}.gz").read_bytes())


def patch(name: str) -> bytes:
    """The bytes of a patch file, by its name without .epatch."""
    return (DATA / "patches" / f"{name}.epatch").read_bytes()


def source(name: str) -> bytes:
    """The bytes of a file that broken ones are made of: a patch's or a graph's, by the name of its file."""
    return patch(name.removesuffix(".epatch")) if name.endswith(".epatch") else graph(name)
