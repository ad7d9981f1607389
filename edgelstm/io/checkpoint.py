"""Where a stream stands after a sample: what a store keeps together with the predictions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgelstm.errors import RecordingError
from edgelstm.io.block import Array
from edgelstm.io.json_arrays import array_from_json, array_to_json


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A stream between two samples.

    Args:
        stream: its name.
        model_id: of the model.
        last_sample: number of the last sample that was dealt with; -1 in front of the first.
        snapshot: the session's state.
        policy: what the stream remembers besides, see `Remembered`, as JSON.
        time: seconds since 1970 when it was taken.
        is_clean: the run ended there; no later sample was predicted.
    """

    stream: str
    model_id: str
    last_sample: int
    snapshot: bytes
    policy: str
    time: float
    is_clean: bool = False


@dataclass(frozen=True, slots=True)
class Remembered:
    """What a stream remembers besides the session's state.

    Args:
        since_reset: see `Replay`.
        last_good: the same.
        anchor: time since 1970 at which a recording's stamps are 0; None where they say it.
        recent: see `Quality.recent`.
        decoding: see `LaneDecoder.state`; None where nothing is decoded.
        late: see `LateRows.to_json`; None where no output is late.
        waiting: see `WaitingSamples.to_json`; the same.
        is_over: see `Replay`.
    """

    since_reset: int = 0
    last_good: Mapping[str, Array] = field(default_factory=dict)
    anchor: float | None = None
    recent: str = ""
    decoding: Mapping[str, Any] | None = None
    late: Mapping[str, Any] | None = None
    waiting: Mapping[str, Any] | None = None
    is_over: bool = False


def policy_to_json(remembered: Remembered) -> str:
    """As it stands in a checkpoint."""
    good = remembered.last_good
    content = {
        "since_reset": remembered.since_reset,
        "last_good": {name: array_to_json(frame) for name, frame in good.items()},
        "anchor": remembered.anchor,
        "recent": remembered.recent,
        "decoding": remembered.decoding,
    }
    if remembered.late is not None:
        content["late"] = remembered.late
        content["waiting"] = remembered.waiting
        content["is_over"] = remembered.is_over
    return json.dumps(content)


def read_policy(text: str) -> Remembered:
    """What `policy_to_json` wrote, in this version or an older one.

    Raises:
        RecordingError: it is something else.
    """
    try:
        data: Mapping[str, Any] = json.loads(text)
        anchor = data.get("anchor")
        return Remembered(
            int(data["since_reset"]),
            {name: array_from_json(item) for name, item in data["last_good"].items()},
            None if anchor is None else float(anchor),
            str(data.get("recent", "")),
            data.get("decoding"),
            data.get("late"),
            data.get("waiting"),
            bool(data.get("is_over", False)),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise damaged_checkpoint(exc) from exc


def damaged_checkpoint(reason: Exception) -> RecordingError:
    """The error of what a store holds and no run wrote."""
    return RecordingError(f"the store holds a damaged checkpoint ({reason})")
