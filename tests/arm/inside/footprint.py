"""What edgepatch costs on a device: `footprint.py [GRAPH PATCH PICTURE ENGINE MODE]` prints one JSON document.

Seconds of the processor and of the clock, and resident memory, step by step in one process. Under qemu the resident
memory has the emulator's own in it; what is the program's is told apart by the addresses that it sees itself.
"""

import sys
import time

before = set(sys.modules)
begun = time.perf_counter(), time.process_time()
if len(sys.argv) > 1:  # else this is a Python that does nothing, to hold the rest against
    import edgepatch
imported = time.perf_counter() - begun[0], time.process_time() - begun[1]
first = set(sys.modules) - before

import json  # noqa: E402
import platform  # noqa: E402

HEAVY = ("tensorflow", "keras", "onnx", "matplotlib", "numpy", "PIL", "click")
MiB = 2**20


def resident() -> dict[str, float]:
    """MiB of this process: `all`, and `own`, without what an emulator keeps beside the program."""
    there, seen = mappings("smaps"), mappings("maps")  # the first are the machine's, the second the program's
    shift = offset(there, seen)
    own = [row for row in there if any(mine[0] + shift < row[1] and row[0] < mine[1] + shift for mine in seen)]
    return {name: round(sum(row[3] for row in rows) / MiB, 2) for name, rows in (("all", there), ("own", own))}


def mappings(name):
    """Begin, end, file and resident bytes of each mapping in /proc/self/NAME."""
    found = []
    with open(f"/proc/self/{name}", encoding="utf-8", errors="replace") as stream:
        for line in stream:
            words = line.split()
            if words[0] == "Rss:":
                found[-1][3] = int(words[1]) * 1024
            elif not words[0].endswith(":"):
                begin, end = (int(part, 16) for part in words[0].split("-"))
                found.append([begin, end, words[5] if len(words) > 5 else "", 0])
    return found


def offset(there, seen) -> int:
    """How far from the program's addresses the machine's are: by a library that both say is there."""
    for _, _, file, _ in seen:
        places = [[row[0] for row in rows if row[2] == file] for rows in (there, seen)]
        if ".so" in file and all(places):
            return min(places[0]) - min(places[1])
    return 0


def main() -> None:
    graph, patch, picture, engine, mode = sys.argv[1:]
    steps = [{"step": "import edgepatch", "wall_s": imported[0], "cpu_s": imported[1], **resident()}]

    def step(name, work):
        wall, processor = time.perf_counter(), time.process_time()
        found = work()
        times = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - processor}
        steps.append({"step": name, **times, **resident()})
        return found

    step("edgepatch.Runtime", lambda: edgepatch.Runtime)
    runtime = step("open the graph", lambda: edgepatch.Runtime(graph, engine=engine, mode=mode))
    step("load the patch", lambda: runtime.load(patch))
    answer = step("first prediction", lambda: runtime.predict(picture))
    for _ in range(9):
        step("ten predictions", lambda: runtime.predict(picture))
    print(json.dumps({
        "machine": platform.machine(),
        "python": platform.python_version(),
        "modules": len(first),
        "heavy": sorted(name for name in HEAVY if name in first),
        "heavy_after": sorted(name for name in HEAVY[:4] if name in sys.modules),
        "steps": steps,
        "answer": answer.to_json(),
    }))  # fmt: skip


if __name__ == "__main__":
    if len(sys.argv) == 1:
        print(json.dumps(resident()))
    else:
        main()
