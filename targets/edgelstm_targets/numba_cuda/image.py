"""Says how the weight blob of a program is laid out for a kernel: the list the engine follows."""

from __future__ import annotations

from dataclasses import dataclass

from edgelstm.engines.cuda_image import PART_ALIGNMENT, Layout
from edgelstm_compiler.ir.kernels import Phase
from edgelstm_targets.numba_cuda.pipeline import Constant, ElementwiseRole, LayerNormRole, Role

_PEEPHOLES = 3
_QUAD = 4


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

    @staticmethod
    def unit_elements(phase: Phase, has_peepholes: bool) -> int:
        """Packed elements of one unit: bias, peepholes, sections (`ir/kernels.py`, blocks of 1)."""
        sections = sum(section.extent * len(section.gates) for section in phase.sections)
        return phase.accumulators + (_PEEPHOLES if has_peepholes else 0) + sections


class ImageBuilder:
    """Parts of an image, one behind the other."""

    def __init__(self) -> None:
        self.layouts: list[Layout] = []
        self.constants: dict[int, int] = {}
        self._at = 0

    def add_bias(self, phase: Phase, shape: ProductShape, source: int, has_peepholes: bool) -> int:
        """[unit][accumulator]; returns the place in the image."""
        stride = shape.unit_elements(phase, has_peepholes)
        return self._add_rows(source, shape, phase.accumulators, stride)

    def add_peepholes(self, phase: Phase, shape: ProductShape, source: int) -> int:
        """[unit][i, o, f]; returns the place in the image."""
        stride = shape.unit_elements(phase, True)
        return self._add_rows(source + 4 * phase.accumulators, shape, _PEEPHOLES, stride)

    def add_section(
        self, phase: Phase, index: int, shape: ProductShape, source: int, has_peepholes: bool
    ) -> int:
        """[block][pass][quad][gate][unit][lane][4]; returns the place in the image."""
        stride = shape.unit_elements(phase, has_peepholes)
        before = phase.accumulators + (_PEEPHOLES if has_peepholes else 0)
        before += sum(s.extent * len(s.gates) for s in phase.sections[:index])
        section = phase.sections[index]
        gates = len(section.gates)
        grain = _QUAD * shape.lanes
        quads = -(-section.extent // grain)
        return self._add(
            source + 4 * before,
            (shape.units, section.extent, gates),
            (stride, gates, 1),
            (shape.padded_units, quads * grain, gates),
            (shape.team, shape.passes, shape.tile, quads, shape.lanes, _QUAD, gates),
            (0, 1, 3, 6, 2, 4, 5),
        )

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

    def _add_rows(self, source: int, shape: ProductShape, count: int, stride: int) -> int:
        padded = (shape.padded_units, count)
        return self._add(source, (shape.units, count), (stride, 1), padded, padded, (0, 1))

    def _add(
        self,
        source: int,
        shape: tuple[int, ...],
        strides: tuple[int, ...],
        padded: tuple[int, ...],
        split: tuple[int, ...],
        order: tuple[int, ...],
    ) -> int:
        layout = Layout(self._at, source, shape, strides, padded, split, order)
        self.layouts.append(layout)
        self._at += -(-layout.nbytes // PART_ALIGNMENT) * PART_ALIGNMENT
        return layout.place
