"""The functions that callers see: step, run and read, and the checks of inputs and states.

What they return is written through their last parameter; `stubs.py` turns it into a C function.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import tirx

from edgelstm.dtypes import DType
from edgelstm.engines.base import MOST_BITS, NOT_FINITE, all_outputs
from edgelstm.errors import CapabilityError
from edgelstm.signature import CLOCK, END, Signature, TensorSpec
from edgelstm_compiler.ir.program import Program
from edgelstm_targets.processors.isa import InstructionSet
from edgelstm_targets.tvm_cpu import tensorir as tir
from edgelstm_targets.tvm_cpu.ahead import Ahead
from edgelstm_targets.tvm_cpu.copying import copy_function
from edgelstm_targets.tvm_cpu.stubs import INNER, INT32, INT64, POINTER, Stub, Table
from edgelstm_targets.tvm_cpu.tensorir import Buffer, Expr, Function, Parameter

BITS = {DType.F32: "int32", DType.F64: "int64", DType.F16: "int16", DType.BF16: "int16"}
"""Integer type of the same width."""
_BLOCKS = ("weights", "state", "scratch", "input", "output")
_READ_CHAINS = 8


WriteFrame = Callable[[Sequence[Buffer], Expr, Buffer | None], None]
"""Writes the kernel calls of one step, from the five blocks as uint8 buffers and the number of the
step as int32; and from sums of the frame, where `Ahead` has computed them."""


def entry_functions(
    program: Program, frame: WriteFrame, isa: InstructionSet, ahead: Ahead | None = None
) -> list[Function]:
    """All functions that do not depend on the kernels.

    Args:
        program: names and offsets of the inputs and states.
        frame: see `WriteFrame`.
        isa: the instruction set.
        ahead: the layer whose input products a run computes for several frames at once.
    """
    signature = program.signature
    name = signature.name
    blocks = [Parameter(block, "uint8") for block in _BLOCKS]
    steps = Parameter("n_steps", "int64", is_pointer=False)
    turn = Parameter("turn", "int32", is_pointer=False)
    code = Parameter("code", "int32")

    def next_turn(scratch: Buffer, count: Expr) -> Expr:
        found = tir.local(1, "int32")
        tir.call(f"{name}_turn", tir.address(scratch, 0), count, tir.address(found, 0))
        return tir.name(found[0])

    def step(*arguments: Buffer) -> None:
        *memory, code = arguments
        _check(signature, memory[3], None, code)
        new = _new_outputs(signature, memory[1])
        first = next_turn(memory[2], tirx.const(1, "int64"))
        pointers = [tir.address(block, 0) for block in memory]
        with _undone_unless_kept(program, memory, tir.integer(NOT_FINITE), code):
            tir.call(f"{name}_frame", *pointers, first)
        tir.store(code, 0, new)

    strides = (0, 0, 0, signature.input_bytes, signature.output_bytes)

    def run(*arguments: Buffer) -> None:
        *memory, count, code = arguments
        _check(signature, memory[3], count, code)
        first = next_turn(memory[2], count)

        def frame_of_run(i: Expr, function: str, *sums: Expr) -> None:
            pointers = [
                tir.address(block, i * tirx.const(stride, "int64") if stride else 0)
                for block, stride in zip(memory, strides, strict=True)
            ]
            turn = first + tirx.Cast("int32", i)
            undone = tir.integer(NOT_FINITE) + _short(i)
            with _undone_unless_kept(program, memory, undone, code):
                tir.call(f"{name}_{function}", *pointers, *sums, turn)

        if ahead is None:
            with tir.loop(count) as i:
                frame_of_run(i, "frame")
            return
        groups = tir.name(tirx.truncdiv(count, tirx.const(ahead.frames, "int64")))
        sums = tir.local(ahead.elements * ahead.frames * ahead.groups)
        several = tirx.const(ahead.groups, "int64")
        with tir.loop(tirx.truncdiv(groups + (several - 1), several)) as tile:
            begin = tir.name(tile * several)
            now = tir.name(tirx.min(several, groups - begin))
            start = tir.name(begin * tirx.const(ahead.frames, "int64"))
            tir.call(
                ahead.sums_symbol,
                tir.address(memory[3], start * signature.input_bytes + ahead.input_offset),
                tir.address(memory[0], ahead.weights_offset),
                _short(now),
                tir.address(sums, 0),
            )
            with tir.loop(now * tirx.const(ahead.frames, "int64")) as i:
                at = tir.address(sums, i * ahead.elements)
                frame_of_run(start + i, "frame_ahead", at)
        done = tir.name(groups * tirx.const(ahead.frames, "int64"))
        with tir.loop(count - done) as i:
            frame_of_run(done + i, "frame")

    def step_frame(*arguments: Buffer) -> None:
        *memory, number = arguments
        frame(memory, number, None)

    def ahead_frame(*arguments: Buffer) -> None:
        *memory, sums, number = arguments
        frame(memory, number, sums)

    later = []
    if ahead is not None:
        parameters = [*blocks, Parameter("sums", "float32"), turn]
        later = [tir.define(f"{name}_frame_ahead", parameters, ahead_frame)]

    reads = [] if isa.is_bare else [_read(name, isa)]
    return [
        *check_functions(program),
        *_news(signature),
        _turn(name),
        tir.define(f"{name}_frame", [*blocks, turn], step_frame),
        *later,
        tir.define(f"{name}_step{INNER}", [*blocks, code], step),
        tir.define(f"{name}_run{INNER}", [*blocks, steps, code], run),
        *reads,
    ]


def table_of_sizes(program: Program, isa: InstructionSet) -> Table | None:
    """What memory the code wants, for its callers to compare; microcontrollers have the header."""
    if isa.is_bare:
        return None
    signature = program.signature
    sizes = (
        len(program.weights),
        len(program.state_init),
        program.scratch_bytes,
        signature.input_bytes,
        signature.output_bytes,
    )
    return Table(f"{signature.name}_sizes", sizes)


def stubs(name: str, isa: InstructionSet) -> tuple[Stub, ...]:
    """The C functions of the shared object; a microcontroller has no room for benchmarks."""
    blocks = (POINTER,) * len(_BLOCKS)
    entries = (Stub(f"{name}_step", blocks, INT32), Stub(f"{name}_run", (*blocks, INT64), INT32))
    if isa.is_bare:
        return entries
    return (*entries, Stub(f"{name}_read", (POINTER, INT64, INT64), INT64))


def _new_outputs(signature: Signature, state: Buffer) -> Expr:
    """The bit mask of the outputs that are new after the step that begins now."""
    if not signature.is_late:
        return tir.integer(all_outputs(signature))
    offsets = _counters(signature)
    found = tir.local(1, "int32")
    counters = [tir.address(state, offset) for offset in offsets]
    tir.call(f"{signature.name}_news", *counters, tir.address(found, 0))
    return tir.name(found[0])


def _counters(signature: Signature) -> list[int]:
    """Where the number of the step stands in the state block, and behind it that of the last."""
    offsets = {spec.name: spec.offset_bytes for spec in signature.states}
    return [offsets[name] for name in (CLOCK, END) if name in offsets]


def _news(signature: Signature) -> list[Function]:
    """The function that `_new_outputs` calls."""
    if not signature.is_late:
        return []
    has_end = len(_counters(signature)) > 1

    def body(*arguments: Buffer) -> None:
        step, found = arguments[0][0], arguments[-1]
        tir.store(found, 0, tir.integer(0))
        for index, spec in enumerate(signature.outputs[:MOST_BITS]):
            late = step - tir.integer(spec.delay if spec.time_axis is not None else spec.warm_up)
            due = [late >= 0]
            if spec.time_axis is not None and spec.stride > 1:
                due.append(tirx.truncmod(late, tir.integer(spec.stride)) == 0)
            if has_end:
                due.append(step < arguments[1][0] + tir.integer(spec.tail))
            with tir.when(tirx.all(*due)):
                tir.store(found, 0, found[0] + tir.integer(1 << index))

    parameters = [Parameter("step", "int32")]
    if has_end:
        parameters.append(Parameter("end", "int32"))
    return [tir.define(f"{signature.name}_news", [*parameters, Parameter("found", "int32")], body)]


def _check(signature: Signature, block: Buffer, steps: Expr | None, code: Buffer) -> None:
    """Leave the function with -1 - i if input i is refused in any of the steps."""
    found = tir.local(1, "int32")

    def refuse_if(index: int, function: str, *arguments: Expr) -> None:
        tir.call(f"{signature.name}_{function}", *arguments, tir.address(found, 0))
        with tir.when(found[0] != 0):
            tir.store(code, 0, tir.integer(-1 - index))
            tir.leave()

    for index, spec in enumerate(signature.inputs):
        for run in checked_runs(spec):
            elements = tirx.const(run.elements, "int64")
            if steps is None:
                start = tir.integer(spec.offset_bytes + run.offset_bytes)
                refuse_if(index, run.function, tir.address(block, start), elements, *run.bounds)
            elif run.elements * spec.dtype.itemsize == signature.input_bytes:
                start = tir.address(block, tir.integer(0))
                refuse_if(index, run.function, start, elements * steps, *run.bounds)
            else:
                with tir.loop(steps) as i:
                    at = i * signature.input_bytes + (spec.offset_bytes + run.offset_bytes)
                    refuse_if(index, run.function, tir.address(block, at), elements, *run.bounds)
    tir.store(code, 0, tir.integer(0))


@dataclass(frozen=True, slots=True)
class CheckedRun:
    """Elements of an input that are checked in one call: which function, where, against what."""

    function: str
    offset_bytes: int
    elements: int
    bounds: tuple[Expr, ...]


def checked_runs(spec: TensorSpec) -> Iterator[CheckedRun]:
    """What is checked of an input."""
    if spec.dtype.is_float:
        elements = spec.nbytes // spec.dtype.itemsize
        largest = tirx.const(bits_of(spec.limit, spec.dtype), BITS[spec.dtype])
        yield CheckedRun(f"exceeds_{spec.dtype.value}", 0, elements, (largest,))
    least, most = _type_range(spec.dtype)
    if spec.ranges and spec.dtype is DType.BF16:
        raise CapabilityError(
            f"input {spec.name!r} holds indices in bfloat16, which no processor compares: give the "
            "model an input in float32 or in integers"
        )
    at, kind = 0, tir.NAMES[spec.dtype]
    for count, low, high in spec.ranges:
        if (low, high) != (least, most):
            bounds = (tirx.const(low, kind), tirx.const(high, kind))
            yield CheckedRun(f"outside_{spec.dtype.value}", at * spec.dtype.itemsize, count, bounds)
        at += count


def bits_of(limit: float, dtype: DType) -> int:
    """The bits of the largest magnitude that is taken."""
    kind: Any = dtype.numpy
    largest = np.asarray(min(limit, dtype.largest), kind)
    return int(largest.view(f"i{dtype.itemsize}"))


def _type_range(dtype: DType) -> tuple[float, float]:
    if dtype.is_float:
        return -dtype.largest, dtype.largest
    if dtype is DType.BOOL:
        return 0, 1
    info = np.iinfo(dtype.numpy.name)
    return int(info.min), int(info.max)


@contextmanager
def _undone_unless_kept(
    program: Program, memory: Sequence[Buffer], undone: Expr, code: Buffer
) -> Iterator[None]:
    """Put the old state back, and leave with a code, where the new one is not kept."""
    if program.shadow_offset is None:
        yield
        return
    name = program.signature.name
    state = tir.address(memory[1], 0)
    shadow = tir.address(memory[2], program.shadow_offset)
    tir.call(f"{name}_keep", state, shadow)
    yield
    found = tir.local(1, "int32")
    for spec in program.signature.states:
        if spec.dtype.is_float:
            tir.call(
                f"{name}_exceeds_{spec.dtype.value}",
                tir.address(memory[1], spec.offset_bytes),
                tirx.const(spec.nbytes // spec.dtype.itemsize, "int64"),
                tirx.const(bits_of(program.signature.state_limit, spec.dtype), BITS[spec.dtype]),
                tir.address(found, 0),
            )
            with tir.when(found[0] != 0):
                tir.call(f"{name}_keep", shadow, state)
                tir.store(code, 0, undone)
                tir.leave()


def _short(count: Expr) -> Expr:
    return tirx.Cast("int32", count)


def check_functions(program: Program) -> list[Function]:
    """The functions that `_check` and `_undone_unless_kept` call."""
    signature = program.signature
    floats = {spec.dtype for spec in signature.inputs if spec.dtype.is_float}
    is_undone = program.shadow_offset is not None
    if is_undone:
        floats |= {spec.dtype for spec in signature.states if spec.dtype.is_float}
    integers = {spec.dtype for spec in signature.inputs if spec.ranges}

    def in_order(dtypes: set[DType]) -> list[DType]:
        return sorted(dtypes, key=lambda dtype: dtype.value)

    keep = [copy_function(f"{signature.name}_keep", len(program.state_init))] if is_undone else []
    return [
        *(_exceeds(signature.name, dtype) for dtype in in_order(floats)),
        *(_outside(signature.name, dtype) for dtype in in_order(integers)),
        *keep,
    ]


def _turn(name: str) -> Function:
    """The number of the next step, from the notes in the scratch block (any number at first)."""

    def body(notes: Buffer, count: Expr, turn: Buffer) -> None:
        tir.store(turn, 0, notes[0])
        tir.store(notes, 0, turn[0] + tirx.Cast("int32", count))

    parameters = [
        Parameter("notes", "int32"),
        Parameter("count", "int64", is_pointer=False),
        Parameter("turn", "int32"),
    ]
    return tir.define(f"{name}_turn", parameters, body)


def _exceeds(name: str, dtype: DType) -> Function:
    """Whether the largest magnitude among the elements is beyond a limit, bit for bit."""
    bits = BITS[dtype]
    magnitude = tirx.const((1 << (8 * dtype.itemsize - 1)) - 1, bits)

    def body(values: Buffer, count: Expr, limit: Expr, found: Buffer) -> None:
        largest = tir.local(1, bits)
        tir.store(largest, 0, tirx.const(0, bits))
        with tir.loop(count) as i:
            tir.store(largest, 0, tirx.max(largest[0], values[i] & magnitude))
        tir.store(found, 0, tirx.Cast("int32", largest[0] > limit))

    parameters = [
        Parameter("values", bits),
        Parameter("count", "int64", is_pointer=False),
        Parameter("limit", bits, is_pointer=False),
        Parameter("found", "int32"),
    ]
    return tir.define(f"{name}_exceeds_{dtype.value}", parameters, body)


def _outside(name: str, dtype: DType) -> Function:
    """Whether any of the elements is below `low` or above `high`."""
    kind = tir.NAMES[dtype]

    def body(values: Buffer, count: Expr, low: Expr, high: Expr, found: Buffer) -> None:
        least, most = tir.local(1, kind), tir.local(1, kind)
        tir.store(least, 0, low)
        tir.store(most, 0, high)
        with tir.loop(count) as i:
            tir.store(least, 0, tirx.min(least[0], values[i]))
            tir.store(most, 0, tirx.max(most[0], values[i]))
        tir.store(found, 0, tirx.Cast("int32", tirx.any(least[0] < low, most[0] > high)))

    parameters = [
        Parameter("values", kind),
        Parameter("count", "int64", is_pointer=False),
        Parameter("low", kind, is_pointer=False),
        Parameter("high", kind, is_pointer=False),
        Parameter("found", "int32"),
    ]
    return tir.define(f"{name}_outside_{dtype.value}", parameters, body)


def _read(name: str, isa: InstructionSet) -> Function:
    """Read memory as fast as this instruction set can; a whole number of chunks of it."""
    lanes = isa.lanes
    chunk = _READ_CHAINS * lanes

    def body(weights: Buffer, size: Expr, repeats: Expr, result: Buffer) -> None:
        sums = tir.local(chunk, "int32")
        zero = tir.constant(0, lanes, "int32")
        for chain in range(_READ_CHAINS):
            tir.store_vector(sums, chain * lanes, zero, lanes)
        chunks = tir.name(tirx.truncdiv(size, tirx.const(4 * chunk, "int64")))
        with tir.loop(repeats), tir.loop(chunks) as i:
            for chain in range(_READ_CHAINS):
                offset = chain * lanes
                value = tir.load_vector(weights, i * chunk + offset, lanes)
                total = tir.load_vector(sums, offset, lanes) + value
                tir.store_vector(sums, offset, total, lanes)
        total = tir.load_vector(sums, 0, lanes)
        for chain in range(1, _READ_CHAINS):
            total = total + tir.load_vector(sums, chain * lanes, lanes)
        tir.store_vector(sums, 0, total, lanes)
        checksum = sums[0]
        for lane in range(1, lanes):
            checksum = checksum + sums[lane]
        tir.store(result, 0, tirx.Cast("int64", checksum))

    parameters = [
        Parameter("weights", "int32"),
        Parameter("bytes", "int64", is_pointer=False),
        Parameter("repeats", "int64", is_pointer=False),
        Parameter("result", "int64"),
    ]
    return tir.define(f"{name}_read{INNER}", parameters, body)
