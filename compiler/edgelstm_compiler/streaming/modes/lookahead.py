"""Look-ahead mode: backward layers see a bounded number of further frames.

See `edgelstm_compiler.streaming.lookahead` for what is computed, `edgelstm.sessions.lookahead` for
how it is fed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from edgelstm.artifact import Artifact
from edgelstm.container import Container, canonical_json
from edgelstm.errors import ModelError
from edgelstm.signature import LookaheadPlan, Signature
from edgelstm_compiler.binding import Admit, Binding, bind_stream
from edgelstm_compiler.ir.graph import Graph, StepGraph
from edgelstm_compiler.onnx_import.read import OnnxModel
from edgelstm_compiler.streaming.carry import CarryRequest
from edgelstm_compiler.streaming.cut import Cut, cut_of
from edgelstm_compiler.streaming.lookahead import Span, chunk_ahead
from edgelstm_compiler.streaming.modes.base import (
    ModeRequest,
    Offer,
    Shapes,
    expect_no_attention_context,
    expect_no_windows,
)

MOST_FRAMES = 1 << 16
"""Frames of a chunk, those ahead included."""

EXAMPLE = 20
"""Frames ahead that are offered to whom another mode refuses a model (Xue and Yan 2017 take 21)."""


@dataclass(frozen=True, slots=True)
class Lookahead:
    """See `CompileMode`."""

    name: str = "lookahead"
    stage: str = "chunk"
    streams_as: str = ""
    span: Span | None = None

    def asked(self, request: ModeRequest) -> Lookahead:
        """With so many frames ahead, a frame at a time where nobody says otherwise."""
        expect_no_windows(self.name, request)
        expect_no_attention_context(self.name, request)
        chunk, ahead = request.chunk or 1, request.lookahead
        if chunk < 1 or (ahead is not None and ahead < 0):
            raise ModelError(
                f"--chunk {chunk} --lookahead {ahead}: a chunk has one frame at least, and a "
                "look-ahead none"
            )
        if ahead is not None and chunk + ahead > MOST_FRAMES:
            raise ModelError(
                f"--chunk {chunk} --lookahead {ahead}: together at most {MOST_FRAMES} frames"
            )
        return replace(self, span=None if ahead is None else Span(chunk, ahead))

    def prepared(self, model: OnnxModel, shapes: Shapes) -> OnnxModel:
        """As the file has it."""
        del shapes
        return model

    def bind(self, model: OnnxModel, shapes: Shapes, carry: CarryRequest, admit: Admit) -> Binding:
        """Free time stays free."""
        if carry.says_something:
            raise ModelError(
                "--carry and --overlap are for --mode stream: a look-ahead carries the states of "
                "the forward halves of recurrent layers, and those are found"
            )
        span = self._span()
        return bind_stream(model, shapes, admit, lambda graph, why: chunk_ahead(graph, span, why))

    def source(self, binding: Binding) -> Graph:
        """The network over some frames."""
        return binding.graph

    def convert(self, graph: Graph, binding: Binding) -> StepGraph:
        """A chunk, with the frames behind it."""
        return chunk_ahead(graph, self._span(), binding.advice)

    def shapes_of(self, signature: Signature, given: Shapes) -> Shapes:
        """Free dimensions are found again."""
        del signature
        return given

    def offers(self, model: OnnxModel, given: Shapes, example: Shapes) -> Iterator[Offer]:
        """Some frames ahead, and as many answered together, which costs twice a stream."""
        del model, example
        late = f"{EXAMPLE} to {2 * EXAMPLE - 1} frames late"
        yield Offer(
            ModeRequest(chunk=EXAMPLE, lookahead=EXAMPLE),
            given,
            f"backward layers see {EXAMPLE} frames ahead: an approximation, {late}",
        )

    def retries(self, model: OnnxModel, given: Shapes) -> Iterator[Offer]:
        """It asks for nothing that it could leave out."""
        del model, given
        yield from ()

    def shares_frames(self, binding: Binding) -> bool:
        """Its chunks are computed one after another."""
        del binding
        return False

    def cut_of(self, binding: Binding) -> Cut:
        """Chunks that overlap."""
        return cut_of(binding.graph, self._span())

    def finish(self, artifact: Artifact, binding: Binding) -> Artifact:
        """The same code, with what is done to the frames."""
        span, kernel = self._span(), artifact.signature
        signature = self.cut_of(binding).facing(kernel)
        plan = signature.lookahead
        assert plan is not None
        manifest = dict(artifact.manifest)
        manifest["signature"] = signature.to_json()
        manifest["identity"] = _identity(artifact.model_id, plan)
        manifest["macs"] = -(-manifest["macs"] // span.chunk)
        manifest["layers"] = [
            {**layer, "macs": -(-layer["macs"] // span.chunk)} for layer in manifest["layers"]
        ]
        manifest["options"] = {
            **manifest["options"],
            "mode": self.name,
            "lookahead": span.ahead,
            "chunk": span.chunk,
        }
        return Artifact(Container(manifest, dict(artifact.container.sections)))

    def about_time(self, signature: Signature) -> str:
        """One chunk."""
        del signature
        return "One step is one chunk with the frames behind it; forward states carry on."

    def about_output(self, signature: Signature, index: int) -> list[str]:
        """It stands for the chunk's own frames."""
        del signature, index
        return ["of the first frames of the chunk"]

    def _span(self) -> Span:
        if self.span is None:
            raise ModelError(
                "--mode lookahead: say how many frames the backward layers see beyond each one, "
                "--lookahead L; a larger L is later and nearer to the whole sequence"
            )
        return self.span


def _identity(kernel: str, plan: LookaheadPlan) -> str:
    content: Mapping[str, Any] = {"kernel": kernel, "chunk": plan.chunk, "ahead": plan.ahead}
    return hashlib.sha256(b"edgelstm look-ahead 1\n" + canonical_json(content)).hexdigest()


LOOKAHEAD = Lookahead()
