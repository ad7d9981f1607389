"""Windows in exported C: a step that takes one frame of the stream, around the compiled code.

Causal models have a state for each window that is open, others keep the frames of one window and
compute it when it closes; the same as `edgelstm.sessions.window`, with the same bits.
"""

from __future__ import annotations

import math

import numpy as np

from edgelstm.artifact import STATE_SECTION, Artifact
from edgelstm.dtypes import DType
from edgelstm.engines.base import all_outputs
from edgelstm.errors import ArtifactFormatError, CapabilityError
from edgelstm.signature import Signature, TensorSpec, WindowPlan
from edgelstm.window_memory import WindowMemory, steps_windows, window_memory
from edgelstm_compiler.c_export.names import identifiers
from edgelstm_compiler.templates import fill

_BYTES = "(const uint8_t *)in"
_HALVES = (DType.F16, DType.BF16)
"""Floats that C has no type for."""


def kernel_names(artifact: Artifact, functions: list[str]) -> dict[str, str]:
    """What the compiled code's functions are called in the export, by their own names."""
    name = artifact.name
    prefix = name if artifact.signature.window is None else f"{name}_kernel"
    return {f"{name}_{function}": f"{prefix}_{function}" for function in functions}


def expect_exportable(signature: Signature) -> None:
    """Refuse windows that the C export does not have.

    Raises:
        CapabilityError: half precision is smoothed.
        ArtifactFormatError: blocks of frames as an older version laid them out.
    """
    plan = signature.window
    if plan is None:
        return
    if plan.smoothing and any(spec.dtype in _HALVES for spec in signature.outputs):
        raise CapabilityError(
            "C has no half precision to smooth answers in: compile without --smooth, or give the "
            "model an output in float32"
        )
    if signature.input_bytes > _frame_bytes(signature):
        raise ArtifactFormatError(
            "the windows were compiled by a version that lays out frames in another way: compile "
            "the model again"
        )


def block_sizes(artifact: Artifact) -> dict[str, int]:
    """Bytes of the state and scratch blocks, of any model."""
    signature, memory = artifact.signature, artifact.manifest["memory"]
    if signature.window is None:
        return {"state": memory["state_bytes"], "scratch": memory["scratch_bytes"]}
    found = window_memory(signature, memory)
    return {"state": found.state_bytes, "scratch": found.scratch_bytes}


def window_macros(artifact: Artifact) -> dict[str, int]:
    """Further numbers of the header."""
    plan = _plan(artifact)
    found = window_memory(artifact.signature, artifact.manifest["memory"])
    sizes = {"SLOT_BYTES": found.slot_bytes} if found.slot_bytes else {}
    return {"WINDOW": plan.frames, "HOP": plan.hop, "SLOTS": plan.slots, **sizes}


def window_types(artifact: Artifact) -> tuple[str, str]:
    """The C types of the state and scratch blocks."""
    name, plan = artifact.name, _plan(artifact)
    found = window_memory(artifact.signature, artifact.manifest["memory"])
    answers = f"    {name}_output answers[{plan.smoothed}];\n" if plan.smoothing else ""
    kept = f"    uint8_t states[{found.kept_bytes}];\n" if found.kept_bytes else ""
    state = fill(
        __package__,
        "window_state.h",
        name=name,
        upper=name.upper(),
        windows="the states of the windows that are open"
        if found.slot_bytes
        else "the frames of a window that the next ones share",
        windows_bytes=found.windows_bytes,
        answers=answers,
    )
    scratch = fill(
        __package__,
        "window_scratch.h",
        name=name,
        upper=name.upper(),
        kernel_bytes=max(found.kernel_bytes, 1),
        kept=kept,
    )
    return state.rstrip("\n"), scratch.rstrip("\n")


def window_declarations(artifact: Artifact) -> str:
    """Functions that only windows have, for the header."""
    name = artifact.name
    return fill(
        __package__,
        "window_functions.h",
        name=name,
        upper=name.upper(),
        frames=_plan(artifact).frames,
    )


