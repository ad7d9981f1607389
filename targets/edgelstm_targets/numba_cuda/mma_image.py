"""Lays weights out as fragments of tensor cores: what each lane of a warp holds, lane by lane.

The product is `streams (16) x inputs . inputs x units (8)`, of float16 (`mma.m16n8k16`) or of bytes
(`mma.m16n8k32`); in words of 32 bits both look the same. A fragment of the weights is two words a
lane, of unit `lane / 4`. Which input stands at which place of a product is free as long as both
sides agree: a lane takes two neighbouring words, and so reads its part of the vectors at once.
Weights are read for two products at a time (a pair), those of a last single product (the tail)
alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from edgelstm.engines.cuda_image import View
from edgelstm_compiler.ir.kernels import Phase
from edgelstm_targets.numba_cuda.image import ImageParts
from edgelstm_targets.numba_cuda.precision import (
    ITEMS,
    PackedPhase,
    PackedSection,
    Part,
    Stretch,
    WeightForm,
)

TILE_UNITS = 8
PAIR_BYTES = 512
"""Weights of two products and 8 units, of one gate."""

TAIL_BYTES = 256


class Operand(Enum):
    """Of what elements products are; the value: elements of a word."""

    HALVES = 2
    BYTES = 4

    @property
    def inputs(self) -> int:
        """Inputs of one product."""
        return 8 * self.value

    def count_pairs(self, extent: int) -> tuple[int, int]:
        """How many pairs, and how many tails (0 or 1), cover a vector."""
        pairs, rest = divmod(extent, 2 * self.inputs)
        if rest > self.inputs:
            return pairs + 1, 0
        return pairs, int(rest > 0)


def operand_of(form: WeightForm) -> Operand | None:
    """What products of such weights are made of, or None where tensor cores have none."""
    return _OPERANDS.get(form)


_OPERANDS = {
    WeightForm.F32: Operand.HALVES,
    WeightForm.F16: Operand.HALVES,
    WeightForm.BYTES: Operand.BYTES,
    WeightForm.PAIRS: Operand.BYTES,
}


@dataclass(frozen=True, slots=True)
class TiledPhase:
    """A phase of packed weights, and its units in tiles.

    Args:
        phase: the product.
        packed: where its parts stand in the blob.
        units: of the layer.
        tiles: of 8 units; those that overhang have weights of zero.
    """

    phase: Phase
    packed: PackedPhase
    units: int
    tiles: int

    @property
    def padded_units(self) -> int:
        """Units with those that overhang."""
        return self.tiles * TILE_UNITS


class FragmentImage(ImageParts):
    """Products as fragments."""

    def add_rows(self, part: Part, tiled: TiledPhase) -> int:
        """Biases or scales as words: [tile][unit / 2][row][unit % 2]; the place in the image."""
        split, order = (tiled.tiles, 4, 2, part.rows), (0, 1, 3, 2)
        return self._add_numbers(part, tiled, split, order)

    def add_peepholes(self, part: Part, tiled: TiledPhase) -> int:
        """Words: [unit][i, o, f]; returns the place in the image."""
        return self._add_numbers(part, tiled, (tiled.padded_units, part.rows), (0, 1))

    def _add_numbers(
        self, part: Part, tiled: TiledPhase, split: tuple[int, ...], order: tuple[int, ...]
    ) -> int:
        return self._add(
            part.offset,
            (tiled.units, part.rows),
            (part.stride // part.item, 1),
            (tiled.padded_units, part.rows),
            split,
            order,
            part.image or _WORDS.get(part.dtype, part.dtype),
            part.dtype,
            part.exponent,
        )

    def add_fragments(
        self, section: PackedSection, operand: Operand, extent: int, tiled: TiledPhase
    ) -> tuple[int, int]:
        """The weights of one section.

        Returns:
            places of the pairs, [tile][pair][gate][lane][product][2 words], and of the tail,
            [tile][gate][lane][2 words]; 0 where there is none.
        """
        pairs, tail = operand.count_pairs(extent)
        middle, tiles, gates, each = (
            2 * operand.inputs * pairs,
            tiled.tiles,
            section.gates,
            operand.value,
        )
        pair_place, tail_place = 0, 0
        if pairs:
            pair_place = self._add_weights(
                section,
                operand,
                tiled,
                _between(section, 0, middle),
                middle,
                (tiles, TILE_UNITS, pairs, 2, 4, 2, each, gates),
                (0, 2, 7, 1, 4, 3, 5, 6),
            )
        if tail:
            tail_place = self._add_weights(
                section,
                operand,
                tiled,
                _between(section, middle, extent),
                operand.inputs,
                (tiles, TILE_UNITS, 4, 2, each, gates),
                (0, 5, 1, 2, 3, 4),
            )
        return pair_place, tail_place

    def _add_weights(
        self,
        section: PackedSection,
        operand: Operand,
        tiled: TiledPhase,
        stretches: Sequence[Stretch],
        padded: int,
        split: tuple[int, ...],
        order: tuple[int, ...],
    ) -> int:
        first, *rest = (
            View(
                stretch.offset,
                (tiled.units, *stretch.counts, section.gates),
                (section.stride, *stretch.strides),
            )
            for stretch in stretches
        )
        return self._add(
            first.source,
            first.shape,
            first.strides,
            (tiled.padded_units, padded, section.gates),
            split,
            order,
            "f16" if operand is Operand.HALVES else "i8",
            section.form.stored,
            0,
            tuple(rest),
        )


_WORDS = {"i16": "i32"}
"""Types that fill no word, and what they become."""


def _between(section: PackedSection, first: int, last: int) -> list[Stretch]:
    """The inputs from `first` to `last`, which cut no group of them apart but the last."""
    found, at, item = [], 0, ITEMS[section.form.stored]
    for stretch in section.stretches:
        groups, each = stretch.counts
        low, high = (min(max(0, -(-(place - at) // each)), groups) for place in (first, last))
        at += math.prod(stretch.counts)
        if low < high:
            offset = stretch.offset + low * stretch.strides[0] * item
            found.append(Stretch(offset, (high - low, each), stretch.strides))
    return found
