"""Bytes on their way into a file or pipe, without ever waiting for it."""

from __future__ import annotations

import errno
import os
import select
import stat

from edgelstm.errors import OutputError
from edgelstm.outputs import PIPE_BYTES

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


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
        self.is_full = False
        """Whether the medium has no room."""

    def __len__(self) -> int:
        return len(self._bytes)

    def add(self, data: bytes) -> None:
        """Take bytes, and write what goes."""
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
                if exc.errno in _FULL:
                    self.is_full = True
                    return
                raise OutputError(f"cannot write {self._name}: {exc.strerror or exc}") from exc
            self.is_full = False
            del self._bytes[:done]
