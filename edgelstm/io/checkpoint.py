"""Where a stream stands after a sample: what a store keeps together with the predictions."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgelstm.errors import RecordingError
from edgelstm.io.block import Array
from edgelstm.io.replay import Replay


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A stream between two samples.

    Args:
        stream: its name.
        model_id: of the model.
        last_sample: number of the last sample that was dealt with; -1 in front of the first.
        snapshot: the session's state.
        policy: what `Replay` remembers besides, as JSON.
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
    """What a stream remembers besides `Replay`.

    Args:
        anchor: time since 1970 at which a recording's stamps are 0; None where they say it.
        recent: see `Quality.recent`.
    """

    anchor: float | None = None
    recent: str = ""


def policy_to_json(replay: Replay, remembered: Remembered) -> str:
    """What a replay and its stream remember besides the session's state."""
    good = {
        name: {
            "dtype": frame.dtype.str,
            "shape": list(frame.shape),
            "data": base64.b64encode(frame.tobytes()).decode(),
        }
        for name, frame in replay.last_good.items()
    }
    return json.dumps(
        {
            "since_reset": replay.since_reset,
            "last_good": good,
            "anchor": remembered.anchor,
            "recent": remembered.recent,
        }
    )


def restore_policy(text: str, replay: Replay) -> Remembered:
    """Have a replay remember it; what the stream is to remember.

    Raises:
        RecordingError: it is something else.
    """
    try:
        data: Mapping[str, Any] = json.loads(text)
        replay.since_reset = int(data["since_reset"])
        replay.last_good = {name: _frame(item) for name, item in data["last_good"].items()}
        anchor = data.get("anchor")
        return Remembered(None if anchor is None else float(anchor), str(data.get("recent", "")))
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise RecordingError(f"the store holds a damaged checkpoint ({exc})") from exc


def _frame(item: Mapping[str, Any]) -> Array:
    data = base64.b64decode(item["data"])
    return np.frombuffer(data, np.dtype(item["dtype"])).reshape(item["shape"])
