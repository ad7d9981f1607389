"""Names that are given once."""

from __future__ import annotations


def unique_name(wish: str, taken: set[str]) -> str:
    """The wished name, with a number behind it where it is taken; taken it is from now on."""
    name, count = wish, 1
    while name in taken:
        count += 1
        name = f"{wish}.{count}"
    taken.add(name)
    return name
