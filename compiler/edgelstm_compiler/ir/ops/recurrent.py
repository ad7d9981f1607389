"""A recurrent layer over a chunk of T frames, as the ONNX specification defines it (layout 0).

What the cell computes is data (`edgelstm.numerics.cells`); one file in `ir/cells` for each. Gates
stay in ONNX order. In a step graph T is 1 and the initial states are read from, and the final
states written to, the graph's states.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from typing import ClassVar

from edgelstm.dtypes import DType
from edgelstm.numerics.cells import Cell
from edgelstm.numerics.layer import Operands
from edgelstm_compiler.ir.activations import Activation
from edgelstm_compiler.ir.types import Op, TensorType, Tie

X, W, R, B, SEQUENCE_LENS, INITIAL_H, INITIAL_C, P = range(8)


class Direction(Enum):
    """In which order the frames are read."""

    FORWARD = "forward"
    REVERSE = "reverse"
    BIDIRECTIONAL = "bidirectional"

    @property
    def count(self) -> int:
        """D: 2 for bidirectional, else 1."""
        return 2 if self is Direction.BIDIRECTIONAL else 1


@dataclass(frozen=True, slots=True)
class Recurrent(Op):
    """A recurrent layer; a cell is a subclass with the attributes that its data is built from.

    Args:
        hidden: H.
        direction: order of the frames; D directions.
        activations: D times the cell's functions, in ONNX order.
        clip: bound of the inputs of the activations, or None.
        kept: of a forward layer without sequence_lens: the final states are those after so many
            frames, because the frames behind them come again with the next chunk; None: after all.

    Shapes:
        inputs: X (T, B, I), W (D, G*H, I), R (D, G*H, H) or None for cells that do not read it,
        B (D, 2*G*H) or None, sequence_lens (B,) int32 or None, for each state an initial one
        (D, B, H) or None, P (D, rows*H) or None.
        outputs: Y (T, D, B, H), and for each state the final one (D, B, H).
    """

    hidden: int
    direction: Direction
    activations: tuple[Activation, ...]
    clip: float | None
    kept: int | None = field(default=None, kw_only=True)

    why_no_integers: ClassVar[str] = ""
    """Why scheme int8-full has no form of the cell; "" if it has one."""

    def build(self, *, peepholes: bool) -> Cell:
        """The cell for these attributes.

        Args:
            peepholes: P is given.
        """
        raise NotImplementedError

    @property
    def has_peepholes(self) -> bool:
        """Whether the cell may be given P."""
        return self.cell(peepholes=True).peepholes > 0

    def cell(self, *, peepholes: bool = False) -> Cell:
        """The cell, built once."""
        return _built(self, peepholes)

    @property
    def gates(self) -> int:
        """G: rows of W and R per unit."""
        return len(self.cell().gates)

    @property
    def functions(self) -> int:
        """Activations per direction."""
        return len(self.cell().function_ranges)

    @property
    def state_count(self) -> int:
        """Carried tensors."""
        return len(self.cell().states)

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """Y and the final states; checks every weight's shape."""
        given = Operands.of(inputs)
        x: TensorType | None = given.x
        if x is None or x.rank != 3:
            raise ValueError(f"X must be (T, batch, input), found {x}")
        steps, batch, features = x.shape
        cell, count = self.cell(), self.direction.count
        rows = len(cell.gates) * self.hidden
        state = x.with_shape((count, batch, self.hidden))
        expected = {
            "W": (given.w, (count, rows, features)),
            "R": (given.r, (count, rows, self.hidden)),
            "B": (given.b, (count, 2 * rows)),
            "sequence_lens": (given.lengths, (batch,)),
            "initial_h": (given.initial_h, state.shape),
            "initial_c": (given.initial_c, state.shape),
            "P": (given.p, (count, self.cell(peepholes=True).peepholes * self.hidden)),
        }
        absent = {"R": not cell.is_recurrent, "P": not self.has_peepholes}
        absent["initial_c"] = not cell.states[1:]
        for name, (found, shape) in expected.items():
            if found is None:
                if name in ("W", "R") and not absent.get(name):
                    raise ValueError(f"{name} is missing")
                continue
            if absent.get(name):
                raise ValueError(f"{self.kind} has no {name}")
            if found.shape != shape:
                raise ValueError(f"{name} has shape {found.shape}, expected {shape}")
            wanted = DType.I32 if name == "sequence_lens" else x.dtype
            if found.dtype is not wanted:
                raise ValueError(f"{name} is {found.dtype.value}, expected {wanted.value}")
        if len(self.activations) != count * self.functions:
            raise ValueError(
                f"{len(self.activations)} activations, expected {count * self.functions}"
            )
        if self.kept is not None and not (
            1 <= self.kept < steps and self.direction is Direction.FORWARD and given.lengths is None
        ):
            raise ValueError(f"states kept after {self.kept} frames of {steps}")
        return (
            x.with_shape((steps, count, batch, self.hidden)),
            *([state] * len(cell.states)),
        )

    def ties(
        self, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        """Time and batch of X run through Y; batch runs through the states."""
        del inputs
        states = tuple(Tie(X, 1, index, 1) for index in range(1, len(outputs)))
        initial = tuple(Tie(INITIAL_H + i, 1, 1 + i, 1) for i in range(len(outputs) - 1))
        return (Tie(X, 0, 0, 0), Tie(X, 1, 0, 2), *states, *initial)


@cache
def _built(op: Recurrent, peepholes: bool) -> Cell:
    return op.build(peepholes=peepholes)
