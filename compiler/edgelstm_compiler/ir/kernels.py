"""Kernels of a Program: what one native function computes, and how its weights are packed.

The packed mat-vec does nearly all the work. A `Phase` says which rows of the weights go into which
accumulators, as the cell's data has it; packing (NumPy, `lowering/layer_rows.py`) and code
generation (a target) both read it.

How they are packed depends on the numerics of a layer (`ir/numerics.py`): direction by direction,
phase by phase, in blocks of `unit_block` units; those beyond H are zero. A block is one linear
read.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from edgelstm.numerics.cells import Cell, CellPhase, Matrix, Term
from edgelstm.numerics.cells import X as FRAME
from edgelstm_compiler.ir.activations import Activation
from edgelstm_compiler.ir.numerics import FLOAT32, LayerSizes, Numerics
from edgelstm_compiler.ir.ops.recurrent import Recurrent
from edgelstm_compiler.ir.types import Op


class Source(StrEnum):
    """The vector that a section is multiplied with."""

    X = "x"  # the frame; weight rows from W
    H = "h"  # the previous hidden state; weight rows from R
    RESET_H = "reset_h"  # what an earlier phase stored of all units; weight rows from R


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


def phases_of(cell: Cell, hidden: int, features: int) -> tuple[Phase, ...]:
    """The phases of a cell as packing reads them: terms with the same operand are one section."""
    return tuple(_phase(phase, cell, hidden, features) for phase in cell.phases)


def _phase(phase: CellPhase, cell: Cell, hidden: int, features: int) -> Phase:
    found: dict[str, list[tuple[int, Term]]] = {}
    for accumulator, total in enumerate(phase.sums):
        for term in total.terms:
            found.setdefault(term.operand, []).append((accumulator, term))
    sections = tuple(
        Section(
            _source(operand, cell),
            features if operand == FRAME else hidden,
            tuple(term.gate for _, term in terms),
            tuple(accumulator for accumulator, _ in terms),
        )
        for operand, terms in found.items()
    )
    biases = tuple(
        Bias(
            tuple(term.gate for term in total.terms if term.matrix is Matrix.W),
            tuple(term.gate for term in total.terms if term.matrix is Matrix.R),
        )
        for total in phase.sums
    )
    return Phase(biases, sections)


def _source(operand: str, cell: Cell) -> Source:
    if operand == FRAME:
        return Source.X
    return Source.H if operand in cell.state_names else Source.RESET_H


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
    for each state an initial one (D, B, H) or None (zero); in integers its tables are the last.
    Call outputs: y (T, D, B, H) or None if unused, for each state the final one (D, B, H),
    which may be the very buffer of the initial one: the layer then updates it in place.
    Workspace: `ir/workspace.py`.
    Frames at and beyond sequence_lens[b] leave the state alone and give zeros in y; a length of 0
    gives zeros in the final states too, whatever the initial ones (as ONNX Runtime does).
    Where `columns` is above 1, so many elements of the batch go through the layer together; there
    are no sequence_lens then.
    """

    op: Recurrent
    steps: int
    batch: int
    features: int
    has_peepholes: bool
    unit_block: int
    phases: tuple[Phase, ...]
    numerics: Numerics = FLOAT32
    columns: int = 1

    @property
    def cell(self) -> Cell:
        """What it computes."""
        return self.numerics.cell(self.op, peepholes=self.has_peepholes)

    @property
    def padded_hidden(self) -> int:
        """H rounded up to whole blocks."""
        return -(-self.op.hidden // self.unit_block) * self.unit_block

    @property
    def sizes(self) -> LayerSizes:
        """What its workspace depends on."""
        return LayerSizes(self.features, self.padded_hidden, len(self.cell.handed))


@dataclass(frozen=True, slots=True)
class DenseKernel(Kernel):
    """activation(x @ w + b) for `rows` vectors, on packed weights.

    Call inputs: x (rows, K), packed weights (flat); in integers its table, or None. Call outputs:
    y (rows, N). In integers the activation stands in the numerics. Where `columns` is above 1, so
    many rows are computed together.
    """

    rows: int
    features: int
    units: int
    activation: Activation | None
    unit_block: int
    numerics: Numerics = FLOAT32
    columns: int = 1

    @property
    def phases(self) -> tuple[Phase, ...]:
        """One, with one sum over x."""
        return (Phase((Bias((0,)),), (Section(Source.X, self.features, (0,), (0,)),)),)


@dataclass(frozen=True, slots=True)
class OpKernel(Kernel):
    """Any other operator, on plain row-major tensors; call inputs and outputs are the op's."""

    op: Op


@dataclass(frozen=True, slots=True)
class CopyKernel(Kernel):
    """Copy one buffer to another of the same type."""


LayerKernel = RecurrentKernel | DenseKernel
"""Kernels with packed weights; call input 1 has them."""
