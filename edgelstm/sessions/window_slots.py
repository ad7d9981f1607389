"""States side by side that are moved on through the same frames: the slots of windows."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from edgelstm.engines.base import Blocks, Kernel
from edgelstm.memory import Block, allocate_block
from edgelstm.signature import Signature

Codes = NDArray[np.int32]


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

    def share_frames(self) -> None:
        """From now on inputs are `[frame][input block]`."""
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
    bind: Any = getattr(kernel, "bind_streams", None)
    if bind is not None and slots > 1:
        runner = bind(slots, state_bytes, check_states=True, threads=1)
        if isinstance(runner, SharedFrames):
            return BatchedSlots(runner, slots)
        runner.close()
    return SteppedSlots(kernel, signature, slots, state_bytes, scratch_bytes)


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
            codes[slot] = run()
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
