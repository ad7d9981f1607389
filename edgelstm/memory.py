"""Aligned memory for native code: blocks, their addresses, and the check that both fit."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

ALIGNMENT = 64
"""Weights, state and scratch blocks start at a multiple of this many bytes."""

Block = NDArray[np.uint8]


def allocate_block(size_bytes: int) -> Block:
    """A zeroed block that starts at a multiple of `ALIGNMENT`; never empty in memory.

    The pages are touched here, so that a step never faults one in.
    """
    room = np.empty(max(size_bytes, 1) + ALIGNMENT - 1, np.uint8)
    room.fill(0)
    start = -address_of(room) % ALIGNMENT
    # Not a slice: empty ones point at the beginning of the room.
    return np.ndarray((size_bytes,), np.uint8, room, start)


def address_of(array: NDArray[Any]) -> int:
    """Address of the first byte of an array."""
    return int(array.ctypes.data)


def is_aligned(array: NDArray[Any]) -> bool:
    """Whether an array starts at a multiple of `ALIGNMENT`."""
    return address_of(array) % ALIGNMENT == 0


def aligned_copy(data: bytes | memoryview | Block) -> Block:
    """`data` in a read-only block of its own, aligned."""
    source = np.frombuffer(data, np.uint8)
    block = allocate_block(source.size)
    block[...] = source
    block.setflags(write=False)
    return block


def view_aligned(data: bytes | memoryview) -> Block:
    """`data` as a read-only aligned block: a view where it is aligned already, else a copy."""
    view = np.frombuffer(data, np.uint8)
    if not is_aligned(view) or view.size == 0:
        return aligned_copy(view)
    view.setflags(write=False)
    return view
