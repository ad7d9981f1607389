"""What every source and sink offers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a line gave no frame.

    Args:
        reason: the kind, for counting: "text in a cell", "cut line", "bad byte", ...
        message: what is wrong where, and the likely cause.
    """

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Batch:
    """Frames that came together.

    Args:
        frames: `(n, *frame)` by input, in the input's type; missing values are NaN.
        where: the place of frame i in the recording, for messages: "walk.csv:17".
        kept: columns that pass through to the output, n values each.
        faults: by index, the lines that could not be read; their frames mean nothing.
        times: time stamps as numbers, in the recording's own unit, where it has them.
    """

    frames: Mapping[str, Array]
    where: Callable[[int], str]
    kept: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    faults: Mapping[int, Fault] = field(default_factory=dict)
    times: Array | None = None

    def __len__(self) -> int:
        return len(next(iter(self.frames.values()))) if self.frames else 0

    def part(self, part: slice) -> Batch:
        """Some of the frames; `part` has a start and a stop."""
        start = part.start
        return Batch(
            {name: frames[part] for name, frames in self.frames.items()},
            lambda i: self.where(start + i),
            {name: values[part] for name, values in self.kept.items()},
            {i - start: x for i, x in self.faults.items() if start <= i < part.stop},
            None if self.times is None else self.times[part],
        )


class Source(Protocol):
    """Where frames come from."""

    @property
    def kept(self) -> tuple[str, ...]:
        """Columns that pass through; known before the first batch."""
        ...

    @property
    def mapping(self) -> Mapping[str, Sequence[str]]:
        """Which columns feed which input."""
        ...

    @property
    def total(self) -> int | None:
        """Amount to read in the unit of `done`; None for a live stream."""
        ...

    @property
    def done(self) -> int:
        """Amount read so far."""
        ...

    def batches(self) -> Iterator[Batch]:
        """All frames in order; a live stream gives each as it comes.

        Lines that cannot be read stand in the batches as faults, in their places.

        Raises:
            RecordingError: the recording as a whole cannot be read on.
        """
        ...


class Recording(Source, Protocol):
    """A source as it was opened, with what it tells about its columns."""

    @property
    def units(self) -> Mapping[str, Sequence[str]]:
        """The units of these columns as far as the recording tells, "" where it does not."""
        ...

    @property
    def time_name(self) -> str | None:
        """Name, with the unit where it is known, of the column of time stamps."""
        ...

    @property
    def remarks(self) -> Sequence[str]:
        """What looks odd about the recording and is used all the same."""
        ...


class Sink(Protocol):
    """Where predictions go."""

    def write(self, outputs: Mapping[str, Array], kept: Mapping[str, Sequence[Any]]) -> None:
        """Write `(n, *output)` by name, with the columns that pass through."""
        ...

    def flush(self) -> None:
        """Hand on what was written so far."""
        ...

    def finish(self) -> None:
        """Write what can only be written at the end."""
        ...
