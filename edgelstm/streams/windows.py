"""What is said before a model that was trained on windows is run as a stream."""

from __future__ import annotations

from edgelstm.artifact import Artifact
from edgelstm.errors import StreamError


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
