"""What the integer cells share: bounds of their sums, and where their tables stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgelstm.numerics.integers import (
    SIGNED_FRACTION,
    UNIT_FRACTION,
    clip_limit,
)
from edgelstm_compiler.ir.ops import Recurrent
from edgelstm_targets.numba_cuda.device.rounding import (
    make_clamp,
    make_rounding_shift,
    saturate16,
)
from edgelstm_targets.numba_cuda.device.tables import table_address
from edgelstm_targets.numba_cuda.places import RoleThreads

to_q15 = make_rounding_shift(15)
"""A product of two numbers in Q0.15, as one."""


@dataclass(frozen=True, slots=True)
class Gates:
    """Args: bounds of sums in front of gates in [0, 1] and of candidates; addresses of tables."""

    bound_unit: Any
    bound_signed: Any
    tables: tuple[int, ...]

    def table(self, function: int) -> int:
        """Address of a function's table in shared memory, beyond the base."""
        return self.tables[function]


def make_gates(cell: Recurrent, tables: Sequence[int], place: RoleThreads) -> Gates:
    """The gates of a cell.

    Args:
        cell: the float operator.
        tables: the table of each function.
        place: of the role.
    """
    return Gates(
        _make_bound(cell.clip, UNIT_FRACTION),
        _make_bound(cell.clip, SIGNED_FRACTION),
        tuple(table_address(place, index) for index in tables),
    )


def _make_bound(clip: float | None, fraction: int) -> Any:
    """b(s): saturated to int16, and within the cell's clip."""
    if clip is None:
        return saturate16
    limit = clip_limit(clip, fraction)
    return make_clamp(-limit, limit)
