"""What every live source and sink offers to the pipeline, and what it is told."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from edgelstm.description import Description
from edgelstm.io.block import Block
from edgelstm.io.clocks.points import RoundTrip
from edgelstm.io.counters import Counters
from edgelstm.io.predictions import Event, ModelIdentity, Predictions
from edgelstm.io.writer import Writer
from edgelstm.signature import Signature


@dataclass(frozen=True, slots=True)
class Channels:
    """The columns of a sensor.

    Args:
        names: in order.
        has_names: whether they are names, or only count the columns.
        units: of the columns; "" where nobody says.
        is_counted: the sensor itself numbers its samples.
        is_stamped: the sensor itself says when its samples were taken.
    """

    names: tuple[str, ...]
    has_names: bool = True
    units: tuple[str, ...] = ()
    is_counted: bool = False
    is_stamped: bool = False


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a source got at one moment.

    Args:
        stream: which of the source's streams; "" where it has only one.
        block: samples; frames by input of the model, or one group of all columns.
        channels: of the group; None where the frames are those of the inputs already.
        faults: why samples are `INVALID`, by their sequence number.
        refused: what was no sample, by reason.
        mapping: columns of each input, where frames are those of the inputs already.
        echoes: round trips to the sensor, see `SensorClock.echo`.
    """

    stream: str
    block: Block | None
    channels: Channels | None = None
    faults: Mapping[int, str] = field(default_factory=dict)
    refused: Mapping[str, int] = field(default_factory=dict)
    mapping: Mapping[str, Sequence[str]] = field(default_factory=dict)
    echoes: Sequence[RoundTrip] = ()


@dataclass(frozen=True, slots=True)
class SourceContext:
    """What a source may know about the model that it feeds.

    Args:
        signature: what goes in and out.
        description: columns, units, ranges, rate as far as they are known.
        columns: names that the user gave, in the order of the elements.
        rate_hz: of the model or as given; None where unknown.
        is_alone: no other source feeds the same stream: frames may come as inputs.
        is_realtime: a replay gives samples at the distances of the recording.
        speed: that many times faster.
    """

    signature: Signature
    description: Description
    columns: tuple[str, ...] = ()
    rate_hz: float | None = None
    is_alone: bool = True
    is_realtime: bool = False
    speed: float = 1.0

    @property
    def wanted(self) -> Sequence[str]:
        """Names of the columns that the model takes, as far as they are known."""
        return self.columns or self.description.names(self.signature)


class LiveSource(Protocol):
    """Where samples come from over time."""

    name: str
    """Part of the key of every sample."""

    @property
    def is_replay(self) -> bool:
        """Whether the same samples come again from the beginning when the source is opened anew."""
        ...

    @property
    def can_wait(self) -> bool:
        """Whether its sender waits while nothing is read, so that nothing need be lost."""
        ...

    @property
    def is_many(self) -> bool:
        """Whether it gives several streams, whose names come with their samples."""
        ...

    @property
    def is_on_our_clock(self) -> bool:
        """Whether its stamps are of this machine's monotonic clock."""
        ...

    @property
    def has_echo(self) -> bool:
        """Whether it asks its sensor echo questions."""
        ...

    @property
    def progress(self) -> float | None:
        """Share of a recording that has been read; None of what has no end."""
        ...

    def blocks(self) -> AsyncGenerator[Delivery | Event, None]:
        """What comes, in its order; connections that break are made anew here.

        Whoever reads it closes it, and closing it leaves nothing open.

        Raises:
            RecordingError: the source cannot be used at all.
        """
        ...


@dataclass(frozen=True, slots=True)
class SinkContext:
    """What a sink may know about the run.

    Args:
        model: which model speaks.
        description: of the model.
        rate_hz: of the predictions, where known.
        appends: what is there already is kept, because samples do not come again.
        patients: pseudonym of the patient by stream, where it is known.
        tables: the counters of all streams, at any time and in any thread.
        writer: the thread that writes files of databases and tables.
    """

    model: ModelIdentity
    description: Description
    rate_hz: float | None = None
    appends: bool = True
    patients: Mapping[str, str] = field(default_factory=dict)
    tables: Callable[[], Mapping[str, Counters]] = dict
    writer: Writer = field(default_factory=Writer)


class LiveSink(Protocol):
    """Where predictions and events go. All calls come from the thread of the event loop."""

    @property
    def name(self) -> str:
        """For status and messages."""
        ...

    @property
    def waiting(self) -> int:
        """Rows that were taken and are not delivered; the pipeline waits while they are many."""
        ...

    @property
    def lost(self) -> Mapping[str, int]:
        """Rows that were taken and will never be delivered, by reason."""
        ...

    @property
    def trouble(self) -> str:
        """Why nothing leaves it just now, such as a medium that is full; "" while all is well."""
        ...

    async def open(self) -> None:
        """Be ready, or say why not.

        Raises:
            OutputError: it cannot be used at all.
        """
        ...

    def write(self, predictions: Predictions) -> int:
        """Take rows; the number of the last sample of that stream that is delivered for good.

        -1 where there is none yet, or the sink never knows.
        """
        ...

    def tell(self, event: Event) -> None:
        """Take an event."""
        ...

    def poll(self) -> None:
        """Called several times a second: time for what could not be done before."""
        ...

    async def close(self) -> None:
        """Deliver what is waiting, and end."""
        ...
