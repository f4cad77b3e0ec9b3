"""Cutting the power of a patch store at every system call that changes the disk.

    recording.py    runs a change, writes down every call, and can let any of them fail
    cutting.py      what a disk may hold if the power goes after any of those calls
    script.py       a life of a store: every kind of change there is
    examining.py    is what a cut left the old state or the new one, whole, and does the store go on from there?
    processes.py    the same with real processes: killed by strace, or many at once

`python -m tests.crashing`, from the repository's root, runs all of it and prints the counts.
"""
