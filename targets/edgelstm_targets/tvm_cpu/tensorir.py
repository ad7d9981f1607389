"""Writing TensorIR functions from Python: pointers, vectors and the statements kernels are made of.

TVM is untyped, so its expressions and buffers appear here as `Expr` and `Buffer`. A *vector* is an
expression of several lanes; LLVM splits it into registers of the instruction set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import tvm
from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script.builder import ir as builder

from edgelstm.dtypes import DType

Expr: TypeAlias = Any
Buffer: TypeAlias = Any
Function: TypeAlias = Any

NAMES = {
    DType.F64: "float64",
    DType.F32: "float32",
    DType.F16: "float16",
    DType.BF16: "uint16",  # its bits: nothing is computed in it
    DType.I64: "int64",
    DType.I32: "int32",
    DType.I16: "int16",
    DType.I8: "int8",
    DType.U8: "uint8",
    DType.BOOL: "bool",
}
"""TVM's names of element types."""

# Extent of pointers whose length no one needs: bounds are the caller's business.
_ANY_LENGTH = 1 << 30


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a function: a pointer to elements of `dtype`, or a number of that type.

    Args:
        name: for dumps.
        dtype: TVM's name of the element type.
        is_pointer: else it is passed by value.
    """

    name: str
    dtype: str
    is_pointer: bool = True


def define(name: str, parameters: Sequence[Parameter], body: Callable[..., None]) -> Function:
    """A function with C linkage; it returns 0, the only value TVM can return.

    Args:
        name: its symbol.
        parameters: in order; pointers never alias each other.
        body: writes the statements; receives a flat buffer for each pointer, else the number.
    """
    with IRBuilder() as ib:
        with builder.prim_func(s_tir=True):
            builder.func_name(name)
            builder.func_attr({"global_symbol": name, "tirx.noalias": True})
            builder.func_ret(tvm.ir.PrimType("int32"))
            arguments = [builder.arg(p.name, _argument(p)) for p in parameters]
            body(
                *(
                    flat(argument, parameter.dtype) if parameter.is_pointer else argument
                    for argument, parameter in zip(arguments, parameters, strict=True)
                )
            )
            leave()
        return ib.get()


def flat(data: Expr, dtype: str) -> Buffer:
    """The memory behind a pointer, as one long vector."""
    return builder.decl_buffer((_ANY_LENGTH,), dtype, data=data, layout=None)


def behind(buffer: Buffer, index: Expr | int) -> Buffer:
    """The same memory from an element on; indices of elements before it are negative."""
    return at(buffer, index, str(buffer.dtype))


def at(buffer: Buffer, index: Expr | int, dtype: str) -> Buffer:
    """The memory from an element on, as elements of another type."""
    return flat(builder.bind(address(buffer, index)), dtype)


def as_if_other(buffer: Buffer, index: Expr | int = 0) -> Buffer:
    """The same memory from an element on, under an address that LLVM takes for another.

    What was read from it before is read again, not kept in registers; and addresses are that one
    and a constant, not an earlier one and a larger constant.
    """
    pointer = tirx.call_llvm_intrin(
        "handle", "llvm.launder.invariant.group", address(buffer, index)
    )
    return flat(builder.bind(pointer), str(buffer.dtype))


def local(elements: int, dtype: str = "float32") -> Buffer:
    """Memory of the function's own; small ones become registers."""
    return builder.alloc_buffer((elements,), dtype, scope="local", layout=None)


def loop(extent: Expr | int) -> AbstractContextManager[Expr]:
    """Repeat the block for i = 0 .. extent - 1."""
    frame: AbstractContextManager[Expr] = builder.serial(extent)
    return frame


class _Once:
    """A block that is written once, with index 0."""

    def __enter__(self) -> Expr:
        return integer(0)

    def __exit__(self, *error: object) -> None:
        return None


def repeat(count: int) -> _Once | AbstractContextManager[Expr]:
    """A loop over the block, unless it is done once."""
    return loop(count) if count > 1 else _Once()


@contextmanager
def nest(extents: Sequence[int]) -> Iterator[tuple[list[Expr], Expr]]:
    """Loops within loops: their indices, and how many turns of the innermost came before."""
    with ExitStack() as loops:
        indices = [loops.enter_context(loop(extent)) for extent in extents]
        number: Expr = integer(0)
        for extent, index in zip(extents, indices, strict=True):
            number = number * extent + index
        yield indices, number


@contextmanager
def when(condition: Expr) -> Iterator[None]:
    """Do the block only if the condition holds."""
    with builder.If(condition), builder.Then():
        yield


