"""JSON changed as a hostile writer would: values out of range, of another type, missing, twice, nested without end."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

from .dice import Dice

# text that no json.dumps writes, put in the place of a value
RAW = (
    "1e999",
    "-1e999",
    "NaN",
    "Infinity",
    "1" * 5000,
    "-" + "9" * 4300,
    "1e-400",
    "-0",
    "-0.0",
    "0.1e1",
    "01",
    '"\\ud800"',
    '"\\u0000"',
    "[" * 2000,
    "[" * 900 + "]" * 900,
    '{"a":' * 2000,
    '{"a":1,"a":2}',
    "true",
    "null",
    "\ufeff1",
)
_MARK = "\ue000"  # a private character: what stands behind it is the number of a raw text
_MARKED = re.compile(f'"{_MARK}(\\d+)"(:)?')


def changed(value: Any, dice: Dice, times: int = 3) -> Any:
    """A copy of a document with one to `times` changes. Some leave values that only `text` can write."""
    holder = [copy.deepcopy(value)]
    for _ in range(1 if dice.one_in(2) else 1 + dice.below(times)):
        _change(holder, dice)
    return holder[0]


def text(value: Any) -> str:
    """A document as JSON, raw texts and duplicate keys included."""

    def raw(found: re.Match[str]) -> str:
        return RAW[int(found[1]) % len(RAW)] if not found[2] else found[0]

    plain = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return _MARKED.sub(raw, plain)


def _places(value: Any, into: list[tuple[Any, Any]]) -> None:
    """Every container with each of its keys."""
    stack = [value]
    while stack:
        each = stack.pop()
        keys: Any = each if isinstance(each, dict) else range(len(each))
        for key in keys:
            into.append((each, key))
            if isinstance(each[key], dict | list):
                stack.append(each[key])


def _change(holder: list[Any], dice: Dice) -> None:
    places: list[tuple[Any, Any]] = []
    _places(holder, places)
    # the deeper ones outnumber the fields by far, so that these get a chance of their own
    if dice.one_in(3):
        places = places[: 1 + len(holder[0]) if isinstance(holder[0], dict) else None]
    where, key = dice.pick(places)
    match dice.below(12):
        case 0:
            where[key] = dice.number()
        case 1:
            where[key] = dice.text()
        case 2:
            where[key] = dice.pick([None, True, False, [], {}, [[]], 0.5, -1.5, 1e300, 5e-324])
        case 3 if dice.one_in(3):  # most of them end the reading at once
            where[key] = f"{_MARK}{dice.below(len(RAW))}"
        case 4 if where is not holder:
            del where[key]
        case 5:
            another, its = dice.pick(places)
            where[key] = copy.deepcopy(another[its])
        case 6 if isinstance(where[key], list) and where[key]:
            _list(where[key], dice)
        case 7 if isinstance(where, dict):  # a key renamed, or one more
            new = where.pop(key) if dice.one_in(2) else copy.deepcopy(where[key])
            where[dice.pick([dice.text(), str(key) + "x", str(dice.pick(places)[1])])] = new
        case 8 if isinstance(where[key], str):
            where[key] = dice.blind(where[key].encode(errors="replace"), 300).decode(errors="replace")
        case 9 if isinstance(where[key], dict) and where[key]:
            items = list(where[key].items())
            dice.rng.shuffle(items)
            where[key] = dict(items)
        case _ if type(where[key]) in (int, float):
            where[key] += dice.pick([1, -1, 2, 8, -8, 0.5, where[key]])
        case _ if isinstance(where[key], list):
            where[key].append(copy.deepcopy(where[key][-1]) if where[key] else dice.number())


def _list(items: list[Any], dice: Dice) -> None:
    match dice.below(6):
        case 0:
            items *= dice.pick((2, 3, 50))
            del items[2000:]
        case 1:
            dice.rng.shuffle(items)
        case 2:
            items.pop(dice.below(len(items)))
        case 3:
            items.insert(dice.below(len(items) + 1), copy.deepcopy(dice.pick(items)))
        case 4:
            items.clear()
        case 5:
            items.reverse()
