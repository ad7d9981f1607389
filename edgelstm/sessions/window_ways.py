"""The two ways to compute windows: slots stepped side by side, or the whole window at its end.

Both are told where the stream stands, `begin(window)` in front of a window's first frame and
`answer(window)` behind its last one; `advance` never crosses either.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from edgelstm.admission import takes
from edgelstm.engines.base import Kernel
from edgelstm.errors import StreamError
from edgelstm.memory import Block, allocate_block
from edgelstm.sessions.base import Array, view
from edgelstm.sessions.call import CallSession
from edgelstm.sessions.window_slots import MOST_TOGETHER, CompleteWindows, Slots, share
from edgelstm.signature import Signature, WindowPlan
from edgelstm.snapshot import Snapshot, state_to_restore

MOST_FRAMES = 256
"""Frames that are advanced in one native call: memory of the outputs of all slots."""


class WindowWay(ABC):
    """How windows are computed.

    Args:
        kernel: the model made ready to run; shared.
        signature: of the window model.
        state_init: the kernel's state before a window's first frame.
        scratch_bytes: size of the kernel's working memory.
        model_id: tells models apart in snapshots.
    """

    def __init__(
        self,
        kernel: Kernel,
        signature: Signature,
        state_init: Block,
        scratch_bytes: int,
        model_id: str,
    ) -> None:
        assert signature.window is not None
        self._plan: WindowPlan = signature.window
        self._signature = signature
        self._state_init = state_init
        self._model_id = model_id
        self._prepare(kernel, scratch_bytes)

    @abstractmethod
    def _prepare(self, kernel: Kernel, scratch_bytes: int) -> None:
        """Get memory and code ready."""

    @abstractmethod
    def take(self, blocks: Sequence[Array]) -> None:
        """The frames that `advance` speaks of, `(n, *frame)` by input."""

    @abstractmethod
    def begin(self, window: int) -> None:
        """A window begins with the next frame."""

    @abstractmethod
    def advance(self, start: int, stop: int, at: int) -> int:
        """Feed some of the frames taken.

        Args:
            start: the first of them.
            stop: behind the last.
            at: how many frames of the stream were fed before.

        Returns:
            How many were fed: fewer where a state would not be finite after the next one; that
            frame has changed nothing.
        """

    def place_for_frame(self) -> Array | None:
        """Where `advance_frame` takes the only input from; None: frames come in blocks only."""
        return None

    def advance_frame(self) -> int:
        """Feed the frame that stands there: 0, or 1 where the input does not take it."""
        raise NotImplementedError

    @abstractmethod
    def answer(self, window: int) -> list[Array]:
        """The outputs of a window whose last frame was fed; valid until the next one."""

    def complete(self, start: int, count: int) -> list[Array] | None:
        """The outputs of windows that lie in the frames taken; None where that is no gain.

        Args:
            start: of the frames taken, the first window's first one.
            count: how many windows.
        """
        del start, count
        return None

    @abstractmethod
    def reset(self) -> None:
        """Begin a new stream."""

    @abstractmethod
    def state(self) -> bytes:
        """Everything that is carried, for a snapshot."""

    @abstractmethod
    def expect_state(self, data: bytes) -> Any:
        """What `state` gave, read and checked; for `restore`.

        Raises:
            StreamError: it is not of this model, or not possible.
        """

    @abstractmethod
    def restore(self, state: Any, opened: Sequence[int]) -> None:
        """Go on from what `expect_state` gave.

        Args:
            state: that.
            opened: windows that have begun and have not ended.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of memory and threads."""


def opened_windows(plan: WindowPlan, at: int) -> range:
    """Windows that hold a frame of the stream; none where windows are apart."""
    return range(max((at - plan.frames) // plan.hop + 1, 0), at // plan.hop + 1)


class Staggered(WindowWay):
    """Windows that are open at once are slots, each with a state of its own, stepped together."""

    def _prepare(self, kernel: Kernel, scratch_bytes: int) -> None:
        inner, slots = self._plan.kernel, self._plan.slots
        self._share = partial(
            share,
            kernel,
            inner,
            state_bytes=self._state_init.size,
            scratch_bytes=scratch_bytes,
        )
        self._slots = Slots(self._share(streams=slots), slots)
        self._complete: CompleteWindows | None = None
        self._used = 0
        self._outputs = allocate_block(slots * inner.output_bytes * MOST_FRAMES)
        self._inputs = np.empty((0, inner.input_bytes), np.uint8)
        self._frame = np.zeros((1, inner.input_bytes), np.uint8)
        self._last_bytes = allocate_block(slots * inner.output_bytes)
        self._last = self._last_bytes.reshape(slots, inner.output_bytes)

    def take(self, blocks: Sequence[Array]) -> None:
        """Frames of all inputs side by side."""
        specs, count = self._plan.kernel.inputs, len(blocks[0])
        if self._inputs.shape[0] != count:
            self._inputs = np.zeros((count, self._plan.kernel.input_bytes), np.uint8)
        for block, spec in zip(blocks, specs, strict=True):
            view(self._inputs, spec, count)[...] = block

    def begin(self, window: int) -> None:
        """Its slot gets the initial state, unless it goes on with that of the window before."""
        slot = window % self._plan.slots
        if not self._plan.carries or window == 0:
            self._slots.write(slot, self._state_init)
        self._used = max(self._used, slot + 1)

    def advance(self, start: int, stop: int, at: int) -> int:
        """Step all slots through those frames."""
        done = start
        while done < stop:
            count = min(stop - done, MOST_FRAMES)
            fed = self._step(done, done + count, at + done - start)
            done += fed
            if fed < count:
                break
        return done - start

    def _step(self, start: int, stop: int, at: int) -> int:
        checks = self._plan.kernel.checks_states
        before = [self._slots.read(slot) for slot in range(self._used)] if checks else []
        count = stop - start
        size, places = self._plan.kernel.output_bytes, self._plan.slots
        room = self._outputs[: count * places * size]
        codes = self._slots.run(self._inputs[start:stop], room, self._used)
        slots = [window % self._plan.slots for window in opened_windows(self._plan, at)]
        failed = [] if codes is None else [-1 - int(codes[k]) for k in slots if codes[k] < 0]
        if failed:
            for slot, state in enumerate(before):
                self._slots.write(slot, state)
            count = min(failed)
            if count:
                return self._step(start, start + count, at)
            return 0
        self._last[...] = room.reshape(count, places, size)[-1]
        return count

    def place_for_frame(self) -> Array | None:
        """The input of the code."""
        inner = self._plan.kernel
        if len(inner.inputs) != 1 or inner.checks_states:
            return None
        return view(self._frame[0], inner.inputs[0])

    def advance_frame(self) -> int:
        """One native call for all slots."""
        codes = self._slots.run(self._frame, self._last_bytes, self._used)
        return 0 if codes is None or not self._used else int(codes[0])

    def complete(self, start: int, count: int) -> list[Array] | None:
        """Each window a stream of its own from fresh state, many of them in one native call."""
        plan = self._plan
        if count <= plan.slots or plan.carries or plan.kernel.checks_states:
            return None
        if self._complete is None:
            runner = self._share(streams=MOST_TOGETHER)
            self._complete = CompleteWindows(
                runner, plan.kernel, self._state_init, plan.frames, plan.hop
            )
        room = self._complete.run(self._inputs[start:], count)
        return [view(room, spec, count) for spec in plan.kernel.outputs]

    def answer(self, window: int) -> list[Array]:
        """What its slot gave for the newest frame."""
        row = self._last[window % self._plan.slots]
        return [view(row, spec) for spec in self._plan.kernel.outputs]

    def reset(self) -> None:
        """No slot is in use."""
        self._used = 0

    def state(self) -> bytes:
        """The states of all slots."""
        states = [self._slots.read(slot).tobytes() for slot in range(self._used)]
        free = bytes(self._state_init) * (self._plan.slots - self._used)
        return b"".join(states) + free

    def expect_state(self, data: bytes) -> list[Block]:
        """The states of the slots, each one that the model may continue from."""
        size, slots = self._state_init.size, self._plan.slots
        if len(data) != size * slots:
            raise StreamError(
                f"the snapshot holds {len(data)} bytes of states, the windows have {size * slots}"
            )
        return [
            state_to_restore(
                Snapshot(self._model_id, data[slot * size : (slot + 1) * size]),
                self._model_id,
                self._plan.kernel,
                self._state_init,
            )
            for slot in range(slots)
        ]

    def restore(self, state: list[Block], opened: Sequence[int]) -> None:
        """The slots as they were."""
        for slot, block in enumerate(state):
            self._slots.write(slot, block)
        self._used = max((window % self._plan.slots + 1 for window in opened), default=0)
        if opened and opened[-1] >= self._plan.slots:
            self._used = self._plan.slots

    def close(self) -> None:
        """The slots' memory."""
        self._slots.close()
        if self._complete is not None:
            self._complete.close()


