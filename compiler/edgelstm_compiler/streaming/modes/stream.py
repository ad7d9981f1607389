"""Continuous mode: one frame a step, what is carried from frame to frame in states."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import lcm

from edgelstm.artifact import Artifact
from edgelstm.container import Container
from edgelstm.errors import ModelError
from edgelstm.sessions.chunks import chunk_frames
from edgelstm.signature import Signature
from edgelstm_compiler.binding import Admit, Binding, bind_states, bounded, seen_frames
from edgelstm_compiler.ir.graph import Graph, StepGraph
from edgelstm_compiler.onnx_import.read import OnnxModel
from edgelstm_compiler.streaming.carry import CarryRequest, carry_steps
from edgelstm_compiler.streaming.carry.steps import chunk_axes
from edgelstm_compiler.streaming.convert import to_steps
from edgelstm_compiler.streaming.modes.base import (
    ModeRequest,
    Offer,
    Shapes,
    expect_no_lookahead,
    expect_no_windows,
)

MOST_CONTEXT = 4096
"""Frames that attention sees, at most: each step multiplies with all of them."""

EXAMPLE_CONTEXT = 100
"""Frames that are offered where the model leaves their number open."""


@dataclass(frozen=True, slots=True)
class Stream:
    """See `CompileMode`."""

    name: str = "stream"
    stage: str = "steps"
    streams_as: str = "one frame a step"
    chunk: int = 1
    attention_context: int | None = None

    def prepared(self, model: OnnxModel, shapes: Shapes) -> OnnxModel:
        """With attention over no more frames than were asked for."""
        if self.attention_context is None:
            return model
        return bounded(model, self.attention_context, shapes)

    def bind(self, model: OnnxModel, shapes: Shapes, carry: CarryRequest, admit: Admit) -> Binding:
        """Free time stays free; a model with states as inputs is called once for each step."""
        # The frames of a stream alone are compared one by one, see `expect_one_step`.
        convert = to_steps if self.attention_context is None else self._steps
        binding = bind_states(model, shapes, carry, admit, convert)
        if binding.carried is not None and self.attention_context is not None:
            raise ModelError(
                f"--attention-context {self.attention_context}: the model has its states as inputs "
                "and outputs, and one call of it is a step; --no-carry takes them for data"
            )
        return binding

    def _steps(self, graph: Graph, advice: str) -> StepGraph:
        return to_steps(graph, advice, self.attention_context)

    def source(self, binding: Binding) -> Graph:
        """Of a model that was exported with one frame, the same over more of them."""
        return binding.graph if binding.frames_graph is None else binding.frames_graph

    def convert(self, graph: Graph, binding: Binding) -> StepGraph:
        """One frame, its memory as states; a chunk is as many of them."""
        if binding.carried is not None:
            self._expect_single_frames(binding)
            return carry_steps(graph, binding.carried.carried)
        steps = self._steps(graph, binding.advice)
        self._expect_whole_rows(steps)
        return steps

    def shapes_of(self, signature: Signature, given: Shapes) -> Shapes:
        """Free dimensions are found again."""
        del signature
        return given

    def asked(self, request: ModeRequest) -> Stream:
        """It has no windows, and steps of one frame where nobody says otherwise."""
        expect_no_windows(self.name, request)
        expect_no_lookahead(self.name, request)
        if request.chunk is not None and request.chunk < 1:
            raise ModelError(f"--chunk {request.chunk}: a step takes one frame at least")
        context = request.attention_context
        if context is not None and not 1 <= context <= MOST_CONTEXT:
            raise ModelError(
                f"--attention-context {context}: a frame sees itself at least, and at most "
                f"{MOST_CONTEXT} frames"
            )
        return replace(self, chunk=request.chunk or 1, attention_context=context)

    def offers(self, model: OnnxModel, given: Shapes, example: Shapes) -> Iterator[Offer]:
        """Whoever wants a stream says so: it is another function than windows are."""
        del model, given, example
        yield from ()

    def retries(self, model: OnnxModel, given: Shapes) -> Iterator[Offer]:
        """With attention over some frames: as many as the model takes, where it says how many."""
        if self.attention_context is not None:
            return
        found = seen_frames(model, given)
        if found is None:
            return
        frames, looks_ahead = found
        context = min(frames or EXAMPLE_CONTEXT, MOST_CONTEXT)
        what = f"attention sees the newest {context} frames: "
        what += "another function" if looks_ahead else f"exact for the first {context}"
        yield Offer(ModeRequest(attention_context=context), given, what)

    def shares_frames(self, binding: Binding) -> bool:
        """Every stream has its own."""
        del binding
        return False

    def cut_of(self, binding: Binding) -> None:
        """A step takes what recordings have."""

    def finish(self, artifact: Artifact, binding: Binding) -> Artifact:
        """The same code, with the frames that a step takes of it."""
        del binding
        if self.chunk == chunk_frames(artifact.signature):
            return artifact
        manifest = dict(artifact.manifest)
        manifest["signature"] = replace(artifact.signature, chunk=self.chunk).to_json()
        # Snapshots are of single frames: they fit with chunks and without.
        manifest["identity"] = artifact.model_id
        manifest["options"] = {**manifest["options"], "chunk": self.chunk}
        return Artifact(Container(manifest, dict(artifact.container.sections)))

    def _expect_whole_rows(self, steps: StepGraph) -> None:
        """Refuse chunks in which an output has one row more or less from time to time."""
        strides = [output.stride for output in steps.outputs if output.time_axis is not None]
        whole = lcm(*strides)
        if self.chunk > 1 and self.chunk % whole:
            slow = ", ".join(
                f"{output.name!r} comes every {output.stride} frames"
                for output in steps.outputs
                if output.time_axis is not None and self.chunk % output.stride
            )
            below = self.chunk // whole * whole
            fitting = " or ".join(f"--chunk {n}" for n in (below, below + whole) if n)
            raise ModelError(
                f"--chunk {self.chunk}: the output {slow}, and chunks would have now more rows and "
                f"now fewer; take {fitting}. Without --chunk, `run` takes any number of frames"
            )

    def _expect_single_frames(self, binding: Binding) -> None:
        """Refuse chunks of what takes several frames by itself."""
        assert binding.carried is not None
        carried = binding.carried.carried
        kept = {item.name: item.count for item in carried.overlaps}
        axes = chunk_axes(binding.carried.graph, carried)
        for value in binding.carried.graph.inputs:
            axis = axes.get(value.name)
            frames = 1 if axis is None else value.type.shape[axis] - kept.get(value.name, 0)
            if self.chunk not in (1, frames) and frames > 1:
                raise ModelError(
                    f"--chunk {self.chunk}: one call of the model takes {frames} frames of "
                    f"{value.name!r} already. Leave --chunk out (`run` cuts recordings into steps "
                    "of that length), or where that length is free give another one: "
                    f"--shape {value.name}=EXTENT,..."
                )

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
