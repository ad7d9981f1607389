"""Text on its way out: whole records arrive, whatever ends the writing."""

from __future__ import annotations

import io
import select

from edgelstm.outputs import Output

_FILE_CHUNK = 1 << 16


class LineWriter(io.TextIOBase):
    """A text stream onto an output; each `write` is one record, such as a line.

    Records leave together, never cut: where the medium is full, a file is cut behind the last whole
    record; a pipe gets no more at a time than it takes whole.

    Args:
        output: where the bytes go.
    """

    def __init__(self, output: Output) -> None:
        super().__init__()
        self._output = output
        self._waiting = bytearray()
        self._ends: list[int] = []
        self._chunk = _FILE_CHUNK if output.is_regular else select.PIPE_BUF
        self._good = output.tell() if output.is_regular else 0
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
        return self._good

    def writable(self) -> bool:
        """Always."""
        return True

    def write(self, text: str, /) -> int:
        """Take a record."""
        self._waiting += text.encode()
        self._ends.append(len(self._waiting))
        self._taken += 1
        if len(self._waiting) >= _FILE_CHUNK:
            self._send()
        return len(text)

    def flush(self) -> None:
        """Hand on every record.

        Raises:
            EdgeLSTMError, BrokenPipeError: see `Output.write`; a file ends with a whole record.
        """
        if self._ends:
            self._send()

    def _send(self) -> None:
        waiting, ends = memoryview(bytes(self._waiting)), self._ends
        self._waiting, self._ends = bytearray(), []
        done = index = 0
        try:
            while index < len(ends):
                # As many whole records as fit, or one that is longer.
                last = index
                while last + 1 < len(ends) and ends[last + 1] - done <= self._chunk:
                    last += 1
                while done < ends[last]:
                    done += self._output.write_some(waiting[done : ends[last]])
                index = last + 1
        finally:
            whole = [end for end in ends if end <= done]
            self._delivered += len(whole)
            self._good += whole[-1] if whole else 0
            if self._output.is_regular and done not in (0, *whole[-1:]):
                self._output.truncate(self._good)
