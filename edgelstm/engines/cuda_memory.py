"""Memory on a CUDA device and pinned memory of the host, given back when nobody holds it."""

from __future__ import annotations

import ctypes
import weakref

import numpy as np

from edgelstm.engines.cuda_driver import Device
from edgelstm.errors import ToolchainError
from edgelstm.memory import Block, address_of

_HOST_MAPPED = 2


class DeviceMemory:
    """A piece of device memory.

    Args:
        device: where.
        size: in bytes.
    """

    def __init__(self, device: Device, size: int) -> None:
        self.device = device
        self.size = max(size, 1)
        self.address = device.driver.address("cuMemAlloc_v2", self.size)
        weakref.finalize(self, _release, device, "cuMemFree_v2", self.address)

    def upload(self, data: Block, stream: int | None = None, offset: int = 0) -> None:
        """Copy there; without a stream it is done when this returns.

        The caller keeps `data` until the stream has got there.
        """
        if data.size:
            self._expect(data.size, offset)
            place = self.address + offset
            self.device.driver.call(
                "cuMemcpyHtoDAsync_v2", place, address_of(data), data.size, stream
            )
        if stream is None:
            self.device.driver.call("cuStreamSynchronize", None)

    def download(self, data: Block, stream: int | None = None, offset: int = 0) -> None:
        """Copy from there into `data`; as `upload`."""
        if data.size:
            self._expect(data.size, offset)
            place = self.address + offset
            self.device.driver.call(
                "cuMemcpyDtoHAsync_v2", address_of(data), place, data.size, stream
            )
        if stream is None:
            self.device.driver.call("cuStreamSynchronize", None)

    def clear(self, stream: int | None = None) -> None:
        """Fill with zeros; as `upload`."""
        self.device.driver.call("cuMemsetD8Async", self.address, 0, self.size, stream)
        if stream is None:
            self.device.driver.call("cuStreamSynchronize", None)

    def at_least(self, size: int) -> DeviceMemory:
        """This memory, or new memory of that size."""
        return self if size <= self.size else DeviceMemory(self.device, size)

    def _expect(self, size: int, offset: int) -> None:
        if offset + size > self.size:
            raise ToolchainError(f"{offset + size} bytes for device memory of {self.size}")


class PinnedMemory:
    """Host memory that copies start from at once, and that kernels reach in place.

    Args:
        device: whose kernels.
        size: in bytes.
    """

    def __init__(self, device: Device, size: int) -> None:
        self.device = device
        self.size = max(size, 1)
        self.here = device.driver.handle("cuMemHostAlloc", self.size, _HOST_MAPPED)
        weakref.finalize(self, _release, device, "cuMemFreeHost", self.here)
        self.there = device.driver.address("cuMemHostGetDevicePointer_v2", self.here, 0)
        self.data: Block = np.ctypeslib.as_array(
            (ctypes.c_ubyte * self.size).from_address(self.here)
        )
        """All of it; does not keep it alive."""

    def at_least(self, size: int) -> PinnedMemory:
        """This memory, or new memory of that size."""
        return self if size <= self.size else PinnedMemory(self.device, size)


def _release(device: Device, name: str, place: int) -> None:
    device.enter()
    device.driver.release(name, place)
