"""One target under atheris, in a process of its own, for libFuzzer ends the process: `worker.py TARGET ARGUMENT...`."""

from __future__ import annotations

import contextlib
import sys
import warnings

import atheris

with atheris.instrument_imports(include=["edgepatch"]):
    from tests.fuzz import guard, targets
    from tests.fuzz.dice import Dice

    TARGET = targets.load(sys.argv[1])
    for _seed in TARGET.seeds().values():  # whatever is imported late is imported, and counted, now
        with contextlib.suppress(Exception):
            TARGET.one(_seed)


def mutate(data: bytes, limit: int, seed: int) -> bytes:
    blind = atheris.Mutate
    return targets.mutated(TARGET, data, Dice(seed, lambda each, most: blind(each, max(most, 1))))[:limit]


def main() -> None:
    worst = guard.Peak()
    one = guard.limited(TARGET.one, worst)

    def counted(data: bytes) -> None:
        before = worst.taken
        one(data)
        if worst.taken > before:
            print(f"worst: {worst.taken} bytes of memory, an input of {worst.size}", file=sys.stderr, flush=True)

    guard.confine()
    warnings.simplefilter("error")
    atheris.Setup([sys.argv[0], *sys.argv[2:]], counted, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
