"""The state of a stream on disk: a run that ended is continued behind its last frame."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgelstm.container import canonical_json
from edgelstm.errors import RecordingError
from edgelstm.io.base import Array
from edgelstm.outputs import write_output

FORMAT = "edgelstm stream state"
VERSION = 1


@dataclass(frozen=True, slots=True)
class Written:
    """How far an output was written.

    Args:
        predictions: how many, of all runs.
        size: bytes, for formats of lines.
        tail: the last of those bytes, to know the file again.
    """

    predictions: int
    size: int = 0
    tail: bytes = b""


@dataclass(frozen=True, slots=True)
class StreamState:
    """Where a stream stands between two frames.

    Args:
        artifact: name of the model.
        model_id: which model.
        last_frame: the number of the last frame that was dealt with, counted from 1.
        bad_frames: how many of them were not all finite.
        snapshot: the session's state.
        last_good: the last frame by input that was all finite; may be empty.
        written: how far the output goes; None where it cannot be continued (a pipe).
        since_reset: frames fed since the stream began, or began anew.
        late: what `LateRows` keeps of outputs that come late; None where none do.
        is_over: the recording ended, and the outputs that came behind its end are written.
    """

    artifact: str
    model_id: str
    last_frame: int
    bad_frames: int
    snapshot: bytes
    last_good: Mapping[str, Array] = field(default_factory=dict)
    written: Written | None = None
    since_reset: int = 0
    late: Mapping[str, Any] | None = None
    is_over: bool = False


def save_state(path: Path, state: StreamState) -> None:
    """Write the file, whole or not at all, onto the medium.

    Raises:
        RecordingError: it cannot be written.
    """
    content: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "artifact": state.artifact,
        "model_id": state.model_id,
        "last_frame": state.last_frame,
        "bad_frames": state.bad_frames,
        "since_reset": state.since_reset,
        "snapshot": _text(state.snapshot),
        "last_good": {
            name: {"dtype": frame.dtype.str, "shape": list(frame.shape), "data": _text(frame)}
            for name, frame in state.last_good.items()
        },
        "written": None
        if state.written is None
        else {
            "predictions": state.written.predictions,
            "bytes": state.written.size,
            "tail": _text(state.written.tail),
        },
    }
    if state.late is not None:
        content |= {"late": state.late, "is_over": state.is_over}
    content["sha256"] = hashlib.sha256(canonical_json(content)).hexdigest()
    data = json.dumps(content, indent=1, sort_keys=True).encode() + b"\n"
    write_output(path, data, error=RecordingError)


def read_state(path: Path) -> StreamState | None:
    """What `save_state` wrote; None where there is no file.

    Raises:
        RecordingError: it cannot be read, or is something else.
    """
    try:
        data = path.read_bytes() if path.is_file() else None
    except OSError as exc:
        raise RecordingError(f"cannot read {path}: {exc.strerror or exc}") from exc
    if data is None:
        if os.path.exists(path):
            raise RecordingError(f"{path} is not a regular file: name another state file")
        return None
    try:
        content = json.loads(data)
        digest = content.pop("sha256")
        known = content["format"] == FORMAT and content["version"] == VERSION
        if known and hashlib.sha256(canonical_json(content)).hexdigest() == digest:
            return _parse(content)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as exc:
        raise _no_state(path) from exc
    raise _no_state(path)


def _no_state(path: Path) -> RecordingError:
    return RecordingError(
        f"{path} is no state file of `edgelstm run`, or a damaged one: name another file, or "
        "remove it to begin anew"
    )


def _parse(content: Mapping[str, Any]) -> StreamState:
    written = content["written"]
    return StreamState(
        artifact=str(content["artifact"]),
        model_id=str(content["model_id"]),
        last_frame=int(content["last_frame"]),
        bad_frames=int(content["bad_frames"]),
        snapshot=base64.b64decode(content["snapshot"]),
        last_good={
            name: np.frombuffer(base64.b64decode(item["data"]), np.dtype(item["dtype"])).reshape(
                item["shape"]
            )
            for name, item in content["last_good"].items()
        },
        written=None
        if written is None
        else Written(
            int(written["predictions"]), int(written["bytes"]), base64.b64decode(written["tail"])
        ),
        since_reset=int(content.get("since_reset", 0)),
        late=content.get("late"),
        is_over=bool(content.get("is_over", False)),
    )


def _text(data: bytes | Array) -> str:
    return base64.b64encode(bytes(data) if isinstance(data, bytes) else data.tobytes()).decode()
