"""The cells that have device code, placed by hand: what everything but the device asks of them.

Their code is found by the same operators in `device/placed.py`, which needs Numba. A cell that is
not in this table is refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

from edgelstm_compiler.ir.cells import GRU, LSTM, RNN
from edgelstm_compiler.ir.ops.recurrent import Recurrent
from edgelstm_targets.numba_cuda.precision import Bytes, Full, Integer, Precision


class Carried(Enum):
    """What a lane carries for a unit from frame to frame, beside what products read."""

    CELL = auto()
    HIDDEN = auto()
    NOTHING = auto()


@dataclass(frozen=True, slots=True)
class Cost:
    """What a cell takes for a unit and stream, with the usual activations.

    Args:
        special: exponentials, reciprocals and tangents, and conversions of numbers.
        plain: other instructions.
        whole: those of them on integers, which go at half the rate.
        look_ups: of tables in shared memory.
        latency: cycles from its sums to its h.
    """

    special: int
    plain: int
    whole: int = 0
    look_ups: int = 0
    latency: int = 250


PLAIN_COST = Cost(2, 8)
"""Of one function, and nothing carried."""


@dataclass(frozen=True, slots=True)
class HandPlaced:
    """A cell with device code.

    Args:
        carried: by a lane.
        has_integers: there is code for int8-full.
        costs: by precision; `PLAIN_COST` for others.
    """

    carried: Carried
    has_integers: bool = True
    costs: Mapping[type, Cost] = field(default_factory=dict)

    def cost(self, precision: Precision) -> Cost:
        """Weights that are restored in registers cost what floats do."""
        kind = type(precision) if isinstance(precision, (Bytes, Integer)) else Full
        return self.costs.get(kind, PLAIN_COST)


HAND_PLACED: Mapping[type[Recurrent], HandPlaced] = {
    LSTM: HandPlaced(
        Carried.CELL,
        costs={
            Full: Cost(7, 33),
            Bytes: Cost(12, 80, latency=350),
            Integer: Cost(0, 105, 52, 5, 500),
        },
    ),
    GRU: HandPlaced(
        Carried.HIDDEN,
        costs={
            Full: Cost(4, 27),
            Bytes: Cost(8, 68, latency=350),
            Integer: Cost(0, 80, 36, 3, 450),
        },
    ),
    RNN: HandPlaced(Carried.NOTHING, has_integers=False),
}
"""By operator."""
