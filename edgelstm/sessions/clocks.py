"""Where each of many streams stands in time, and which of their outputs are new."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from edgelstm.dtypes import DType
from edgelstm.errors import StreamError
from edgelstm.sessions.due import Timed
from edgelstm.signature import CLOCK, END, NO_END, Signature
from edgelstm.snapshot import state_view

Block = NDArray[np.uint8]
News = Mapping[str, NDArray[np.bool_]]


class StreamClocks:
    """Follows the clocks in the states of many streams, which count their steps.

    Args:
        signature: of a model with a clock.
        streams: how many places.
    """

    def __init__(self, signature: Signature, streams: int) -> None:
        self._signature = signature
        self._states = {spec.name: spec for spec in signature.states if spec.dtype is DType.I32}
        self._steps = np.zeros(streams, np.int64)

    def begin(self, place: int | None = None) -> None:
        """A new stream at one place, or at all of them."""
        self._steps[slice(None) if place is None else place] = 0

    def expect_running(self, state: Block) -> None:
        """Let nobody restore a stream that has ended.

        Raises:
            StreamError: it has.
        """
        if self._end_of(state) != NO_END:
            raise StreamError(
                f"the snapshot is of a stream of {self._signature.name!r} that has ended: restore "
                "one from before finish(), or reset() the place"
            )

    def step_of(self, state: Block) -> int:
        """The number of the next step of a stream in this state."""
        return int(state_view(state, self._states[CLOCK]).reshape(-1)[0])

    def follow(self, place: int, state: Block) -> None:
        """The state of one place is another one."""
        self._steps[place] = self.step_of(state)

    def ended(self, state: Block) -> Block:
        """The state of a stream whose last frame was the newest one."""
        found = state.copy()
        if END in self._states:
            now = state_view(found, self._states[CLOCK])
            state_view(found, self._states[END])[...] = now
        return found

    def expect_room(self, chosen: NDArray[np.bool_], frames: int) -> None:
        """Refuse frames behind the end of a table; none of the streams is fed.

        Raises:
            StreamError: naming the first stream that has no room for them.
        """
        most = self._signature.most_frames
        if most is None:
            return
        full = np.flatnonzero(chosen & (self._steps + frames > most))
        if len(full):
            stream = int(full[0])
            raise StreamError(
                f"frame {max(int(self._steps[stream]), most)} of stream {stream}: "
                f"{self._signature.name!r} has a table for {most} frames, and a stream ends behind "
                f"them: reset({stream}) begins a new one; none was fed"
            )

    def advance(self, done: NDArray[np.int64], frames: int) -> News:
        """Which outputs are new in the steps that are done now.

        Args:
            done: steps that each stream went on.
            frames: of the block.

        Shapes:
            done (streams,) -> (frames, streams) by output.
        """
        place = np.arange(frames)[:, None]
        steps, is_done = self._steps + place, place < done
        self._steps += done
        return {spec.name: is_done & _are_due(spec, steps) for spec in self._signature.outputs}

    def _end_of(self, state: Block) -> int:
        if END not in self._states:
            return NO_END
        return int(state_view(state, self._states[END]).reshape(-1)[0])


def steps_done(
    chosen: NDArray[np.bool_], codes: NDArray[np.int32] | None, count: int
) -> NDArray[np.int64]:
    """Steps that each stream went on, by what a runner returned."""
    done = np.where(chosen, count, 0)
    if codes is not None:
        done = np.where(chosen & (codes != 0), np.maximum(-1 - codes, 0), done)
    return done.astype(np.int64)


def _are_due(spec: Timed, steps: NDArray[np.int64]) -> NDArray[np.bool_]:
    """`is_due` of many steps, before the end of a recording."""
    if spec.time_axis is None:
        found: NDArray[np.bool_] = steps >= spec.warm_up
        return found
    late = steps - spec.delay
    due: NDArray[np.bool_] = (late >= 0) & (late % spec.stride == 0)
    return due
