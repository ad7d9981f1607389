"""Text on its way out: whole records arrive, whatever ends the writing."""

from __future__ import annotations

import io

from edgelstm.outputs import PIPE_BYTES, Output

TAIL_BYTES = 1024
"""How much of what was written last is remembered."""

_FILE_CHUNK = 1 << 16


class LineWriter(io.TextIOBase):
    """A text stream onto an output; each `write` is one record, such as a line.

    Records leave together, never cut: where the medium is full, a file is cut behind the last whole
    record; a pipe gets no more at a time than it takes whole.

    Args:
        output: where the bytes go.
        tail: what stands before in a file that is continued.
    """

    def __init__(self, output: Output, tail: bytes = b"") -> None:
        super().__init__()
        self._output = output
        self._waiting = bytearray()
        self._ends: list[int] = []
        self._chunk = _FILE_CHUNK if output.is_regular else PIPE_BYTES
        self._size = output.end()
        self._tail = tail
        self._taken = self._delivered = 0

    @property
    def taken(self) -> int:
        """Records written so far."""
        return self._taken

    @property
    def delivered(self) -> int:
        """Records that have left as a whole."""
        return self._delivered

    @property
    def size(self) -> int:
        """Where the last whole record ends in a file."""
        return self._size

    @property
    def tail(self) -> bytes:
        """The end of all that has left as a whole."""
        return self._tail

    def writable(self) -> bool:
        """Always."""
        return True

    def write(self, text: str, /) -> int:
        """Take a record."""
        self._waiting += text.encode()
        self._ends.append(len(self._waiting))
        self._taken += 1
        if len(self._waiting) >= _FILE_CHUNK:
            self.flush()
        return len(text)

    def drop(self) -> bytes:
        """Forget the records that have not left; what they were."""
        waiting = bytes(self._waiting)
        self._taken -= len(self._ends)
        self._waiting, self._ends = bytearray(), []
        return waiting

    def flush(self) -> None:
        """Hand on every record.

        Raises:
            EdgeLSTMError, BrokenPipeError: see `Output.write`; a file ends with a whole record.
        """
        waiting, ends = bytes(self._waiting), self._ends
        self._waiting, self._ends = bytearray(), []
        view = memoryview(waiting)
        done = index = 0
        try:
            while index < len(ends):
                # As many whole records as fit, or one that is longer.
                last = index
                while last + 1 < len(ends) and ends[last + 1] - done <= self._chunk:
                    last += 1
                while done < ends[last]:
                    done += self._output.write_some(view[done : ends[last]])
                index = last + 1
        finally:
            whole = [0, *(end for end in ends if end <= done)]
            self._delivered += len(whole) - 1
            self._size += whole[-1]
            self._tail = (self._tail + waiting[: whole[-1]])[-TAIL_BYTES:]
            if self._output.is_regular and done > whole[-1]:
                self._output.take_back(self._size)
