"""Window mode: each window as it was trained, from fresh state; see `edgelstm.sessions.window`.

A causal network whose outputs are any-time ones becomes a step, and each window that is open a slot
that is stepped; any other becomes a call over a whole window.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from edgelstm.admission import element_ranges
from edgelstm.artifact import Artifact
from edgelstm.container import Container, canonical_json
from edgelstm.errors import ModelError
from edgelstm.signature import SMOOTHINGS, Signature, TensorSpec, WindowPlan
from edgelstm_compiler.binding import Admit, Binding, bind_window
from edgelstm_compiler.ir.graph import Graph, StepGraph
from edgelstm_compiler.lowering.memory import align
from edgelstm_compiler.onnx_import.read import OnnxModel
from edgelstm_compiler.streaming.axes import AxisClasses
from edgelstm_compiler.streaming.carry import CarryRequest
from edgelstm_compiler.streaming.convert import to_steps
from edgelstm_compiler.streaming.modes.base import (
    ModeRequest,
    Offer,
    Shapes,
    Windows,
    expect_no_attention_context,
    expect_no_chunk,
    expect_no_lookahead,
)
from edgelstm_compiler.streaming.refusal import OtherModeError, StreamabilityError, Way
from edgelstm_compiler.streaming.whole_call import whole_call

_FEW_WINDOWS = 4
"""Windows that hold a frame, so that computing something of it once is a gain."""

_ABOUT_STREAMS = frozenset({"window", "warnings"})
"""Entries of the manifest that are said of a model that is stepped without end."""


@dataclass(frozen=True, slots=True)
class Window:
    """See `CompileMode`."""

    name: str = "window"
    stage: str = "window"
    streams_as: str = ""
    windows: Windows = field(default_factory=Windows)

    def asked(self, request: ModeRequest) -> Window:
        """With these windows."""
        expect_no_chunk(self.name, request, "`run` takes any number of frames at once")
        expect_no_lookahead(self.name, request)
        expect_no_attention_context(self.name, request)
        windows = request.windows
        for value, option in ((windows.frames, "--window"), (windows.hop, "--hop")):
            if value is not None and value < 1:
                raise ModelError(f"{option} {value}: windows have one frame at least")
        _smoothing(windows.smooth)
        return replace(self, windows=windows)

    def prepared(self, model: OnnxModel, shapes: Shapes) -> OnnxModel:
        """As the file has it."""
        del shapes
        return model

    def bind(self, model: OnnxModel, shapes: Shapes, carry: CarryRequest, admit: Admit) -> Binding:
        """Time is as long as a window."""
        if carry.says_something:
            raise ModelError(
                "--carry and --overlap are for --mode stream: windows begin with the values that "
                "the file gives, or with --carry-across-windows go on with their own"
            )
        del admit  # The graph is imported once, and lowered next.
        return bind_window(model, shapes, self.windows.frames)

    def source(self, binding: Binding) -> Graph:
        """The network over one window."""
        return binding.graph

    def convert(self, graph: Graph, binding: Binding) -> StepGraph:
        """A step where what counts is known with the newest frame, else the whole window."""
        del binding
        steps = _steps(graph)
        if steps is not None:
            return steps
        if self.windows.carries:
            raise ModelError(
                "--carry-across-windows: the state of this model cannot be carried, because its "
                "windows are computed as a whole (it looks ahead, or answers for every frame)"
            )
        return whole_call(graph)

    def offers(self, model: OnnxModel, given: Shapes, example: Shapes) -> Iterator[Offer]:
        """Windows of the length that the model has, or of that of the example."""
        try:
            frames = _frames(bind_window(model, given, None))
        except ModelError:
            try:
                frames = _frames(bind_window(model, example, None))
            except ModelError:
                return
        hop = max(frames // 2, 1)
        yield Offer(
            ModeRequest(Windows(frames, hop)), given, f"a window of {frames} frames every {hop}"
        )

    def retries(self, model: OnnxModel, given: Shapes) -> Iterator[Offer]:
        """It asks for nothing that it could leave out."""
        del model, given
        yield from ()

    def shares_frames(self, binding: Binding) -> bool:
        """Windows that overlap do; what few of them share is not worth its memory."""
        hop = self.windows.hop
        return hop is not None and hop * _FEW_WINDOWS <= _frames(binding)

    def cut_of(self, binding: Binding) -> None:
        """Windows are cut by the session."""

    def finish(self, artifact: Artifact, binding: Binding) -> Artifact:
        """The same code, with what is done to the frames."""
        kernel = artifact.signature
        frames = _frames(binding)
        hop = self.windows.hop
        if hop is None and self.windows.carries:
            hop = frames
        if hop is None:
            raise ask_for_hop(frames, self.windows.smooth)
        if self.windows.carries and hop != frames:
            raise ModelError(
                f"--carry-across-windows with --hop {hop}: windows of {frames} frames overlap or "
                f"are apart; the state is carried where --hop is {frames}"
            )
        smoothing = _smoothing(self.windows.smooth)
        plan = WindowPlan(frames, hop, kernel, self.windows.carries, *smoothing)
        signature = _facing(kernel, binding, plan)
        manifest = {
            name: entry for name, entry in artifact.manifest.items() if name not in _ABOUT_STREAMS
        }
        manifest["signature"] = signature.to_json()
        manifest["identity"] = _identity(artifact.model_id, plan)
        manifest["options"] = {
            **manifest["options"],
            "mode": self.name,
            "window": frames,
            "hop": hop,
            **({"carry_across_windows": True} if self.windows.carries else {}),
            **({"smooth": self.windows.smooth} if self.windows.smooth else {}),
        }
        return Artifact(Container(manifest, dict(artifact.container.sections)))

    def shapes_of(self, signature: Signature, given: Shapes) -> Shapes:
        """Every extent is baked in."""
        del signature
        return given

    def about_time(self, signature: Signature) -> str:
        """One sample of every input."""
        plan = signature.window
        assert plan is not None
        smoothed = (
            f"\n   It is the {plan.smoothing} of the newest {plan.smoothed} answers."
            if plan.smoothing
            else ""
        )
        begins = (
            "with the state that the one before it ended with"
            if plan.carries
            else "from fresh state"
        )
        return (
            f"One step is one frame. A window of {plan.frames} frames begins every {plan.hop} "
            f"frames,\n   {begins}; the step with its last frame gives its answer, and the\n"
            f"   other steps return 0.{smoothed}"
        )

    def about_output(self, signature: Signature, index: int) -> list[str]:
        """It is there when its window closes."""
        del signature, index
        return ["valid behind the last frame of a window"]


def ask_for_hop(frames: int, smooth: str | None = None) -> OtherModeError:
    """That nobody said how often a window begins, and what that costs."""
    more = () if smooth is None else ("--smooth", smooth)
    ways = [
        Way(
            WINDOW.name,
            ("--window", str(frames), "--hop", str(hop), *more),
            f"an answer every {f'{hop} frames' if hop > 1 else 'frame'}, "
            f"{-(-frames // hop)} step{'s' if frames > hop else ''} of the network a frame",
        )
        for hop in dict.fromkeys((1, max(frames // 4, 1), frames))
    ]
    endless = "stepped without end: another function than the one that was trained"
    return OtherModeError(
        f"the model was trained on windows of {frames} frames and answers with the last of them: "
        "say how often a window begins (--hop)",
        [*ways, Way("stream", (), endless)],
    )


def is_window_program(graph: StepGraph, binding: Binding) -> bool:
    """Whether a model of fixed length is a window: all it says, it says with the last frame."""
    is_sequence = not binding.free_time and binding.carried is None
    return is_sequence and all(output.time_axis is None for output in graph.outputs)


def _smoothing(asked: str | None) -> tuple[str, int]:
    """What "mean:5" says."""
    if asked is None:
        return "", 1
    kind, _, count = asked.partition(":")
    if kind not in SMOOTHINGS or not count.isdecimal() or not 1 <= int(count) <= 65536:
        raise ModelError(f"--smooth {asked}: mean:K or vote:K, of the newest K answers (mean:5)")
    return kind, int(count)


def _steps(graph: Graph) -> StepGraph | None:
    try:
        steps = to_steps(graph)
    except StreamabilityError:
        return None
    known_last = all(
        output.time_axis is None and output.delay == 0 and output.stride == 1
        for output in steps.outputs
    )
    return steps if known_last and steps.states else None


def _frames(binding: Binding) -> int:
    """Frames of one window."""
    return next(
        binding.shapes[name][axis] for name, axis in binding.frame_axes.items() if axis is not None
    )


def _facing(kernel: Signature, binding: Binding, plan: WindowPlan) -> Signature:
    """What goes in and out frame by frame."""
    axes = AxisClasses(binding.graph)
    values = {value.name: value for value in binding.graph.inputs}
    shown = {output.name: output.value for output in binding.graph.outputs}
    is_stepped = bool(kernel.states)
    inputs, input_bytes = kernel.inputs, kernel.input_bytes
    if not is_stepped:
        batch = {name: _batch_axis(axes.batch_axis(v), v.type.shape) for name, v in values.items()}
        frames = [
            _frame_of(spec, binding.frame_axes[spec.name], batch[spec.name])
            for spec in kernel.inputs
        ]
        inputs, input_bytes = _placed(frames)
    outputs = tuple(
        replace(
            spec,
            shape=spec.shape
            if is_stepped
            else _without(spec.shape, _batch_axis(axes.batch_axis(shown[spec.name]), spec.shape)),
            stride=plan.hop,
            warm_up=plan.frames - 1,
        )
        for spec in kernel.outputs
    )
    return replace(
        kernel,
        mode="window",
        inputs=inputs,
        outputs=outputs,
        input_bytes=input_bytes,
        window=plan,
    )


def _placed(frames: Sequence[TensorSpec]) -> tuple[tuple[TensorSpec, ...], int]:
    """The inputs of one frame one behind the other, each at a multiple of its elements' size."""
    at, widest, found = 0, 1, []
    for spec in frames:
        size = spec.dtype.itemsize
        at, widest = align(at, size), max(widest, size)
        found.append(replace(spec, offset_bytes=at))
        at += spec.nbytes
    return tuple(found), align(at, widest)