def leave() -> None:
    """Return from the function."""
    builder.Return(tirx.const(0, "int32"))


def name(value: Expr) -> Expr:
    """Compute once here; the result may be used many times.

    An index becomes a variable. Anything else goes through memory, which LLVM turns into a
    register: TVM would try to prove things of a variable, in exponential time for long formulas.
    """
    kind = str(value.ty)
    if kind in ("int32", "int64"):
        return builder.bind(value)
    dtype, _, lanes = kind.partition("x")
    variable = local(int(lanes or 1), dtype)
    if not lanes:
        store(variable, 0, value)
        return variable[0]
    store_vector(variable, 0, value, int(lanes))
    return load_vector(variable, 0, int(lanes))


def call(function: str, *arguments: Expr) -> None:
    """Call another function of the same object."""
    builder.evaluate(tirx.call_extern("int32", function, *arguments))


def settle(value: Expr) -> None:
    """Compute it before anything that follows is read: keeps LLVM from reading all first."""
    builder.evaluate(tirx.call_llvm_intrin("void", "llvm.fake.use", value))


def address(buffer: Buffer, index: Expr | int) -> Expr:
    """Pointer to an element."""
    return tirx.address_of(buffer[index])


def store(buffer: Buffer, index: Expr | int, value: Expr) -> None:
    """Write one element."""
    builder.buffer_store(buffer, value, [index])


def load_vector(buffer: Buffer, index: Expr | int, lanes: int) -> Expr:
    """`lanes` elements that follow each other."""
    return buffer[_indices(index, lanes)]


def store_vector(buffer: Buffer, index: Expr | int, value: Expr, lanes: int) -> None:
    """Write `lanes` elements that follow each other."""
    builder.buffer_store(buffer, value, [_indices(index, lanes)])


def load_masked(buffer: Buffer, index: Expr | int, lanes: int, count: Expr) -> Expr:
    """As `load_vector`, touching only the first `count` elements; the others are undefined."""
    if lanes == 1:
        return buffer[index + tirx.min(count - 1, integer(0))]  # at worst the last there is
    kind = f"{_dtype(buffer)}x{lanes}"
    return tirx.op.masked_load(kind, buffer, tirx.Ramp(index, 1, lanes), _below(count, lanes))


def store_masked(buffer: Buffer, index: Expr | int, value: Expr, lanes: int, count: Expr) -> None:
    """As `store_vector`, writing only the first `count` elements."""
    if lanes == 1:
        with when(count > 0):
            store(buffer, index, value)
        return
    ramp = tirx.Ramp(index, 1, lanes)
    builder.evaluate(tirx.op.masked_store(buffer, value, ramp, _below(count, lanes)))


def first_lanes(count: Expr | int, lanes: int) -> Expr:
    """A vector of bool: true in the first `count` lanes."""
    return _below(integer(count) if isinstance(count, int) else count, lanes)


def shuffle(value: Expr, order: Sequence[int]) -> Expr:
    """The lanes in another order, or some of them."""
    return tirx.Shuffle([value], [integer(lane) for lane in order])


def join(values: Sequence[Expr], lanes: int) -> Expr:
    """Vectors of `lanes` lanes each, one behind the other."""
    order = [integer(lane) for lane in range(len(values) * lanes)]
    return tirx.Shuffle(list(values), order)


def sum_lanes(value: Expr) -> Expr:
    """The sum of all lanes of a vector of integers."""
    kind, _, _ = str(value.ty).partition("x")
    return tirx.call_llvm_pure_intrin(kind, "llvm.vector.reduce.add", value)


def broadcast(value: Expr, lanes: int) -> Expr:
    """The value in every lane."""
    return tirx.Broadcast(value, lanes) if lanes > 1 else value


def constant(value: float, lanes: int, dtype: str = "float32") -> Expr:
    """A number in every lane."""
    return broadcast(tirx.const(value, dtype), lanes)


def integer(value: int) -> Expr:
    """An int32 constant."""
    return tirx.const(value, "int32")


def _indices(index: Expr | int, lanes: int) -> Expr:
    return tirx.Ramp(index, 1, lanes) if lanes > 1 else index


def _argument(parameter: Parameter) -> Expr:
    if parameter.is_pointer:
        return builder.handle(parameter.dtype)
    return tirx.Var(parameter.name, parameter.dtype)


def _below(count: Expr, lanes: int) -> Expr:
    return tirx.Ramp(integer(0), 1, lanes) < broadcast(count, lanes)


def _dtype(buffer: Buffer) -> str:
    return str(buffer.dtype)
