"""Streams that begin anew after every N frames, as models trained on windows want it."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgelstm.artifact import Artifact
from edgelstm.errors import StreamError
from edgelstm.session import Session
from edgelstm.streams.base import Array


def run_windows(
    session: Session, frames: dict[str, Array], count: int, every: int, since: int
) -> tuple[int, Any]:
    """Run frames through a session and reset it wherever a window begins.

    Args:
        session: runs the model.
        frames: (count, *frame) by input.
        count: of the frames.
        every: frames of a window.
        since: frames of the window that the session is in.

    Returns:
        The frames of the window it is in afterwards, and the outputs as `Session.run` gives them.
    """
    parts: list[Any] = []
    start = 0
    while start < count:
        if since == every:
            session.reset()
            since = 0
        stop = min(count, start + every - since)
        parts.append(session.run({name: x[start:stop] for name, x in frames.items()}))
        since += stop - start
        start = stop
    if len(parts) == 1:
        return since, parts[0]
    if isinstance(parts[0], dict):
        return since, {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}
    return since, np.concatenate(parts)


def stream_warnings(artifact: Artifact, reset_every: int | None) -> list[str]:
    """What is to be said before frames are fed.

    Raises:
        StreamError: windows of a model that was compiled for calls.
    """
    if artifact.signature.mode == "call":
        if reset_every is not None:
            raise StreamError(
                f"--reset-every is for streams; {artifact.name!r} was compiled with --mode call, "
                "where every call begins anew"
            )
        return []
    window = artifact.window_frames
    if reset_every is None:
        return list(artifact.warnings)
    if window is not None and reset_every > window:
        return [
            f"--reset-every {reset_every}: the model was trained on windows of {window} frames; "
            f"its state is carried over more than that"
        ]
    return []
