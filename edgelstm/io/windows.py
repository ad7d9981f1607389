"""What is said before a model that was trained on windows is run as a stream."""

from __future__ import annotations

from edgelstm.artifact import Artifact


def stream_warnings(artifact: Artifact, reset_every: int | None) -> list[str]:
    """What is to be said before frames are fed."""
    window = artifact.window_frames
    if reset_every is None:
        return list(artifact.warnings)
    if window is not None and reset_every > window:
        return [
            f"--reset-every {reset_every}: the model was trained on windows of {window} frames; "
            f"its state is carried over more than that"
        ]
    return []
