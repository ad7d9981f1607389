"""On which line of a TOML file a key stands: `tomllib` does not say for what it could read."""

from __future__ import annotations

import re
from collections.abc import Sequence

_HEADER = re.compile(r"\s*(\[\[?)\s*([^\[\]]+?)\s*\]\]?\s*(?:#.*)?$")
_PART = r"(?:[A-Za-z0-9_\-]+|\"[^\"]*\"|'[^']*')"
_KEY = re.compile(rf"\s*({_PART}(?:\s*\.\s*{_PART})*)\s*=")
_MULTILINE = ('"""', "'''")


def line_of(text: str, path: Sequence[str | int]) -> int | None:
    """The line, counted from 1, of a key or a table; None where it is not found.

    Args:
        text: of a file that `tomllib` reads.
        path: names, and the index of a table in an array of tables behind its name.
    """
    wanted = tuple(path)
    place: tuple[str | int, ...] = ()
    counts: dict[tuple[str | int, ...], int] = {}
    best: tuple[int, int] | None = None
    quote = ""
    for number, line in enumerate(text.splitlines(), 1):
        if quote:
            quote = "" if quote in line else quote
            continue
        header = _HEADER.match(line)
        if header:
            place = _split(header.group(2))
            if header.group(1) == "[[":
                counts[place] = counts.get(place, -1) + 1
                place = (*place, counts[place])
            elif place[:1] in counts and len(place) > 1:
                place = (place[0], counts[place[:1]], *place[1:])
            found = place
        else:
            key = _KEY.match(line)
            if key is None:
                continue
            found = (*place, *_split(key.group(1)))
            quote = next((mark for mark in _MULTILINE if line.count(mark) == 1), "")
        if found == wanted[: len(found)] and (best is None or len(found) > best[0]):
            best = (len(found), number)
    return best[1] if best else None


def _split(name: str) -> tuple[str | int, ...]:
    return tuple(part.strip().strip("\"'") for part in name.split("."))
