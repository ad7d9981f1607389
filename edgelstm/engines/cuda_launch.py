"""Kernels on a CUDA device, what they are started with, and the queues that they are started in."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable, Sequence
from ctypes import POINTER, c_int, c_uint, c_uint64, c_void_p

from edgelstm.engines.cuda_cubin import ptx_parameters, read_cubin
from edgelstm.engines.cuda_driver import Device
from edgelstm.engines.cuda_errors import NOT_READY
from edgelstm.errors import ArtifactFormatError, ToolchainError

_FUNCTION_DYNAMIC_SHARED = 8
_LAUNCH_COOPERATIVE = 2
_LAUNCH_CLUSTER = 4
_STREAM_NON_BLOCKING = 1
_CAPTURE_THREAD_LOCAL = 1
_STATIC_SHARED = 48 * 1024

PARAMETERS = (8,) * 6 + (4,) * 2
"""Sizes of what every kernel is started with: six addresses and two counts."""


class _Dimension(ctypes.Structure):
    _fields_ = (("x", c_uint), ("y", c_uint), ("z", c_uint))


class _LaunchValue(ctypes.Union):
    _fields_ = (("bytes", ctypes.c_char * 64), ("cluster", _Dimension), ("cooperative", c_int))


class _LaunchAttribute(ctypes.Structure):
    """CUlaunchAttribute."""

    _fields_ = (("id", c_uint), ("padding", ctypes.c_char * 4), ("value", _LaunchValue))


class _LaunchConfig(ctypes.Structure):
    """CUlaunchConfig."""

    _fields_ = (
        ("grid", _Dimension),
        ("block", _Dimension),
        ("shared_bytes", c_uint),
        ("stream", c_void_p),
        ("attributes", POINTER(_LaunchAttribute)),
        ("attribute_count", c_uint),
    )


class Arguments:
    """What a kernel is started with, in memory that the driver reads.

    Args:
        addresses: six 64-bit values.
        counts: two 32-bit values, behind them.
    """

    def __init__(self, addresses: Sequence[int], counts: Sequence[int]) -> None:
        values = [
            *(c_uint64(value) for value in addresses),
            *(c_uint(value) for value in counts),
        ]
        if tuple(ctypes.sizeof(value) for value in values) != PARAMETERS:
            raise ValueError(f"{len(addresses)} addresses and {len(counts)} counts")
        self._values = values
        self.pointers = (c_void_p * len(values))(*map(ctypes.addressof, values))

    def set_count(self, index: int, value: int) -> None:
        """Change a count before the next launch."""
        self._values[6 + index].value = value


class Function:
    """A kernel of a loaded module; unloaded when nobody holds it any more.

    Args:
        device: where it is loaded.
        code: cubin, or PTX.
        form: "cubin" or "ptx".
        entry: its name.
        threads: of a block.
        shared_bytes: dynamic shared memory of a block.
        cluster: blocks of a cluster, 1 for none.
        cooperative: all blocks have to be on the chip at once.

    Raises:
        ArtifactFormatError: the kernel wants other parameters than `PARAMETERS`.
        ToolchainError: the driver does not take the code.
    """

    def __init__(
        self,
        device: Device,
        code: bytes,
        form: str,
        entry: str,
        threads: int,
        shared_bytes: int,
        cluster: int = 1,
        cooperative: bool = False,
    ) -> None:
        expect_parameters(code, form, entry)
        self.device = device
        self.entry = entry
        self.threads = threads
        self.shared_bytes = shared_bytes
        self.cluster = cluster
        self.cooperative = cooperative
        driver = device.driver
        module = driver.handle("cuModuleLoadData", code + b"\0" if form == "ptx" else code)
        weakref.finalize(self, _release, device, "cuModuleUnload", module)
        self._function = driver.handle("cuModuleGetFunction", module, entry.encode())
        if shared_bytes > _STATIC_SHARED:
            driver.call(
                "cuFuncSetAttribute", self._function, _FUNCTION_DYNAMIC_SHARED, shared_bytes
            )

    def resident_blocks(self) -> int:
        """How many blocks are on the chip at once."""
        each = self.device.driver.number(
            "cuOccupancyMaxActiveBlocksPerMultiprocessor",
            self._function,
            self.threads,
            self.shared_bytes,
        )
        return each * self.device.processors

    def launch(self, blocks: int, arguments: Arguments, stream: int) -> None:
        """Start it; errors of the kernel itself show at the next synchronization."""
        driver = self.device.driver
        if self.cluster == 1 and not self.cooperative:
            sizes = (blocks, 1, 1, self.threads, 1, 1, self.shared_bytes)
            driver.call("cuLaunchKernel", self._function, *sizes, stream, arguments.pointers, None)
            return
        attributes = (_LaunchAttribute * 2)()
        count = 0
        if self.cluster > 1:
            attributes[count].id = _LAUNCH_CLUSTER
            attributes[count].value.cluster = _Dimension(self.cluster, 1, 1)
            count += 1
        if self.cooperative:
            attributes[count].id = _LAUNCH_COOPERATIVE
            attributes[count].value.cooperative = 1
            count += 1
        config = _LaunchConfig(
            _Dimension(blocks, 1, 1),
            _Dimension(self.threads, 1, 1),
            self.shared_bytes,
            stream,
            attributes,
            count,
        )
        driver.call(
            "cuLaunchKernelEx", ctypes.byref(config), self._function, arguments.pointers, None
        )


class Stream:
    """A queue of work on a device; given back when nobody holds it any more."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.handle = device.driver.handle("cuStreamCreate", _STREAM_NON_BLOCKING)
        self._wait = device.driver.function("cuStreamSynchronize")
        self._query = device.driver.function("cuStreamQuery")
        weakref.finalize(self, _release, device, "cuStreamDestroy_v2", self.handle)

    def wait(self) -> None:
        """Until everything in it is done."""
        code = self._wait(self.handle)
        if code:
            self.device.driver.fail("cuStreamSynchronize", code)

    def is_busy(self) -> bool:
        """Whether something in it is not done yet; errors of kernels show here, too."""
        code = self._query(self.handle)
        if code not in (0, NOT_READY):
            self.device.driver.fail("cuStreamQuery", code)
        return code == NOT_READY


