"""Lays weights out as fragments of `mma.m16n8k16`: what each lane of a warp holds, lane by lane.

The product is `streams (16) x inputs (16) . inputs (16) x units (8)`. A fragment of the weights is
two words a lane: unit `lane / 4`, inputs `2 (lane % 4) + {0, 1}` and 8 more. Which input stands at
which place of a product is free as long as both sides agree: a lane takes 4 neighbouring inputs,
and so reads its part of the vectors at once. Weights are read for two products at a time (a pair),
those of a last single product (the tail) alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgelstm_compiler.ir.kernels import Phase
from edgelstm_targets.numba_cuda.image import ImageParts

TILE_UNITS = 8
PAIR = 32
TAIL = 16
PAIR_BYTES = 512
"""Weights of 32 inputs and 8 units, of one gate."""

TAIL_BYTES = 256
_PEEPHOLES = 3


def count_pairs(extent: int) -> tuple[int, int]:
    """How many pairs, and how many tails (0 or 1), cover a vector."""
    pairs, rest = divmod(extent, PAIR)
    if rest > TAIL:
        return pairs + 1, 0
    return pairs, int(rest > 0)


@dataclass(frozen=True, slots=True)
class TiledPhase:
    """A phase of float32 weights, packed unit by unit (`ir/kernels.py`), and its units in tiles.

    Args:
        phase: the product.
        source: offset of its weights in the blob.
        units: of the layer.
        tiles: of 8 units; those that overhang have weights of zero.
        has_peepholes: they stand behind the biases.
    """

    phase: Phase
    source: int
    units: int
    tiles: int
    has_peepholes: bool

    @property
    def padded_units(self) -> int:
        """Units with those that overhang."""
        return self.tiles * TILE_UNITS

    @property
    def stride(self) -> int:
        """Packed elements of a unit."""
        return self.before(len(self.phase.sections))

    @property
    def size(self) -> int:
        """Bytes of all units in the blob."""
        return 4 * self.units * self.stride

    def before(self, index: int) -> int:
        """Packed elements of a unit before a section."""
        sections = self.phase.sections[:index]
        return (
            self.phase.accumulators
            + (_PEEPHOLES if self.has_peepholes else 0)
            + sum(section.extent * len(section.gates) for section in sections)
        )


class FragmentImage(ImageParts):
    """Products as fragments."""

    def add_bias(self, tiled: TiledPhase) -> int:
        """[tile][unit / 2][accumulator][unit % 2]; returns the place in the image."""
        count = tiled.phase.accumulators
        return self._add(
            tiled.source,
            (tiled.units, count),
            (tiled.stride, 1),
            (tiled.padded_units, count),
            (tiled.tiles, 4, 2, count),
            (0, 1, 3, 2),
        )

    def add_peepholes(self, tiled: TiledPhase) -> int:
        """[unit][i, o, f]; returns the place in the image."""
        padded = (tiled.padded_units, _PEEPHOLES)
        start = tiled.source + 4 * tiled.phase.accumulators
        extents = (tiled.units, _PEEPHOLES)
        return self._add(start, extents, (tiled.stride, 1), padded, padded, (0, 1))

    def add_fragments(self, tiled: TiledPhase, index: int) -> tuple[int, int]:
        """The weights of one section as float16.

        Returns:
            places of the pairs, [tile][pair][gate][lane][product][2][2], and of the tail,
            [tile][gate][lane][2][2]; 0 where there is none.
        """
        section, units, tiles = tiled.phase.sections[index], tiled.units, tiled.tiles
        gates = len(section.gates)
        pairs, tail = count_pairs(section.extent)
        start, pair_place, tail_place = tiled.source + 4 * tiled.before(index), 0, 0
        strides = (tiled.stride, gates, 1)
        if pairs:
            extent = min(section.extent, PAIR * pairs)
            pair_place = self._add(
                start,
                (units, extent, gates),
                strides,
                (tiled.padded_units, PAIR * pairs, gates),
                (tiles, TILE_UNITS, pairs, 2, 4, 2, 2, gates),
                (0, 2, 7, 1, 4, 3, 5, 6),
                "f16",
                "f32",
            )
        if tail:
            extent = section.extent - PAIR * pairs
            tail_place = self._add(
                start + 4 * PAIR * pairs * gates,
                (units, extent, gates),
                strides,
                (tiled.padded_units, TAIL, gates),
                (tiles, TILE_UNITS, 4, 2, 2, gates),
                (0, 5, 1, 2, 3, 4),
                "f16",
                "f32",
            )
        return pair_place, tail_place
