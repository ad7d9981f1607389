"""Continuous mode: one frame a step, what is carried from frame to frame in states."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from edgelstm.artifact import Artifact
from edgelstm.signature import Signature
from edgelstm_compiler.binding import Binding, bind_states
from edgelstm_compiler.ir.graph import Graph, StepGraph
from edgelstm_compiler.onnx_import.read import OnnxModel
from edgelstm_compiler.streaming.carry import CarryRequest, carry_steps
from edgelstm_compiler.streaming.convert import to_steps
from edgelstm_compiler.streaming.modes.base import Offer, Shapes, Windows, expect_no_windows


@dataclass(frozen=True, slots=True)
class Stream:
    """See `CompileMode`."""

    name: str = "stream"
    stage: str = "steps"
    streams_as: str = "one frame a step"

    def bind(self, model: OnnxModel, shapes: Shapes, carry: CarryRequest) -> Binding:
        """Free time stays free; a model with states as inputs is called once for each step."""
        return bind_states(model, shapes, carry)

    def source(self, binding: Binding) -> Graph:
        """Of a model that was exported with one frame, the same over more of them."""
        return binding.graph if binding.frames_graph is None else binding.frames_graph

    def convert(self, graph: Graph, binding: Binding) -> StepGraph:
        """One frame, its memory as states."""
        if binding.carried is not None:
            return carry_steps(graph, binding.carried.carried)
        return to_steps(graph, binding.advice)

    def shapes_of(self, signature: Signature, given: Shapes) -> Shapes:
        """Free dimensions are found again."""
        del signature
        return given

    def asked(self, windows: Windows | None) -> Stream:
        """It has no windows."""
        expect_no_windows(self.name, windows)
        return self

    def offers(self, model: OnnxModel, given: Shapes, example: Shapes) -> Iterator[Offer]:
        """Whoever wants a stream says so: it is another function than windows are."""
        del model, given, example
        yield from ()

    def finish(self, artifact: Artifact, binding: Binding) -> Artifact:
        """The chunk is all there is."""
        del binding
        return artifact

    def about_time(self, signature: Signature) -> str:
        """One sample of every input."""
        rate = "not told when it was compiled (compile --rate HZ)"
        if signature.rate_hz:
            period = 1000 / signature.rate_hz
            rate = f"{signature.rate_hz:g} Hz, one step every {period:g} ms"
        return (
            "One step is one frame: a sample of every input. The state carries from step to step.\n"
            f"   Sampling rate: {rate}."
        )

    def about_output(self, signature: Signature, index: int) -> list[str]:
        """Its rate, delay and warm-up."""
        spec = signature.outputs[index]
        notes = []
        if spec.time_axis is None:
            notes.append("the newest value, to be read at any step")
        if spec.stride != 1:
            notes.append(f"one in {spec.stride} frames")
        if spec.delay:
            late = f"{spec.delay} frames late"
            if signature.rate_hz:
                late += f" ({1000 * spec.delay / signature.rate_hz:g} ms)"
            notes.append(late)
        else:
            notes.append("no delay: it belongs to the frame just given")
        if spec.warm_up:
            notes.append(f"from frame {spec.warm_up} on")
        return notes


STREAM = Stream()
