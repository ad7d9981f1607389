"""Kernels of a Program: what one native function computes, and how its weights are packed.

The packed mat-vec does nearly all the work. A `Phase` says which rows of the weights go into which
accumulators; packing (NumPy, `lowering/packing.py`) and code generation (a target) both read it, so
that a new cell is its phases plus its epilogue.

Packed weights of a kernel, all parts contiguous, elements of the kernel's dtype:

```
for direction d:
  for phase p:
    for block n of `unit_block` units:          units beyond H are zero
      bias        [accumulators][unit_block]
      peephole    [3: i, o, f][unit_block]      LSTM with P only
      section s:  [extent k][gates of s][unit_block]
```
A block is one linear read.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from edgelstm_compiler.ir.activations import Activation
from edgelstm_compiler.ir.ops import GRU, LSTM, RNN
from edgelstm_compiler.ir.types import Op


class Source(StrEnum):
    """The vector that a section is multiplied with."""

    X = "x"  # the frame; weight rows from W
    H = "h"  # the previous hidden state; weight rows from R
    RESET_H = "reset_h"  # reset gate times previous hidden state (GRU); weight rows from R


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the product: `extent` inputs, for each of them one weight per gate and unit.

    Args:
        source: the vector.
        extent: its length (I or H).
        gates: ONNX gate indices whose rows stand here, in packed order.
        accumulators: for each of them the accumulator it adds to.
    """

    source: Source
    extent: int
    gates: tuple[int, ...]
    accumulators: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Bias:
    """The bias of one accumulator: the sum of these rows of B.

    Args:
        input_gates: gates of Wb that are added.
        recurrent_gates: gates of Rb that are added.
    """

    input_gates: tuple[int, ...] = ()
    recurrent_gates: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Phase:
    """One pass over all units; a later phase may use what an earlier one computed for all units."""

    biases: tuple[Bias, ...]
    sections: tuple[Section, ...]

    @property
    def accumulators(self) -> int:
        """Sums per unit."""
        return len(self.biases)


class Kernel:
    """Base of all kernels: frozen dataclasses."""

    __slots__ = ()

    @property
    def kind(self) -> str:
        """Name in text forms and symbols."""
        return type(self).__name__


@dataclass(frozen=True, slots=True)
class RecurrentKernel(Kernel):
    """A recurrent layer over T frames, all its directions, on packed weights.

    Call inputs: x (T, B, I), packed weights (flat), sequence_lens (B,) int32 or None,
    initial_h (D, B, H) or None (zero), and for LSTM initial_c or None.
    Call outputs: y (T, D, B, H) or None if unused, y_h (D, B, H), and for LSTM y_c.
    y_h may be the very buffer of initial_h (y_c of initial_c): the layer then updates it in place.
    Workspace: `workspace_elements` elements.
    Frames at and beyond sequence_lens[b] leave the state alone and give zeros in y; a length of 0
    gives zeros in y_h and y_c too, whatever the initial state (as ONNX Runtime does).
    """

    op: LSTM | GRU | RNN
    steps: int
    batch: int
    features: int
    has_peepholes: bool
    unit_block: int
    phases: tuple[Phase, ...]

    @property
    def padded_hidden(self) -> int:
        """H rounded up to whole blocks."""
        return -(-self.op.hidden // self.unit_block) * self.unit_block

    @property
    def workspace_elements(self) -> int:
        """The new h, and where there are two phases the gates and r*h that they hand over."""
        return self.padded_hidden * (1 if len(self.phases) == 1 else 4)

    @property
    def workspace_bytes(self) -> int:
        """The same in bytes."""
        return self.workspace_elements * 4


@dataclass(frozen=True, slots=True)
class DenseKernel(Kernel):
    """activation(x @ w + b) for `rows` vectors, on packed weights.

    Call inputs: x (rows, K), packed weights (flat). Call outputs: y (rows, N).
    """

    rows: int
    features: int
    units: int
    activation: Activation | None
    unit_block: int
    phases: tuple[Phase, ...]


@dataclass(frozen=True, slots=True)
class OpKernel(Kernel):
    """Any other operator, on plain row-major tensors; call inputs and outputs are the op's."""

    op: Op


@dataclass(frozen=True, slots=True)
class CopyKernel(Kernel):
    """Copy one buffer to another of the same type."""
