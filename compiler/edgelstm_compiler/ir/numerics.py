"""Numerics: in which numbers a layer computes, and how its weights are packed.

A layer kernel has one as a field; schemes and targets choose it. What they compute is the operator
of the graph (`ir/ops`; for stored weights the float operator on dequantized weights).
Phases, sections and accumulators are those of `ir/kernels.py`. Packed weights of `Float32` are f32,
all others u8 arrays; numbers in them are little-endian and aligned to their size. U is unit_block,
units beyond H are zero, and a line `[a][U]` holds a rows of U elements.

```
for direction d:
  for phase p:
    for block n of U units:
      Float32
        bias [accumulators][U], peephole [rows of P][U] (where P is given)
        for each section s: [extent k][gates of s][U]
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
from edgelstm_compiler.ir.ops.quantized import Storage
from edgelstm_compiler.ir.ops.quantized_integer import IntegerDense, IntegerRecurrent
from edgelstm_compiler.ir.ops.recurrent import Recurrent

LINE = 64
"""Bytes that heads, sections and blocks are padded to."""

SHORT_LINE = 16
"""Bytes that blocks are padded to where a whole line would be too much."""

_F32 = 4

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
class LayerSizes:
    """What the workspace of a recurrent layer depends on.

    Args:
        features: of x.
        padded_hidden: H rounded up to whole blocks.
        handed: values that a phase hands over to a later one.
    """

    features: int
    padded_hidden: int
    handed: int

    @property
    def workspace_elements(self) -> int:
        """In floating point: the new h, and what phases hand over with a vector to spare."""
        return self.padded_hidden * (1 + self.handed + min(self.handed, 1))


@dataclass(frozen=True, slots=True)
class Numerics:
    """Base of all numerics; what a kernel's workspace holds depends on it."""

    def cell(self, op: Recurrent, *, peepholes: bool) -> Cell:
        """What a recurrent layer computes, as these numerics carry its states."""
        return op.cell(peepholes=peepholes)

    def recurrent_workspace(self, sizes: LayerSizes) -> int:
        """Bytes of the workspace of a recurrent layer."""
        return sizes.workspace_elements * _F32

    def dense_workspace(self, features: int) -> int:
        """Bytes of the workspace of a dense layer; 0: it has none."""
        del features
        return 0


@dataclass(frozen=True, slots=True)
class Float32(Numerics):
    """Weights and arithmetic in float32."""


FLOAT32 = Float32()
"""The numerics of layers that no scheme has touched."""


@dataclass(frozen=True, slots=True)
class Stored(Numerics):
    """Float32 on weights that are stored in fewer bits: schemes fp16, w8, w4.

    Args:
        storage: how.
        codes: of what stands beside the weights.
    """

    storage: Storage
    codes: LineCodes


@dataclass(frozen=True, slots=True)
class Int8(Numerics):
    """Products of int8 weights with quantized vectors, everything else in float32: scheme int8.

    Args:
        x_dtype: i8 or i16, what x is quantized to.
        x_zero_point: of x.
        weight_offset: 0 or 128, see above.
        codes: of what stands beside the weights.
        h_inverse: 1 / scale of h.
    """

    x_dtype: DType
    x_zero_point: int
    weight_offset: int
    codes: LineCodes
    h_inverse: float = 1.0

    def recurrent_workspace(self, sizes: LayerSizes) -> int:
        """Those of float32, then q(x) of a frame and q(h) (and q(r*h)), padded to lines."""
        x, h = self.vector_bytes(sizes.features), _lines(sizes.padded_hidden)
        return _lines(sizes.workspace_elements * _F32) + x + 2 * h

    def dense_workspace(self, features: int) -> int:
        """The quantized x of one row, twice (for high and low bytes)."""
        return self.vector_bytes(features)

    def vector_bytes(self, features: int) -> int:
        """Bytes of a quantized vector."""
        return _lines(2 * features * self.x_dtype.itemsize)


@dataclass(frozen=True, slots=True)
class Integer(Numerics):
    """Integers only: scheme int8-full; the last call input is the tables (or table), i16 or None.

    Args:
        op: the operator, with its shifts and multipliers.
        x_dtype: i8 or i16.
        packing: of the weights.
        is_x_bounded: no element of x is the lowest integer of its type.
    """

    op: IntegerRecurrent | IntegerDense
    x_dtype: DType
    packing: BytePacking
    is_x_bounded: bool = False

    @property
    def layer(self) -> IntegerRecurrent:
        """The operator of a recurrent layer."""
        assert isinstance(self.op, IntegerRecurrent)
        return self.op

    def cell(self, op: Recurrent, *, peepholes: bool) -> Cell:
        """The float cell, with a wide first state where the layer has one."""
        del op
        return self.layer.integer_cell(peepholes=peepholes)

    def new_h_bytes(self, sizes: LayerSizes) -> int:
        """Bytes of the new h, at the beginning of the workspace."""
        return self.packing.padded(self.layer.state_types[0].itemsize * sizes.padded_hidden)

    def handed_bytes(self, sizes: LayerSizes) -> int:
        """Bytes of each value that phases hand over, as int16, behind the new h."""
        return self.packing.padded(2 * sizes.padded_hidden)

    def vector_bytes(self, sizes: LayerSizes) -> tuple[int, int]:
        """Bytes of h (and r*h), then of x as products read them, behind that."""
        h = self.packing.vector_size(sizes.padded_hidden, None)
        return h, self.packing.vector_size(sizes.features, self.x_dtype)

    def recurrent_workspace(self, sizes: LayerSizes) -> int:
        """All of them, padded to lines."""
        handed = sizes.handed * self.handed_bytes(sizes)
        return self.new_h_bytes(sizes) + handed + sum(self.vector_bytes(sizes))

    def dense_workspace(self, features: int) -> int:
        """Bytes of x of one row, twice (padded, or as high and low bytes)."""
        return self.packing.vector_size(features, self.x_dtype)


NUMERICS: tuple[type[Numerics], ...] = (Float32, Stored, Int8, Integer)
"""Every numerics that a kernel may have."""


def _lines(nbytes: int) -> int:
    return -(-nbytes // LINE) * LINE
