"""The functions that callers see: step, run and read, and the check of the inputs.

What they return is written through their last parameter; `stubs.py` turns it into a C function.
"""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx

from edgelstm.dtypes import DType
from edgelstm.signature import Signature
from edgelstm_targets.tvm_cpu import tensorir as tir
from edgelstm_targets.tvm_cpu.isa import InstructionSet
from edgelstm_targets.tvm_cpu.stubs import INNER, INT32, INT64, POINTER, Stub
from edgelstm_targets.tvm_cpu.tensorir import Buffer, Expr, Function, Parameter

# Integer type of the same width, and the bits of infinity.
_BITS = {
    DType.F32: ("int32", 0x7F800000),
    DType.F64: ("int64", 0x7FF0000000000000),
    DType.F16: ("int16", 0x7C00),
}
_BLOCKS = ("weights", "state", "scratch", "input", "output")
_READ_CHAINS = 8


def entry_functions(
    signature: Signature, frame: Callable[..., None], isa: InstructionSet
) -> list[Function]:
    """All functions that do not depend on the kernels.

    Args:
        signature: names and places of the inputs.
        frame: writes the kernel calls of one step; receives the five blocks as uint8 buffers, and
            the number of the step as int32.
        isa: the instruction set.
    """
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
        first = next_turn(memory[2], tirx.const(1, "int64"))
        tir.call(f"{name}_frame", *(tir.address(block, 0) for block in memory), first)

    def run(*arguments: Buffer) -> None:
        *memory, count, code = arguments
        _check(signature, memory[3], count, code)
        first = next_turn(memory[2], count)
        with tir.loop(count) as i:
            strides = (0, 0, 0, signature.input_bytes, signature.output_bytes)
            pointers = [
                tir.address(block, i * tirx.const(stride, "int64") if stride else 0)
                for block, stride in zip(memory, strides, strict=True)
            ]
            tir.call(f"{name}_frame", *pointers, first + tirx.Cast("int32", i))

    dtypes = {spec.dtype for spec in signature.inputs if spec.dtype.is_float}
    reads = [] if isa.is_bare else [_read(name, isa)]
    return [
        *(_finite(name, dtype) for dtype in sorted(dtypes, key=lambda dtype: dtype.value)),
        _turn(name),
        tir.define(f"{name}_frame", [*blocks, turn], frame),
        tir.define(f"{name}_step{INNER}", [*blocks, code], step),
        tir.define(f"{name}_run{INNER}", [*blocks, steps, code], run),
        *reads,
    ]


def stubs(name: str, isa: InstructionSet) -> tuple[Stub, ...]:
    """The C functions of the shared object; a microcontroller has no room for benchmarks."""
    blocks = (POINTER,) * len(_BLOCKS)
    entries = (Stub(f"{name}_step", blocks, INT32), Stub(f"{name}_run", (*blocks, INT64), INT32))
    if isa.is_bare:
        return entries
    return (*entries, Stub(f"{name}_read", (POINTER, INT64, INT64), INT64))


def _check(signature: Signature, block: Buffer, steps: Expr | None, code: Buffer) -> None:
    """Leave the function with 1 + i if float input i is not finite in any of the steps."""
    found = tir.local(1, "int32")

    def check(index: int, start: Expr, elements: Expr, dtype: DType) -> None:
        function = f"{signature.name}_nonfinite_{dtype.value}"
        tir.call(function, tir.address(block, start), elements, tir.address(found, 0))
        with tir.when(found[0] != 0):
            tir.store(code, 0, tir.integer(1 + index))
            tir.leave()

    for index, spec in enumerate(signature.inputs):
        if not spec.dtype.is_float:
            continue
        elements = tirx.const(spec.nbytes // spec.dtype.itemsize, "int64")
        if steps is None:
            check(index, tir.integer(spec.offset_bytes), elements, spec.dtype)
        elif spec.nbytes == signature.input_bytes:
            check(index, tir.integer(0), elements * steps, spec.dtype)
        else:
            with tir.loop(steps) as i:
                start = i * signature.input_bytes + spec.offset_bytes
                check(index, start, elements, spec.dtype)
    tir.store(code, 0, tir.integer(0))


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


def _finite(name: str, dtype: DType) -> Function:
    """Whether the largest magnitude among the elements is infinity's or beyond, bit for bit."""
    bits, infinity = _BITS[dtype]
    magnitude = tirx.const((1 << (8 * dtype.itemsize - 1)) - 1, bits)

    def body(values: Buffer, count: Expr, found: Buffer) -> None:
        largest = tir.local(1, bits)
        tir.store(largest, 0, tirx.const(0, bits))
        with tir.loop(count) as i:
            tir.store(largest, 0, tirx.max(largest[0], values[i] & magnitude))
        is_found = largest[0] >= tirx.const(infinity, bits)
        tir.store(found, 0, tirx.Cast("int32", is_found))

    parameters = [
        Parameter("values", bits),
        Parameter("count", "int64", is_pointer=False),
        Parameter("found", "int32"),
    ]
    return tir.define(f"{name}_nonfinite_{dtype.value}", parameters, body)


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
                place = chain * lanes
                value = tir.load_vector(weights, i * chunk + place, lanes)
                total = tir.load_vector(sums, place, lanes) + value
                tir.store_vector(sums, place, total, lanes)
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
