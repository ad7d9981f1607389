"""Says how the weight blob of a program is laid out for a kernel: the list the engine follows."""

from __future__ import annotations

from dataclasses import dataclass

from edgelstm.engines.cuda_image import PART_ALIGNMENT, Layout
from edgelstm_targets.numba_cuda.pipeline import Constant, ElementwiseRole, LayerNormRole, Role
from edgelstm_targets.numba_cuda.precision import Part, WeightForm

TABLE_PAIRS = 512
"""Intervals of a table of a function; each is kept with both its ends."""

_ITEMS = {"f32": 4, "f16": 2, "i8": 1, "i16": 2, "i32": 4}


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


class ImageBuilder:
    """Parts of an image, one behind the other."""

    def __init__(self) -> None:
        self.layouts: list[Layout] = []
        self.constants: dict[int, int] = {}
        self._at = 0

    def add_rows(self, part: Part, shape: ProductShape) -> int:
        """Biases, scales, peepholes: [unit][row]; returns the place in the image."""
        item = _ITEMS[part.dtype]
        padded = (shape.padded_units, part.rows)
        return self._add(
            part.offset,
            (shape.units, part.rows),
            (part.stride // item, 1),
            padded,
            padded,
            (0, 1),
            part.dtype,
        )

    def add_section(
        self, part: Part, form: WeightForm, words: int, extent: int, shape: ProductShape
    ) -> int:
        """[block][pass][quad][gate][unit][lane][words]; returns the place in the image.

        Inputs of a quad are spread over the lanes in chunks, so that lanes read neighbours.
        """
        item, gates, each = _ITEMS[part.dtype], part.rows, form.element_inputs
        chunk = form.chunk(words)
        chunks = words * form.inputs // chunk
        quads = -(-extent // (words * form.inputs * shape.lanes))
        inner = (quads, chunks, shape.lanes, chunk // each)
        return self._add(
            part.offset,
            (shape.units, -(-extent // each), gates),
            (part.stride // item, gates, 1),
            (shape.padded_units, quads * words * form.inputs * shape.lanes // each, gates),
            (shape.team, shape.passes, shape.tile, *inner, gates),
            (0, 1, 3, 7, 2, 5, 4, 6),
            part.dtype,
        )

    def add_table(self, offset: int, count: int) -> int:
        """Tables of 513 int16 as pairs (entry, next entry); returns the place in the image."""
        pairs = (count, TABLE_PAIRS, 2)
        return self._add(offset, pairs, (TABLE_PAIRS + 1, 1, 1), pairs, pairs, (0, 1, 2), "i16")

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

    def _add(
        self,
        source: int,
        shape: tuple[int, ...],
        strides: tuple[int, ...],
        padded: tuple[int, ...],
        split: tuple[int, ...],
        order: tuple[int, ...],
        dtype: str = "f32",
    ) -> int:
        layout = Layout(self._at, source, shape, strides, padded, split, order, dtype, dtype)
        self.layouts.append(layout)
        self._at += -(-layout.nbytes // PART_ALIGNMENT) * PART_ALIGNMENT
        return layout.place
