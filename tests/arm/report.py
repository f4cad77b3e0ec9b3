"""What devices cost and how near they come, as tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .devices import Device
from .emulation import Installed
from .parity import Row
from .questions import Questions

Cost = dict[str, Any]


def costs(device: Installed, program: Path, asked: Questions) -> list[Cost]:
    """What `import edgepatch` and a prediction cost on a device, for each engine bound and baked.

    Args:
        program: `footprint.py`.
        asked: for each engine the graph of the shortest name is taken, with its first patch and picture.
    """
    bare = device.json(program)
    rows: dict[str, dict[str, Any]] = {}
    for row in sorted(asked, key=lambda row: len(row["graph"])):
        rows.setdefault(row["engine"], row)
    found = []
    for engine, row in rows.items():
        picture = row["pictures"][0] if isinstance(row["pictures"][0], str) else row["pictures"][0][0]
        for mode in row["modes"]:
            cost = device.json(program, row["graph"], row["patches"][0], picture, engine, mode)
            found.append({"device": device.device.name, "engine": engine, "mode": mode, "bare": bare, **cost})
    return found


def loaded_too_much(found: list[Cost]) -> list[str]:
    """What a device loads and must not."""
    wrong = []
    for row in found:
        for when, names in (("import edgepatch", row["heavy"]), ("a prediction", row["heavy_after"])):
            wrong += [f"{row['device']}: {when} loads {name}" for name in names]
    return wrong


def table(rows: list[list[str]]) -> str:
    """Rows as Markdown, the first one the columns' names."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def parity_table(device: Device, found: dict[tuple[str, str, str], Row]) -> str:
    """How near a device comes to its reference, a line for each graph, engine and mode."""
    names = "graph, engine, mode, answers, same input, same label, logits differ by, of the RMS, scores differ by"
    rows = [[*names.split(", "), "same boxes", "edges differ by", "masks differ by"]]
    for (graph, engine, mode), row in found.items():
        cells = [graph, engine, mode, f"{row.answers}", f"{row.alike}", "", "", "", f"{row.score:.1e}", "", "", ""]
        if row.labels[1]:
            cells[5:8] = [f"{row.labels[0]} of {row.labels[1]}", f"{row.logit:.2g}", f"{row.furthest:.1e}"]
        if row.boxes[1]:
            cells[9:11] = [f"{row.boxes[0]} of {row.boxes[1]}", f"{row.edge:.2g} px"]
        if row.masks:
            cells[11] = f"{row.pixels:.2%}"
        rows.append(cells)
    return f"\n{device.name} ({device.what}) against {device.like}\n\n{table(rows)}"


def cost_table(found: list[Cost]) -> str:
    """Seconds and MiB, a line for each device, engine and mode."""
    names = "device, engine, mode, import edgepatch, and its Runtime, Python alone, after import, after Runtime"
    rows = [[*names.split(", "), "graph and patch loaded", "after a prediction", "after ten", "qemu's own"]]
    for row in found:
        steps = {step["step"]: step for step in row["steps"]}
        last, seconds = row["steps"][-1], steps["import edgepatch"]["cpu_s"]
        told = ("import edgepatch", "edgepatch.Runtime", "load the patch", "first prediction")
        sizes = [row["bare"]["own"], *(steps[name]["own"] for name in told), last["own"], last["all"] - last["own"]]
        times = [f"{seconds:.3f} s", f"{seconds + steps['edgepatch.Runtime']['cpu_s']:.3f} s"]
        rows.append([row["device"], row["engine"], row["mode"], *times, *(f"{size:.1f}" for size in sizes)])
    words = (
        "Seconds of the processor, which on ARM are qemu's and no board's. MiB resident, without qemu's own, the last."
    )
    return f"\n{words}\n\n{table(rows)}"
