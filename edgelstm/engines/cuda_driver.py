"""The CUDA driver, `libcuda.so.1`, through ctypes: what the engine calls, errors by name.

Nothing of CUDA is needed but the driver itself. Handles are plain integers here. Whatever the
driver refuses becomes an error that names the call and what it said (`cuda_errors.py`).
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from ctypes import POINTER, c_char_p, c_int, c_size_t, c_uint, c_uint64, c_void_p
from functools import lru_cache
from typing import Any, NoReturn

from edgelstm.engines.cuda_errors import GOING_DOWN, OTHER_CUDA, driver_error
from edgelstm.errors import TargetUnavailableError

DRIVER_VARIABLE = "EDGELSTM_CUDA_DRIVER"
"""Environment variable that names another library than libcuda.so.1."""

_NAMES = ("libcuda.so.1", "libcuda.so")

ATTRIBUTE_PROCESSORS = 16
ATTRIBUTE_MAJOR = 75
ATTRIBUTE_MINOR = 76


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
    "cuStreamQuery": [c_void_p],
    "cuEventCreate": [POINTER(c_void_p), c_uint],
    "cuEventRecord": [c_void_p, c_void_p],
    "cuEventSynchronize": [c_void_p],
    "cuEventElapsedTime": [POINTER(ctypes.c_float), c_void_p, c_void_p],
    "cuEventDestroy_v2": [c_void_p],
    "cuLaunchKernel": [c_void_p, *[c_uint] * 7, c_void_p, c_void_p, c_void_p],
    "cuLaunchKernelEx": [c_void_p, c_void_p, c_void_p, c_void_p],
    "cuStreamBeginCapture_v2": [c_void_p, c_int],
    "cuStreamEndCapture": [c_void_p, POINTER(c_void_p)],
    "cuGraphInstantiateWithFlags": [POINTER(c_void_p), c_void_p, ctypes.c_ulonglong],
    "cuGraphLaunch": [c_void_p, c_void_p],
    "cuGraphExecDestroy": [c_void_p],
    "cuGraphDestroy": [c_void_p],
    "cuGetErrorName": [c_int, POINTER(c_char_p)],
    "cuGetErrorString": [c_int, POINTER(c_char_p)],
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
            raise TargetUnavailableError(f"the CUDA driver here lacks {missing[0]}: {OTHER_CUDA}")
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

    def fail(self, name: str, code: int) -> NoReturn:
        """Raise the error of a call that returned `code`."""
        raise driver_error(
            name, code, self._say("cuGetErrorName", code), self._say("cuGetErrorString", code)
        )

    def release(self, name: str, *arguments: Any) -> None:
        """Give something back; not an error while the process ends."""
        code = getattr(self._library, name)(*arguments)
        if code and code not in GOING_DOWN:
            self.fail(name, code)

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

    def _say(self, name: str, code: int) -> str | None:
        text = c_char_p()
        getattr(self._library, name)(code, ctypes.byref(text))
        return text.value.decode(errors="replace") if text.value else None


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
        except OSError as error:
            reasons.append(str(error))
    raise TargetUnavailableError(
        f"there is no CUDA driver here ({reasons[0]}): install NVIDIA's driver, or compile the "
        "model for another target"
    )
