"""Engine `cuda`: kernels out of cubin or PTX sections, on NVIDIA GPUs, through the driver alone.

`cuda_kernels.py` says what the manifest holds, and from how many streams on a kernel is taken; one
whose blocks wait for each other has to fit on the GPU, too. Every kernel is started with weights,
state, x, y, active, mail; frames, streams (`device/wavefront.py` of the target), but for the kernel
that waits for frames (`cuda_doorbell.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.container import Container
from edgelstm.engines.base import Blocks, Kernel, StepFunction
from edgelstm.engines.cuda_doorbell import IDLE_US, DoorbellKernel
from edgelstm.engines.cuda_driver import Device, open_device
from edgelstm.engines.cuda_kernels import KernelEntry, LoadedKernel, entries_for, kernel_entries
from edgelstm.engines.cuda_samples import find_refused, states_are_kept
from edgelstm.engines.cuda_step import GraphStep
from edgelstm.engines.cuda_streams import StreamRunner
from edgelstm.errors import CapabilityError, TargetUnavailableError
from edgelstm.memory import Block
from edgelstm.signature import Signature


class CudaEngine:
    """Loads the kernels that this GPU runs."""

    def expect_machine(self) -> None:
        """A driver and a GPU; see `Engine.expect_machine`."""
        open_device()

    def describe(self, container: Container, signature: Signature) -> Mapping[str, str]:
        """The GPU and the kernel for one stream, if its blocks fit; see `Engine.describe`."""
        del signature
        entries = kernel_entries(container)
        device = open_device()
        here = [e for e in _entries_here(device, entries) if e.streams != "doorbell"]

        def least(entry: KernelEntry) -> int:
            return entry.least_streams(device.processors)

        enough = [entry for entry in here if least(entry) <= 1]
        chosen = max(enough, key=least) if enough else min(here, key=least)
        return {"engine": "cuda", "device": device.name, "shape": chosen.shape}

    def load(self, container: Container, signature: Signature) -> CudaKernel:
        """Make a model ready to run here; see `Engine.load`."""
        entries = kernel_entries(container)
        device = open_device()
        device.enter()
        here = _entries_here(device, entries)
        loaded = [LoadedKernel(device, container, entry) for entry in here]
        state_bytes = len(container.section("state_init"))
        return CudaKernel(device, loaded, signature, state_bytes)


def _entries_here(device: Device, entries: Sequence[KernelEntry]) -> Sequence[KernelEntry]:
    """The kernels for this GPU.

    Raises:
        TargetUnavailableError: there are none for any number of streams.
    """
    here = entries_for(entries, device.capability)
    if not any(entry.streams == "many" for entry in here):
        major, minor = device.capability
        there = ", ".join(sorted({entry.section for entry in entries}))
        raise TargetUnavailableError(
            f"the artifact has no code for this {device.name} (sm_{major}{minor}), only "
            f"{there}: compile it with --target cuda:sm_{major}{minor}"
        )
    return here


class CudaKernel:
    """The kernels of a model on one device.

    Args:
        device: where they are loaded.
        kernels: for any number of streams, one of them at least, and the one that waits for frames.
        signature: of the model.
        state_bytes: of one state block.
    """

    __slots__ = ("_device", "_facts", "_idle", "_kernels", "_signature", "_state_bytes", "_waiting")

    def __init__(
        self,
        device: Device,
        kernels: Sequence[LoadedKernel],
        signature: Signature,
        state_bytes: int,
    ) -> None:
        self._device = device
        self._kernels = [each for each in kernels if each.entry.streams != "doorbell"]
        waiting = [each for each in kernels if each.entry.streams == "doorbell"]
        self._waiting = waiting[0] if waiting else None
        self._signature = signature
        self._state_bytes = state_bytes
        self._idle: list[StreamRunner] = []
        shape = self.choose(1).entry.shape
        self._facts = {"engine": "cuda", "device": device.name, "shape": shape}

    @property
    def facts(self) -> Mapping[str, str]:
        """The engine, the GPU, and the shape of the kernel for one stream."""
        return self._facts

    @property
    def kernels(self) -> Sequence[LoadedKernel]:
        """What `choose` chooses among."""
        return self._kernels

    def choose(self, streams: int) -> LoadedKernel:
        """The kernel for that many streams, by the artifact and the GPU alone."""

        def least(kernel: LoadedKernel) -> int:
            return kernel.entry.least_streams(self._device.processors)

        there = [each for each in self._kernels if each.fits(streams)]
        enough = [each for each in there if least(each) <= streams]
        # Where two are for as many, the first: a team that fits, before one block a stream.
        return max(enough, key=least) if enough else min(there, key=least)

    def bind(self, blocks: Blocks) -> StepFunction:
        """One step, as a graph of one kernel; a run of one where states are checked."""
        if self._signature.checks_states:
            return self.bind_run(blocks, blocks.inputs, blocks.outputs, 1)
        return GraphStep(self._device, self.choose(1), self._signature, blocks)

    def bind_run(
        self, blocks: Blocks, inputs: NDArray[Any], outputs: NDArray[Any], n_steps: int
    ) -> StepFunction:
        """Many steps in one launch; where states are checked, a launch a frame."""

        def run() -> int:
            frames = inputs.reshape(-1).view(np.uint8)
            results = outputs.reshape(-1).view(np.uint8)
            code = find_refused(self._signature, frames)
            if code:
                return code
            try:
                # Memory on the device is kept from one block of frames to the next.
                runner = self._idle.pop()
            except IndexError:
                runner = self.bind_streams(1, self._state_bytes, check_states=True)
            runner.write_state(0, blocks.state)
            if self._signature.checks_states:
                code = self._run_singly(runner, blocks, frames, results, n_steps)
            else:
                runner.run(frames, results, n_steps)
                blocks.state[...] = runner.read_state(0)
            self._idle.append(runner)
            return code

        return run

    def _run_singly(
        self, runner: StreamRunner, blocks: Blocks, frames: Block, results: Block, n_steps: int
    ) -> int:
        """Frame by frame, each new state seen before it is kept."""
        pairs = zip(frames.reshape(n_steps, -1), results.reshape(n_steps, -1), strict=True)
        for done, (frame, result) in enumerate(pairs):
            runner.run(frame, result, 1)
            state = runner.read_state(0)
            if not states_are_kept(self._signature, state):
                return -1 - done
            blocks.state[...] = state
        return 0

    def bind_streams(
        self, streams: int, state_bytes: int, *, check_states: bool, threads: int = 1
    ) -> StreamRunner:
        """Device memory for many streams, and how they are run.

        Raises:
            CapabilityError: the states of the model have to be checked in every step, or threads
                are asked for.
        """
        if threads > 1:
            raise CapabilityError("a GPU steps all streams at once: threads are for CPUs")
        if streams > 1 and check_states:
            self._expect_bounded_states(
                "many streams in one session",
                "one session a stream, pass check_states=False to do without",
            )
        return StreamRunner(
            self._device, self.choose(streams), self._signature, streams, state_bytes
        )

    def with_doorbell(self, idle_us: int = IDLE_US) -> Kernel:
        """The same model, its steps taken by a kernel that stays on the GPU.

        Args:
            idle_us: how long that kernel waits for a frame before it ends.

        Raises:
            CapabilityError: the artifact has no such kernel, or this GPU is none for it.
        """
        if self._waiting is None:
            raise CapabilityError(
                "the artifact has no kernel that waits for frames: compile the model with "
                "--option doorbell=yes"
            )
        self._expect_bounded_states("a doorbell", "the session without latency")
        return DoorbellKernel(self._device, self._waiting, self._signature, self, idle_us)

    def _expect_bounded_states(self, what: str, instead: str) -> None:
        if self._signature.checks_states:
            raise CapabilityError(
                f"the states of {self._signature.name!r} can become infinite, so that each is "
                f"checked on the host, and {what} would not allow it: open {instead}, or bound the "
                "model's activations (such as clip of the cell)"
            )

    def read_weights(self, repeats: int) -> int | None:
        """Not offered."""
        del repeats
        return None
