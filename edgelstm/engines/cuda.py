"""Engine `cuda`: kernels out of cubin or PTX sections, on NVIDIA GPUs, through the driver alone.

`target.facts` of the manifest lists the kernels:

```
kernels: [{"section", "form": "cubin" | "ptx", "capability": [major, minor], "entry", "shape":
           "block" | "exchange" | "cluster", "team": blocks a stream, "threads", "shared_bytes",
           "mail_bytes", "image": [layouts of the weights], "streams": "one" | "many", ...}]
```
Among those that this GPU runs, one stream takes the kernel for one if its blocks fit on the chip.
Parameters: weights, state, x, y, active, mail; frames, streams (`device/wavefront.py`).
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.container import Container
from edgelstm.engines.base import Blocks, StepFunction
from edgelstm.engines.cuda_driver import (
    Arguments,
    Device,
    Function,
    Stream,
    mapped_memory,
    open_device,
)
from edgelstm.engines.cuda_image import Layout, make_image
from edgelstm.engines.cuda_memory import DeviceMemory
from edgelstm.errors import ArtifactFormatError, TargetUnavailableError
from edgelstm.memory import Block
from edgelstm.signature import Signature

EXACT_CHIPS = ((8, 7),)
"""Chips of Jetson modules: their cubins run there alone, and no other runs there."""

_SHAPES = ("block", "exchange", "cluster")


@dataclass(frozen=True, slots=True)
class KernelEntry:
    """One kernel of an artifact, as the manifest says."""

    section: str
    form: str
    capability: tuple[int, int]
    entry: str
    shape: str
    team: int
    threads: int
    shared_bytes: int
    mail_bytes: int
    image: tuple[Layout, ...]
    streams: str

    def rank(self, capability: tuple[int, int]) -> int | None:
        """How well it suits a GPU (higher is better), or None where it does not run."""
        if self.form == "ptx":
            return 0 if self.capability <= capability else None
        if self.capability == capability:
            return 1000
        if self.capability in EXACT_CHIPS or capability in EXACT_CHIPS:
            return None
        same = self.capability[0] == capability[0] and self.capability[1] <= capability[1]
        return 1 + self.capability[1] if same else None


def kernel_entries(container: Container) -> tuple[KernelEntry, ...]:
    """The kernels of an artifact.

    Raises:
        ArtifactFormatError: the manifest does not list them properly.
    """
    try:
        listed = container.manifest["target"]["facts"]["kernels"]
        entries = tuple(_entry(item) for item in listed)
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactFormatError(
            f"the manifest's list of kernels is malformed ({error!r}); compile the model again"
        ) from error
    for entry in entries:
        container.section(entry.section)
    if not entries:
        raise ArtifactFormatError("the artifact holds no kernels; compile the model again")
    return entries


class CudaEngine:
    """Loads the kernels that this GPU runs."""

    def load(self, container: Container, signature: Signature) -> CudaKernel:
        """Make a model ready to run here; see `Engine.load`."""
        entries = kernel_entries(container)
        device = open_device()
        device.enter()
        chosen = {
            streams: found
            for streams in ("one", "many")
            if (found := _best(entries, streams, device.capability)) is not None
        }
        if "many" not in chosen:
            major, minor = device.capability
            there = ", ".join(sorted({entry.section for entry in entries}))
            raise TargetUnavailableError(
                f"the artifact has no code for this {device.name} (sm_{major}{minor}), only "
                f"{there}: compile it with --target cuda:sm_{major}{minor}"
            )
        loaded = {name: LoadedKernel(device, container, each) for name, each in chosen.items()}
        state_bytes = len(container.section("state_init"))
        return CudaKernel(device, loaded, signature, state_bytes)


class LoadedKernel:
    """A kernel on the device with its image of the weights."""

    def __init__(self, device: Device, container: Container, entry: KernelEntry) -> None:
        self.entry = entry
        code = bytes(container.section(entry.section))
        self.function = Function(
            device,
            code + b"\0" if entry.form == "ptx" else code,
            entry.entry,
            entry.threads,
            entry.shared_bytes,
            entry.team if entry.shape == "cluster" else 1,
            entry.shape == "exchange",
        )
        blob = np.frombuffer(container.section("weights"), np.uint8)
        image = make_image(blob, entry.image)
        self.weights = DeviceMemory(device, image.size)
        self.weights.upload(image)

    def fits(self, streams: int) -> bool:
        """Whether so many streams may be run by it."""
        if self.entry.shape == "block":
            return True
        return streams * self.entry.team <= self.function.resident_blocks()


class CudaKernel:
    """The kernels of a model on one device."""

    __slots__ = ("_device", "_facts", "_kernels", "_signature", "_state_bytes")

    def __init__(
        self,
        device: Device,
        kernels: Mapping[str, LoadedKernel],
        signature: Signature,
        state_bytes: int,
    ) -> None:
        self._device = device
        self._kernels = dict(kernels)
        self._signature = signature
        self._state_bytes = state_bytes
        shape = self.choose(1).entry.shape
        self._facts = {"engine": "cuda", "device": device.name, "shape": shape}

    @property
    def facts(self) -> Mapping[str, str]:
        """The engine, the GPU, and the shape of the kernel for one stream."""
        return self._facts

    def choose(self, streams: int) -> LoadedKernel:
        """The kernel for that many streams."""
        one = self._kernels.get("one")
        return one if one is not None and one.fits(streams) else self._kernels["many"]

    def bind(self, blocks: Blocks) -> StepFunction:
        """One step in mapped memory, as a graph of one kernel."""
        return _MappedStep(self._device, self.choose(1), self._signature, blocks).step

    def bind_run(
        self, blocks: Blocks, inputs: NDArray[Any], outputs: NDArray[Any], n_steps: int
    ) -> StepFunction:
        """Many steps in one launch."""
        runner = self.bind_streams(1, self._state_bytes)

        def run() -> int:
            frames = inputs.reshape(-1).view(np.uint8)
            code = find_non_finite(self._signature, frames)
            if code:
                return code
            runner.write_state(0, blocks.state)
            runner.run(frames, outputs.reshape(-1).view(np.uint8), n_steps)
            blocks.state[...] = runner.read_state(0)
            return 0

        return run

    def bind_streams(self, streams: int, state_bytes: int) -> StreamRunner:
        """Device memory for many streams, and how they are run."""
        return StreamRunner(
            self._device, self.choose(streams), self._signature, streams, state_bytes
        )

    def read_weights(self, repeats: int) -> int | None:
        """Not offered."""
        del repeats
        return None


class _MappedStep:
    """Steps of one stream: input, state and output stand in host memory that the kernel reaches."""

    def __init__(
        self, device: Device, kernel: LoadedKernel, signature: Signature, blocks: Blocks
    ) -> None:
        self._device = device
        self._kernel = kernel  # keeps the weights
        self._signature = signature
        self._blocks = blocks
        sizes = (blocks.inputs.size, blocks.state.size, blocks.outputs.size, 4)
        starts = [0]
        for size in sizes:
            starts.append(starts[-1] + -(-size // 256) * 256)
        here, there = mapped_memory(device, starts[-1])
        room = (ctypes.c_ubyte * starts[-1]).from_address(here)
        whole = np.ctypeslib.as_array(room)
        self._x, self._state, self._y, active = (
            whole[start : start + size] for start, size in zip(starts, sizes, strict=False)
        )
        active.view(np.uint32)[0] = 1
        mail = DeviceMemory(device, kernel.entry.mail_bytes)
        mail.clear()
        self._mail = mail
        self._stream = Stream(device)
        x, state, y, flag = (there + start for start in starts[:4])
        self._arguments = Arguments(
            (kernel.weights.address, state, x, y, flag, mail.address), (1, 1)
        )
        team = kernel.entry.team
        self._graph = self._stream.record(
            lambda: kernel.function.launch(team, self._arguments, self._stream.handle)
        )
        weakref.finalize(self, _release_step, device, self._stream, self._graph, here)

    def step(self) -> int:
        """Feed what stands in the input block."""
        blocks = self._blocks
        code = find_non_finite(self._signature, blocks.inputs)
        if code:
            return code
        self._device.enter()
        self._x[...] = blocks.inputs
        self._state[...] = blocks.state
        self._stream.play(self._graph)
        self._stream.wait()
        blocks.state[...] = self._state
        blocks.outputs[...] = self._y
        return 0


class StreamRunner:
    """Many streams on the device: their states stay there between calls.

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
        self._device = device
        self._kernel = kernel
        self._signature = signature
        self._streams = streams
        self._state_bytes = state_bytes
        device.enter()
        self._stream = Stream(device)
        weakref.finalize(self, self._stream.close)
        self._state = DeviceMemory(device, max(streams * state_bytes, 1))
        self._active = DeviceMemory(device, 4 * streams)
        self._mail = DeviceMemory(device, max(streams * kernel.entry.mail_bytes, 1))
        self._mail.clear()
        self._x = DeviceMemory(device, max(streams * signature.input_bytes, 1))
        self._y = DeviceMemory(device, max(streams * signature.output_bytes, 1))
        self.set_active(np.ones(streams, np.bool_))

    @property
    def queue(self) -> int:
        """Handle of the stream of the driver that everything is started in."""
        return self._stream.handle

    def run(self, inputs: Block, outputs: Block, n_frames: int) -> None:
        """Feed frames [frame][stream]; outputs come in the same order."""
        self._device.enter()
        self._x = self._x.at_least(inputs.size)
        self._y = self._y.at_least(outputs.size)
        stream = self._stream.handle
        self._x.upload(inputs, stream)
        if not self._all_active:
            # Streams that left write nothing: their rows are zeros.
            self._y.clear(stream)
        self.launch(n_frames)
        self._y.download(outputs, stream)
        self._stream.wait()

    def launch(self, n_frames: int) -> None:
        """Start the kernel on what stands in device memory."""
        addresses = (self._kernel.weights, self._state, self._x, self._y, self._active, self._mail)
        arguments = Arguments([each.address for each in addresses], (n_frames, self._streams))
        blocks = self._streams * self._kernel.entry.team
        self._kernel.function.launch(blocks, arguments, self._stream.handle)

    def write_state(self, stream: int, state: Block) -> None:
        """Set the state block of one stream, or of several from that one on."""
        self._device.enter()
        self._state.upload(state, None, stream * self._state_bytes)

    def read_state(self, stream: int) -> Block:
        """The state block of one stream."""
        self._device.enter()
        state = np.empty(self._state_bytes, np.uint8)
        self._state.download(state, None, stream * self._state_bytes)
        return state

    def set_active(self, active: NDArray[np.bool_]) -> None:
        """Which streams the kernel moves on."""
        self._device.enter()
        self._all_active = bool(active.all())
        self._active.upload(active.astype(np.uint32).view(np.uint8))


