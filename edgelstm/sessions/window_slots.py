"""Windows as streams that read the same frames: open ones, and those that lie in a block."""

from __future__ import annotations

import numpy as np

from edgelstm.engines.base import Kernel
from edgelstm.engines.many_streams import Codes, SharesFrames
from edgelstm.engines.stepwise_streams import StepwiseRunner, run_streams
from edgelstm.memory import Block
from edgelstm.signature import Signature

MOST_TOGETHER = 64
"""Complete windows that are computed together."""


def share(
    kernel: Kernel, signature: Signature, streams: int, state_bytes: int, scratch_bytes: int
) -> SharesFrames:
    """Many streams on the kernel's code for them; one alone, or without such code, by its steps.

    Args:
        kernel: of one stream.
        signature: of the kernel.
        streams: how many states.
        state_bytes: of each.
        scratch_bytes: of the kernel.
    """
    if streams > 1:
        runner = run_streams(kernel, signature, streams, state_bytes, scratch_bytes)
        if isinstance(runner, SharesFrames):
            return runner
        runner.close()
    return StepwiseRunner(kernel, signature, streams, state_bytes, scratch_bytes, 1)


class Slots:
    """States side by side that are moved on through the same frames.

    Args:
        runner: has them.
        count: how many.
    """

    def __init__(self, runner: SharesFrames, count: int) -> None:
        runner.share_frames()
        self._runner, self._count, self._used = runner, count, count

    def run(self, inputs: Block, outputs: Block, used: int) -> Codes | None:
        """Feed frames `(n, input block)` to the first slots; outputs `[frame][slot][block]`.

        Returns:
            What a step returns for each slot, see `StepFunction`; None where all were fed.
        """
        if used != self._used:
            self._runner.set_active(np.arange(self._count) < used)
            self._used = used
        return self._runner.run(inputs, outputs, len(inputs))

    def read(self, slot: int) -> Block:
        """The state of a slot."""
        return self._runner.read_state(slot)

    def write(self, slot: int, state: Block) -> None:
        """Set the state of a slot."""
        self._runner.write_state(slot, state)

    def close(self) -> None:
        """Let go of memory and threads."""
        self._runner.close()


class CompleteWindows:
    """Windows that lie in one block of frames, computed side by side from their first frames on.

    Args:
        runner: of `MOST_TOGETHER` streams.
        signature: of the kernel.
        state_init: the state before a window's first frame.
        frames, hop: of the windows.
    """

    def __init__(
        self, runner: SharesFrames, signature: Signature, state_init: Block, frames: int, hop: int
    ) -> None:
        runner.share_frames(hop, is_last_kept=True)
        self._runner, self._signature = runner, signature
        self._states = np.tile(state_init, MOST_TOGETHER)
        self._frames, self._hop = frames, hop

    def run(self, inputs: Block, count: int) -> Block:
        """The output blocks of so many windows.

        Shapes:
            inputs `(n, input block)`, from the first window's first frame on.
        """
        room = np.zeros((count, self._signature.output_bytes), np.uint8)
        for first in range(0, count, MOST_TOGETHER):
            size = min(MOST_TOGETHER, count - first)
            self._runner.set_active(np.arange(MOST_TOGETHER) < size)
            self._runner.write_state(0, self._states)
            start = first * self._hop
            part = np.zeros((MOST_TOGETHER, room.shape[1]), np.uint8)
            stop = start + (size - 1) * self._hop + self._frames
            self._runner.run(inputs[start:stop].reshape(-1), part.reshape(-1), self._frames)
            room[first : first + size] = part[:size]
        return room

    def close(self) -> None:
        """Let go of memory and threads."""
        self._runner.close()