class Graph:
    """Work recorded once, started with one call; given back when nobody holds it any more.

    Args:
        stream: what the work is started in, now and later.
        work: starts it.
    """

    def __init__(self, stream: Stream, work: Callable[[], None]) -> None:
        device = stream.device
        driver = device.driver
        driver.call("cuStreamBeginCapture_v2", stream.handle, _CAPTURE_THREAD_LOCAL)
        made = c_void_p()
        try:
            work()
        finally:
            code = driver.function("cuStreamEndCapture")(stream.handle, ctypes.byref(made))
        if code:
            driver.fail("cuStreamEndCapture", code)
        try:
            self._graph = driver.handle("cuGraphInstantiateWithFlags", made.value, 0)
        finally:
            driver.call("cuGraphDestroy", made.value)
        weakref.finalize(self, _release, device, "cuGraphExecDestroy", self._graph)
        self._stream = stream
        self._launch = driver.function("cuGraphLaunch")

    def start(self) -> None:
        """Start the work."""
        code = self._launch(self._graph, self._stream.handle)
        if code:
            self._stream.device.driver.fail("cuGraphLaunch", code)


def expect_parameters(code: bytes, form: str, entry: str) -> None:
    """See that a kernel wants what it will be started with.

    Raises:
        ArtifactFormatError: it does not, or is not there.
    """
    try:
        if form == "ptx":
            found = ptx_parameters(code.decode(errors="replace"), entry)
        else:
            kernels = read_cubin(code)
            found = tuple(size for _, size in kernels[entry].parameters)
    except (ToolchainError, KeyError) as error:
        raise ArtifactFormatError(
            f"kernel {entry!r} is not in its {form} section ({error}): compile the model again"
        ) from error
    if found != PARAMETERS:
        raise ArtifactFormatError(
            f"kernel {entry!r} takes parameters of {found} bytes, this edgelstm gives {PARAMETERS}:"
            " compile the model again with the same version as here"
        )


def _release(device: Device, name: str, handle: int) -> None:
    device.enter()
    device.driver.release(name, handle)