def window_source(artifact: Artifact, value: str) -> str:
    """The functions of windows.

    Args:
        artifact: a window model.
        value: byte `i` of the kernel's first state, in C.
    """
    plan, name = _plan(artifact), artifact.name
    found = window_memory(artifact.signature, artifact.manifest["memory"])
    is_stepped = steps_windows(plan)
    checks = _refused(artifact.signature) if plan.hop > plan.frames or not is_stepped else ""
    way = _stepped(artifact, plan, found, value) if is_stepped else _whole(artifact, plan)
    function = "step_windows" if is_stepped else "keep_frame"
    smooth = "    smooth(state, &scratch->output);\n" if plan.smoothing else ""
    return fill(
        __package__,
        "windows.c",
        name=name,
        upper=name.upper(),
        new_outputs=all_outputs(artifact.signature),
        kernel="the step of one window" if is_stepped else "a whole window",
        parts=checks + way + _smoothing(artifact, plan),
        smooth=smooth,
        feed=f"{function}(weights, windows, memory, in)",
    )


def _plan(artifact: Artifact) -> WindowPlan:
    plan = artifact.signature.window
    assert plan is not None
    return plan


def _frame_bytes(signature: Signature) -> int:
    """Bytes of an input block that holds one frame and no gaps but those of alignment."""
    end = max((spec.offset_bytes + spec.nbytes for spec in signature.inputs), default=0)
    return end + max((spec.dtype.itemsize for spec in signature.inputs), default=1) - 1


def _stepped(artifact: Artifact, plan: WindowPlan, found: WindowMemory, value: str) -> str:
    """A state for each window that is open."""
    name = artifact.name
    begin = "        begin_window(state->windows + newest * SLOT_BYTES);\n"
    if plan.carries:
        begin = f"        if (next == 0) {{\n    {begin}        }}\n"
    gap = (
        "    if (next - HOP <= state->answered) {\n        return refused(in);\n    }\n"
        if plan.hop > plan.frames
        else ""
    )
    size = "SLOTS * SLOT_BYTES"
    keep = f"    copy(scratch->states, state->windows, {size});\n" if found.kept_bytes else ""
    undo = (
        f"            copy(state->windows, scratch->states, {size});\n" if found.kept_bytes else ""
    )
    return fill(
        __package__,
        "window_slots.c",
        name=name,
        upper=name.upper(),
        state_bytes=len(artifact.container.section(STATE_SECTION)),
        value=value,
        begin=begin,
        check=gap,
        keep=keep,
        undo=undo,
    )


def _whole(artifact: Artifact, plan: WindowPlan) -> str:
    """The frames of one window, laid out as the compiled code takes them."""
    put, move = [], []
    for spec, inner in zip(artifact.signature.inputs, plan.kernel.inputs, strict=True):
        window, frame = f"state->windows + {inner.offset_bytes}", f"frame + {spec.offset_bytes}"
        if spec.time_axis is None:
            put.append(f"    copy({window}, {frame}, {spec.nbytes});\n")
            continue
        outer = math.prod(spec.model_shape[: spec.time_axis])
        runs = f"{outer}, {spec.nbytes // outer}"
        put.append(f"    put({window}, column, {frame}, {runs});\n")
        move.append(f"    move_on({window}, {runs});\n")
    overlaps = plan.hop < plan.frames
    return fill(
        __package__,
        "window_frames.c",
        name=artifact.name,
        move_on=fill(__package__, "window_move.c") if overlaps else "",
        put="".join(put),
        move="".join(move) if overlaps else "",
    )


def _refused(signature: Signature) -> str:
    """What the compiled code does not look at: frames between windows, or one frame of a window."""
    checks, functions = [], {}
    for index, spec in enumerate(signature.inputs):
        for condition, function, text in _conditions(spec):
            functions[function] = text
            checks.append(f"    if ({condition}) {{\n        return {-1 - index};\n    }}\n")
    if not checks:
        checks.append("    (void)in;\n")
    return "".join(functions.values()) + fill(
        __package__, "window_refused.c", checks="".join(checks)
    )


