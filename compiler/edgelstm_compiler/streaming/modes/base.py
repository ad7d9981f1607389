"""What the compiler asks of a mode; each mode stands in a file beside."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from edgelstm.artifact import Artifact
from edgelstm.errors import ModelError
from edgelstm.signature import Mode, Signature
from edgelstm_compiler.binding import Admit, Binding
from edgelstm_compiler.ir.graph import Graph, StepGraph
from edgelstm_compiler.onnx_import.read import OnnxModel
from edgelstm_compiler.streaming.carry import CarryRequest
from edgelstm_compiler.streaming.cut import Cut

Shapes = Mapping[str, Sequence[int]]


@dataclass(frozen=True, slots=True)
class Windows:
    """What is asked of the windows of a window model.

    Args:
        frames: of one window; None: as many as the model has.
        hop: frames from the beginning of one window to that of the next.
        carries: a window begins with the state that the one before it ended with.
        smooth: "mean:K" or "vote:K", of the newest K answers; None: answers as they are.
    """

    frames: int | None = None
    hop: int | None = None
    carries: bool = False
    smooth: str | None = None

    def __bool__(self) -> bool:
        return self != Windows()


@dataclass(frozen=True, slots=True)
class ModeRequest:
    """What is asked of a mode beside its name.

    Args:
        windows: see `Windows`.
        chunk: frames that one step takes, or that a look-ahead model answers together; None: as
            many as the model makes it, one for most.
        lookahead: further frames that backward layers see; for "lookahead" alone.
        attention_context: frames that attention sees, each frame's own included; for "stream"
            alone. None: as the masks of the model say.
    """

    windows: Windows = field(default_factory=Windows)
    chunk: int | None = None
    lookahead: int | None = None
    attention_context: int | None = None

    @property
    def mode(self) -> Mode:
        """The mode that is meant where nobody names one."""
        if self.lookahead is not None:
            return "lookahead"
        return "window" if self.windows else "stream"


@dataclass(frozen=True, slots=True)
class Offer:
    """What would be asked for a mode to take a model; to be tried.

    Args:
        request: what is asked of the mode.
        shapes: of all inputs whose shape is to be told, those of the caller among them.
        what: what comes of it, in a few words.
    """

    request: ModeRequest
    shapes: Shapes
    what: str


class CompileMode(Protocol):
    """How a sequence network becomes one chunk of it.

    Attributes:
        name: as in `--mode NAME` and in the signature.
        stage: name of the chunk's graph among the texts of `--dump`.
        streams_as: what `inspect` says of a model that this mode takes as a stream; "" where it
            is none.
    """

    @property
    def name(self) -> str:
        """See above."""

    @property
    def stage(self) -> str:
        """See above."""

    @property
    def streams_as(self) -> str:
        """See above."""

    def prepared(self, model: OnnxModel, shapes: Shapes) -> OnnxModel:
        """The model as this mode takes it; what is compiled and compared with.

        Args:
            model: its control inputs fixed; or already prepared.
            shapes: of inputs with free dimensions, as the caller told them.

        Raises:
            ModelError: it has nothing of what was asked for.
        """

    def bind(self, model: OnnxModel, shapes: Shapes, carry: CarryRequest, admit: Admit) -> Binding:
        """The model with numbers for its free dimensions.

        Args:
            model: its control inputs fixed.
            shapes: of inputs with free dimensions.
            carry: which outputs are states fed back, where the caller says so.
            admit: may refuse a sequence network early.

        Raises:
            ModelError: it cannot be imported, or a dimension is not told.
        """

    def source(self, binding: Binding) -> Graph:
        """The sequence network that the chunk is made from."""

    def convert(self, graph: Graph, binding: Binding) -> StepGraph:
        """The chunk of a simplified sequence network.

        Raises:
            ModelError: this mode does not take the network.
        """

    def shapes_of(self, signature: Signature, given: Shapes) -> Shapes:
        """What `bind` was given when an artifact was compiled.

        Args:
            signature: of the artifact.
            given: the shapes that its manifest tells.
        """

    def asked(self, request: ModeRequest) -> CompileMode:
        """The mode with what was asked of it.

        Raises:
            ModelError: it has no such thing, or something is missing or contradictory.
        """

    def offers(self, model: OnnxModel, given: Shapes, example: Shapes) -> Iterator[Offer]:
        """How the mode might take a model that another one refuses.

        Args:
            model: its control inputs fixed.
            given: shapes as the caller told them.
            example: the same, and of inputs with free dimensions some window of frames.
        """

    def retries(self, model: OnnxModel, given: Shapes) -> Iterator[Offer]:
        """How the mode might take a model that it refuses as it was asked.

        Args:
            model: its control inputs fixed.
            given: shapes as the caller told them.
        """

    def shares_frames(self, binding: Binding) -> bool:
        """Whether chunks that are computed side by side read the same frames often enough to gain.

        Args:
            binding: the model with its numbers.
        """

    def cut_of(self, binding: Binding) -> Cut | None:
        """How frames become what a step of the graph takes; None: as recordings have them."""

    def finish(self, artifact: Artifact, binding: Binding) -> Artifact:
        """What the caller gets, out of the compiled and checked chunk."""

    def about_time(self, signature: Signature) -> str:
        """What a step is and how often it is due, for the C header."""

    def about_output(self, signature: Signature, index: int) -> list[str]:
        """When an output is valid, for the C header."""


def expect_no_chunk(mode: str, request: ModeRequest, instead: str) -> None:
    """Refuse what is asked of the steps of a stream in a mode that is none.

    Raises:
        ModelError: naming the option, and what to do.
    """
    if request.chunk is not None:
        raise ModelError(f"--chunk {request.chunk} is for --mode stream, not for {mode}: {instead}")


def expect_no_lookahead(mode: str, request: ModeRequest) -> None:
    """Refuse a look-ahead in a mode that has none.

    Raises:
        ModelError: naming the option.
    """
    if request.lookahead is not None:
        raise ModelError(
            f"--lookahead {request.lookahead} is for --mode lookahead, not for {mode}: leave one "
            "of the two out"
        )


def expect_no_attention_context(mode: str, request: ModeRequest) -> None:
    """Refuse a bound of attention in a mode that looks at all frames it has.

    Raises:
        ModelError: naming the option.
    """
    if request.attention_context is not None:
        raise ModelError(
            f"--attention-context {request.attention_context} is for --mode stream, not for {mode}"
        )


def expect_no_windows(mode: str, request: ModeRequest) -> None:
    """Refuse what is asked of windows in a mode that has none.

    Raises:
        ModelError: naming the options.
    """
    if request.windows:
        raise ModelError(
            "--window, --hop, --carry-across-windows and --smooth are for --mode window, not for "
            f"{mode}"
        )
