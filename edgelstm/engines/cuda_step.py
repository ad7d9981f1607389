"""Single steps of one stream as a graph that is recorded once."""

from __future__ import annotations

import numpy as np

from edgelstm.engines.base import Blocks
from edgelstm.engines.cuda_driver import Device
from edgelstm.engines.cuda_kernels import LoadedKernel
from edgelstm.engines.cuda_launch import Arguments, Graph, Stream
from edgelstm.engines.cuda_memory import DeviceMemory, PinnedMemory
from edgelstm.engines.cuda_samples import make_check
from edgelstm.signature import Signature

_PART = 256


class GraphStep:
    """A step is one launch of a graph and one wait.

    The kernel reads the frame and writes the outputs in pinned memory of the host; the state stays
    on the device until it is asked for (`settle`).

    Args:
        device: where.
        kernel: what runs.
        signature: of the model.
        blocks: of the session.
    """

    def __init__(
        self, device: Device, kernel: LoadedKernel, signature: Signature, blocks: Blocks
    ) -> None:
        device.enter()
        self._device = device
        self._kernel = kernel  # keeps the weights
        self._blocks = blocks
        self._check = make_check(signature, blocks.inputs)
        y_place = -(-max(blocks.inputs.size, 1) // _PART) * _PART
        self._pinned = PinnedMemory(device, y_place + blocks.outputs.size)
        self._x = self._pinned.data[: blocks.inputs.size]
        self._y = self._pinned.data[y_place : y_place + blocks.outputs.size]
        self._state = DeviceMemory(device, blocks.state.size)
        self._active = DeviceMemory(device, 4)
        self._active.upload(np.ones(1, np.uint32).view(np.uint8))
        self._mail = DeviceMemory(device, kernel.entry.mail_bytes)
        self._mail.clear()
        self._stream = Stream(device)
        addresses = (
            kernel.weights.address,
            self._state.address,
            self._pinned.there,
            self._pinned.there + y_place,
            self._active.address,
            self._mail.address,
        )
        self._arguments = Arguments(addresses, (1, 1))
        grid = kernel.entry.blocks(1)
        self._graph = Graph(
            self._stream,
            lambda: kernel.function.launch(grid, self._arguments, self._stream.handle),
        )
        self._holds_state = False

    def __call__(self) -> int:
        """Feed what stands in the input block."""
        code = self._check()
        if code:
            return code
        blocks = self._blocks
        self._device.enter()
        if not self._holds_state:
            self._state.upload(blocks.state, self._stream.handle)
            self._holds_state = True
        self._x[...] = blocks.inputs
        self._graph.start()
        self._stream.wait()
        blocks.outputs[...] = self._y
        return 0

    def settle(self, fetch: bool = True) -> None:
        """Let go of the state: the next step takes it from its block; fetch brings it there."""
        if self._holds_state and fetch:
            self._device.enter()
            self._state.download(self._blocks.state, self._stream.handle)
            self._stream.wait()
        self._holds_state = False
