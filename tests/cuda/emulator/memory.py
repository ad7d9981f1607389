"""Global and shared memory of the emulator: every access is checked, nothing is zero by itself.

Memory that the host shares with a running kernel is seen by the kernel as it was when a thread last
acquired something from the host; what the kernel stores there the host sees once a thread released
something to it, or when the kernel has ended. So a missing acquire or release shows, every time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
GLOBAL_BASE = 0x7_0000_0000
_GAP = 256
_POISON = 0xFF  # all bits set: NaN where it is read as floating point


class MemoryFaultError(Exception):
    """An access outside of what a kernel was given, or not aligned."""


class GlobalMemory:
    """The arrays that a kernel was given, far enough apart that an overrun hits none.

    Args:
        shared_with_host: those that the host reads and writes while the kernel runs.
    """

    def __init__(self, shared_with_host: Sequence[Array] = ()) -> None:
        self._host_arrays = {id(array) for array in shared_with_host}
        self._arrays: list[tuple[int, Array]] = []
        self._size = 0
        self.data = np.zeros(0, np.uint8)

    def place(self, array: Array) -> int:
        """Take an array in, once; its address."""
        for at, known in self._arrays:
            if known is array:
                return GLOBAL_BASE + at
        at = self._size
        self._arrays.append((at, array))
        self._size += -(-array.nbytes // _GAP) * _GAP + _GAP
        return GLOBAL_BASE + at

    def load(self) -> None:
        """Copy the arrays in, before a run."""
        self.data = np.full(self._size, _POISON, np.uint8)
        self._allowed = np.zeros(self._size, bool)
        for at, array in self._arrays:
            self.data[at : at + array.nbytes] = array.reshape(-1).view(np.uint8)
            self._allowed[at : at + array.nbytes] = True
        self._shared = np.zeros(self._size, bool)
        self._stored = np.zeros(self._size, bool)
        for at, array in self._shared_arrays():
            self._shared[at : at + array.nbytes] = True

    def store(self) -> None:
        """Copy the arrays out, after a run."""
        for at, array in self._arrays:
            if id(array) not in self._host_arrays:
                array.reshape(-1).view(np.uint8)[...] = self.data[at : at + array.nbytes]
        self.release()

    def acquire(self, places: Array | None = None) -> None:
        """See what the host wrote, everywhere or at byte indices."""
        for at, array in self._shared_arrays():
            raw = array.reshape(-1).view(np.uint8)
            chosen = self._chosen(places, at, array.nbytes, ~self._stored)
            self.data[at + chosen] = raw[chosen]

    def release(self, places: Array | None = None) -> None:
        """Let the host see what threads stored, everywhere or at byte indices."""
        for at, array in self._shared_arrays():
            raw = array.reshape(-1).view(np.uint8)
            chosen = self._chosen(places, at, array.nbytes, self._stored)
            raw[chosen] = self.data[at + chosen]
            self._stored[at + chosen] = False

    def note_store(self, places: Array) -> None:
        """Remember bytes that threads stored."""
        if self._host_arrays:
            self._stored[places] |= self._shared[places]

    def _shared_arrays(self) -> list[tuple[int, Array]]:
        return [each for each in self._arrays if id(each[1]) in self._host_arrays]

    def _chosen(self, places: Array | None, at: int, size: int, wanted: Array) -> Array:
        """Indices into an array of the host: of the wanted bytes, or of those among places."""
        if places is None:
            return np.flatnonzero(wanted[at : at + size])
        inside = places[(places >= at) & (places < at + size)]
        return inside[wanted[inside]] - at

    def places(self, addresses: Array, size: int) -> Array:
        """Indices into `data`; raises MemoryFaultError."""
        at = addresses.astype(np.int64) - GLOBAL_BASE
        if (at < 0).any() or (at + size > self._size).any():
            raise MemoryFaultError(f"global address out of range: {int(addresses[0]):#x}")
        if (at % size).any():
            raise MemoryFaultError(f"misaligned access of {size} bytes in global memory")
        if not (self._allowed[at] & self._allowed[at + size - 1]).all():
            raise MemoryFaultError("access outside of the arrays of the kernel")
        return at


class SharedMemory:
    """Shared memory of all blocks; the window of a peer in a cluster is marked in the address."""

    PEER_SHIFT = 24

    def __init__(self, blocks: int, size: int, cluster: int) -> None:
        self.size = size
        self._stride = -(-size // 256) * 256 + 256
        self._cluster = cluster
        self.data = np.full(blocks * self._stride, _POISON, np.uint8)

    def places(self, addresses: Array, blocks: Array, size: int) -> Array:
        """Indices into `data`; raises MemoryFaultError."""
        at = addresses.astype(np.int64)
        peer = at >> self.PEER_SHIFT
        at = at & ((1 << self.PEER_SHIFT) - 1)
        first = blocks // self._cluster * self._cluster
        owner = np.where(peer > 0, first + peer - 1, blocks)
        if (at + size > self.size).any():
            raise MemoryFaultError(f"shared address {int(at.max())} of {self.size} bytes")
        if (at % size).any():
            raise MemoryFaultError(f"misaligned access of {size} bytes in shared memory")
        return owner * self._stride + at


def bytes_at(places: Array, size: int) -> Array:
    """Indices of all bytes of accesses of that size."""
    flat: Array = (places[:, None] + np.arange(size)).reshape(-1)
    return flat


def read(data: Array, at: Array, kind: Any) -> Array:
    """Elements of a type at byte indices."""
    size = np.dtype(kind).itemsize
    return np.ascontiguousarray(data[at[:, None] + np.arange(size)]).view(kind)[:, 0]


def write(data: Array, at: Array, values: Array) -> None:
    """Elements to byte indices."""
    raw = np.ascontiguousarray(values).view(np.uint8).reshape(len(at), -1)
    data[at[:, None] + np.arange(raw.shape[1])] = raw