def _frame_of(spec: TensorSpec, time: int | None, batch: int | None) -> TensorSpec:
    """An input of a whole window, for one of its frames."""
    if time is None:
        return replace(spec, shape=_without(spec.shape, batch))
    model_shape = tuple(1 if axis == time else e for axis, e in enumerate(spec.model_shape))
    shape = tuple(e for axis, e in enumerate(spec.shape) if axis not in (time, batch))
    return replace(
        spec,
        shape=shape,
        model_shape=model_shape,
        time_axis=time,
        ranges=_ranges_of_frame(spec, time),
    )


def _ranges_of_frame(spec: TensorSpec, time: int) -> tuple[tuple[int, float, float], ...]:
    """What every frame of a window may hold."""
    if not spec.ranges:
        return ()
    low, high = element_ranges(spec)
    lows, highs = low.max(axis=time).reshape(-1), high.min(axis=time).reshape(-1)
    kind: Any = float if spec.dtype.is_float else int
    return tuple((1, kind(a), kind(b)) for a, b in zip(lows, highs, strict=True))


def _batch_axis(known: int | None, shape: Sequence[int]) -> int | None:
    """The batch of one stream; in a network without cells, the first axis if its extent is one."""
    axis = 0 if known is None and len(shape) > 1 else known
    return axis if axis is not None and shape[axis] == 1 else None


def _without(shape: Sequence[int], axis: int | None) -> tuple[int, ...]:
    return tuple(extent for place, extent in enumerate(shape) if place != axis)


def _identity(kernel: str, plan: WindowPlan) -> str:
    content: Mapping[str, Any] = {
        "kernel": kernel,
        "frames": plan.frames,
        "hop": plan.hop,
        "carries": plan.carries,
        "smoothing": [plan.smoothing, plan.smoothed],
    }
    return hashlib.sha256(b"edgelstm windows 1\n" + canonical_json(content)).hexdigest()


WINDOW = Window()
