"""A sink together with its output: when predictions leave, and under which name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgelstm.outputs import Output
from edgelstm.streams.base import Array, Sink
from edgelstm.streams.lines import LineWriter


class OutputSink:
    """A sink whose file gets its name with the first predictions, or at the end if it is arrays.

    Until then whatever had the name before is as it was.

    Args:
        sink: writes the format.
        output: what it writes to.
        lines: between the two for formats of lines; None for arrays.
    """

    def __init__(self, sink: Sink, output: Output, lines: LineWriter | None) -> None:
        self._sink = sink
        self._output = output
        self._lines = lines
        self._head = 0
        self._taken = 0
        self._finished = False
        if lines is not None:
            self._head = lines.taken

    @property
    def has_predictions(self) -> bool:
        """Whether there is something to keep."""
        return self._taken > 0

    @property
    def predictions(self) -> int:
        """How many have left for good."""
        if self._lines is None:
            return self._taken if self._finished else 0
        return max(self._lines.delivered - self._head, 0)

    def write(self, outputs: Mapping[str, Array], kept: Mapping[str, Sequence[Any]]) -> None:
        """Write `(n, *output)` by name, with the columns that pass through."""
        self._taken += len(next(iter(outputs.values())))
        self._sink.write(outputs, kept)

    def flush(self) -> None:
        """Hand on what was written so far, if the format can."""
        self._sink.flush()
        if self._lines is not None and self._taken:
            self._output.place()

    def finish(self) -> None:
        """Write what can only be written at the end."""
        self._sink.finish()
        self._output.place()
        self._finished = True