def find_non_finite(signature: Signature, frames: Block) -> int:
    """1 + i where float input i holds NaN or infinity in any of the frames, else 0."""
    whole = signature.input_bytes
    if len(signature.inputs) == 1 and signature.inputs[0].nbytes == whole:
        specs: Sequence[tuple[int, Any]] = ((0, frames.view(signature.inputs[0].dtype.numpy)),)
    else:
        rows = frames.reshape(-1, whole)
        specs = [
            (
                index,
                np.ascontiguousarray(
                    rows[:, spec.offset_bytes : spec.offset_bytes + spec.nbytes]
                ).view(spec.dtype.numpy),
            )
            for index, spec in enumerate(signature.inputs)
        ]
    for index, values in specs:
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            return 1 + index
    return 0


def _best(
    entries: Sequence[KernelEntry], streams: str, capability: tuple[int, int]
) -> KernelEntry | None:
    ranked = [
        (rank, -index)
        for index, entry in enumerate(entries)
        if entry.streams == streams and (rank := entry.rank(capability)) is not None
    ]
    return entries[-max(ranked)[1]] if ranked else None


def _entry(item: Mapping[str, Any]) -> KernelEntry:
    major, minor = item["capability"]
    entry = KernelEntry(
        section=item["section"],
        form=item["form"],
        capability=(int(major), int(minor)),
        entry=item["entry"],
        shape=item["shape"],
        team=int(item["team"]),
        threads=int(item["threads"]),
        shared_bytes=int(item["shared_bytes"]),
        mail_bytes=int(item["mail_bytes"]),
        image=tuple(Layout.from_json(each) for each in item["image"]),
        streams=item["streams"],
    )
    sizes = (entry.threads, entry.shared_bytes, entry.mail_bytes)
    if (
        entry.shape not in _SHAPES
        or entry.form not in ("cubin", "ptx")
        or entry.streams not in ("one", "many")
        or not 1 <= entry.team <= 1024
        or not 32 <= entry.threads <= 1024
        or min(sizes) < 0
    ):
        raise ValueError(f"kernel {entry.entry!r}")
    return entry


def _release_step(device: Device, stream: Stream, graph: int, here: int) -> None:
    stream.close((graph,))
    device.driver.call("cuMemFreeHost", here)
