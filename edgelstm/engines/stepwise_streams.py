"""Many streams on any kernel that has one stream a session: stepped one after another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgelstm.engines.base import Blocks, code_of, tells_news
from edgelstm.engines.many_streams import Codes, ManyStreams, Runner
from edgelstm.engines.stream_threads import StreamThreads
from edgelstm.memory import Block, allocate_block
from edgelstm.signature import Signature

if TYPE_CHECKING:
    from edgelstm.engines.base import Kernel
    from edgelstm.engines.stream_threads import Part


class StepwiseRunner:
    """Streams that any kernel with one stream a session steps one after another.

    Args:
        kernel: the model.
        signature: of it.
        streams: how many places there are.
        state_bytes, scratch_bytes: of one stream.
        threads: how many share the streams.
    """

    def __init__(
        self,
        kernel: Kernel,
        signature: Signature,
        streams: int,
        state_bytes: int,
        scratch_bytes: int,
        threads: int,
    ) -> None:
        self._kernel, self._signature, self._streams = kernel, signature, streams
        self._threads = StreamThreads(min(threads, streams))
        self._blocks = [
            Blocks(
                allocate_block(state_bytes),
                allocate_block(scratch_bytes),
                allocate_block(signature.input_bytes),
                allocate_block(signature.output_bytes),
            )
            for _ in range(streams)
        ]
        self._state_bytes = state_bytes
        self._apart: int | None = None
        self._is_last_kept = False
        self.set_active(np.ones(streams, np.bool_))

    checks_frames = True
    """Frames that the model does not take are found by the code."""

    def run(self, inputs: Block, outputs: Block, n_frames: int) -> Codes | None:
        """Feed frames `[frame][stream][input block]`; see `BatchRunner.run`."""
        x, y = self._frames_of(inputs, n_frames), self._rows_of(outputs, n_frames)
        codes = np.zeros(self._streams, np.int32)

        def part(places: NDArray[np.intp]) -> Part:
            return lambda: sum(self._run_one(int(i), x(i), y(i), codes) for i in places)

        used = max(1, min(len(self._threads), len(self._chosen)))
        parts = [part(places) for places in np.array_split(self._chosen, used)]
        return codes if sum(self._threads.run(parts)) else None

    def share_frames(self, apart: int = 0, *, is_last_kept: bool = False) -> None:
        """See `SharesFrames`."""
        self._apart, self._is_last_kept = apart, is_last_kept

    def _frames_of(self, inputs: Block, n_frames: int) -> Callable[[int], Block]:
        """The frames of each place, `(n, input block)`."""
        apart = self._apart
        if apart is None:
            x = inputs.reshape(n_frames, self._streams, -1)
            return lambda place: x[:, place]
        shared = inputs.reshape(-1, self._signature.input_bytes)
        return lambda place: shared[apart * place : apart * place + n_frames]

    def _rows_of(self, outputs: Block, n_frames: int) -> Callable[[int], Block]:
        """Where the outputs of each place go; of its last frame alone where no more is kept."""
        kept = 1 if self._is_last_kept else n_frames
        y = outputs.reshape(kept, self._streams, -1)
        return lambda place: y[:, place]

    def _run_one(self, place: int, x: Block, y: Block, codes: Codes) -> int:
        frames = np.ascontiguousarray(x)
        room = np.zeros((len(x), self._signature.output_bytes), np.uint8)
        returned = self._kernel.bind_run(self._blocks[place], frames, room, len(x))()
        code = code_of(returned) if tells_news(self._kernel) else returned
        codes[place] = code
        done = len(x) if code == 0 else max(0, -1 - code)
        rows = room[:done][-len(y) :]
        y[: len(rows)] = rows
        return int(code != 0)

    def write_state(self, stream: int, state: Block) -> None:
        """Set the state block of one stream, or of several from that one on."""
        for i, each in enumerate(_split(state, self._state_bytes)):
            self._blocks[stream + i].state[...] = each

    def read_state(self, stream: int) -> Block:
        """The state block of one stream."""
        return self._blocks[stream].state.copy()

    def set_active(self, active: NDArray[np.bool_]) -> None:
        """Which streams are moved on."""
        self._chosen = np.flatnonzero(active)

    def close(self) -> None:
        """End the threads."""
        self._threads.close()


def run_streams(
    kernel: Kernel,
    signature: Signature,
    streams: int,
    state_bytes: int,
    scratch_bytes: int,
    *,
    check_states: bool = True,
    threads: int = 1,
) -> Runner:
    """Memory for many streams, on the kernel's own code for them where it has some."""
    if isinstance(kernel, ManyStreams):
        return kernel.bind_streams(streams, state_bytes, check_states=check_states, threads=threads)
    return StepwiseRunner(kernel, signature, streams, state_bytes, scratch_bytes, threads)


def _split(state: Block, size: int) -> Sequence[Block]:
    return list(state.reshape(-1, size)) if size else []
