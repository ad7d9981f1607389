"""All functions of a Program for one instruction set; calls of equal kernels share one."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from edgelstm.dtypes import DType
from edgelstm.errors import CapabilityError
from edgelstm_compiler.ir.kernels import (
    CopyKernel,
    DenseKernel,
    LayerKernel,
    OpKernel,
    RecurrentKernel,
)
from edgelstm_compiler.ir.numerics import Float32, Integer
from edgelstm_compiler.ir.ops import Quantize
from edgelstm_compiler.ir.program import Buffer as ProgramBuffer
from edgelstm_compiler.ir.program import Call, Program, ScanKernel, Space
from edgelstm_targets.processors.isa import InstructionSet
from edgelstm_targets.tvm_cpu import tensorir as tir
from edgelstm_targets.tvm_cpu.ahead import ahead_functions, find_ahead
from edgelstm_targets.tvm_cpu.batch.entry import batch_functions, batch_stub, batch_table
from edgelstm_targets.tvm_cpu.batch.streams import PlannedCall, stream_frame
from edgelstm_targets.tvm_cpu.copying import copy_function
from edgelstm_targets.tvm_cpu.counting import counters
from edgelstm_targets.tvm_cpu.entry import check_functions, entry_functions
from edgelstm_targets.tvm_cpu.integer_operators import quantize_function
from edgelstm_targets.tvm_cpu.layers import dense_layer_function, recurrent_function
from edgelstm_targets.tvm_cpu.operators import operator_function
from edgelstm_targets.tvm_cpu.recurrent import (
    FINAL,
    INITIAL,
    LENGTHS,
    WEIGHTS,
    Arguments,
    X,
    Y,
)
from edgelstm_targets.tvm_cpu.scanning import scan_functions
from edgelstm_targets.tvm_cpu.stubs import Stub, Table
from edgelstm_targets.tvm_cpu.tensorir import Buffer, Expr, Function

COUNTING = "_counting"
"""Behind the symbol of a kernel that counts, too."""

_SPACES = (Space.WEIGHTS, Space.STATE, Space.SCRATCH, Space.INPUT, Space.OUTPUT)


@dataclass(frozen=True, slots=True)
class StreamCode:
    """What steps many streams on one instruction set.

    Args:
        functions: all of them.
        stub: the C function in front of them.
        table: the numbers beside it.
        together: names of the calls that take many streams at once.
    """

    functions: tuple[Function, ...]
    stub: Stub
    table: Table
    together: tuple[str, ...]


def program_functions(program: Program, isa: InstructionSet) -> tuple[Function, ...]:
    """The functions of a program, those that callers see included.

    Raises:
        CapabilityError: a kernel that this target does not have.
    """
    calls, kernels = _planned(program, program.signature.name)
    counted = {counter.call: counter for counter in counters(program, isa)}
    watched = {planned.symbol for planned in calls if planned.call in counted}
    spare = {planned.symbol for planned in calls if planned.call not in counted}
    functions = _made({s: call for s, call in kernels.items() if s in spare}, isa)
    functions += [
        _counting(symbol, kernels[symbol], isa) for symbol in kernels if symbol in watched
    ]
    ahead = find_ahead(program, calls, isa)

    def write_frame(memory: Sequence[Buffer], turn: Expr, sums: Buffer | None) -> None:
        blocks = dict(zip(_SPACES, memory, strict=True))
        for planned in calls:
            pointers = [
                tir.address(blocks[operand.space], operand.offset_bytes)
                for operand in planned.operands
            ]
            symbol = planned.symbol
            if ahead is not None and sums is not None and planned is ahead.planned:
                symbol = ahead.symbol
                pointers.append(tir.address(sums, 0))
            if planned.call in counted:
                symbol += COUNTING
                offset = counted[planned.call].offset_bytes
                pointers.append(tir.address(blocks[Space.SCRATCH], offset))
            tir.call(symbol, *pointers, *([] if planned.arguments is None else [turn]))

    if ahead is not None:
        functions += ahead_functions(ahead, program)
    return (*functions, *entry_functions(program, write_frame, isa, ahead))


def _counting(symbol: str, call: Call, isa: InstructionSet) -> Function:
    """The function of a call that quantizes, and counts what it saturates."""
    assert isinstance(call.kernel, OpKernel)
    assert isinstance(call.kernel.op, Quantize)
    types = [operand.type if operand is not None else None for operand in call.inputs]
    return quantize_function(symbol + COUNTING, call.kernel.op, types, isa, counts=True)


def frames_ahead(program: Program, isa: InstructionSet) -> int:
    """Of how many frames a run computes the input products at once; 1: of each on its own."""
    ahead = find_ahead(program, _planned(program, program.signature.name)[0], isa)
    return 1 if ahead is None else ahead.frames


def stream_code(program: Program, isa: InstructionSet) -> StreamCode | None:
    """The functions that step many streams of a program; None: nothing in it gains by that.

    Raises:
        CapabilityError: a kernel that this target does not have.
    """
    if program.signature.mode != "stream" or isa.is_bare:
        return None
    calls, kernels = _planned(program, program.signature.name)
    many = stream_frame(program, isa, calls)
    if not many.kernels:
        return None
    name = program.signature.name
    singly = _made({symbol: kernels[symbol] for symbol in many.singly}, isa)
    functions = (
        *singly,
        *check_functions(program),
        *many.kernels,
        many.frame,
        *batch_functions(program, many.shared),
    )
    table = batch_table(program, many.work_bytes, many.shared)
    return StreamCode(functions, batch_stub(name, many.shared), table, many.together)


def _made(kernels: Mapping[str, Call], isa: InstructionSet) -> list[Function]:
    """The functions of kernels by symbol, those of bodies included."""
    functions: list[Function] = []
    for symbol, call in kernels.items():
        if isinstance(call.kernel, ScanKernel):
            steps, inner = _planned(call.kernel.body, symbol)
            functions += _made(inner, isa)
            functions += scan_functions(symbol, call.kernel, steps, isa)
        else:
            functions.append(_function(symbol, call, isa))
    return functions


def _planned(program: Program, name: str) -> tuple[list[PlannedCall], dict[str, Call]]:
    """The calls of a step, and for each symbol (after the name) a call that has its kernel."""
    shared: dict[Hashable, str] = {}
    kernels: dict[str, Call] = {}
    calls = []
    for call in program.calls:
        key, operands = _key(call)
        if key not in shared:
            shared[key] = f"{name}_kernel{len(shared)}"
            kernels[shared[key]] = call
        arguments = _arguments(call) if isinstance(call.kernel, RecurrentKernel) else None
        calls.append(PlannedCall(call, shared[key], operands, arguments))
    return calls, kernels


def _key(call: Call) -> tuple[Hashable, tuple[ProgramBuffer, ...]]:
    """What calls must have in common to share a function, and the buffers it is given."""
    kernel = call.kernel
    buffers = (*call.inputs, *call.outputs)
    present = tuple(operand is not None for operand in buffers)
    types = tuple(operand.type if operand is not None else None for operand in buffers)
    if isinstance(kernel, RecurrentKernel):
        arguments = _arguments(call)
        return (kernel, arguments), tuple(_recurrent_operands(call, kernel, arguments))
    operands = tuple(operand for operand in (*buffers, call.workspace) if operand is not None)
    if isinstance(kernel, CopyKernel):
        return ("copy", operands[0].type.nbytes), operands
    return (kernel, present, types), operands


def _arguments(call: Call) -> Arguments:
    def continues(state: int) -> bool:
        first, last = _at(call.inputs, INITIAL + state), _at(call.outputs, FINAL + state)
        if first is None or last is None:
            return False
        return (first.space, first.offset_bytes) == (last.space, last.offset_bytes)

    assert isinstance(call.kernel, RecurrentKernel)
    goes_on = tuple(continues(state) for state in range(len(call.kernel.cell.states)))
    return Arguments(
        lengths=_at(call.inputs, LENGTHS) is not None,
        initial=tuple(
            _at(call.inputs, INITIAL + state) is not None and not same
            for state, same in enumerate(goes_on)
        ),
        continues=goes_on,
        y=_at(call.outputs, Y) is not None,
    )


def _recurrent_operands(
    call: Call, kernel: RecurrentKernel, arguments: Arguments
) -> list[ProgramBuffer]:
    wanted = [
        (call.inputs, X, True),
        (call.inputs, WEIGHTS, True),
        (call.inputs, LENGTHS, arguments.lengths),
        *((call.inputs, INITIAL + i, given) for i, given in enumerate(arguments.initial)),
        (call.inputs, len(call.inputs) - 1, isinstance(kernel.numerics, Integer)),
        (call.outputs, Y, arguments.y),
        *((call.outputs, FINAL + i, True) for i in range(len(kernel.cell.states))),
    ]
    operands = [_at(buffers, index) for buffers, index, present in wanted if present]
    found = [operand for operand in (*operands, call.workspace) if operand is not None]
    if len(found) != len(operands) + 1:
        raise CapabilityError(f"{call.origin}: a final state or the workspace has no memory")
    return found


def _at(buffers: tuple[ProgramBuffer | None, ...], index: int) -> ProgramBuffer | None:
    return buffers[index] if index < len(buffers) else None


def _function(symbol: str, call: Call, isa: InstructionSet) -> Function:
    kernel = call.kernel
    if isinstance(kernel, LayerKernel) and isinstance(kernel.numerics, Float32):
        x = call.inputs[X]
        if x is None or x.type.dtype is not DType.F32:
            raise CapabilityError(f"{call.origin}: CPU targets compute layers in f32 only")
    if isinstance(kernel, RecurrentKernel):
        return recurrent_function(symbol, kernel, _arguments(call), isa)
    if isinstance(kernel, DenseKernel):
        has_table = _at(call.inputs, WEIGHTS + 1) is not None
        return dense_layer_function(symbol, kernel, isa, has_table=has_table)
    types = [operand.type if operand is not None else None for operand in call.inputs]
    if isinstance(kernel, CopyKernel) and types[0] is not None:
        return copy_function(symbol, types[0].nbytes, singly=isa.is_bare)
    if isinstance(kernel, OpKernel):
        (output,) = call.outputs
        assert output is not None
        return operator_function(symbol, kernel.op, types, output.type, isa)
    raise CapabilityError(f"{call.origin}: the target has no kernel {kernel.kind}")
