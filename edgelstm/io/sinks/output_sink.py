"""A sink together with its output: when predictions leave, and under which name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from edgelstm.io.base import Array, Sink
from edgelstm.io.sinks.lines import LineWriter
from edgelstm.io.state_file import Written
from edgelstm.outputs import Output


class OutputSink:
    """A sink whose file gets its name with the first predictions, or at the end if it is arrays.

    Until then whatever had the name before is as it was.

    Args:
        sink: writes the format.
        output: what it writes to.
        lines: between the two for formats of lines; None for arrays.
        before: predictions that the output holds already.
        is_single: the only prediction is written without an axis of its own.
    """

    def __init__(
        self,
        sink: Sink,
        output: Output,
        lines: LineWriter | None,
        before: int = 0,
        is_single: bool = False,
    ) -> None:
        self._sink = sink
        self._output = output
        self._lines = lines
        self._before = before
        self.is_single = is_single
        self._heads = 0 if lines is None else lines.taken
        self._taken = 0
        self._is_finished = False

    @property
    def has_predictions(self) -> bool:
        """Whether there is something to keep."""
        return self._taken > 0

    @property
    def predictions(self) -> int:
        """How many of this run have left for good."""
        if self._lines is None:
            return self._taken if self._is_finished else 0
        return max(self._lines.delivered - self._heads, 0)

    @property
    def is_whole(self) -> bool:
        """Whether all predictions so far have left."""
        return self.predictions == self._taken

    @property
    def written(self) -> Written | None:
        """How far the output goes; None where it cannot be continued."""
        if not self._output.is_regular:
            return None
        count = self._before + self.predictions
        if self._lines is None:
            return Written(count)
        return Written(count, self._lines.size, self._lines.tail)

    def write(self, outputs: Mapping[str, Array], kept: Mapping[str, Sequence[Any]]) -> None:
        """Write `(n, *output)` by name, with the columns that pass through."""
        self._taken += len(next(iter(outputs.values())))
        self._sink.write(outputs, kept)

    def flush(self) -> None:
        """Hand on what was written so far, if the format can."""
        self._sink.flush()
        if self._lines is not None and self._taken:
            self._output.place()

    def while_waiting(self, call: Callable[[], None]) -> None:
        """Have something called again and again while a pipe is full; it may raise to give up."""
        self._output.while_waiting = call

    def sync(self) -> None:
        """Have what was handed on on the medium."""
        if not self._output.closed:
            self._output.sync()

    def finish(self) -> None:
        """Write what can only be written at the end."""
        self._sink.finish()
        self._output.place()
        self._output.sync()
        self._is_finished = True
