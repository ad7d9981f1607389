"""Why a network cannot be stepped frame by frame, said once for all its nodes."""

from __future__ import annotations

from collections.abc import Sequence

from edgelstm.errors import ModelError


class StreamabilityError(ModelError):
    """The network is not causal, or not uniform in time.

    Args:
        message: all reasons, one a line.
        reasons: `(origin of the node, reason)` of each.
        advice: the way out for all of them, or nothing.
    """

    def __init__(
        self, message: str, reasons: Sequence[tuple[str, str]] = (), advice: str = ""
    ) -> None:
        super().__init__(message, tuple(reasons), advice)
        self.reasons = tuple(reasons)
        self.advice = advice

    def __str__(self) -> str:
        return str(self.args[0])


def call_instead(shapes: str) -> str:
    """The advice to compute whole windows, with the options that give the window's shape."""
    return (
        f"compile with --mode call{f' {shapes}' if shapes else ''} to compute whole windows "
        "exactly as trained"
    )


class CannotStepError(Exception):
    """One node cannot be stepped; collected by the conversion into a StreamabilityError.

    Args:
        reason: why.
        origin: the node, where it is another one than that at which it shows.
    """

    def __init__(self, reason: str, origin: str = "") -> None:
        super().__init__(reason)
        self.origin = origin


CALL_INSTEAD = call_instead("")


def refuse(reasons: Sequence[tuple[str, str]], advice: str = CALL_INSTEAD) -> StreamabilityError:
    """The error for these reasons.

    Args:
        reasons: `(origin of the node, reason)` of each.
        advice: the way out, where there is one for all of them.
    """
    lines = "".join(f"\n  {origin}: {reason}" for origin, reason in reasons)
    return StreamabilityError(
        f"the model cannot be stepped as a continuous stream:{lines}"
        + (f"\n  {advice}" if advice else ""),
        reasons,
        advice,
    )
