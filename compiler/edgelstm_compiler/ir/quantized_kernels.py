"""Kernels of quantized layers: how their weights are packed; the contract for code generators.

What they compute is the operator of the same name (`ir/ops/quantized_int8.py`,
`ir/ops/quantized_integer.py`; for stored weights the float operator on dequantized weights).
Phases, sections and accumulators are those of `ir/kernels.py`. All packed weights are u8 arrays;
numbers in them are little-endian and aligned to their size. U is unit_block, units beyond H are
zero, and a line `[a][U]` holds a rows of U elements.

```
for direction d:
  for phase p:
    for block n of U units:
      Integer
        bias i32 [accumulators][U], for each section multiplier i16 [gates of s][U],
        peephole i16 [rows of P][U] (where P is given), zeros up to a multiple of 64 bytes
        for each section s: u8 [ceil(k / 4)][gates of s][U][4], zeros up to a multiple of 64 bytes
      Stored, Int8
        for each section s:
          F16       f16 [k][gates of s][U]
          I8        i8  [k][gates of s][U]
          I4        for each group of 32 k (the last one may be shorter):
                      scale [gates of s][U]: code u8, or f16
                      u8 [ceil(group / 2)][gates of s][U]: k even low, k odd high, each plus 8
          Int8      u8  [floor(k / 4)][gates of s][U][4]
        beside them, those of wide elements first:
          peephole  f32 [rows of P][U]              where P is given
          bias      [accumulators][U]: i16, or f32
          scale     I8, Int8: for each section [gates of s][U]: code u8, or f32; or for the last one
          tail      Int8: what is left of k / 4: u16 [gates of s][U] of two k, then u8 of one
        zeros up to a multiple of 64 bytes, or of 16 where that would be more than 1/64 of the block
Int8: x_inverse f32 [I], once
```
Integer layers are packed as their target's `BytePacking` says: other multiples of bytes than 64,
other groups than 4, other offsets for each byte of a group.

4 consecutive k of a unit stand in 32 bits, with zero weights beyond the extent; each byte is the
weight plus weight_offset. With weight_offset 128 the bytes are unsigned, for instructions that
multiply u8 weights with s8 activations (vpdpbusd): sum of (w + 128) q = sum of w q + 128 * (sum of
q), so that one number per step and section corrects all rows. The padded activations must be zero.
An i16 activation is 256 * high + low with low in [-128, 127]: two products of bytes, or products of
16 bits after extending the weights; the sums are the same int32.

What stands beside the weights is coded where that loses nothing (`codes`, `ir/compact.py`): the
quantizer rounds to what has codes.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgelstm.dtypes import DType
from edgelstm.numerics.cells import Cell
from edgelstm_compiler.ir.compact import LineCodes
from edgelstm_compiler.ir.kernels import DenseKernel, Kernel, Phase, RecurrentKernel
from edgelstm_compiler.ir.ops.quantized import Storage
from edgelstm_compiler.ir.ops.quantized_int8 import Int8Recurrent
from edgelstm_compiler.ir.ops.quantized_integer import IntegerDense, IntegerRecurrent

LINE = 64
"""Bytes that heads, sections and blocks are padded to."""

SHORT_LINE = 16
"""Bytes that blocks are padded to where a whole line would be too much."""

K_GROUP = 4
"""Consecutive inputs that stand together in the integer layouts."""


@dataclass(frozen=True, slots=True)
class BytePacking:
    """How a target wants the weights of Integer layers.

    Args:
        unit_block: U.
        offsets: what is added to the weights of consecutive inputs, in turn: 0 or 128.
        group: consecutive inputs of a unit that stand together; a multiple of len(offsets).
        line: bytes that heads, sections and the vectors of a workspace are padded to.
        vector_bytes: of an element of x or h as the products read it; 0: two, or four where x has
            two itself.
    """

    unit_block: int
    offsets: tuple[int, ...] = (0,)
    group: int = K_GROUP
    line: int = LINE
    vector_bytes: int = 0

    def padded(self, nbytes: int) -> int:
        """Rounded up to whole lines."""
        return -(-nbytes // self.line) * self.line

    def vector_size(self, extent: int, x_dtype: DType | None) -> int:
        """Bytes of a prepared vector, padded to lines; x_dtype None: it is int8 h."""
        if self.vector_bytes:
            return self.padded(-(-extent // self.group) * self.group * self.vector_bytes)
        return self.padded(2 * extent * (1 if x_dtype is None else x_dtype.itemsize))


@dataclass(frozen=True, slots=True)
class StoredRecurrentKernel(Kernel):
    """A RecurrentKernel whose weights are stored in fewer bits; its calls are the same."""

    layer: RecurrentKernel
    storage: Storage
    codes: LineCodes

    @property
    def workspace_bytes(self) -> int:
        """That of the layer."""
        return self.layer.workspace_bytes


@dataclass(frozen=True, slots=True)
class StoredDenseKernel(Kernel):
    """A DenseKernel whose weights are stored in fewer bits; its calls are the same."""

    layer: DenseKernel
    storage: Storage
    codes: LineCodes


@dataclass(frozen=True, slots=True)
class Int8RecurrentKernel(Kernel):
    """An Int8Recurrent; calls are those of a RecurrentKernel.

    Args:
        op: what it computes.
        layer: the float layer: sizes and phases.
        weight_offset: 0 or 128, see above.
        codes: of what stands beside the weights.
    """

    op: Int8Recurrent
    layer: RecurrentKernel
    weight_offset: int
    codes: LineCodes

    @property
    def workspace_bytes(self) -> int:
        """The layer's, then q(x) of a frame and q(h) (and q(r*h)), padded to lines."""
        layer = self.layer
        inputs = layer.features * self.op.x_dtype.itemsize
        return sum(
            map(
                _lines,
                (layer.workspace_bytes, 2 * inputs, layer.padded_hidden, layer.padded_hidden),
            )
        )