class Whole(WindowWay):
    """The newest frames are kept, and a window is computed as a whole when it closes."""

    def _prepare(self, kernel: Kernel, scratch_bytes: int) -> None:
        self._call = CallSession(
            kernel, self._plan.kernel, memoryview(bytes(self._state_init)), scratch_bytes, ""
        )
        # Twice as many frames as a window has: the newest ones always stand in one piece.
        self._rings = [
            np.zeros((2 * self._plan.frames, *spec.shape), spec.dtype.numpy)
            for spec in self._signature.inputs
        ]
        self._blocks: Sequence[Array] = ()
        self._fed = 0

    def take(self, blocks: Sequence[Array]) -> None:
        """The frames as they are."""
        self._blocks = blocks

    def begin(self, window: int) -> None:
        """Nothing begins before the window is whole."""

    def advance(self, start: int, stop: int, at: int) -> int:
        """Keep those frames, as far as a window holds them."""
        frames = self._plan.frames
        first = max(start, stop - frames)
        places = (at + np.arange(first - start, stop - start)) % frames
        for ring, block in zip(self._rings, self._blocks, strict=True):
            part = block[first:stop]
            ring[places], ring[places + frames] = part, part
        self._fed = at + stop - start
        return stop - start

    def answer(self, window: int) -> list[Array]:
        """Compute it."""
        del window
        first = self._fed % self._plan.frames
        values = {}
        for ring, spec, inner in zip(
            self._rings, self._signature.inputs, self._plan.kernel.inputs, strict=True
        ):
            if spec.time_axis is None:
                values[inner.name] = ring[(self._fed - 1) % self._plan.frames].reshape(inner.shape)
                continue
            rest = tuple(e for axis, e in enumerate(spec.model_shape) if axis != spec.time_axis)
            frames = ring[first : first + self._plan.frames].reshape(-1, *rest)
            values[inner.name] = np.moveaxis(frames, 0, spec.time_axis)
        result = self._call.call(values)
        outputs = self._plan.kernel.outputs
        arrays = [result] if len(outputs) == 1 else [result[spec.name] for spec in outputs]
        return [
            array.reshape(spec.shape)
            for array, spec in zip(arrays, self._signature.outputs, strict=True)
        ]

    def reset(self) -> None:
        """What was kept is forgotten as new frames come."""
        self._fed = 0

    def state(self) -> bytes:
        """The frames that are kept."""
        return b"".join(ring[: self._plan.frames].tobytes() for ring in self._rings)

    def expect_state(self, data: bytes) -> list[Array]:
        """The frames that were kept."""
        expected = sum(ring.nbytes for ring in self._rings) // 2
        if len(data) != expected:
            raise StreamError(
                f"the snapshot holds {len(data)} bytes of frames, the windows have {expected}"
            )
        found, at = [], 0
        for ring, spec in zip(self._rings, self._signature.inputs, strict=True):
            kept = np.frombuffer(data, ring.dtype, ring.size // 2, at)
            kept = kept.reshape(self._plan.frames, *spec.shape)
            if not takes(kept, spec):
                raise StreamError(f"the snapshot's frames of {spec.name!r} are not possible")
            found.append(kept)
            at += kept.nbytes
        return found

    def restore(self, state: list[Array], opened: Sequence[int]) -> None:
        """The frames as they were."""
        del opened
        for ring, kept in zip(self._rings, state, strict=True):
            ring[: self._plan.frames] = ring[self._plan.frames :] = kept

    def close(self) -> None:
        """The code's session."""
        self._call.close()
