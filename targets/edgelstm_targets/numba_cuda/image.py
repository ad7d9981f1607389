"""Says how the weight blob of a program is laid out for a kernel: the list the engine follows."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edgelstm.engines.cuda_image import PART_ALIGNMENT, Layout, View
from edgelstm_targets.numba_cuda.pipeline import Constant, ElementwiseRole, LayerNormRole, Role
from edgelstm_targets.numba_cuda.precision import PackedSection, Part

TABLE_PAIRS = 512
"""Intervals of a table of a function; each is kept with both its ends."""

TABLE_BYTES = 4 * TABLE_PAIRS


@dataclass(frozen=True, slots=True)
class ProductShape:
    """How the units of a product are spread.

    Args:
        units: all of them.
        team: blocks that share them.
        passes: of each block over its units.
        tile: units of a pass.
        lanes: threads of a unit.
    """

    units: int
    team: int
    passes: int
    tile: int
    lanes: int

    @property
    def padded_units(self) -> int:
        """Units with those that overhang."""
        return self.team * self.passes * self.tile


@dataclass(frozen=True, slots=True)
class SharedWords:
    """What a kernel copies from the image to shared memory before the first frame.

    Args:
        image: offset there.
        shared: offset in shared memory.
        nbytes: size, of whole words.
    """

    image: int
    shared: int
    nbytes: int


class ImageParts:
    """Parts of an image, one behind the other."""

    def __init__(self) -> None:
        self.layouts: list[Layout] = []
        self.constants: dict[int, int] = {}
        self._tables: dict[int, SharedWords] = {}
        self._at = 0

    def add_constants(self, role: Role) -> None:
        """What a role reads beside packed weights, as it stands."""
        found: list[Constant | None] = []
        if isinstance(role, ElementwiseRole):
            operands = [change.operand for change in role.changes]
            found = [item for item in operands if isinstance(item, Constant)]
        if isinstance(role, LayerNormRole):
            found = [role.scale, role.bias]
        for item in found:
            if item is not None and item.offset_bytes not in self.constants:
                extents = (item.extent,)
                self.constants[item.offset_bytes] = self._add(
                    item.offset_bytes, extents, (1,), extents, extents, (0,)
                )

    def add_tables(self, role: Role, at: int) -> tuple[SharedWords | None, int]:
        """The tables of functions that a role looks up, or None: 513 int16 become pairs of ends.

        In shared memory they stand from `at` on, or where another role has them already.

        Returns:
            the tables, and the first byte that is free then.
        """
        offset, count = role.tables()
        if offset is None:
            return None, at
        if offset not in self._tables:
            pairs = (count, TABLE_PAIRS, 2)
            strides = (TABLE_PAIRS + 1, 1, 1)
            image = self._add(offset, pairs, strides, pairs, pairs, (0, 1, 2), "i16")
            self._tables[offset] = SharedWords(image, at, count * TABLE_BYTES)
            at += count * TABLE_BYTES
        return self._tables[offset], at

    def _add(
        self,
        source: int,
        shape: tuple[int, ...],
        strides: tuple[int, ...],
        padded: tuple[int, ...],
        split: tuple[int, ...],
        order: tuple[int, ...],
        dtype: str = "f32",
        stored: str | None = None,
        exponent: int = 0,
        more: tuple[View, ...] = (),
    ) -> int:
        kinds = dtype, dtype if stored is None else stored
        layout = Layout(
            self._at, source, shape, strides, padded, split, order, *kinds, exponent, more
        )
        self.layouts.append(layout)
        self._at += -(-layout.nbytes // PART_ALIGNMENT) * PART_ALIGNMENT
        return layout.place


class ImageBuilder(ImageParts):
    """Products as words: each thread's weights, by quads."""

    def add_rows(self, part: Part, shape: ProductShape) -> int:
        """Biases, scales, peepholes: [unit][row]; returns the place in the image."""
        padded = (shape.padded_units, part.rows)
        return self._add(
            part.offset,
            (shape.units, part.rows),
            (part.stride // part.item, 1),
            padded,
            padded,
            (0, 1),
            part.image or part.dtype,
            part.dtype,
            part.exponent,
        )

    def add_section(self, section: PackedSection, words: int, shape: ProductShape) -> int:
        """[block][pass][quad][gate][unit][lane][words]; returns the place in the image.

        Inputs of a quad are spread over the lanes in chunks, so that lanes read neighbours.
        """
        form, gates, each = section.form, section.gates, section.form.element_inputs
        extent = sum(math.prod(stretch.counts) for stretch in section.stretches)
        chunk = form.chunk(words) // each
        grain = words * form.inputs // each * shape.lanes
        chunks = grain // shape.lanes // chunk
        quads = -(-extent // grain)
        first, *rest = (
            View(
                stretch.offset,
                (shape.units, *stretch.counts, gates),
                (section.stride, *stretch.strides),
            )
            for stretch in section.stretches
        )
        return self._add(
            first.source,
            first.shape,
            first.strides,
            (shape.padded_units, quads * grain, gates),
            (shape.team, shape.passes, shape.tile, quads, chunks, shape.lanes, chunk, gates),
            (0, 1, 3, 7, 2, 5, 4, 6),
            form.stored,
            form.stored,
            0,
            tuple(rest),
        )

    def add_group_scales(self, section: PackedSection, shape: ProductShape) -> int:
        """[block][pass][quad][gate][unit][lane]; returns the place in the image, or -1."""
        if not section.group_scales:
            return -1
        first, gates = section.group_scales[0], section.gates
        quads = -(-len(section.group_scales) // shape.lanes)
        views = [
            View(part.offset, (shape.units, 1, gates), (part.stride // part.item, gates, 1))
            for part in section.group_scales
        ]
        return self._add(
            views[0].source,
            views[0].shape,
            views[0].strides,
            (shape.padded_units, quads * shape.lanes, gates),
            (shape.team, shape.passes, shape.tile, quads, shape.lanes, gates),
            (0, 1, 3, 5, 2, 4),
            "f32",
            first.dtype,
            first.exponent,
            tuple(views[1:]),
        )
