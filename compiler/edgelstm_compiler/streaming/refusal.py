"""Why a network cannot be stepped frame by frame, said once for all its nodes."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from edgelstm.errors import ModelError

COMMAND = "edgelstm compile MODEL.onnx"


@dataclass(frozen=True, slots=True)
class Way:
    """A way in which a model is compiled all the same.

    Args:
        mode: that takes it.
        words: its options of `edgelstm compile`, as on the command line.
        what: what they make of the model, in a few words.
        takes_frames: recordings to calibrate and check on are frame after frame; else they are
            whole windows.
    """

    mode: str
    words: tuple[str, ...]
    what: str
    takes_frames: bool = True


class OtherModeError(ModelError):
    """The mode that was asked for does not take the model, or nobody asked for one.

    Args:
        message: why.
        ways: how it is compiled all the same; each was tried, or is said of the model.
        command: what the ways are options of.
    """

    def __init__(self, message: str, ways: Sequence[Way] = (), command: str = COMMAND) -> None:
        super().__init__(message, tuple(ways), command)
        self.message = message
        self.ways = tuple(ways)
        self.command = command

    @property
    def commands(self) -> tuple[str, ...]:
        """The whole commands."""
        return tuple(
            f"{self.command} {shlex.join(('--mode', way.mode, *way.words))}" for way in self.ways
        )

    def told(self, ways: Sequence[Way], command: str) -> OtherModeError:
        """The same error, with these ways out as options of this command."""
        return OtherModeError(self.message, ways, command)

    def __str__(self) -> str:
        width = max(map(len, self.commands), default=0)
        pairs = zip(self.commands, self.ways, strict=True)
        lines = [f"\n    {line:<{width}}  # {way.what}" for line, way in pairs]
        told = "\n  These commands compile it (the numbers of frames are yours to choose):"
        return self.message + (told if lines else "") + "".join(lines)


class StreamabilityError(OtherModeError):
    """The network is not causal, or not uniform in time.

    Args:
        message: all reasons, one a line.
        reasons: `(origin of the node, reason)` of each.
        advice: the way out for all of them, or nothing.
        ways: the commands that are the way out, once they were tried.
        command: what the ways are options of.
    """

    def __init__(
        self,
        message: str,
        reasons: Sequence[tuple[str, str]] = (),
        advice: str = "",
        ways: Sequence[Way] = (),
        command: str = COMMAND,
    ) -> None:
        super().__init__(message, ways, command)
        self.args = (message, tuple(reasons), advice, tuple(ways), command)
        self.reasons = tuple(reasons)
        self.advice = advice

    def told(self, ways: Sequence[Way], command: str) -> StreamabilityError:
        """The same error, with these ways out as options of this command."""
        return StreamabilityError(self.message, self.reasons, self.advice, ways, command)

    def __str__(self) -> str:
        advice = f"\n  {self.advice}" if self.advice and not self.ways else ""
        return super().__str__() + advice


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


def refuse(
    reasons: Sequence[tuple[str, str]],
    advice: str = CALL_INSTEAD,
    cannot: str = "be stepped as a continuous stream",
) -> StreamabilityError:
    """The error for these reasons.

    Args:
        reasons: `(origin of the node, reason)` of each.
        advice: the way out, where there is one for all of them.
        cannot: what does not go.
    """
    lines = "".join(f"\n  {origin}: {reason}" for origin, reason in reasons)
    return StreamabilityError(
        f"the model cannot {cannot}:{lines}",
        reasons,
        advice,
    )
