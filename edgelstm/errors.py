"""The one tree of errors, with the exit code each has at the command line.

```
EdgeLSTMError (1)
|- ModelError (3)      UnsupportedOpError, ShapeError, CalibrationError, MismatchError
|- TargetError (4)     TargetNotFoundError, TargetUnavailableError, CapabilityError, ToolchainError,
|                      LinkError
|- ArtifactError (5)   ArtifactFormatError, ArtifactVersionError, UntrustedArtifactError
|- StreamError (6)     SampleShapeError, SampleTypeError, NonFiniteSampleError, SampleRangeError,
|                      NonFiniteStateError, RefusedStreamsError, RefusedSamplesError,
|                      BusyError, RecordingError, SampleRateError, OverrunError
|- OutputError (7)     an output that cannot be written, or would destroy an input
|- InternalError (70)  InvalidGraphError, PassError        "this is a bug in edgelstm"
```
A message says what, where (the ONNX node's name), what was found and expected, and what to do.
Wrong usage of the command line exits with 2 (click).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class EdgeLSTMError(Exception):
    """Root of everything that edgelstm raises on purpose."""

    exit_code = 1


class ModelError(EdgeLSTMError):
    """The model, or what was asked of it, cannot be compiled as it stands."""

    exit_code = 3


class UnsupportedOpError(ModelError):
    """Operators or attributes that are refused by name.

    Args:
        message: all refusals of the model, one a line.
        refusals: `(operator, node name, reason)` of each.
    """

    def __init__(self, message: str, refusals: Sequence[tuple[str, str, str]] = ()) -> None:
        super().__init__(message, tuple(refusals))
        self.refusals = tuple(refusals)

    def __str__(self) -> str:
        return str(self.args[0])


class ShapeError(ModelError):
    """Shapes that contradict each other, or that are not known and have to be given."""


class CalibrationError(ModelError):
    """Calibration data that does not fit the model or does not exercise it."""


class MismatchError(ModelError):
    """What was compiled does not compute what the model computes."""


class TargetError(EdgeLSTMError):
    """A target cannot do what it was asked for."""

    exit_code = 4


class TargetNotFoundError(TargetError):
    """No installed target has this name."""


class TargetUnavailableError(TargetError):
    """The target exists, but this machine can not build for it or run it."""


class CapabilityError(TargetError):
    """The target does not offer what the program needs."""


class ToolchainError(TargetError):
    """A compiler, linker or driver failed."""


class LinkError(TargetError):
    """The connection to a device cannot be made, breaks, is silent or garbles what it carries."""


class ArtifactError(EdgeLSTMError):
    """An artifact file that cannot be used."""

    exit_code = 5


class ArtifactFormatError(ArtifactError):
    """Not an artifact, or a damaged one."""


class ArtifactVersionError(ArtifactError):
    """An artifact in a newer format than this runtime reads."""


class UntrustedArtifactError(ArtifactError):
    """An artifact without a signature that this machine trusts, or a key that is none."""


class StreamError(EdgeLSTMError):
    """A sample or a recording that does not fit the model; the session's state is untouched."""

    exit_code = 6


class SampleShapeError(StreamError):
    """A sample of the wrong shape."""


class SampleTypeError(StreamError):
    """A sample of the wrong element type."""


class SampleTypeWarning(UserWarning):
    """A sample of another element type than the input's is converted, in every step."""


class NonFiniteSampleError(StreamError):
    """A sample holding NaN, infinity, or a number that makes values in the model infinite."""


class SampleRangeError(StreamError):
    """A sample holding an integer that is no valid index or length."""


class NonFiniteStateError(StreamError):
    """A sample after which a state of the model would not be finite.

    Args:
        message: what happened.
        frames_done: frames of the block that were fed before; the state is the one after them.
        outputs: what the model said to those, as `Session.run` returns it; None of a single step.
    """

    def __init__(self, message: str, frames_done: int = 0, outputs: Any = None) -> None:
        super().__init__(message, frames_done, outputs)
        self.frames_done = frames_done
        self.outputs = outputs

    def __str__(self) -> str:
        return str(self.args[0])


class RefusedStreamsError(StreamError):
    """Frames of some streams of a set were refused; all other streams were fed.

    Args:
        message: how many, and why.
        refused: the error of each, by the number of its stream.
        outputs: what the model said to the others, as `step` or `run` returns it; zeros in the
            rows of those that were refused.
    """

    def __init__(
        self, message: str, refused: Mapping[int, StreamError] | None = None, outputs: Any = None
    ) -> None:
        super().__init__(message, dict(refused or {}), outputs)
        self.refused = dict(refused or {})
        self.outputs = outputs

    def __str__(self) -> str:
        return str(self.args[0])


class RefusedSamplesError(RefusedStreamsError, NonFiniteSampleError):
    """As RefusedStreamsError, each of the frames for holding NaN, infinity or too large numbers."""


class BusyError(StreamError):
    """A session that is used while another call on it is running."""


class RecordingError(StreamError):
    """A recording that cannot be read: format, columns or values."""


class SampleRateError(StreamError):
    """A stream at another rate than the model's."""


class OverrunError(StreamError):
    """Samples arrive faster than they are consumed."""


class OutputError(EdgeLSTMError):
    """An output that cannot be written, or that would destroy what is read."""

    exit_code = 7


class InternalError(EdgeLSTMError):
    """A fault of edgelstm itself, never the user's."""

    exit_code = 70

    def __str__(self) -> str:
        return f"{super().__str__()} (this is a bug in edgelstm: please report it)"


class InvalidGraphError(InternalError):
    """A graph that breaks an invariant of its stage."""


class PassError(InternalError):
    """A pass failed.

    Args:
        name: the pass.
        done: the passes that had run before it.
        reason: what went wrong.
    """

    def __init__(self, name: str, done: Sequence[str], reason: str) -> None:
        super().__init__(name, tuple(done), reason)
        self.name = name
        self.done = tuple(done)
        self.reason = reason

    def __str__(self) -> str:
        done = ", ".join(self.done) or "none"
        return (
            f"pass {self.name} failed: {self.reason}; passes done before: {done} "
            "(this is a bug in edgelstm: please report it)"
        )
