"""Memory of kernels that take several columns (streams, elements of a batch, rows) at once.

Every column has a piece of the workspace: what one element of a batch needs anyway, then x and h as
products read them, whichever way of multiplying a target has, and notes about quantized vectors.
In front of all pieces stands room for one block of weights as float32, for numerics that restore
them.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgelstm_compiler.ir.kernels import DenseKernel, RecurrentKernel

MOST_COLUMNS = 64
"""Columns that go through a layer together: what they carry stays in the caches."""

_WORD = 4
_LINE = 64
_LANES = 16


@dataclass(frozen=True, slots=True)
class RecurrentColumns:
    """The workspace of a recurrent kernel of several columns."""

    kernel: RecurrentKernel

    @property
    def x(self) -> int:
        """Word of a column at which x stands as products read it; h follows."""
        return lines(self.kernel.numerics.recurrent_workspace(self.kernel.sizes)) // _WORD

    @property
    def h(self) -> int:
        """Word of a column at which h stands; directly behind x where both are float32."""
        return self.x + self.kernel.features

    @property
    def byte_starts(self) -> tuple[int, int]:
        """Bytes of a column at which x and h stand where they are quantized."""
        start = self.x * _WORD
        return start, start + vector_room(self.kernel.features)

    @property
    def notes(self) -> int:
        """Word of a column at which the notes of quantized vectors stand."""
        return (self.byte_starts[1] + vector_room(self.kernel.padded_hidden)) // _WORD

    @property
    def stride_bytes(self) -> int:
        """From one column to the next."""
        return odd_lines(_WORD * self.notes + _LINE)

    @property
    def shared_bytes(self) -> int:
        """In front of all columns: a restored block."""
        rows = max(
            phase.accumulators + sum(s.extent * len(s.gates) for s in phase.sections)
            for phase in self.kernel.phases
        )
        return lines(rows * self.kernel.unit_block * _WORD)

    def total_bytes(self, columns: int) -> int:
        """The workspace of that many columns."""
        return self.shared_bytes + columns * self.stride_bytes


@dataclass(frozen=True, slots=True)
class DenseColumns:
    """The workspace of a dense kernel of several columns."""

    kernel: DenseKernel

    @property
    def notes(self) -> int:
        """Word of a column at which the notes of a quantized x stand, behind it."""
        return vector_room(self.kernel.features) // _WORD

    @property
    def stride_bytes(self) -> int:
        """From one column to the next."""
        return odd_lines(_WORD * self.notes + _LINE)

    @property
    def shared_bytes(self) -> int:
        """In front of all columns: a restored block."""
        return lines((self.kernel.features + 1) * self.kernel.unit_block * _WORD)

    def total_bytes(self, columns: int) -> int:
        """The workspace of that many columns."""
        return self.shared_bytes + columns * self.stride_bytes


def lines(nbytes: int) -> int:
    """Rounded up to whole lines of 64 bytes."""
    return -(-nbytes // _LINE) * _LINE


def odd_lines(nbytes: int) -> int:
    """Rounded up to an odd number of lines, so that caches take the pieces of all columns."""
    size = lines(nbytes)
    return size if size // _LINE % 2 else size + _LINE


def vector_room(extent: int) -> int:
    """Bytes that a quantized vector takes at most."""
    return lines(4 * (-(-extent // _LANES) * _LANES))
