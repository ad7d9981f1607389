"""Many streams on any kernel that has one stream a session: stepped one after another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgelstm.engines.base import Blocks, code_of, tells_news
from edgelstm.engines.many_streams import Codes
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
        self.set_active(np.ones(streams, np.bool_))

    checks_frames = True
    """Frames that the model does not take are found by the code."""

    def run(self, inputs: Block, outputs: Block, n_frames: int) -> Codes | None:
        """Feed frames `[frame][stream][input block]`; see `BatchRunner.run`."""
        x = inputs.reshape(n_frames, self._streams, -1)
        y = outputs.reshape(n_frames, self._streams, -1)
        codes = np.zeros(self._streams, np.int32)

        def part(places: NDArray[np.intp]) -> Part:
            return lambda: sum(self._run_one(int(i), x, y, codes) for i in places)

        used = max(1, min(len(self._threads), len(self._chosen)))
        parts = [part(places) for places in np.array_split(self._chosen, used)]
        return codes if sum(self._threads.run(parts)) else None

    def _run_one(self, place: int, x: Block, y: Block, codes: Codes) -> int:
        frames = np.ascontiguousarray(x[:, place])
        room = np.zeros((len(x), self._signature.output_bytes), np.uint8)
        returned = self._kernel.bind_run(self._blocks[place], frames, room, len(x))()
        code = code_of(returned) if tells_news(self._kernel) else returned
        codes[place] = code
        done = len(x) if code == 0 else max(0, -1 - code)
        y[:done, place] = room[:done]
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


def _split(state: Block, size: int) -> Sequence[Block]:
    return list(state.reshape(-1, size)) if size else []
