"""Steps of one stream by a kernel that stays on the GPU and waits for frames: lowest latency.

What host and kernel say to each other stands in mapped memory of the host:

```
bell   host -> kernel   number of the frame asked for; STOP: write the state and end
gone   kernel -> host   1 once the kernel has decided to end
done   kernel -> host   one word a block: number of the frame whose outputs are there
x, y, state             frame, outputs, and the state block while no kernel is there
```
A frame stands in x before its number stands in the bell, outputs in y before their number stands
in done. A kernel that hears nothing for a while writes its state and ends (so that a host that
hangs, and calls of the driver that wait for the GPU, are not held up for ever); the next step
starts another.
"""

from __future__ import annotations

import ctypes
import sys
import threading
import time
import weakref
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from edgelstm.engines.base import Blocks, Kernel, StepFunction
from edgelstm.engines.cuda_driver import Device
from edgelstm.engines.cuda_kernels import LoadedKernel
from edgelstm.engines.cuda_launch import Arguments, Stream
from edgelstm.engines.cuda_memory import DeviceMemory, PinnedMemory
from edgelstm.engines.cuda_samples import make_check
from edgelstm.errors import CapabilityError, ToolchainError
from edgelstm.signature import Signature

STOP = 0xFFFFFFFF
GONE_PLACE = 128
DONE_PLACE = 256
"""Offsets from the bell; words of one writer share no line of a cache with the other's."""

IDLE_US = 200_000
"""A kernel that waits longer than this for a frame ends."""

_PART = 256
_SPINS = 2000
"""Looks at the answer before the processor is offered to other threads."""

_DEADLINE_S = 10.0
_LOST = "its state is lost: reset the session, or restore a snapshot"
_EXECUTION_TIMEOUT = 17  # CU_DEVICE_ATTRIBUTE_KERNEL_EXEC_TIMEOUT


class DoorbellKernel:
    """A model whose steps are taken by a kernel that stays; blocks of frames are run as ever.

    Args:
        device: where.
        waiting: the kernel that stays.
        signature: of the model.
        other: runs blocks of frames.
        idle_us: how long it waits for a frame before it ends.

    Raises:
        CapabilityError: this GPU ends kernels that run long, or its blocks do not fit at once.
    """

    __slots__ = ("_device", "_facts", "_idle_us", "_other", "_signature", "_waiting")

    def __init__(
        self,
        device: Device,
        waiting: LoadedKernel,
        signature: Signature,
        other: Kernel,
        idle_us: int,
    ) -> None:
        if device.attribute(_EXECUTION_TIMEOUT):
            raise CapabilityError(
                f"the watchdog of the display ends long kernels on this {device.name}: open the "
                "session without latency='doorbell', or use a GPU without a display"
            )
        if not waiting.fits(1):
            raise CapabilityError(
                f"the {waiting.entry.team} blocks of the waiting kernel do not fit on this "
                f"{device.name} at once: compile with --option shape=block"
            )
        self._device = device
        self._waiting = waiting
        self._signature = signature
        self._other = other
        self._idle_us = idle_us
        shape = waiting.entry.shape
        self._facts = {**other.facts, "shape": shape, "latency": "doorbell"}

    @property
    def facts(self) -> Mapping[str, str]:
        """The engine, the GPU, and the shape of the kernel that stays."""
        return self._facts

    def bind(self, blocks: Blocks) -> StepFunction:
        """One step; the first one starts the kernel."""
        return DoorbellStep(self._device, self._waiting, self._signature, blocks, self._idle_us)

    def bind_run(
        self, blocks: Blocks, inputs: NDArray[Any], outputs: NDArray[Any], n_steps: int
    ) -> StepFunction:
        """Many steps in one launch, of the other kernel."""
        return self._other.bind_run(blocks, inputs, outputs, n_steps)

    def read_weights(self, repeats: int) -> int | None:
        """Not offered."""
        return self._other.read_weights(repeats)