def _conditions(spec: TensorSpec) -> list[tuple[str, str, str]]:
    """C expressions that are true of what the input refuses, and the functions they call."""
    found = []
    size, count = spec.dtype.itemsize, math.prod(spec.shape)
    if spec.dtype.is_float:
        magnitude = (1 << (8 * size - 1)) - 1
        condition = (
            f"exceeds({_BYTES} + {spec.offset_bytes}, {count}, {size}, {magnitude:#x}ull, "
            f"{_largest_bits(spec):#x}ull)"
        )
        found.append((condition, "exceeds", fill(__package__, "window_exceeds.c")))
    at = 0
    for elements, low, high in spec.ranges:
        start = spec.offset_bytes + at * size
        if spec.dtype in _HALVES:
            raise CapabilityError(
                f"input {spec.name!r} holds indices in half precision, which C cannot compare: "
                "give the model an input in float32 or in integers"
            )
        kind = spec.dtype.c_name
        bounds = ", ".join(_literal(end, spec.dtype) for end in (low, high))
        found.append(
            (
                f"outside_{kind}((const {kind} *)(const void *)({_BYTES} + {start}), {elements}, "
                f"{bounds})",
                f"outside_{kind}",
                fill(__package__, "window_outside.c", kind=kind),
            )
        )
        at += elements
    return found


def _largest_bits(spec: TensorSpec) -> int:
    """The bits of the largest magnitude that is taken."""
    kind = spec.dtype.numpy
    largest = np.asarray(min(spec.limit, spec.dtype.largest), kind)
    return int(largest.view(f"u{spec.dtype.itemsize}"))


def _literal(value: float, dtype: DType) -> str:
    if not dtype.is_float:
        # The lowest number of 64 bits has no literal of its own.
        return f"-{-(int(value) + 1)}ll - 1" if int(value) < 0 else f"{int(value)}ll"
    return float(value).hex() + ("f" if dtype is DType.F32 else "")


def _smoothing(artifact: Artifact, plan: WindowPlan) -> str:
    """The function `smooth` and what it calls; "" where answers stay as they are."""
    if not plan.smoothing:
        return ""
    upper = artifact.name.upper()
    functions: dict[str, str] = {}
    votes, results = [], []
    specs = artifact.signature.outputs
    for field, spec in zip(identifiers(each.name for each in specs), specs, strict=True):
        start = f"&answer->{field}" + "[0]" * len(spec.shape)
        count, kind, at = math.prod(spec.shape), spec.dtype.c_name, spec.offset_bytes
        if spec.dtype.is_float:
            if plan.smoothing == "vote" and spec.shape:
                functions[f"votes_{kind}"] = fill(__package__, "smooth_votes.c", kind=kind)
                columns = spec.shape[-1]
                votes.append(f"    votes_of_{kind}({start}, {count // columns}, {columns});\n")
            functions[f"mean_{kind}"] = fill(__package__, "smooth_mean.c", kind=kind, upper=upper)
            results.append(f"    mean_of_{kind}({start}, answers + {at}, state->kept, {count});\n")
        elif plan.smoothing == "vote":
            functions["most"] = fill(__package__, "smooth_most.c", upper=upper)
            size = spec.dtype.itemsize
            results.append(
                f"    most_frequent((uint8_t *)answer + {at}, answers + {at}, state->kept, place, "
                f"{count}, {size});\n"
            )
    if not results:
        results.append("    (void)answers;\n")
    return "".join(functions.values()) + fill(
        __package__,
        "smooth.c",
        name=artifact.name,
        upper=upper,
        smoothed=plan.smoothed,
        votes="".join(votes),
        results="".join(results),
    )
