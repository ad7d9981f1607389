"""LSTM, GRU and RNN over a chunk of T frames, as the ONNX specification defines them (layout 0).

Gates stay in ONNX order: LSTM i, o, f, candidate; GRU z, r, candidate. In a step graph T is 1 and
the initial states are read from, and the final states written to, the graph's states.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from edgelstm.dtypes import DType
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
    """What the three cells have in common.

    Args:
        hidden: H.
        direction: order of the frames; D directions.
        activations: D times the cell's functions, in ONNX order (LSTM f, g, h; GRU f, g; RNN f).
        clip: bound of the inputs of the activations, or None.

    Shapes:
        inputs: X (T, B, I), W (D, G*H, I), R (D, G*H, H), B (D, 2*G*H) or None,
        sequence_lens (B,) int32 or None, initial_h (D, B, H) or None,
        and for LSTM initial_c (D, B, H) or None, P (D, 3*H) or None.
        outputs: Y (T, D, B, H), Y_h (D, B, H), and for LSTM Y_c (D, B, H).
    """

    hidden: int
    direction: Direction
    activations: tuple[Activation, ...]
    clip: float | None

    @property
    def gates(self) -> int:
        """G: rows of W and R per unit."""
        raise NotImplementedError

    @property
    def functions(self) -> int:
        """Activations per direction."""
        raise NotImplementedError

    @property
    def state_count(self) -> int:
        """Carried tensors: 2 for LSTM (h, c), else 1 (h)."""
        return 1

    def infer(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """Y, Y_h (and Y_c); checks every weight's shape."""
        padded = (*inputs, *([None] * (8 - len(inputs))))
        x = padded[X]
        if x is None or x.rank != 3:
            raise ValueError(f"X must be (T, batch, input), found {x}")
        steps, batch, features = x.shape
        count, rows = self.direction.count, self.gates * self.hidden
        expected = {
            W: ("W", (count, rows, features)),
            R: ("R", (count, rows, self.hidden)),
            B: ("B", (count, 2 * rows)),
            SEQUENCE_LENS: ("sequence_lens", (batch,)),
            INITIAL_H: ("initial_h", (count, batch, self.hidden)),
            INITIAL_C: ("initial_c", (count, batch, self.hidden)),
            P: ("P", (count, 3 * self.hidden)),
        }
        for index, (name, shape) in expected.items():
            found = padded[index]
            if found is None:
                if index in (W, R):
                    raise ValueError(f"{name} is missing")
                continue
            if index in (INITIAL_C, P) and self.state_count == 1:
                raise ValueError(f"{self.kind} has no {name}")
            if found.shape != shape:
                raise ValueError(f"{name} has shape {found.shape}, expected {shape}")
            wanted = DType.I32 if index == SEQUENCE_LENS else x.dtype
            if found.dtype is not wanted:
                raise ValueError(f"{name} is {found.dtype.value}, expected {wanted.value}")
        if len(self.activations) != count * self.functions:
            raise ValueError(
                f"{len(self.activations)} activations, expected {count * self.functions}"
            )
        state = x.with_shape((count, batch, self.hidden))
        return (x.with_shape((steps, count, batch, self.hidden)), *([state] * self.state_count))

    def ties(
        self, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]
    ) -> tuple[Tie, ...]:
        """Time and batch of X run through Y; batch runs through the states."""
        del inputs
        states = tuple(Tie(X, 1, index, 1) for index in range(1, len(outputs)))
        initial = tuple(
            Tie(source, 1, output, 1)
            for source, output in ((INITIAL_H, 1), (INITIAL_C, 2))
            if output < len(outputs)
        )
        return (Tie(X, 0, 0, 0), Tie(X, 1, 0, 2), *states, *initial)


@dataclass(frozen=True, slots=True)
class LSTM(Recurrent):
    """Long short-term memory; with peepholes P and input_forget (f = 1 - i).

    i = f(Wi x + Ri h + b + Pi*c), o = f(... + Po*c'), f = f(... + Pf*c), g = g(...);
    c' = f*c + i*g, h' = o*h(c'); clip bounds the inputs of the gates, not c' before h.
    Source: ONNX operators, LSTM-22; clip as in ONNX Runtime.
    """

    input_forget: bool = False

    @property
    def gates(self) -> int:
        """i, o, f, candidate."""
        return 4

    @property
    def functions(self) -> int:
        """f, g, h."""
        return 3

    @property
    def state_count(self) -> int:
        """H and c."""
        return 2


@dataclass(frozen=True, slots=True)
class GRU(Recurrent):
    """Gated recurrent unit, with the reset gate before or after the recurrent product.

    z = f(...), r = f(...); n = g(Wn x + Rn (r*h) + b) or, with linear_before_reset,
    n = g(Wn x + r*(Rn h + Rb) + Wb); h' = (1 - z)*n + z*h.  Source: ONNX operators, GRU-22.
    """

    linear_before_reset: bool = False

    @property
    def gates(self) -> int:
        """z, r, candidate."""
        return 3

    @property
    def functions(self) -> int:
        """f, g."""
        return 2


@dataclass(frozen=True, slots=True)
class RNN(Recurrent):
    """Simple recurrence h' = f(W x + R h + b).  Source: ONNX operators, RNN-22."""

    @property
    def gates(self) -> int:
        """One."""
        return 1

    @property
    def functions(self) -> int:
        """F."""
        return 1
