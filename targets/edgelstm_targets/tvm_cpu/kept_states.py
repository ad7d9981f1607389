"""States as they are after some of a chunk's frames, where the frames behind come again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgelstm_targets.tvm_cpu import tensorir as tir
from edgelstm_targets.tvm_cpu.copying import copy_elements
from edgelstm_targets.tvm_cpu.tensorir import Buffer, Expr

if TYPE_CHECKING:
    from edgelstm_targets.tvm_cpu.recurrent import Layer


@dataclass(frozen=True, slots=True)
class KeptStates:
    """The states of one sequence, put aside at its kept frame, and back behind its last one.

    Args:
        frames: after so many they are kept (`Recurrent.kept`).
        states: which the frames change.
        at: element at which those of the sequence begin.
        aside: where they are kept meanwhile.
        units: elements of a state.
        singly: copy one by one, for processors without vectors.
    """

    frames: int
    states: Sequence[Buffer]
    at: Expr
    aside: Sequence[Buffer]
    units: int
    singly: bool

    @classmethod
    def of(cls, layer: Layer, at: Expr) -> KeptStates | None:
        """Of a layer's sequence; None where its final states are those after all frames."""
        op, states = layer.kernel.op, layer.memory.states
        if op.kept is None:
            return None
        types = layer.element_types(layer.kernel).states
        aside = [tir.local(op.hidden, dtype) for dtype in types]
        return cls(op.kept, states, at, aside, op.hidden, layer.isa.is_bare)

    def pass_frame(self, i: Expr) -> None:
        """Frame i has changed the states."""
        with tir.when(i == self.frames - 1):
            for state, aside in zip(self.states, self.aside, strict=True):
                self._copy(state, self.at, aside, tir.integer(0))

    def put_back(self) -> None:
        """Behind the last frame."""
        for state, aside in zip(self.states, self.aside, strict=True):
            self._copy(aside, tir.integer(0), state, self.at)

    def _copy(self, source: Buffer, start: Expr, target: Buffer, to: Expr) -> None:
        copy_elements(source, start, target, to, self.units, singly=self.singly)
