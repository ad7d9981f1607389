"""States side by side that are moved on through the same frames: the slots of windows."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from edgelstm.engines.base import Blocks, Kernel, code_of, tells_news
from edgelstm.memory import Block, allocate_block
from edgelstm.signature import Signature

Codes = NDArray[np.int32]


MOST_TOGETHER = 64
"""Complete windows that are computed together."""


class Slots(Protocol):
    """The states, and what moves them on."""

    def run(self, inputs: Block, outputs: Block, used: int) -> Codes | None:
        """Feed frames `(n, input block)` to the first slots; outputs `[frame][slot][block]`.

        Returns:
            What the kernel returned for each slot, see `StepFunction`; None where all were fed.
        """
        ...

    def read(self, slot: int) -> Block:
        """The state of a slot."""
        ...

    def write(self, slot: int, state: Block) -> None:
        """Set the state of a slot."""
        ...

    def close(self) -> None:
        """Let go of memory and threads."""
        ...


@runtime_checkable
class SharedFrames(Protocol):
    """A kernel's own runner of many streams that can give all of them the same frames."""

    def share_frames(self, apart: int = 0, *, is_last_kept: bool = False) -> None:
        """From now on inputs are `[frame][input block]`, each stream's so many frames apart."""
        ...

    def run(self, inputs: Block, outputs: Block, n_frames: int) -> Codes | None:
        """Feed frames to the active streams."""
        ...

    def write_state(self, stream: int, state: Block) -> None:
        """Set the state block of one stream."""
        ...

    def read_state(self, stream: int) -> Block:
        """The state block of one stream."""
        ...

    def set_active(self, active: NDArray[np.bool_]) -> None:
        """Which streams are moved on."""
        ...

    def close(self) -> None:
        """Let go of memory and threads."""
        ...


def make_slots(
    kernel: Kernel, signature: Signature, slots: int, state_bytes: int, scratch_bytes: int
) -> Slots:
    """Slots on the kernel's code for many streams, where it has some; else one after another.

    Args:
        kernel: of one stream.
        signature: of the kernel.
        slots: how many states.
        state_bytes: of each.
        scratch_bytes: of the kernel.
    """
    runner = _shared(kernel, slots, state_bytes) if slots > 1 else None
    if runner is not None:
        return BatchedSlots(runner, slots)
    return SteppedSlots(kernel, signature, slots, state_bytes, scratch_bytes)


class CompleteWindows:
    """Windows that lie in one block of frames, computed side by side from their first frames on.

    Args:
        runner: the kernel's.
        count: how many it takes together.
        signature: of the kernel.
        state_init: the state before a window's first frame.
        frames, hop: of the windows.
    """

    def __init__(
        self,
        runner: SharedFrames,
        count: int,
        signature: Signature,
        state_init: Block,
        frames: int,
        hop: int,
    ) -> None:
        runner.share_frames(hop, is_last_kept=True)
        self._runner, self._count, self._signature = runner, count, signature
        self._states = np.tile(state_init, count)
        self._frames, self._hop = frames, hop

    def run(self, inputs: Block, count: int) -> Block:
        """The output blocks of so many windows.

        Shapes:
            inputs `(n, input block)`, from the first window's first frame on.
        """
        room = np.zeros((count, self._signature.output_bytes), np.uint8)
        for first in range(0, count, self._count):
            size = min(self._count, count - first)
            self._runner.set_active(np.arange(self._count) < size)
            self._runner.write_state(0, self._states)
            start = first * self._hop
            part = np.zeros((self._count, room.shape[1]), np.uint8)
            self._runner.run(inputs[start:].reshape(-1), part.reshape(-1), self._frames)
            room[first : first + size] = part[:size]
        return room

    def close(self) -> None:
        """Let go of memory and threads."""
        self._runner.close()


def make_complete(
    kernel: Kernel, signature: Signature, state_init: Block, frames: int, hop: int
) -> CompleteWindows | None:
    """Complete windows on the kernel's code for many streams; None where it has none."""
    runner = _shared(kernel, MOST_TOGETHER, state_init.size)
    if runner is None:
        return None
    return CompleteWindows(runner, MOST_TOGETHER, signature, state_init, frames, hop)


def _shared(kernel: Kernel, streams: int, state_bytes: int) -> SharedFrames | None:
    bind: Any = getattr(kernel, "bind_streams", None)
    if bind is None:
        return None
    runner = bind(streams, state_bytes, check_states=True, threads=1)
    if isinstance(runner, SharedFrames):
        return runner
    runner.close()
    return None


class BatchedSlots:
    """Slots that one native call moves on together.

    Args:
        runner: the kernel's.
        slots: how many states it has.
    """

    def __init__(self, runner: SharedFrames, slots: int) -> None:
        runner.share_frames()
        self._runner, self._count, self._used = runner, slots, slots

    def run(self, inputs: Block, outputs: Block, used: int) -> Codes | None:
        """See `Slots`."""
        if used != self._used:
            self._runner.set_active(np.arange(self._count) < used)
            self._used = used
        return self._runner.run(inputs, outputs, len(inputs))

    def read(self, slot: int) -> Block:
        """See `Slots`."""
        return self._runner.read_state(slot)

    def write(self, slot: int, state: Block) -> None:
        """See `Slots`."""
        self._runner.write_state(slot, state)

    def close(self) -> None:
        """See `Slots`."""
        self._runner.close()


class SteppedSlots:
    """Slots that are moved on one after another, on any kernel.

    Args:
        kernel: of one stream.
        signature: of the kernel.
        slots: how many states.
        state_bytes: of each.
        scratch_bytes: of the kernel.
    """

    def __init__(
        self, kernel: Kernel, signature: Signature, slots: int, state_bytes: int, scratch_bytes: int
    ) -> None:
        self._kernel, self._output_bytes = kernel, signature.output_bytes
        self._tells_news = tells_news(kernel)
        scratch = allocate_block(scratch_bytes)
        self._blocks = [
            Blocks(
                state=allocate_block(state_bytes),
                scratch=scratch,
                inputs=allocate_block(signature.input_bytes),
                outputs=allocate_block(signature.output_bytes),
            )
            for _ in range(slots)
        ]

    def run(self, inputs: Block, outputs: Block, used: int) -> Codes | None:
        """See `Slots`."""
        count, size = len(inputs), self._output_bytes
        rows = outputs.reshape(count, len(self._blocks), size)
        codes = np.zeros(len(self._blocks), np.int32)
        for slot in range(used):
            result = np.empty((count, size), np.uint8)
            run = self._kernel.bind_run(self._blocks[slot], inputs, result, count)
            returned = run()
            codes[slot] = code_of(returned) if self._tells_news else returned
            rows[:, slot] = result
        return codes if codes.any() else None

    def read(self, slot: int) -> Block:
        """See `Slots`."""
        return self._blocks[slot].state.copy()

    def write(self, slot: int, state: Block) -> None:
        """See `Slots`."""
        self._blocks[slot].state[...] = state

    def close(self) -> None:
        """Nothing else is held."""
