"""What a connection to a device must do, and the one kind there is: a pair of file descriptors."""

from __future__ import annotations

import os
import select
import time
from dataclasses import dataclass
from typing import Protocol

from edgelstm.errors import LinkError

_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class LinkOptions:
    """What a connection may need to know; each transport reads what concerns it.

    Args:
        timeout_s: longest silence.
        baud: speed of a serial line.
        ssh_command: the ssh client with its options, as in a shell.
        agent_command: what starts the agent on the other side.
    """

    timeout_s: float = 10.0
    baud: int = 115200
    ssh_command: str = "ssh"
    agent_command: str = "python3 -m edgelstm.agent"


class Link(Protocol):
    """A stream of bytes to a device."""

    def send(self, data: bytes) -> None:
        """All of it.

        Raises:
            LinkError: the connection is broken, or the other side does not take it in time.
        """

    def receive(self, timeout_s: float) -> bytes:
        """What has arrived; b"" where nothing did in this time.

        Raises:
            LinkError: the connection ended or is broken.
        """

    def close(self) -> None:
        """End the connection."""


class DescriptorLink:
    """A link over file descriptors that are not blocking.

    Args:
        reader: where to read.
        writer: where to write; may be the same.
        timeout_s: longest time in which the other side takes nothing.
        name: of the device, for messages.
    """

    def __init__(self, reader: int, writer: int, timeout_s: float, name: str) -> None:
        self._reader, self._writer = reader, writer
        self._timeout_s = timeout_s
        self._name = name

    def send(self, data: bytes) -> None:
        """All of it; see `Link`."""
        rest = memoryview(data)
        while rest:
            _, ready, _ = select.select([], [self._writer], [], self._timeout_s)
            if not ready:
                raise LinkError(f"{self._name} has taken no data for {self._timeout_s:g} s")
            try:
                rest = rest[os.write(self._writer, rest[:_CHUNK]) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise LinkError(self.ended(error.strerror or str(error))) from error

    def receive(self, timeout_s: float) -> bytes:
        """What has arrived; see `Link`."""
        deadline = time.monotonic() + timeout_s
        while True:
            wait = max(0.0, deadline - time.monotonic())
            ready, _, _ = select.select([self._reader], [], [], wait)
            if not ready:
                return b""
            try:
                data = os.read(self._reader, _CHUNK)
            except BlockingIOError:
                continue
            except OSError as error:
                raise LinkError(self.ended(error.strerror or str(error))) from error
            if not data:
                raise LinkError(self.ended("the other side closed it"))
            return data

    def ended(self, reason: str) -> str:
        """The message of a connection that is broken."""
        return f"the connection to {self._name} ended: {reason}"

    def close(self) -> None:
        """Close the descriptors."""
        for descriptor in {self._reader, self._writer}:
            os.close(descriptor)
