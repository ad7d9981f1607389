"""The modes of running a model, one in each file; here is the table of them."""

from __future__ import annotations

from edgelstm.errors import ArtifactFormatError
from edgelstm.sessions.base import Session, SessionMode
from edgelstm.sessions.call import CALL
from edgelstm.sessions.continuous import STREAM
from edgelstm.sessions.lookahead import LOOKAHEAD
from edgelstm.sessions.window import WINDOW

__all__ = ["MODES", "Session", "SessionMode", "mode_of"]

MODES: dict[str, SessionMode] = {mode.name: mode for mode in (STREAM, CALL, WINDOW, LOOKAHEAD)}
"""By name, as in a signature; the first is the default of `edgelstm compile`."""


def mode_of(name: str) -> SessionMode:
    """The mode of this name.

    Raises:
        ArtifactFormatError: this edgelstm has no such mode.
    """
    mode = MODES.get(name)
    if mode is None:
        raise ArtifactFormatError(
            f"signature.mode is {name!r}, and this edgelstm has {' and '.join(MODES)}: update "
            "edgelstm, or compile the model again"
        )
    return mode
