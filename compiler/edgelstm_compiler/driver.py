"""The whole pipeline on one screen: ONNX -> Graph -> StepGraph -> Program -> Artifact."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgelstm.artifact import Artifact
from edgelstm.description import Description
from edgelstm.errors import (
    CalibrationError,
    CapabilityError,
    MismatchError,
    ModelError,
    TargetUnavailableError,
)
from edgelstm.signature import Mode
from edgelstm_compiler.assembly import (
    OBJECT_PREFIX,
    assemble_artifact,
    describe_layers,
    what_was_asked,
    with_description,
)
from edgelstm_compiler.attention_distance import attention_record
from edgelstm_compiler.binding import Binding, bound_of
from edgelstm_compiler.carried_check import check_carried
from edgelstm_compiler.described import (
    Said,
    describe,
    said_by_metadata,
    said_by_zip_maps,
    what_is_said,
)
from edgelstm_compiler.device_memory import expect_ram
from edgelstm_compiler.emulation.kernel import emulate
from edgelstm_compiler.identity import identity_of, reference_artifact
from edgelstm_compiler.ir.graph import StepGraph
from edgelstm_compiler.ir.program_text import print_program, program_data
from edgelstm_compiler.ir.verify import verify
from edgelstm_compiler.ir.verify_program import verify_program
from edgelstm_compiler.known_steps import record_steps
from edgelstm_compiler.lookahead_check import check_lookahead
from edgelstm_compiler.lowering.lower import lower
from edgelstm_compiler.notes import carried_notes, last_place_notes, stream_notes
from edgelstm_compiler.onnx_import.fixed_inputs import fix_inputs
from edgelstm_compiler.onnx_import.read import OnnxModel, read_model
from edgelstm_compiler.passes.context import PassContext, dump_graph, dump_text
from edgelstm_compiler.quant.calibration import Calibration
from edgelstm_compiler.quant.check import check_quantized
from edgelstm_compiler.quant.model import QuantizedModel, QuantizeRequest, quantize_model
from edgelstm_compiler.quant.recordings import Recordings
from edgelstm_compiler.quant.scheme import QuantizeOptions
from edgelstm_compiler.quant.seen import seen_ranges
from edgelstm_compiler.quantize_requests import (
    check_recordings,
    cut_request,
    quantize_request,
    request_for,
)
from edgelstm_compiler.selfcheck import check_artifact
from edgelstm_compiler.simplification import admit_steps, simplify_sequence, simplify_steps
from edgelstm_compiler.streaming.carry import CarryRequest, carry_request, with_chunks
from edgelstm_compiler.streaming.modes import ModeRequest, Windows, compile_mode
from edgelstm_compiler.streaming.modes.base import Shapes
from edgelstm_compiler.streaming.modes.window import ask_for_hop, is_window_program
from edgelstm_compiler.target import (
    DEFAULT_TARGET,
    Stage,
    Target,
    find_target,
    run_stages,
)
from edgelstm_compiler.ways_out import command_of, telling_ways_out

if TYPE_CHECKING:
    import onnx  # noqa: TID251 - a type that callers may pass, never touched here

Progress = Callable[[str], None]
Note = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class CompileOptions:
    """What is asked of a compilation.

    Args:
        target: name of an installed target.
        mode: "stream" (one frame a step, state carried), "window" (windows from fresh state),
            "lookahead" (backward layers see some frames ahead) or "call" (the ONNX function).
        request: what is asked of the mode: its windows, the frames of a step.
        is_mode_given: False where the mode is only the default, so that a window program is refused
            with the choices.
        shapes: extents of inputs with free dimensions.
        constants: inputs that are fixed, by name; they are none of the artifact's inputs.
        name: C identifier part of the symbols; None: from the model.
        target_options: options of the target as text.
        rate_hz: sampling rate the model was trained for, kept in the artifact.
        dump: folder for the text of every stage, or None.
        check: compare the result with ONNX Runtime (or float64) before handing it out.
        check_input: recordings that the comparison is fed with; None: those of the calibration, or
            random input within the domain of the model.
        quantize: what to compute in fewer bits, or None: everything in float32.
        said: what the caller knows about the model's numbers.
        seen: recordings, or a calibration, whose ranges the artifact keeps.
        carry: which outputs of a stream are states fed back, where the caller says so.
    """

    target: str = DEFAULT_TARGET
    mode: Mode = "stream"
    request: ModeRequest = field(default_factory=ModeRequest)
    is_mode_given: bool = True
    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    constants: Mapping[str, Any] = field(default_factory=dict)
    name: str | None = None
    target_options: Mapping[str, str] = field(default_factory=dict)
    rate_hz: float | None = None
    dump: Path | None = None
    check: bool = True
    check_input: Recordings | None = None
    quantize: QuantizeRequest | None = None
    said: Said = field(default_factory=Said)
    seen: Calibration | Recordings | None = None
    carry: CarryRequest = field(default_factory=CarryRequest)


def compile_model(
    source: str | Path | bytes | onnx.ModelProto,
    *,
    target: str = DEFAULT_TARGET,
    mode: Mode | None = None,
    window: int | None = None,
    hop: int | None = None,
    carry_across_windows: bool = False,
    smooth: str | None = None,
    chunk: int | None = None,
    lookahead: int | None = None,
    attention_context: int | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    constants: Mapping[str, Any] | None = None,
    name: str | None = None,
    target_options: Mapping[str, str] | None = None,
    rate_hz: float | None = None,
    dump: str | Path | None = None,
    check: bool = True,
    check_input: Recordings | None = None,
    quantize: str | Mapping[str, str] | None = None,
    calibration: Calibration | Recordings | None = None,
    max_error: float | None = None,
    quantize_options: QuantizeOptions | None = None,
    holdout: Recordings | None = None,
    force: bool = False,
    keep: Sequence[str] = (),
    columns: Sequence[str] | None = None,
    units: str | Sequence[str] | None = None,
    labels: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
    description: str | Path | None = None,
    carry: Mapping[str, str] | bool | None = None,
    overlap: int | Mapping[str, int] | None = None,
    progress: Progress | None = None,
    note: Note | None = None,
) -> Artifact:
    """Compile an ONNX model.

    Args:
        source: path, bytes or ModelProto.
        target: name of an installed target.
        mode: "stream" (one frame a step, state carried), "window" (each window from fresh state, as
            in training), "lookahead" (backward layers see some frames ahead) or "call" (the ONNX
            function). None: "window" where `window` or `hop` is given, "lookahead" where that is,
            else "stream"; a model of fixed length that answers with its last frame is then
            refused with the choices, because only the caller knows which of them is meant.
        window: frames of a window; None: as many as the model has.
        hop: frames from the beginning of one window to that of the next.
        carry_across_windows: a window begins with the state that the one before it ended with, as
            stateful layers do; with `hop` equal to `window`.
        smooth: "mean:K" or "vote:K": what is made of the newest K answers.
        chunk: frames that one step of a stream takes; None: one, or as many as the model itself
            takes with its states. With `lookahead`: frames that are answered together; each is
            computed 1 + lookahead / chunk times.
        lookahead: further frames that backward layers see, in all layers of a stack together.
        attention_context: frames that attention over time sees, each frame's own included: a
            stream keeps the keys and values of so many. Exact where the model's own mask says as
            much, else another function, whose distance is measured (`manifest["attention"]`).
        shapes: extents of inputs with free dimensions, by name.
        constants: inputs to fix, by name: control inputs (a sampling rate), weights.
        name: C identifier part of the symbols; None: from the model.
        target_options: options of the target as text.
        rate_hz: sampling rate the model was trained for, kept in the artifact.
        dump: folder for the text of every stage.
        check: compare the result with ONNX Runtime (or float64) before handing it out; a quantized
            one with the quantized step graph.
        check_input: recordings that the comparison is fed with; None: those of the calibration, or
            random input within the domain of the model.
        quantize: fp16, w8, w4, int8, int8-full, auto, or one of them by name of the layer.
        calibration: recordings (arrays of frames, or arrays by input), or what `calibrate` made;
            the artifact keeps the ranges of its columns, quantized or not.
        max_error: auto: bound of the error of any output on the recordings, relative to the
            largest magnitude where that exceeds 1.
        quantize_options: see `QuantizeOptions`.
        holdout: recordings to measure a quantized model on; None: the last fifth of those to
            calibrate with.
        force: hand out a quantized model too that was measured as useless.
        keep: layers that stay in float32 beside one scheme for the others.
        columns: names of the elements of all inputs in order, kept in the artifact.
        units: of the columns; one for all, or one for each.
        labels: classes of the output that has as many elements, or by output.
        description: TOML file with these, see `described`; None: the one beside the model, if any.
        carry: streams of models with states as inputs and outputs: output by input, beside those
            pairs that are found; False: none is carried.
        overlap: of the newest elements of an input along time, how many stand in front of its next
            chunk, too; a number for the only input, or by name.
        progress: called with the name of each stage as it begins.
        note: called with what is easily overlooked, a sentence each: a batch of several streams,
            a model of a single frame, states that were guessed.

    Raises:
        ModelError: the model is broken, not supported (UnsupportedOpError), cannot be streamed,
            is useless as quantized (CalibrationError), has free dimensions (ShapeError), or the
            result is not what it computes (MismatchError).
        TargetError: the target is not there or cannot do it.
    """
    request = ModeRequest(
        Windows(window, hop, carry_across_windows, smooth), chunk, lookahead, attention_context
    )
    options = CompileOptions(
        target=target,
        mode=mode or request.mode,
        request=request,
        is_mode_given=mode is not None or request != ModeRequest(),
        shapes=shapes or {},
        constants=constants or {},
        name=name,
        target_options=target_options or {},
        rate_hz=rate_hz,
        dump=Path(dump) if dump is not None else None,
        check=check,
        check_input=check_input,
        quantize=quantize_request(
            quantize, calibration, max_error, quantize_options, holdout, force=force, keep=keep
        ),
        said=what_is_said(source, columns, units, labels, rate_hz, description),
        seen=calibration,
        carry=carry_request(carry, overlap),
    )
    model = fix_inputs(read_model(source), options.constants)
    with ways_out(model, options):
        return compile_read_model(model, options, progress or _ignore, note or _ignore)


def _ignore(text: str) -> None:
    """Nobody wants to know."""


def compile_read_model(
    model: OnnxModel, options: CompileOptions, progress: Progress, note: Note = _ignore
) -> Artifact:
    """Compile a model that was read; `compile_model` tells the rest."""
    backend = _available(find_target(options.target), options)
    ctx = PassContext(dump=options.dump)
    progress("import")
    original, model = model, prepared(model, options)
    context = options.request.attention_context
    bound = None if context is None else bound_of(original, context, options.shapes)[0]
    binding = bind(model, options)
    verify(binding.graph)
    for text in binding.notes:
        note(text)
    dump_graph(binding.graph, "imported", ctx)
    progress("passes")
    step_graph = to_step_graph(binding, options, ctx)
    mode = compile_mode(options.mode, options.request)
    cut = mode.cut_of(binding)
    faced = step_graph if cut is None else cut.faced(step_graph)
    notes = stream_notes(binding, faced)
    _expect_mode(options, binding, step_graph, notes.window)
    seen = seen_ranges(faced, options.seen)
    quantized: QuantizedModel | None = None
    if options.quantize is not None:
        request = cut_request(request_for(backend, options.quantize), faced, cut)
        quantized = quantize_model(step_graph, request, model=model.sha256, progress=progress)
        step_graph = quantized.graph
        dump_graph(step_graph, "quantized", ctx)
    progress("lowering")
    takes = backend.capabilities()
    named = _named(step_graph, model, options)
    program = lower(
        named, takes.unit_block, options.rate_hz, takes.weight_offset, takes.packing, takes.columns
    )
    if binding.carried is not None:
        told = with_chunks(program.signature, named, binding.graph, binding.carried.carried)
        program = dataclasses.replace(program, signature=told)
    if mode.shares_frames(binding):
        program = dataclasses.replace(program, shares_frames=True)
    facing = program.signature if cut is None else cut.facing(program.signature)
    verify_program(program)
    if ctx.dump is not None:
        dump_text(print_program(program), "program", ctx.dump, program_data(program))
    said = options.said.over(said_by_metadata(model.metadata))
    said = said.over(said_by_zip_maps(model.labels))
    description = describe(said, facing, seen)
    progress(f"code for {backend.name}")
    target_options = backend.options(options.target_options)

    def dump_stage(stage: Stage, result: Any) -> None:
        if stage.text is not None and ctx.dump is not None:
            dump_text(stage.text(result), f"{backend.name}_{stage.name}", ctx.dump)

    emission = run_stages(backend, program, target_options, dump_stage)
    reference = reference_artifact(named, options.rate_hz)
    carried = {} if binding.carried is None else binding.carried.carried.to_json()
    entry: dict[str, Any] = {}
    if bound is not None:
        heard = check_recordings(faced, options.check_input, options.quantize)
        entry = attention_record(bound, (original, model), binding, facing, heard)
    assemble = partial(
        assemble_artifact,
        program=program,
        emission=emission,
        target=options.target,
        target_options=target_options.to_json(),
        asked=what_was_asked(
            options.mode,
            options.shapes,
            options.constants,
            carried,
            options.request.attention_context,
        ),
        model=model,
        layers=describe_layers(step_graph),
        quantized=quantized,
        quantize_options=None if options.quantize is None else options.quantize.options,
        identity=identity_of(reference),
        description=description if cut is None else Description(),
        notes=notes.to_json() | carried_notes(binding) | entry,
    )
    check: dict[str, Any] = {"done": False}
    artifact = assemble(check=check)
    expect_ram(mode.finish(artifact, binding), target_options.ram_bytes)
    runnable = _runnable(artifact, backend) if options.check else None
    if runnable is not None:
        progress("self-check")
        recordings = check_recordings(faced, options.check_input, options.quantize)
        try:
            if quantized is not None:
                steps = recordings if cut is None else cut.recordings(recordings)
                check = check_quantized(runnable, quantized, steps)
            elif cut is not None:
                whole = mode.finish(runnable, binding).on(runnable.kernel)
                check = check_lookahead(whole, model, binding, step_graph, recordings)
            elif binding.carried is not None:
                check = check_carried(runnable, binding.carried, step_graph, recordings)
            else:
                check = check_artifact(runnable, model, binding, step_graph, recordings)
        except MismatchError as error:
            raise MismatchError(
                f"{error}. The artifact is not written; --no-check writes it all the same"
            ) from error
        if options.check_input is not None and check.get("inputs") != "a recording":
            raise CalibrationError(
                "the recordings to check on hold less than the model takes at once: give at least "
                f"{notes.window or 1} frames, or whole inputs of a call"
            )
        for text in last_place_notes(check, facing):
            note(text)
        if runnable is not artifact:
            check = {**check, "emulated_by": runnable.kernel.facts["engine"]}
        artifact = assemble(check=check)
    if any(name.startswith(OBJECT_PREFIX) for name in artifact.sizes):
        known = record_steps(mode.finish(artifact, binding), mode.finish(reference, binding))
        artifact = assemble(check=check, known=known)
    finished = mode.finish(artifact, binding)
    return finished if cut is None else with_description(finished, description)


def _expect_mode(
    options: CompileOptions, binding: Binding, graph: StepGraph, frames: int | None
) -> None:
    """Where nobody says the mode, a window program is not to become an endless stream.

    Raises:
        ModelError: says what the choices cost.
    """
    if not options.is_mode_given and frames and is_window_program(graph, binding):
        raise ask_for_hop(frames)


def prepared(model: OnnxModel, options: CompileOptions) -> OnnxModel:
    """The model as the mode takes it: what is compiled, and compared with.

    Raises:
        ModelError: it has nothing of what is asked of the mode.
    """
    return compile_mode(options.mode, options.request).prepared(model, options.shapes)


def bind(model: OnnxModel, options: CompileOptions) -> Binding:
    """The model with numbers for its free dimensions, as the mode wants them.

    Raises:
        ModelError: it has no inputs.
    """
    if not model.inputs:
        raise ModelError("the model has no inputs: what it computes are constants")
    mode = compile_mode(options.mode, options.request)
    model = prepared(model, options)
    return mode.bind(model, options.shapes, options.carry, admit_steps)


def to_step_graph(binding: Binding, options: CompileOptions, ctx: PassContext) -> StepGraph:
    """Simplify the sequence graph, convert it to one chunk, simplify that."""
    mode = compile_mode(options.mode, options.request)
    graph = simplify_sequence(mode.source(binding), ctx)
    step_graph = mode.convert(graph, binding)
    verify(step_graph)
    dump_graph(step_graph, mode.stage, ctx)
    return simplify_steps(step_graph, ctx)


def ways_out(model: OnnxModel, options: CompileOptions) -> AbstractContextManager[None]:
    """What is refused because of its mode is told with the commands that compile it."""

    def takes(mode: Mode, request: ModeRequest, shapes: Shapes) -> StepGraph:
        asked = dataclasses.replace(
            options, mode=mode, request=request, shapes=shapes, carry=CarryRequest(), dump=None
        )
        graph = to_step_graph(bind(model, asked), asked, PassContext())
        admit(graph, find_target(options.target))
        return graph

    command = command_of(model, options.target, options.shapes, options.constants)
    return telling_ways_out(model, command, options.mode, options.shapes, takes)


def admit(graph: StepGraph, target: Target) -> None:
    """Let a target refuse what it cannot compute, as far as that shows without building code.

    Raises:
        CapabilityError: the target, or lowering for it, does not take the graph.
    """
    takes = target.capabilities()
    if graph.mode not in takes.modes:
        raise CapabilityError(f"target {target.name!r} has no mode {graph.mode!r}")
    program = lower(
        graph, takes.unit_block, None, takes.weight_offset, takes.packing, takes.columns
    )
    verify_program(program)
    target.stages(target.options({}))[0].run(program)


def _runnable(artifact: Artifact, target: Target) -> Artifact | None:
    """The artifact on this machine, or on an emulated processor; None where neither can run it."""
    if target.probe().can_run:
        return artifact
    try:
        return emulate(artifact)
    except TargetUnavailableError:
        return None


def _available(target: Target, options: CompileOptions) -> Target:
    probe = target.probe()
    if not probe.can_build:
        raise TargetUnavailableError(f"target {target.name!r} cannot build here: {probe.reason}")
    if options.mode not in target.capabilities().modes:
        raise CapabilityError(
            f"target {target.name!r} has no mode {options.mode!r}; it has "
            f"{', '.join(target.capabilities().modes)}: compile for another target (host, "
            "reference), or in one of these modes"
        )
    return target


def _named(graph: StepGraph, model: OnnxModel, options: CompileOptions) -> StepGraph:
    return dataclasses.replace(graph, name=options.name or model.name)