class DoorbellStep:
    """A step is a frame laid down, a bell rung, and an answer waited for; no call of the driver.

    Args:
        device: where.
        kernel: what stays there.
        signature: of the model.
        blocks: of the session.
        idle_us: how long it waits for a frame before it ends.
    """

    def __init__(
        self,
        device: Device,
        kernel: LoadedKernel,
        signature: Signature,
        blocks: Blocks,
        idle_us: int,
    ) -> None:
        device.enter()
        self._device = device
        self._kernel = kernel
        self._blocks = blocks
        self._check = make_check(signature, blocks.inputs)
        team = kernel.entry.team
        sizes = (DONE_PLACE + 4 * team, blocks.inputs.size, blocks.outputs.size, blocks.state.size)
        starts = [0]
        for size in sizes:
            starts.append(starts[-1] + -(-max(size, 1) // _PART) * _PART)
        self._shared = shared = PinnedMemory(device, starts[-1])
        shared.data[...] = 0
        self._x, self._y, self._state = (
            shared.data[start : start + size]
            for start, size in zip(starts[1:], sizes[1:], strict=False)
        )
        self._bell = ctypes.c_uint32.from_address(shared.here)
        self._gone = ctypes.c_uint32.from_address(shared.here + GONE_PLACE)
        self._done = (ctypes.c_char * (4 * team)).from_address(shared.here + DONE_PLACE)
        self._mail = DeviceMemory(device, kernel.entry.mail_bytes)
        self._mail.clear()
        self._stream = Stream(device)
        x, y, state = (shared.there + start for start in starts[1:4])
        addresses = (kernel.weights.address, state, x, y, shared.there, self._mail.address)
        self._arguments = Arguments(addresses, (idle_us, 0))
        self._order = threading.Lock()
        self._order.acquire()
        self._answered = 0
        self._is_running = self._holds_state = self._is_lost = False
        # What the kernel uses lives until it has ended.
        weakref.finalize(self, _end, device, self._stream, shared, (kernel, self._mail))

    def __call__(self) -> int:
        """Feed what stands in the input block."""
        code = self._check()
        if code:
            return code
        if self._is_lost:
            raise ToolchainError(_LOST)
        blocks = self._blocks
        self._x[...] = blocks.inputs
        if not self._is_running or self._gone.value:
            self._start()
        number = self._answered % (STOP - 1) + 1
        self._fence()
        self._bell.value = number
        wanted = number.to_bytes(4, sys.byteorder) * (len(self._done) // 4)
        done, spins = self._done, 0
        while done.raw != wanted:
            spins += 1
            if spins > _SPINS:
                self._wait_longer(wanted)
        self._fence()
        self._answered = number
        blocks.outputs[...] = self._y
        return 0

    def settle(self, fetch: bool = True) -> None:
        """Let the kernel end; the next step takes the state from its block."""
        if self._is_lost and fetch:
            raise ToolchainError(_LOST)
        self._is_lost = False
        if self._is_running:
            self._bell.value = STOP
            self._await_end()
        if self._holds_state and fetch:
            self._blocks.state[...] = self._state
        self._holds_state = False

    def _start(self) -> None:
        """Start a kernel that has seen all frames that were answered."""
        if self._is_running:
            self._await_end()
        if not self._holds_state:
            self._state[...] = self._blocks.state
            self._holds_state = True
        self._bell.value = self._answered
        self._launch()

    def _launch(self) -> None:
        self._gone.value = 0
        self._arguments.set_count(1, self._answered)
        self._device.enter()
        entry = self._kernel.entry
        self._kernel.function.launch(entry.team, self._arguments, self._stream.handle)
        self._is_running = True

    def _await_end(self) -> None:
        self._is_running = False
        self._device.enter()
        self._stream.wait()

    def _wait_longer(self, wanted: bytes) -> None:
        """Until the answer is there, with other threads in between.

        Raises:
            ToolchainError: the kernel failed, or says nothing.
        """
        self._is_lost = True
        self._device.enter()
        end = time.monotonic() + _DEADLINE_S
        while self._done.raw != wanted:
            time.sleep(0)
            is_busy = self._stream.is_busy()
            if self._gone.value:
                # It ended for want of frames just before the bell was rung.
                self._await_end()
                self._launch()
            elif not is_busy and self._done.raw != wanted:
                self._is_running = False
                raise ToolchainError(
                    f"the kernel that waits for frames ended without an answer; {_LOST}"
                )
            elif time.monotonic() > end:
                raise ToolchainError(
                    f"the kernel that waits for frames did not answer within {_DEADLINE_S:.0f} s; "
                    f"{_LOST}"
                )
        self._is_lost = False

    def _fence(self) -> None:
        """What was read and written before stays before what comes after.

        Python has no fence; a release and an acquire of one lock are one on every processor.
        """
        self._order.release()
        self._order.acquire()


def _end(device: Device, stream: Stream, shared: PinnedMemory, kept: Any) -> None:
    device.enter()
    ctypes.c_uint32.from_address(shared.here).value = STOP
    device.driver.release("cuStreamSynchronize", stream.handle)
    del kept
