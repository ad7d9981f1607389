"""Whole calls: the function as it was exported, one chunk without states."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from edgelstm.artifact import Artifact
from edgelstm.errors import ModelError
from edgelstm.signature import Signature
from edgelstm_compiler.binding import Admit, Binding, bind_call
from edgelstm_compiler.ir.graph import Graph, StepGraph
from edgelstm_compiler.onnx_import.read import OnnxModel
from edgelstm_compiler.streaming.carry import CarryRequest
from edgelstm_compiler.streaming.modes.base import (
    ModeRequest,
    Offer,
    Shapes,
    expect_no_attention_context,
    expect_no_chunk,
    expect_no_lookahead,
    expect_no_windows,
)
from edgelstm_compiler.streaming.whole_call import whole_call


@dataclass(frozen=True, slots=True)
class Call:
    """See `CompileMode`."""

    name: str = "call"
    stage: str = "call"
    streams_as: str = ""

    def prepared(self, model: OnnxModel, shapes: Shapes) -> OnnxModel:
        """As the file has it."""
        del shapes
        return model

    def bind(self, model: OnnxModel, shapes: Shapes, carry: CarryRequest, admit: Admit) -> Binding:
        """Every free dimension must be given."""
        if carry.says_something:
            raise ModelError(
                "a call carries nothing to the next: --carry and --overlap are for --mode stream"
            )
        del admit  # The graph is imported once, and lowered next.
        return bind_call(model, shapes)

    def source(self, binding: Binding) -> Graph:
        """The network as it was imported."""
        return binding.graph

    def convert(self, graph: Graph, binding: Binding) -> StepGraph:
        """The sequence graph as it is."""
        del binding
        return whole_call(graph)

    def shapes_of(self, signature: Signature, given: Shapes) -> Shapes:
        """Every extent is baked in."""
        return given or {spec.name: spec.model_shape for spec in signature.inputs}

    def asked(self, request: ModeRequest) -> Call:
        """It has neither windows nor steps."""
        expect_no_windows(self.name, request)
        expect_no_lookahead(self.name, request)
        expect_no_attention_context(self.name, request)
        expect_no_chunk(self.name, request, "a call takes the frames of --shape")
        return self

    def offers(self, model: OnnxModel, given: Shapes, example: Shapes) -> Iterator[Offer]:
        """Whole windows, as long as the example where the model leaves it open."""
        del model, given
        yield Offer(ModeRequest(), example, "whole windows at once, exactly as trained")

    def retries(self, model: OnnxModel, given: Shapes) -> Iterator[Offer]:
        """It asks for nothing that it could leave out."""
        del model, given
        yield from ()

    def shares_frames(self, binding: Binding) -> bool:
        """It has none."""
        del binding
        return False

    def cut_of(self, binding: Binding) -> None:
        """Calls are recorded whole."""

    def finish(self, artifact: Artifact, binding: Binding) -> Artifact:
        """The chunk is all there is."""
        del binding
        return artifact

    def about_time(self, signature: Signature) -> str:
        """Nothing runs along time."""
        del signature
        return "One step is one call of the whole model; nothing is carried to the next."

    def about_output(self, signature: Signature, index: int) -> list[str]:
        """It is there when the call is over."""
        del signature, index
        return []


CALL = Call()
