"""What placing decides: where roles, vectors and weights of a group of streams stand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgelstm.engines.cuda_image import Layout
from edgelstm_compiler.ir.kernels import Source
from edgelstm_targets.numba_cuda.chips import Chip
from edgelstm_targets.numba_cuda.image import SharedWords
from edgelstm_targets.numba_cuda.mma_image import Operand
from edgelstm_targets.numba_cuda.pipeline import Vector
from edgelstm_targets.numba_cuda.places import RoleThreads

ROWS = 16
"""Streams of one product."""

FLAG_BYTES = 256
"""At the start of shared memory: one word a stream, 0 where it stands still."""


@dataclass(frozen=True, slots=True)
class Rows:
    """A vector of all streams of the group in shared memory.

    As elements a row is a stream: float32, or whole numbers of 32 bits. As an operand of products a
    row is two streams, 8 apart, whose words (two float16, or four bytes) alternate: a product then
    finds all that a lane needs of both side by side. Whole numbers of 16 bits are two such planes,
    the high bytes (signed) and the low ones (unsigned).

    Args:
        offset: of frame 0, stream 0.
        pitch: bytes from one row to the next.
        step: bytes from one frame to the next.
        mask: frames that stand there, less one.
        low: bytes from the plane of high bytes to that of the low ones, or 0.
    """

    offset: int
    pitch: int
    step: int
    mask: int
    low: int = 0


@dataclass(frozen=True, slots=True)
class FragmentPlace:
    """One part of a product: a vector times its weights.

    Args:
        rows: the vector, as an operand.
        operand: of what elements.
        source: what it is; h is the previous frame's.
        gates: products of each unit.
        skip: 1 if the third gate adds to the fourth sum.
        pairs: of products, in all.
        in_registers: pairs kept there.
        in_shared: pairs kept there; the rest is streamed.
        tail: where the tail's weights stand: "registers", "shared", "image", or "" without one.
        image: offset of the pairs in the image.
        image_tail: offset of the tail.
        shared: offset of the pairs in shared memory.
        shared_tail: offset of the tail.
        first_word: place of the first pair in registers.
        tail_word: place of the tail.
        scales: what its sums are multiplied with, by row, or None.
    """

    rows: Rows
    operand: Operand
    source: Source
    gates: int
    skip: int
    pairs: int
    in_registers: int
    in_shared: int
    tail: str
    image: int
    image_tail: int
    shared: int
    shared_tail: int
    first_word: int
    tail_word: int
    scales: SharedWords | None

    @property
    def before(self) -> int:
        """1 if the vector is the previous frame's."""
        return int(self.source is Source.H)

    @property
    def products(self) -> int:
        """Products of a gate, each plane its own."""
        return (2 * self.pairs + (self.tail != "")) * self.planes

    @property
    def planes(self) -> int:
        """2 for whole numbers of 16 bits."""
        return 2 if self.rows.low else 1


@dataclass(frozen=True, slots=True)
class GroupPhase:
    """One product with all its sections; the bias goes from the image to shared memory."""

    accumulators: int
    sections: tuple[FragmentPlace, ...]
    bias: SharedWords

    @property
    def is_scaled(self) -> bool:
        """Whether sections are sums of whole numbers that are scaled apart."""
        return self.sections[0].operand is Operand.BYTES


@dataclass(frozen=True, slots=True, eq=False)
class GroupRole(RoleThreads):
    """A role on its warps, with its weights in fragments; layers are numbered first.

    Args:
        tiles: of units, with those that overhang.
        passes: of a warp over tiles (a layer) or over tiles and rows of streams (a dense layer).
        chunk: rows of 16 streams in hand at once.
        phases: products, in order.
        first_word: of the registers that this role keeps.
        words: registers that it keeps, with those of weights.
        slots: values of 32 bits that a lane carries itself for each unit and stream.
        cells_at: where they stand in shared memory.
        peepholes: offset in the image, or -1.
        reset: r*h of a GRU with two phases, or None.
    """

    tiles: int = 0
    passes: int = 1
    chunk: int = 1
    phases: tuple[GroupPhase, ...] = ()
    first_word: int = 0
    words: int = 0
    slots: int = 0
    cells_at: int = 0
    peepholes: int = -1
    reset: Rows | None = None


@dataclass(frozen=True, slots=True, eq=False)
class GroupPlacement:
    """Everything about one kernel for groups of streams that is decided before its code is written.

    Args:
        chip: what it is for.
        group: streams of a block.
        layers: recurrent roles, each on its warps.
        side: all other roles, one after another on all warps.
        operands: vectors as products read them.
        elements: vectors as everything else reads them.
        threads: of a block.
        cleared_bytes: shared memory that begins as zeros, from 0.
        shared_bytes: shared memory in all.
        layouts: the image.
        constants: where constants stand in the image, by offset in the blob.
        register_bytes: weights of a block in registers.
        shared_weight_bytes: in shared memory.
        streamed_bytes: read anew for each frame.
        most_registers: of a thread, roughly.
        residents: blocks that are to share a multiprocessor.
        cost: clock cycles of a multiprocessor for a frame of the group (`mma_model.py`).
    """

    chip: Chip
    group: int
    layers: tuple[GroupRole, ...]
    side: tuple[GroupRole, ...]
    operands: Mapping[Vector, Rows]
    elements: Mapping[Vector, Rows]
    threads: int
    cleared_bytes: int
    shared_bytes: int
    layouts: tuple[Layout, ...]
    constants: Mapping[int, int]
    register_bytes: int
    shared_weight_bytes: int
    streamed_bytes: int
    most_registers: int
    residents: int = 1
    cost: float = 0.0
    team: int = 1
