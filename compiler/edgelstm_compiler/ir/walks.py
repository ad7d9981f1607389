"""Gathers along an axis that walk through all of it, and repeat or mirror what stands at its ends.

That is what Pad with `edge` and `reflect` becomes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np

from edgelstm_compiler.ir.types import Array


class Beyond(Enum):
    """What stands in front of the first element and behind the last."""

    EDGE = "edge"
    REFLECT = "reflect"
    WRAP = "wrap"


@dataclass(frozen=True, slots=True)
class Walk:
    """All elements in order, with some more at both ends.

    Args:
        before, behind: how many more.
        head, tail: which; of no meaning where there are none.
    """

    before: int
    behind: int
    head: Beyond
    tail: Beyond


def walk_of(places: Array, extent: int) -> Walk | None:
    """The walk that indices along an axis make; None where they make none.

    Shapes:
        places (n,)
    """
    if places.ndim != 1 or len(places) <= extent or extent < 2:
        return None
    places = np.where(places < 0, places + extent, places).astype(np.int64)
    for before in range(len(places) - extent + 1):
        if np.array_equal(places[before : before + extent], np.arange(extent)):
            head = _beyond(-1 - np.arange(before)[::-1], places[:before], extent)
            behind = places[before + extent :]
            tail = _beyond(extent + np.arange(len(behind)), behind, extent)
            return None if head is None or tail is None else Walk(before, len(behind), head, tail)
    return None


def is_spread(places: Array, extent: int) -> bool:
    """Whether indices go through an axis from one end to the other, slower than one by one.

    Shapes:
        places (n,)
    """
    if places.ndim != 1 or len(places) <= extent or extent < 2:
        return False
    steps = np.diff(places)
    ends = (int(places[0]), int(places[-1]))
    return bool(((steps == 0) | (steps == 1)).all()) and ends == (0, extent - 1)


def _beyond(wanted: Array, found: Array, extent: int) -> Beyond | None:
    """How elements that are not there are made of those that are."""
    mirrored = np.abs(wanted)
    mirrored = np.where(mirrored >= extent, 2 * (extent - 1) - mirrored, mirrored)
    for kind, places in (
        (Beyond.EDGE, np.clip(wanted, 0, extent - 1)),
        (Beyond.REFLECT, mirrored),
        (Beyond.WRAP, wanted % extent),
    ):
        if np.array_equal(places, found):
            return kind
    return None
