"""What a live run is asked for, from the command line and a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from edgelstm.io.replay import BadSamplePolicy
from edgelstm.io.time_settings import TimeSettings

QUEUE_SAMPLES = 8192


class QueuePolicy(StrEnum):
    """What happens to samples that a full queue has no room for."""

    BLOCK = "block"  # the source waits: for recordings, and senders that can be stopped
    DROP_OLDEST = "drop-oldest"  # the oldest ones go, counted: for live sensors


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """One stream: the sensors that feed it.

    Args:
        inputs: addresses; several are several sensors of one model.
        name: part of the key of its samples; "" for that of its only source.
        patient: pseudonym; "" for none.
        columns: that feed the model, in order of its elements.
    """

    inputs: tuple[str, ...]
    name: str = ""
    patient: str = ""
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LiveSettings:
    """A run.

    Args:
        streams: at least one.
        outputs: addresses.
        columns: of all streams that name none.
        rate_hz: of the samples; None: the model's.
        policy: for samples that the model does not take.
        reset_every: begin anew after so many samples.
        is_realtime: recordings come at their pace.
        speed: that many times faster.
        silence_s: see `PumpOptions`.
        queue_samples: the same.
        queue_policy: the same.
        restart_gap_s: see `LaneOptions`.
        time: what is asked of time, units and decoding.
    """

    streams: tuple[StreamSettings, ...]
    outputs: tuple[str, ...] = ("-",)
    columns: tuple[str, ...] = ()
    rate_hz: float | None = None
    policy: BadSamplePolicy = BadSamplePolicy.HOLD
    reset_every: int | None = None
    is_realtime: bool = False
    speed: float = 1.0
    silence_s: float = 2.0
    queue_samples: int = QUEUE_SAMPLES
    queue_policy: QueuePolicy | None = None
    restart_gap_s: float = 10.0
    time: TimeSettings = field(default_factory=TimeSettings)


@dataclass(frozen=True, slots=True)
class FileSettings:
    """What stands in a file.

    Args:
        artifact: the model; None where the file names none.
        streams: empty where the file names no inputs.
        outputs: empty where there are none.
        values: the other settings, under the names of `LiveSettings`.
    """

    artifact: Path | None
    streams: tuple[StreamSettings, ...]
    outputs: tuple[str, ...]
    values: Mapping[str, Any] = field(default_factory=dict)
