"""The CUDA driver, `libcuda.so.1`, through ctypes: what the engine calls, errors by name.

Nothing of CUDA is needed but the driver itself. Handles are plain integers here. Whatever the
driver refuses becomes a ToolchainError that names the call and the error.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Sequence
from ctypes import POINTER, c_char_p, c_int, c_size_t, c_uint, c_uint64, c_void_p
from functools import lru_cache
from typing import Any

from edgelstm.errors import TargetUnavailableError, ToolchainError

DRIVER_VARIABLE = "EDGELSTM_CUDA_DRIVER"
"""Environment variable that names another library than libcuda.so.1."""

_NAMES = ("libcuda.so.1", "libcuda.so")
_LATER = "update the driver, or compile with the wheels of an older CUDA (--option cuda=12)"

ATTRIBUTE_PROCESSORS = 16
ATTRIBUTE_MAJOR = 75
ATTRIBUTE_MINOR = 76
ATTRIBUTE_SHARED_OPTIN = 97
_FUNCTION_DYNAMIC_SHARED = 8
_LAUNCH_COOPERATIVE = 2
_LAUNCH_CLUSTER = 4
_HOST_MAPPED = 2
_STREAM_NON_BLOCKING = 1
_CAPTURE_THREAD_LOCAL = 1
_STATIC_SHARED = 48 * 1024
_UNAVAILABLE = {
    34: "CUDA_ERROR_STUB_LIBRARY",
    100: "CUDA_ERROR_NO_DEVICE",
    101: "CUDA_ERROR_INVALID_DEVICE",
    803: "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH",
    804: "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE",
}


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


# cuda.h maps some names to versions of theirs; these are the exported ones.
_PROTOTYPES: dict[str, list[Any]] = {
    "cuInit": [c_uint],
    "cuDriverGetVersion": [POINTER(c_int)],
    "cuDeviceGet": [POINTER(c_int), c_int],
    "cuDeviceGetName": [c_char_p, c_int, c_int],
    "cuDeviceGetAttribute": [POINTER(c_int), c_int, c_int],
    "cuDevicePrimaryCtxRetain": [POINTER(c_void_p), c_int],
    "cuCtxSetCurrent": [c_void_p],
    "cuModuleLoadData": [POINTER(c_void_p), c_char_p],
    "cuModuleUnload": [c_void_p],
    "cuModuleGetFunction": [POINTER(c_void_p), c_void_p, c_char_p],
    "cuFuncSetAttribute": [c_void_p, c_int, c_int],
    "cuOccupancyMaxActiveBlocksPerMultiprocessor": [POINTER(c_int), c_void_p, c_int, c_size_t],
    "cuMemAlloc_v2": [POINTER(c_uint64), c_size_t],
    "cuMemFree_v2": [c_uint64],
    "cuMemHostAlloc": [POINTER(c_void_p), c_size_t, c_uint],
    "cuMemFreeHost": [c_void_p],
    "cuMemHostGetDevicePointer_v2": [POINTER(c_uint64), c_void_p, c_uint],
    "cuMemcpyHtoDAsync_v2": [c_uint64, c_void_p, c_size_t, c_void_p],
    "cuMemcpyDtoHAsync_v2": [c_void_p, c_uint64, c_size_t, c_void_p],
    "cuMemsetD8Async": [c_uint64, ctypes.c_ubyte, c_size_t, c_void_p],
    "cuStreamCreate": [POINTER(c_void_p), c_uint],
    "cuStreamDestroy_v2": [c_void_p],
    "cuStreamSynchronize": [c_void_p],
    "cuEventCreate": [POINTER(c_void_p), c_uint],
    "cuEventRecord": [c_void_p, c_void_p],
    "cuEventSynchronize": [c_void_p],
    "cuEventElapsedTime": [POINTER(ctypes.c_float), c_void_p, c_void_p],
    "cuEventDestroy_v2": [c_void_p],
    "cuLaunchKernel": [c_void_p, *[c_uint] * 7, c_void_p, c_void_p, c_void_p],
    "cuLaunchKernelEx": [POINTER(_LaunchConfig), c_void_p, c_void_p, c_void_p],
    "cuStreamBeginCapture_v2": [c_void_p, c_int],
    "cuStreamEndCapture": [c_void_p, POINTER(c_void_p)],
    "cuGraphInstantiateWithFlags": [POINTER(c_void_p), c_void_p, ctypes.c_ulonglong],
    "cuGraphLaunch": [c_void_p, c_void_p],
    "cuGraphExecDestroy": [c_void_p],
    "cuGraphDestroy": [c_void_p],
    "cuGetErrorName": [c_int, POINTER(c_char_p)],
}


class Driver:
    """The library, loaded.

    Args:
        path: the library; None looks for it.

    Raises:
        TargetUnavailableError: there is no driver, or it is too old.
    """

    def __init__(self, path: str | None = None) -> None:
        self._library = _open(path)
        missing = [name for name in _PROTOTYPES if not hasattr(self._library, name)]
        if missing:
            raise TargetUnavailableError(f"the CUDA driver here lacks {missing[0]}: {_LATER}")
        for name, arguments in _PROTOTYPES.items():
            function = getattr(self._library, name)
            function.argtypes, function.restype = arguments, c_int

    def call(self, name: str, *arguments: Any) -> None:
        """One call.

        Raises:
            TargetUnavailableError: there is no device.
            ToolchainError: any other error.
        """
        code = getattr(self._library, name)(*arguments)
        if code:
            self.fail(name, code)

    def function(self, name: str) -> Callable[..., int]:
        """The bare function, for what is called at every step."""
        bare: Callable[..., int] = getattr(self._library, name)
        return bare

    def fail(self, name: str, code: int) -> None:
        """Raise the error of a call that returned `code`."""
        text = c_char_p()
        self._library.cuGetErrorName(code, ctypes.byref(text))
        word = (text.value or b"an error without a name").decode()
        if code in _UNAVAILABLE:
            raise TargetUnavailableError(f"no usable CUDA device here: {name} says {word}")
        hint = f"; {_LATER}" if word in ("CUDA_ERROR_NO_BINARY_FOR_GPU",) else ""
        raise ToolchainError(f"the CUDA driver failed: {name} says {word} ({code}){hint}")

    def handle(self, name: str, *arguments: Any) -> int:
        """A call that makes something; its handle."""
        made = c_void_p()
        self.call(name, ctypes.byref(made), *arguments)
        return made.value or 0

    def address(self, name: str, *arguments: Any) -> int:
        """A call that gives an address on the device."""
        made = c_uint64()
        self.call(name, ctypes.byref(made), *arguments)
        return int(made.value)

    def number(self, name: str, *arguments: Any) -> int:
        """A call that gives an integer."""
        made = c_int()
        self.call(name, ctypes.byref(made), *arguments)
        return int(made.value)


class Device:
    """One GPU with its primary context, which other libraries in the process share.

    Args:
        ordinal: which.
        driver: the library.
    """

    def __init__(self, ordinal: int = 0, driver: Driver | None = None) -> None:
        self.driver = driver or Driver()
        self.driver.call("cuInit", 0)
        self._device = self.driver.number("cuDeviceGet", ordinal)
        self._context = self.driver.handle("cuDevicePrimaryCtxRetain", self._device)
        self._make_current = self.driver.function("cuCtxSetCurrent")
        self.enter()
        self.capability = (self.attribute(ATTRIBUTE_MAJOR), self.attribute(ATTRIBUTE_MINOR))
        self.processors = self.attribute(ATTRIBUTE_PROCESSORS)

    @property
    def name(self) -> str:
        """The product."""
        room = ctypes.create_string_buffer(128)
        self.driver.call("cuDeviceGetName", room, len(room), self._device)
        return room.value.decode(errors="replace")

    @property
    def driver_version(self) -> tuple[int, int]:
        """The CUDA version that the driver knows."""
        number = self.driver.number("cuDriverGetVersion")
        return number // 1000, number % 1000 // 10

    def attribute(self, number: int) -> int:
        """One of CU_DEVICE_ATTRIBUTE_*."""
        return self.driver.number("cuDeviceGetAttribute", number, self._device)

    def enter(self) -> None:
        """Make its context current in this thread."""
        code = self._make_current(self._context)
        if code:
            self.driver.fail("cuCtxSetCurrent", code)


class Function:
    """A kernel of a loaded module.

    Args:
        device: where it is loaded.
        image: cubin, or PTX with a zero byte at its end.
        entry: its name.
        threads: of a block.
        shared_bytes: dynamic shared memory of a block.
        cluster: blocks of a cluster, 1 for none.
        cooperative: all blocks have to be on the chip at once.
    """

    def __init__(
        self,
        device: Device,
        image: bytes,
        entry: str,
        threads: int,
        shared_bytes: int,
        cluster: int = 1,
        cooperative: bool = False,
    ) -> None:
        self.device = device
        self.entry = entry
        self.threads = threads
        self.shared_bytes = shared_bytes
        self.cluster = cluster
        self.cooperative = cooperative
        driver = device.driver
        self._module = driver.handle("cuModuleLoadData", image)
        self._function = driver.handle("cuModuleGetFunction", self._module, entry.encode())
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


class Arguments:
    """What a kernel is started with, in memory that the driver reads.

    Args:
        addresses: 64-bit values, first.
        counts: 32-bit values, behind them.
    """

    def __init__(self, addresses: Sequence[int], counts: Sequence[int]) -> None:
        self._values = [c_uint64(value) for value in addresses]
        self._counts = [c_uint(value) for value in counts]
        places = [ctypes.addressof(value) for value in (*self._values, *self._counts)]
        self.pointers = (c_void_p * len(places))(*places)


class Stream:
    """A queue of work on a device."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.handle = device.driver.handle("cuStreamCreate", _STREAM_NON_BLOCKING)
        self._wait = device.driver.function("cuStreamSynchronize")
        self._launch_graph = device.driver.function("cuGraphLaunch")

    def wait(self) -> None:
        """Until everything in it is done."""
        code = self._wait(self.handle)
        if code:
            self.device.driver.fail("cuStreamSynchronize", code)

    def record(self, work: Callable[[], None]) -> int:
        """Record what `work` starts in this stream as a graph; its handle."""
        driver = self.device.driver
        driver.call("cuStreamBeginCapture_v2", self.handle, _CAPTURE_THREAD_LOCAL)
        try:
            work()
        finally:
            made = c_void_p()
            driver.call("cuStreamEndCapture", self.handle, ctypes.byref(made))
        ready = driver.handle("cuGraphInstantiateWithFlags", made.value, 0)
        driver.call("cuGraphDestroy", made.value)
        return ready

    def play(self, graph: int) -> None:
        """Start a recorded graph."""
        code = self._launch_graph(graph, self.handle)
        if code:
            self.device.driver.fail("cuGraphLaunch", code)

    def close(self, graphs: Sequence[int] = ()) -> None:
        """Give the stream and graphs back."""
        self.device.enter()
        for graph in graphs:
            self.device.driver.call("cuGraphExecDestroy", graph)
        self.device.driver.call("cuStreamDestroy_v2", self.handle)


def mapped_memory(device: Device, size: int) -> tuple[int, int]:
    """Pinned host memory that kernels read and write in place: its address here, and there."""
    here = device.driver.handle("cuMemHostAlloc", max(size, 1), _HOST_MAPPED)
    return here, device.driver.address("cuMemHostGetDevicePointer_v2", here, 0)


@lru_cache(maxsize=4)
def open_device(ordinal: int = 0) -> Device:
    """The device, opened once in a process.

    Raises:
        TargetUnavailableError: no driver, or no such device.
    """
    return Device(ordinal)


def _open(path: str | None) -> ctypes.CDLL:
    wanted = path or os.environ.get(DRIVER_VARIABLE)
    reasons = []
    for name in (wanted,) if wanted else _NAMES:
        try:
            return ctypes.CDLL(name)
        except OSError as error:  # noqa: PERF203 - two names at most
            reasons.append(str(error))
    raise TargetUnavailableError(
        f"there is no CUDA driver here ({reasons[0]}): install NVIDIA's driver, or compile the "
        "model for another target"
    )