@dataclass(frozen=True, slots=True)
class Int8DenseKernel(Kernel):
    """An Int8Dense on `rows` vectors; calls are those of a DenseKernel, with a workspace."""

    layer: DenseKernel
    x_dtype: DType
    x_zero_point: int
    weight_offset: int
    codes: LineCodes

    @property
    def workspace_bytes(self) -> int:
        """The quantized x of one row, twice (for high and low bytes)."""
        return _lines(2 * self.layer.features * self.x_dtype.itemsize)


@dataclass(frozen=True, slots=True)
class IntegerRecurrentKernel(Kernel):
    """An IntegerRecurrent.

    Call inputs: x (T, B, I) i8 or i16, packed weights u8, sequence_lens (B,) i32 or None,
    for each state an initial one (D, B, H) or None, tables (n, 513) i16 as the last input.
    Call outputs: y (T, D, B, H) i8 or None if unused, and for each state the final one, which
    may be the buffer of the initial one.

    Args:
        op: what it computes.
        steps, batch, features: T, B, I.
        x_dtype: i8 or i16.
        has_peepholes: P is given.
        phases: as in `ir/kernels.py`.
        packing: of the weights.
        is_x_bounded: no element of x is the lowest integer of its type.
    """

    op: IntegerRecurrent
    steps: int
    batch: int
    features: int
    x_dtype: DType
    has_peepholes: bool
    phases: tuple[Phase, ...]
    packing: BytePacking
    is_x_bounded: bool = False

    @property
    def cell(self) -> Cell:
        """What it computes."""
        return self.op.integer_cell(peepholes=self.has_peepholes)

    @property
    def padded_hidden(self) -> int:
        """H rounded up to whole blocks."""
        hidden, block = self.op.cell.hidden, self.packing.unit_block
        return -(-hidden // block) * block

    @property
    def new_h_bytes(self) -> int:
        """Bytes of the new h, at the beginning of the workspace."""
        return self.packing.padded(self.op.state_types[0].itemsize * self.padded_hidden)

    @property
    def handed_bytes(self) -> int:
        """Bytes of what phases hand over, each as int16, behind the new h."""
        return len(self.cell.handed) * self.packing.padded(2 * self.padded_hidden)

    @property
    def vector_bytes(self) -> tuple[int, int]:
        """Bytes of h (and r*h), then of x as products read them, behind that."""
        h = self.packing.vector_size(self.padded_hidden, None)
        return h, self.packing.vector_size(self.features, self.x_dtype)

    @property
    def workspace_bytes(self) -> int:
        """All of them, padded to lines."""
        return self.new_h_bytes + self.handed_bytes + sum(self.vector_bytes)


@dataclass(frozen=True, slots=True)
class IntegerDenseKernel(Kernel):
    """An IntegerDense on `rows` vectors, packed as one block sequence without direction.

    Call inputs: x (rows, K) i8 or i16, packed weights u8, table (513,) i16 or None.
    Call outputs: y (rows, N) of op.dtype. Head: bias i32 [1][U], multiplier i16 [1][U].
    """

    op: IntegerDense
    rows: int
    features: int
    units: int
    x_dtype: DType
    packing: BytePacking
    is_x_bounded: bool = False

    @property
    def workspace_bytes(self) -> int:
        """Bytes of x of one row, twice (padded, or as high and low bytes)."""
        return self.packing.vector_size(self.features, self.x_dtype)


LayerKernel = RecurrentKernel | StoredRecurrentKernel | Int8RecurrentKernel | IntegerRecurrentKernel
RECURRENT_KERNELS = (
    RecurrentKernel,
    StoredRecurrentKernel,
    Int8RecurrentKernel,
    IntegerRecurrentKernel,
)
"""Kernels that carry states: call inputs 3.. are the initial, outputs 1.. the final states."""

WORKING_KERNELS = (*RECURRENT_KERNELS, Int8DenseKernel, IntegerDenseKernel)
"""Kernels with a workspace of `workspace_bytes`."""


def _lines(nbytes: int) -> int:
    return -(-nbytes // LINE) * LINE
