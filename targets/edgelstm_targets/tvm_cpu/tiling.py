"""How a product of many rows with packed weights is cut: rows by columns by vectors of outputs."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

from edgelstm_targets.processors.isa import InstructionSet

_MOST_VECTORS = 4
_MOST_ROWS = 4
_LATENCY = 4
"""Multiply-adds that must be under way at once."""


@dataclass(frozen=True, slots=True)
class Lanes:
    """A vector of outputs.

    Args:
        first: output of the tile that its first lane is.
        lanes: how many.
        count: of them that exist.
    """

    first: int
    lanes: int
    count: int


@dataclass(frozen=True, slots=True)
class Pass:
    """Outputs that are summed together.

    Args:
        first: of them.
        repeats: how often the pass is done, each time with the next outputs.
        vectors: they stand in.
    """

    first: int
    repeats: int
    vectors: tuple[Lanes, ...]

    @property
    def outputs(self) -> int:
        """That one turn of it has."""
        return sum(vector.count for vector in self.vectors)


@dataclass(frozen=True, slots=True)
class Tiling:
    """How positions and outputs are cut.

    Args:
        rows: positions of a tile along the last axis but one.
        columns: and along the last one.
        passes: over the outputs.
    """

    rows: int
    columns: int
    passes: tuple[Pass, ...]


def choose_tiling(
    isa: InstructionSet, rows: int, columns: int, outputs: int, unit_block: int
) -> Tiling:
    """The tiles that take the least time by count of multiply-adds and loads.

    The last tile of an axis lies over the one before it where the positions do not divide.

    Args:
        isa: the instruction set; three quarters of its registers hold sums.
        rows: positions along the last axis but one.
        columns: and along the last one.
        outputs: of a group.
        unit_block: outputs in a block of weights.
    """
    lanes = min(isa.lanes, unit_block)
    held = isa.registers * 3 // 4
    found: list[tuple[float, Tiling]] = []
    for vectors in range(1, _MOST_VECTORS + 1):
        passes = _passes(lanes, outputs, vectors)
        width = vectors * lanes
        is_one = len(passes) == passes[0].repeats == 1
        if width % unit_block and unit_block % width and not is_one:
            continue  # a pass would begin in one place of a block, the next one in another
        most = held // max(len(part.vectors) for part in passes)
        for down, across in product(range(1, min(rows, _MOST_ROWS) + 1), range(1, columns + 1)):
            if down * across > most:
                break
            tiles = -(-rows // down) * -(-columns // across)
            cost = tiles * sum(part.repeats * _cost(isa, part, down * across) for part in passes)
            found.append((cost, Tiling(down, across, passes)))
    return min(found, key=lambda each: each[0])[1]


def _cost(isa: InstructionSet, each: Pass, positions: int) -> float:
    """Of one row of weights."""
    width = sum(vector.lanes for vector in each.vectors) / isa.lanes
    loads = (len(each.vectors) + positions) * 0.75
    return max(positions * width, loads, _LATENCY) + 0.25


def _passes(lanes: int, outputs: int, vectors: int) -> tuple[Pass, ...]:
    """As many whole turns as there are, and one for the rest."""
    each = vectors * lanes
    whole = outputs // each
    found = []
    if whole:
        full = tuple(Lanes(k * lanes, lanes, lanes) for k in range(vectors))
        found.append(Pass(0, whole, full))
    rest = outputs - whole * each
    if rest:
        part = tuple(
            _last(k * lanes, min(lanes, rest - k * lanes), lanes) for k in range(-(-rest // lanes))
        )
        found.append(Pass(whole * each, 1, part))
    return tuple(found)


def _last(first: int, count: int, lanes: int) -> Lanes:
    """As narrow as the outputs that are left allow."""
    while lanes >= 2 * count and lanes > 1:
        lanes //= 2
    return Lanes(first, lanes, count)
