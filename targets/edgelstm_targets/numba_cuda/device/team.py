"""How the blocks that share a stream hand each other what they compute.

Three ways: a block alone writes into its own shared memory; blocks of a grid write words of
(value, tag) into global memory, which their readers poll until the tag is the frame's, so that no
barrier is needed; blocks of a cluster write into each other's shared memory and meet at the barrier
of the cluster.
"""

from __future__ import annotations

from typing import Any, Protocol

from edgelstm_targets.numba_cuda.device.elements import (
    BITS_OF,
    FROM_BITS,
    STORE_PEER_IF,
    STORE_SHARED,
    STORE_SHARED_IF,
    make_element,
)
from edgelstm_targets.numba_cuda.device.intrinsics import (
    U32,
    U64,
    add,
    add64,
    band,
    barrier,
    cluster_barrier,
    inline,
    load_word,
    store_word_if,
)
from edgelstm_targets.numba_cuda.places import Ring

WORD_BYTES = 8
TAG_SHIFT = 32


class Team(Protocol):
    """The blocks of a stream."""

    name: str
    mail_bytes: int
    """Global memory for the words of one stream."""

    def hand_over(self, ring: Ring, extent: int, threads: int) -> tuple[Any, Any]:
        """How one vector reaches everybody.

        Args:
            ring: where it goes.
            extent: its length.
            threads: of the role that makes it.

        Returns:
            put(lane, base, mail, tag, frame, unit, value): called by all lanes of a unit;
            collect(t, base, mail, tag, frame): called by all threads of the role afterwards.
        """
        ...

    def meet(self, threads: int) -> Any:
        """The barrier, without arguments, of all threads that read each other's shared memory."""
        ...


class Alone:
    """One block a stream."""

    name = "block"
    mail_bytes = 0

    def hand_over(self, ring: Ring, extent: int, threads: int) -> tuple[Any, Any]:
        """Lane 0 stores; there is nothing to collect."""
        place, store = make_element(ring), STORE_SHARED_IF[ring.dtype]

        @inline
        def put(lane, base, mail, tag, frame, unit, value):
            mine = U32((lane == U32(0)) & (unit < U32(extent)))
            store(place(base, frame, unit), value, mine)

        @inline
        def collect(t, base, mail, tag, frame):
            pass

        return put, collect

    def meet(self, threads: int) -> Any:
        """The barrier of the block."""

        @inline
        def meet():
            barrier(U32(0), U32(threads))

        return meet


class Exchange:
    """Blocks of a grid; all of them must be on the chip at once."""

    name = "exchange"

    def __init__(self) -> None:
        self.mail_bytes = 0

    def hand_over(self, ring: Ring, extent: int, threads: int) -> tuple[Any, Any]:
        """Lane 0 posts the word; each thread of the role collects its share of the words.

        Two words for each element: a block that is a frame ahead has everybody's words of the frame
        before, and so nobody still waits for the word that it overwrites. Tags count frames from 1:
        memory begins as zeros.
        """
        place, store = make_element(ring), STORE_SHARED[ring.dtype]
        to_bits, from_bits = BITS_OF[ring.dtype], FROM_BITS[ring.dtype]
        box = self.mail_bytes
        half = extent * WORD_BYTES
        self.mail_bytes += 2 * half
        rounds = -(-extent // threads)

        @inline
        def put(lane, base, mail, tag, frame, unit, value):
            mine = U32((lane == U32(0)) & (unit < U32(extent)))
            at = U64(box) + U64(band(frame, U32(1))) * U64(half) + U64(unit) * U64(WORD_BYTES)
            number = add(add(tag, frame), U32(1))
            word = (U64(number) << U64(TAG_SHIFT)) | U64(to_bits(value))
            store_word_if(add64(mail, at), word, mine)

        @inline
        def collect(t, base, mail, tag, frame):
            wanted = U64(add(add(tag, frame), U32(1)))
            start = U64(box) + U64(band(frame, U32(1))) * U64(half)
            for j in range(rounds):
                element = add(t, U32(j * threads))
                if element < U32(extent):
                    at = add64(mail, start + U64(element) * U64(WORD_BYTES))
                    word = load_word(at)
                    while (word >> U64(TAG_SHIFT)) != wanted:
                        word = load_word(at)
                    value = from_bits(U32(word & U64(0xFFFFFFFF)))
                    store(place(base, frame, element), value)

        return put, collect

    def meet(self, threads: int) -> Any:
        """The barrier of the block: words are waited for one by one."""
        return Alone().meet(threads)


class Cluster:
    """Blocks of a cluster (sm_90 and later).

    Args:
        size: blocks.
    """

    name = "cluster"
    mail_bytes = 0

    def __init__(self, size: int) -> None:
        self.size = size

    def hand_over(self, ring: Ring, extent: int, threads: int) -> tuple[Any, Any]:
        """The lanes of a unit store it into all blocks, each into some of them."""
        place, store, size = make_element(ring), STORE_PEER_IF[ring.dtype], self.size

        @inline
        def put(lane, base, mail, tag, frame, unit, value):
            at = place(base, frame, unit)
            for peer in range(size):
                # Four lanes at least; each takes every fourth block.
                mine = U32((lane == U32(peer & 3)) & (unit < U32(extent)))
                store(at, U32(peer), value, mine)

        @inline
        def collect(t, base, mail, tag, frame):
            pass

        return put, collect

    def meet(self, threads: int) -> Any:
        """The barrier of the cluster."""

        @inline
        def meet():
            cluster_barrier()

        return meet
