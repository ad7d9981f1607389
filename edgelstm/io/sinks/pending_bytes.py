"""Bytes on their way into a file or pipe, without ever waiting for it but at its end."""

from __future__ import annotations

import asyncio
import errno
import os
import select
import stat
import time

from edgelstm.errors import OutputError
from edgelstm.outputs import PIPE_BYTES

_LAST_WAIT_S = 5.0
_STUCK_S = 2.0
"""A pipe that takes nothing for so long is one that nobody reads."""

_ROW_BYTES = 64
_MEDIUM_FULL = "the medium is full"
_NOBODY_READS = "nobody reads it"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class PendingBytes:
    """Takes bytes at once and writes them as the descriptor has room.

    Args:
        descriptor: open for writing.
        name: for messages.
    """

    def __init__(self, descriptor: int, name: str) -> None:
        self._descriptor = descriptor
        self._name = name
        self._bytes = bytearray()
        self._is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
        self._is_full = False
        self._moved = time.monotonic()

    def __len__(self) -> int:
        return len(self._bytes)

    def add(self, data: bytes) -> None:
        """Take bytes, and write what goes."""
        if not self._bytes:
            self._moved = time.monotonic()
        self._bytes += data
        self.push()

    def push(self) -> None:
        """Write what goes.

        Raises:
            OutputError: the file cannot be written for another reason than that it is full.
            BrokenPipeError: nobody reads any more.
        """
        while self._bytes:
            try:
                if self._is_file:
                    done = os.write(self._descriptor, self._bytes)
                else:
                    # A pipe that polls as writable takes so many bytes without waiting.
                    if not select.select([], [self._descriptor], [], 0)[1]:
                        return
                    done = os.write(self._descriptor, self._bytes[:PIPE_BYTES])
            except BrokenPipeError:
                raise
            except BlockingIOError:
                return
            except OSError as exc:
                if exc.errno in FULL:
                    self._is_full = True
                    return
                raise OutputError(f"cannot write {self._name}: {exc.strerror or exc}") from exc
            self._is_full = False
            self._moved = time.monotonic()
            del self._bytes[:done]

    @property
    def waiting(self) -> int:
        """Rows that wait, or as good as."""
        return len(self._bytes) // _ROW_BYTES

    @property
    def trouble(self) -> str:
        """Why bytes have been waiting for some time; "" where none have."""
        if self._is_full:
            return _MEDIUM_FULL
        is_stuck = bool(self._bytes) and time.monotonic() - self._moved > _STUCK_S
        return _NOBODY_READS if is_stuck else ""

    async def close(self) -> None:
        """Write what is left, for some time, and close the descriptor.

        Raises:
            OutputError: there is no room for it.
        """
        try:
            end = time.monotonic() + _LAST_WAIT_S
            while self._bytes and time.monotonic() < end:
                await asyncio.sleep(0.02)
                self.push()
            if self._bytes:
                reason = _MEDIUM_FULL if self._is_full else _NOBODY_READS
                raise OutputError(
                    f"{self._name}: {reason}, {len(self._bytes)} bytes could not be written"
                )
            if self._is_file:
                os.fsync(self._descriptor)
        finally:
            os.close(self._descriptor)


def open_lines(path: str, name: str, *, is_new: bool) -> PendingBytes:
    """A file that lines are appended to.

    Args:
        path: of the file.
        name: for messages.
        is_new: what it holds goes.

    Raises:
        OutputError: it cannot be opened.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0)
    try:
        descriptor = os.open(path, flags | (os.O_TRUNC if is_new else 0), 0o666)
    except OSError as exc:
        raise OutputError(f"cannot write {path}: {exc.strerror or exc}") from exc
    return PendingBytes(descriptor, name)
