"""Aligned memory for native code: blocks, their addresses, and the check that both fit."""

from __future__ import annotations

import ctypes
import mmap
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.errors import ArtifactError

ALIGNMENT = 64
"""Weights, state and scratch blocks start at a multiple of this many bytes."""

Block = NDArray[np.uint8]

_NO_RIGHTS = 0  # PROT_NONE


MOST_BYTES = 1 << 36
"""The largest block that is allocated: 64 GiB."""

_TOUCHED_BYTES = 1 << 26
"""Blocks up to this size have their pages before the first step."""


def allocate_block(size_bytes: int, *, is_guarded: bool = False) -> Block:
    """A zeroed block that starts at a multiple of `ALIGNMENT`; never empty in memory.

    The pages are touched here, so that a step never faults one in; those of very large blocks are
    not, because what a file says it needs may be more than it uses.

    Args:
        size_bytes: its size.
        is_guarded: memory that nobody may touch follows it, so that code which wants more than it
            has is stopped by the system.

    Raises:
        ArtifactError: more than `MOST_BYTES`, or than the system gives.
    """
    if size_bytes > MOST_BYTES:
        raise ArtifactError(
            f"the artifact wants {size_bytes} bytes of memory, more than the {MOST_BYTES} that "
            "edgelstm allocates: it is damaged, or made for shapes that are too large"
        )
    try:
        block = _guarded(size_bytes) if is_guarded else None
        if block is None:
            room = np.zeros(max(size_bytes, 1) + ALIGNMENT - 1, np.uint8)
            # Not a slice: empty ones point at the beginning of the room.
            block = np.ndarray((size_bytes,), np.uint8, room, -address_of(room) % ALIGNMENT)
    except (MemoryError, OSError) as exc:
        raise ArtifactError(
            f"the artifact wants {size_bytes} bytes of memory, which this system does not give: "
            "free some, or compile the model with smaller shapes"
        ) from exc
    if size_bytes <= _TOUCHED_BYTES:
        block.fill(0)
    return block


def _guarded(size_bytes: int) -> Block | None:
    """A block whose end, rounded up to `ALIGNMENT`, is followed by a page without any rights."""
    if not hasattr(mmap, "MAP_ANONYMOUS"):
        return None
    page = mmap.PAGESIZE
    padded = -(-max(size_bytes, 1) // ALIGNMENT) * ALIGNMENT
    pages = -(-padded // page) * page
    room = np.frombuffer(mmap.mmap(-1, pages + page), np.uint8)
    start = ctypes.c_void_p(address_of(room) + pages)
    if _protect()(start, ctypes.c_size_t(page), ctypes.c_int(_NO_RIGHTS)) != 0:
        return None
    return np.ndarray((size_bytes,), np.uint8, room, pages - padded)


@cache
def _protect() -> Any:
    return ctypes.CDLL(None).mprotect


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
