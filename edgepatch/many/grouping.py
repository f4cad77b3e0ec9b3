"""Which tasks to train together, from their affinities."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

EXACT = 9  # tasks of which all 21,147 groupings are looked at; beyond, groups are merged step by step


def propose(matrix: np.ndarray, most: int = 0) -> list[list[int]]:
    """The grouping whose tasks gain most from the others of their groups; of equal ones the one with fewest groups.

    What a task gains in a group is the mean affinity of the others for it, and nothing where it is alone (Fifty et
    al., 2021, section 3.2; there groups may overlap, here a task has one backbone).

    Args:
        matrix: affinities (tasks, tasks), of the row's task for the column's.
        most: groups, at most; 0 for any number.

    Returns:
        Groups of task numbers, each in order, the one with the first task first.
    """
    count = len(matrix)
    most = most or count
    if count <= EXACT:
        found = max(_partitions(count, most), key=lambda groups: (round(gain(matrix, groups), 9), -len(groups)))
    else:
        found = _merged(matrix, most)
    return sorted(sorted(group) for group in found)


def gain(matrix: np.ndarray, groups: Sequence[Sequence[int]]) -> float:
    """What all tasks gain from their groups together."""
    return sum(
        float(np.mean([matrix[other, task] for other in group if other != task]))
        for group in groups
        if len(group) > 1
        for task in group
    )


def _partitions(count: int, most: int) -> Iterator[list[list[int]]]:
    """Every way to put tasks into at most so many groups."""

    def place(task: int, groups: list[list[int]]) -> Iterator[list[list[int]]]:
        if task == count:
            yield [list(group) for group in groups]
            return
        for group in groups:
            group.append(task)
            yield from place(task + 1, groups)
            group.pop()
        if len(groups) < most:
            groups.append([task])
            yield from place(task + 1, groups)
            groups.pop()

    return place(0, [])


def _merged(matrix: np.ndarray, most: int) -> list[list[int]]:
    """From single tasks on, the two groups whose union gains most are merged, as long as no union loses."""
    groups = [[task] for task in range(len(matrix))]
    while len(groups) > 1:
        pairs = [(a, b) for a in range(len(groups)) for b in range(a)]
        gains = [
            gain(matrix, [groups[a] + groups[b]]) - gain(matrix, [groups[a]]) - gain(matrix, [groups[b]])
            for a, b in pairs
        ]
        best = int(np.argmax(gains))
        if gains[best] < -1e-9 and len(groups) <= most:
            break
        a, b = pairs[best]
        groups[b] = groups[b] + groups[a]
        del groups[a]
    return groups
