"""Fuzzes everything that reads files: `python -m tests.fuzz --help`."""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgepatch.errors import EdgepatchError, UsageError

from . import corpus, guard, guided, minimise, plain, targets
from .plain import Result


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", nargs="*", help=f"of {', '.join(targets.names())}; all if none is named")
    parser.add_argument("--executions", type=int, help="how many inputs, of all targets together")
    parser.add_argument("--seconds", type=float, help="how long, all targets together; 120 if nothing else is said")
    parser.add_argument("--plain", action="store_true", help="without atheris: chance from a seed, no coverage")
    parser.add_argument("--replay", action="store_true", help="what is kept alone: crashes, seeds and evolved inputs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", action="store_true", help="pack what has evolved into corpus.tar.xz")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    parser.add_argument("--examine", nargs=3, metavar=("TARGET", "INPUT", "SMALL"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    warnings.simplefilter("error")  # what a hostile file makes numpy warn of is printed on somebody's terminal
    if options.examine:
        return examine(*options.examine)
    try:
        results = run(options)
    except EdgepatchError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    for name, result in results.items():
        for problem, data in result.crashes.items():
            if data and not options.replay:
                print(f"kept {corpus.keep_crash(name, data)}: {problem}", file=sys.stderr)
    if options.keep:
        print(f"corpus.tar.xz: {corpus.pack(evolved(list(results))):,} bytes", file=sys.stderr)
    print(json.dumps(document(results)) if options.json else table(results))
    return 1 if any(result.crashes for result in results.values()) else 0


def run(options: argparse.Namespace) -> dict[str, Result]:
    """Each target in turn, with its share of the executions and seconds.

    Raises:
        UsageError: there is no such target.
        MissingPackageError: atheris is not installed.
    """
    chosen = options.target or targets.names()
    if unknown := [name for name in chosen if name not in targets.names()]:
        raise UsageError("there is no such target", got=unknown[0], expected=", ".join(targets.names()))
    seconds = options.seconds if options.seconds or options.executions else 120.0
    each: Callable[..., Result] = plain.run
    if options.plain or options.replay:
        guard.confine(cpu_seconds=600 if options.replay else None)
    else:
        guided.require_atheris()
        each = guided.run
    found = {}
    for name in chosen:
        found[name] = each(
            name,
            targets.load(name),
            0 if options.replay else -(-(options.executions or 10**12) // len(chosen)),
            None if seconds is None else seconds / len(chosen),
            options.seed,
        )
        row = found[name]
        print(f"{name}: {row.executions:,} in {row.seconds:.0f} s, {len(row.crashes)} crashes", file=sys.stderr)
    return found


def evolved(names: list[str]) -> dict[str, dict[str, bytes]]:
    """What runs under atheris have left."""
    folders = {name: guided.WORK / name for name in names}
    return {
        name: {path.name: path.read_bytes() for path in folder.iterdir()}
        for name, folder in folders.items()
        if folder.is_dir()
    }


def examine(name: str, path: str, small: str) -> int:
    """What a crash is, and its input made smaller: for `guided`, in a process that may end."""
    guard.confine(cpu_seconds=guided.EXAMINING)
    one, data = guard.limited(targets.load(name).one), Path(path).read_bytes()
    problem = guard.outcome(one, data)
    if problem:
        data = minimise.smallest(data, lambda each: guard.outcome(one, each) == problem)
    Path(small).write_bytes(data)
    print(json.dumps({"problem": problem}))
    return 0


def document(results: dict[str, Result]) -> dict[str, Any]:
    rows = {
        name: {
            "executions": row.executions,
            "seconds": round(row.seconds, 1),
            **row.coverage,
            "most_memory_bytes": row.worst.taken,
            "of_input_bytes": row.worst.size,
            "crashes": sorted(row.crashes),
        }
        for name, row in results.items()
    }
    return {
        "targets": rows,
        "executions": sum(row.executions for row in results.values()),
        "crashes": sum(len(row.crashes) for row in results.values()),
    }


def table(results: dict[str, Result]) -> str:
    rows = [
        "| target | executions | a second | edges | features | inputs kept | most memory, KiB | crashes |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, row in results.items():
        cover = [f"{row.coverage[key]:,}" if key in row.coverage else "" for key in ("edges", "features", "corpus")]
        speed = row.executions / max(row.seconds, 1e-9)
        cells = [name, f"{row.executions:,}", f"{speed:,.0f}", *cover, f"{row.worst.taken / 1024:,.0f}"]
        rows.append("| " + " | ".join([*cells, str(len(row.crashes))]) + " |")
    total, crashes = (document(results)[key] for key in ("executions", "crashes"))
    return "\n".join([*rows, f"| all | {total:,} | | | | | | {crashes} |"])


if __name__ == "__main__":
    sys.exit(main())
