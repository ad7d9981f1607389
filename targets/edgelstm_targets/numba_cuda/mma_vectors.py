"""Where the vectors of a group of streams stand in shared memory, and in which forms.

Products read a vector as an operand of tensor cores, everything else reads its elements; a vector
that both read stands there twice.
"""

from __future__ import annotations

from collections.abc import Callable

from edgelstm.dtypes import DType
from edgelstm_targets.numba_cuda.cells import HAND_PLACED, Carried
from edgelstm_targets.numba_cuda.mma_image import TILE_UNITS, Operand
from edgelstm_targets.numba_cuda.mma_places import Rows
from edgelstm_targets.numba_cuda.pipeline import (
    DenseRole,
    Pipeline,
    RecurrentRole,
    Role,
    Vector,
)

_PRODUCT_BYTES = 64
"""What two streams have for one product."""

_ALIGNMENT = 128


class VectorRows:
    """Rows of all vectors, one behind the other.

    Args:
        group: streams of a block.
        at: the first free byte of shared memory.
    """

    def __init__(self, group: int, at: int) -> None:
        self.group = group
        self.at = at
        self.operands: dict[Vector, Rows] = {}
        self.elements: dict[Vector, Rows] = {}

    def add_all(self, pipeline: Pipeline, tiles_of: Callable[[Role], int]) -> None:
        """Every vector, in the forms that its readers want.

        Args:
            pipeline: roles and vectors.
            tiles_of: tiles of 8 units that a role writes, with those that overhang.
        """
        for vector, depth in pipeline.depths.items():
            readers = [role for role in pipeline.roles if vector in role.sources()]
            products = [role for role in readers if isinstance(role, (RecurrentRole, DenseRole))]
            makers = [role for role in pipeline.roles if vector in role.targets()]
            width = max(vector.extent, *(TILE_UNITS * tiles_of(role) for role in makers))
            if products or any(_multiplies(role, vector) for role in makers):
                self.operands[vector] = self.add_operand(width, vector.dtype, depth)
            if len(products) < len(readers) or any(_keeps(role, vector) for role in makers):
                self.elements[vector] = self._add_elements(width, depth)

    def add_operand(self, width: int, dtype: DType, depth: int) -> Rows:
        """A vector as products read it."""
        operand = Operand.HALVES if dtype is DType.F32 else Operand.BYTES
        # An odd number of products: 64 bytes of two rows then fill all banks.
        pitch = _PRODUCT_BYTES * (-(-width // operand.inputs) | 1)
        plane = pitch * self.group // 2
        if dtype is DType.I16:
            return self._add(pitch, 2 * plane, depth, plane)
        return self._add(pitch, plane, depth)

    def _add_elements(self, width: int, depth: int) -> Rows:
        # Eight neighbouring rows begin in other banks.
        pitch = 8 * (-(-width // 2) | 1)
        return self._add(pitch, pitch * self.group, depth)

    def _add(self, pitch: int, step: int, depth: int, low: int = 0) -> Rows:
        rows = Rows(self.at, pitch, step, depth - 1, low)
        self.at += -(-step * depth // _ALIGNMENT) * _ALIGNMENT
        return rows


def _multiplies(role: Role, vector: Vector) -> bool:
    """Whether it is what a recurrent layer's own products see of h."""
    return isinstance(role, RecurrentRole) and role.seen is vector


def _keeps(role: Role, vector: Vector) -> bool:
    """Whether it is a state that products see in another form, and no lane carries."""
    return (
        isinstance(role, RecurrentRole)
        and role.target is vector
        and role.factor is not None
        and HAND_PLACED[type(role.kernel.op)].carried is not Carried.HIDDEN
    )
