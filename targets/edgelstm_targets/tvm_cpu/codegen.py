"""All functions of a Program for one instruction set; calls of equal kernels share one."""

from __future__ import annotations

from collections.abc import Hashable

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
from edgelstm_compiler.ir.program import Buffer as Place
from edgelstm_compiler.ir.program import Call, Program, Space
from edgelstm_targets.processors.isa import InstructionSet
from edgelstm_targets.tvm_cpu import tensorir as tir
from edgelstm_targets.tvm_cpu.copying import copy_function
from edgelstm_targets.tvm_cpu.entry import entry_functions
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
from edgelstm_targets.tvm_cpu.tensorir import Buffer, Function

_SPACES = (Space.WEIGHTS, Space.STATE, Space.SCRATCH, Space.INPUT, Space.OUTPUT)


def program_functions(program: Program, isa: InstructionSet) -> tuple[Function, ...]:
    """The functions of a program, those that callers see included.

    Raises:
        CapabilityError: a kernel that this target does not have.
    """
    name = program.signature.name
    shared: dict[Hashable, str] = {}
    functions: list[Function] = []
    calls: list[tuple[str, tuple[Place, ...], bool]] = []
    for call in program.calls:
        key, places = _key(call)
        symbol = shared.get(key)
        if symbol is None:
            symbol = f"{name}_kernel{len(shared)}"
            functions.append(_function(symbol, call, isa))
            shared[key] = symbol
        calls.append((symbol, places, isinstance(call.kernel, RecurrentKernel)))

    def frame(*arguments: Buffer) -> None:
        *memory, turn = arguments
        blocks = dict(zip(_SPACES, memory, strict=True))
        for symbol, places, takes_turn in calls:
            pointers = [tir.address(blocks[place.space], place.offset_bytes) for place in places]
            tir.call(symbol, *pointers, *([turn] if takes_turn else []))

    return (*functions, *entry_functions(program, frame, isa))


def _key(call: Call) -> tuple[Hashable, tuple[Place, ...]]:
    """What calls must have in common to share a function, and the buffers it is given."""
    kernel = call.kernel
    buffers = (*call.inputs, *call.outputs)
    present = tuple(place is not None for place in buffers)
    types = tuple(place.type if place is not None else None for place in buffers)
    if isinstance(kernel, RecurrentKernel):
        arguments = _arguments(call)
        return (kernel, arguments), tuple(_recurrent_places(call, kernel, arguments))
    places = tuple(place for place in (*buffers, call.workspace) if place is not None)
    if isinstance(kernel, CopyKernel):
        return ("copy", places[0].type.nbytes), places
    return (kernel, present, types), places


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


def _recurrent_places(call: Call, kernel: RecurrentKernel, arguments: Arguments) -> list[Place]:
    wanted = [
        (call.inputs, X, True),
        (call.inputs, WEIGHTS, True),
        (call.inputs, LENGTHS, arguments.lengths),
        *((call.inputs, INITIAL + i, given) for i, given in enumerate(arguments.initial)),
        (call.inputs, len(call.inputs) - 1, isinstance(kernel.numerics, Integer)),
        (call.outputs, Y, arguments.y),
        *((call.outputs, FINAL + i, True) for i in range(len(kernel.cell.states))),
    ]
    places = [_at(buffers, index) for buffers, index, present in wanted if present]
    found = [place for place in (*places, call.workspace) if place is not None]
    if len(found) != len(places) + 1:
        raise CapabilityError(f"{call.origin}: a final state or the workspace has no memory")
    return found


def _at(buffers: tuple[Place | None, ...], index: int) -> Place | None:
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
    types = [place.type if place is not None else None for place in call.inputs]
    if isinstance(kernel, CopyKernel) and types[0] is not None:
        return copy_function(symbol, types[0].nbytes, singly=isa.is_bare)
    if isinstance(kernel, OpKernel):
        (output,) = call.outputs
        assert output is not None
        return operator_function(symbol, kernel.op, types, output.type, isa)
    raise CapabilityError(f"{call.origin}: the target has no kernel {kernel.kind}")
