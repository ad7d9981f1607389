"""Many streams on a device: their states stay there between calls."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgelstm.engines.cuda_driver import Device
from edgelstm.engines.cuda_kernels import LoadedKernel
from edgelstm.engines.cuda_launch import Arguments, Graph, Stream
from edgelstm.engines.cuda_memory import DeviceMemory, PinnedMemory
from edgelstm.memory import Block
from edgelstm.signature import Signature

PIECE_BYTES = 1 << 26
"""Longer blocks of frames go through pinned memory in pieces of this size."""


class StreamRunner:
    """Runs frames of all streams: through pinned memory to the device, one launch, and back.

    One frame of all streams is a graph that is recorded at the first of them.

    Args:
        device: where.
        kernel: what runs them.
        signature: of the model.
        streams: how many.
        state_bytes: of one state block.
    """

    def __init__(
        self,
        device: Device,
        kernel: LoadedKernel,
        signature: Signature,
        streams: int,
        state_bytes: int,
    ) -> None:
        device.enter()
        self._device = device
        self._kernel = kernel
        self._streams = streams
        self._state_bytes = state_bytes
        self._x_bytes = streams * signature.input_bytes
        self._y_bytes = streams * signature.output_bytes
        self._stream = Stream(device)
        self._state = DeviceMemory(device, streams * state_bytes)
        self._active = DeviceMemory(device, 4 * streams)
        self._mail = DeviceMemory(device, streams * kernel.entry.mail_bytes)
        self._mail.clear(self.queue)
        self._frame = _Room(device, self._x_bytes, self._y_bytes)
        self._chunk = self._frame
        self._graph: Graph | None = None
        self.set_active(np.ones(streams, np.bool_))

    @property
    def queue(self) -> int:
        """Handle of the stream of the driver that everything is started in."""
        return self._stream.handle

    checks_frames = False
    """Frames that the model does not take are found before."""

    def close(self) -> None:
        """Nothing runs between calls."""

    def run(self, inputs: Block, outputs: Block, n_frames: int) -> None:
        """Feed frames [frame][stream]; outputs come in the same order."""
        self._device.enter()
        each = max(1, PIECE_BYTES // max(self._x_bytes, self._y_bytes, 1))
        for first in range(0, n_frames, each):
            last = min(first + each, n_frames)
            x = inputs[first * self._x_bytes : last * self._x_bytes]
            y = outputs[first * self._y_bytes : last * self._y_bytes]
            self._run_piece(x, y, last - first)
        if self._left.size:
            # Streams that left write nothing: their rows are zeros.
            outputs.reshape(n_frames, self._streams, -1)[:, self._left] = 0

    def start(self, x: int, y: int, n_frames: int) -> None:
        """Start the kernel on frames that stand on the device, at these addresses."""
        addresses = (
            self._kernel.weights.address,
            self._state.address,
            x,
            y,
            self._active.address,
            self._mail.address,
        )
        arguments = Arguments(addresses, (n_frames, self._streams))
        blocks = self._kernel.entry.blocks(self._streams)
        self._kernel.function.launch(blocks, arguments, self.queue)

    def write_state(self, stream: int, state: Block) -> None:
        """Set the state block of one stream, or of several from that one on."""
        self._device.enter()
        self._state.upload(state, self.queue, stream * self._state_bytes)
        self._stream.wait()

    def read_state(self, stream: int) -> Block:
        """The state block of one stream."""
        self._device.enter()
        state = np.empty(self._state_bytes, np.uint8)
        self._state.download(state, self.queue, stream * self._state_bytes)
        self._stream.wait()
        return state

    def set_active(self, active: NDArray[np.bool_]) -> None:
        """Which streams the kernel moves on."""
        self._device.enter()
        self._left = np.flatnonzero(~active)
        self._active.upload(active.astype(np.uint32).view(np.uint8), self.queue)
        self._stream.wait()

    def _run_piece(self, x: Block, y: Block, n_frames: int) -> None:
        if n_frames == 1:
            self._run_frame(x, y)
            return
        if self._chunk.frames < n_frames:
            self._chunk = _Room(self._device, self._x_bytes, self._y_bytes, n_frames)
        room = self._chunk
        room.host_x.data[: x.size] = x
        room.x.upload(room.host_x.data[: x.size], self.queue)
        self.start(room.x.address, room.y.address, n_frames)
        room.y.download(room.host_y.data[: y.size], self.queue)
        self._stream.wait()
        y[...] = room.host_y.data[: y.size]

    def _run_frame(self, x: Block, y: Block) -> None:
        room = self._frame
        if self._graph is None:
            self._graph = Graph(self._stream, self._start_frame)
        room.host_x.data[: x.size] = x
        self._graph.start()
        self._stream.wait()
        y[...] = room.host_y.data[: y.size]

    def _start_frame(self) -> None:
        room = self._frame
        room.x.upload(room.host_x.data[: self._x_bytes], self.queue)
        self.start(room.x.address, room.y.address, 1)
        room.y.download(room.host_y.data[: self._y_bytes], self.queue)


class _Room:
    """Memory for some frames of all streams, on the device and pinned on the host."""

    def __init__(self, device: Device, x_bytes: int, y_bytes: int, frames: int = 1) -> None:
        self.frames = frames
        self.x = DeviceMemory(device, frames * x_bytes)
        self.y = DeviceMemory(device, frames * y_bytes)
        self.host_x = PinnedMemory(device, frames * x_bytes)
        self.host_y = PinnedMemory(device, frames * y_bytes)
