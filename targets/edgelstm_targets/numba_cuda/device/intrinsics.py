"""Instructions that Numba-CUDA has no word for. The only module that touches llvmlite.

Addresses are plain integers: uint64 in global memory, uint32 in the shared window. Loads and stores
become typed LLVM accesses where LLVM knows the instruction (it then folds offsets into them), and
inline PTX where it does not.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import cuda
from numba.cuda import types
from numba.cuda.extending import intrinsic

F32, I32, U32, U64 = types.float32, types.int32, types.uint32, types.uint64

_GLOBAL, _SHARED = 1, 3
_LETTERS = {F32: "f", I32: "r", U32: "r", U64: "l"}
_LLVM = {
    F32: ir.FloatType(),
    I32: ir.IntType(32),
    U32: ir.IntType(32),
    U64: ir.IntType(64),
}
Emit = Callable[[Any, Any, Sequence[Any]], Any]


def inline(function: Callable[..., Any]) -> Any:
    """A device function that becomes part of its caller: no call, and no device to compile it."""
    return cuda.jit(device=True, inline="always")(function)


def _define(name: str, arguments: Sequence[Any], result: Any, emit: Emit) -> Any:
    """A function for kernels whose code `emit(context, builder, values)` writes.

    Args:
        name: for messages.
        arguments: types; what a kernel passes is converted to them.
        result: a type, a tuple of types, or None.
        emit: returns the value, the values of a tuple, or None.
    """
    returned = types.Tuple(result) if isinstance(result, tuple) else result or types.void
    signature = returned(*arguments)

    def generate(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        made = emit(context, builder, values)
        if result is None:
            return context.get_dummy_value()
        if isinstance(result, tuple):
            return context.make_tuple(builder, sig.return_type, made)
        return made

    def typing(typingctx: Any, *given: Any) -> Any:
        del typingctx, given
        return signature, generate

    # Numba reads the number of arguments from the signature.
    parameters = [
        inspect.Parameter(word, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        for word in ("typingctx", *(f"a{index}" for index in range(len(arguments))))
    ]
    typing.__name__ = typing.__qualname__ = name
    typing.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return intrinsic(typing)


def _assembly(
    name: str,
    text: str,
    result: Any,
    arguments: Sequence[Any],
    *,
    effect: bool = True,
    memory: bool = True,
) -> Any:
    """A function that is inline PTX.

    Args:
        name: for messages.
        text: PTX; $0, $1, ... are the results and then the arguments.
        result: a type, a tuple of types, or None.
        arguments: types.
        effect: it depends on memory or on other threads: stays in its place. False for arithmetic.
        memory: with an effect: no access to memory moves across it.
    """
    results = result if isinstance(result, tuple) else (() if result is None else (result,))
    letters = [f"={_LETTERS[kind]}" for kind in results]
    letters += [_LETTERS[kind] for kind in arguments]
    if effect and memory:
        letters.append("~{memory}")

    def emit(context: Any, builder: Any, values: Sequence[Any]) -> Any:
        del context
        kinds = [_LLVM[kind] for kind in results]
        returned = (
            ir.VoidType()
            if not kinds
            else kinds[0]
            if len(kinds) == 1
            else ir.LiteralStructType(kinds)
        )
        function = ir.FunctionType(returned, [_LLVM[kind] for kind in arguments])
        code = ir.InlineAsm(function, text, ",".join(letters), side_effect=effect)
        # Convergent: LLVM must not move it into a branch that only some threads take.
        made = builder.call(code, values, attrs=("convergent",) if effect else ())
        if len(results) > 1:
            return [builder.extract_value(made, index) for index in range(len(results))]
        return made

    return _define(name, arguments, result, emit)


def _load(name: str, address: Any, space: int, count: int) -> Any:
    kind = ir.FloatType() if count == 1 else ir.VectorType(ir.FloatType(), count)

    def emit(context: Any, builder: Any, values: Sequence[Any]) -> Any:
        del context
        place = builder.inttoptr(values[0], kind.as_pointer(space))
        loaded = builder.load(place, align=4 * count)
        if count == 1:
            return loaded
        number = ir.IntType(32)
        return [builder.extract_element(loaded, ir.Constant(number, k)) for k in range(count)]

    return _define(name, (address,), F32 if count == 1 else (F32,) * count, emit)


def _store(name: str, address: Any, space: int, count: int) -> Any:
    kind = ir.FloatType() if count == 1 else ir.VectorType(ir.FloatType(), count)

    def emit(context: Any, builder: Any, values: Sequence[Any]) -> None:
        del context
        place = builder.inttoptr(values[0], kind.as_pointer(space))
        if count == 1:
            data = values[1]
        else:
            data = ir.Constant(kind, ir.Undefined)
            for k in range(count):
                data = builder.insert_element(data, values[1 + k], ir.Constant(ir.IntType(32), k))
        builder.store(data, place, align=4 * count)

    return _define(name, (address, *(F32,) * count), None, emit)


def _arithmetic(name: str, kind: Any, operation: str) -> Any:
    def emit(context: Any, builder: Any, values: Sequence[Any]) -> Any:
        del context
        return getattr(builder, operation)(*values)

    return _define(name, (kind, kind), kind, emit)


def _bits(name: str, source: Any, target: Any) -> Any:
    def emit(context: Any, builder: Any, values: Sequence[Any]) -> Any:
        del context
        return builder.bitcast(values[0], _LLVM[target])

    return _define(name, (source,), target, emit)


# Numba's own integer arithmetic widens to 64 bits.
add = _arithmetic("add", U32, "add")
sub = _arithmetic("sub", U32, "sub")
mul = _arithmetic("mul", U32, "mul")
div = _arithmetic("div", U32, "udiv")
rem = _arithmetic("rem", U32, "urem")
band = _arithmetic("band", U32, "and_")
add64 = _arithmetic("add64", U64, "add")
mul64 = _arithmetic("mul64", U64, "mul")

bits_of = _bits("bits_of", F32, U32)
float_of = _bits("float_of", U32, F32)

load_shared = _load("load_shared", U32, _SHARED, 1)
load_shared4 = _load("load_shared4", U32, _SHARED, 4)
store_shared = _store("store_shared", U32, _SHARED, 1)
store_shared4 = _store("store_shared4", U32, _SHARED, 4)
load_global = _load("load_global", U64, _GLOBAL, 1)
load_global4 = _load("load_global4", U64, _GLOBAL, 4)
store_global = _store("store_global", U64, _GLOBAL, 1)
store_shared_if = _assembly(
    "store_shared_if",
    "{ .reg .pred p; setp.ne.u32 p, $2, 0; @p st.shared.f32 [$0], $1; }",
    None,
    (U32, F32, U32),
)
"""store_shared_if(address, value, flag): no branch, behind which the warp would have to meet."""
store_global_if = _assembly(
    "store_global_if",
    "{ .reg .pred p; setp.ne.u32 p, $2, 0; @p st.global.f32 [$0], $1; }",
    None,
    (U64, F32, U32),
)
store_word_if = _assembly(
    "store_word_if",
    "{ .reg .pred p; setp.ne.u32 p, $2, 0; @p st.relaxed.gpu.global.u64 [$0], $1; }",
    None,
    (U64, U64, U32),
)
load_word = _assembly("load_word", "ld.relaxed.gpu.global.u64 $0, [$1];", U64, (U64,))
load_counter = _assembly("load_counter", "ld.relaxed.gpu.global.u32 $0, [$1];", U32, (U64,))
store_counter = _assembly("store_counter", "st.relaxed.gpu.global.u32 [$0], $1;", None, (U64, U32))
load_bell = _assembly("load_bell", "ld.acquire.sys.global.u32 $0, [$1];", U32, (U64,))
store_answer_if = _assembly(
    "store_answer_if",
    "{ .reg .pred p; setp.ne.u32 p, $2, 0; @p st.release.sys.global.u32 [$0], $1; }",
    None,
    (U64, U32, U32),
)
"""store_answer_if(address, value, flag): all that the block stored before is there for the host."""
load_relay = _assembly("load_relay", "ld.acquire.gpu.global.u64 $0, [$1];", U64, (U64,))
store_relay_if = _assembly(
    "store_relay_if",
    "{ .reg .pred p; setp.ne.u32 p, $2, 0; @p st.release.gpu.global.u64 [$0], $1; }",
    None,
    (U64, U64, U32),
)
global_timer = _assembly("global_timer", "mov.u64 $0, %globaltimer;", U64, ())
nanosleep = _assembly("nanosleep", "nanosleep.u32 $0;", None, (U32,))
load_flag = _assembly("load_flag", "ld.global.nc.u32 $0, [$1];", U32, (U64,))

exp2_approx = _assembly("exp2_approx", "ex2.approx.ftz.f32 $0, $1;", F32, (F32,), effect=False)
reciprocal_approx = _assembly(
    "reciprocal_approx", "rcp.approx.ftz.f32 $0, $1;", F32, (F32,), effect=False
)

thread_index = _assembly("thread_index", "mov.u32 $0, %tid.x;", U32, (), effect=False)
block_index = _assembly("block_index", "mov.u32 $0, %ctaid.x;", U32, (), effect=False)
lane_index = _assembly("lane_index", "mov.u32 $0, %laneid;", U32, (), effect=False)

shuffle = _assembly(
    "shuffle", "shfl.sync.idx.b32 $0, $1, $2, 31, -1;", F32, (F32, U32), memory=False
)
"""shuffle(value, lane): that lane's value; of all lanes of the warp, as the next two."""
shuffle_xor = _assembly(
    "shuffle_xor", "shfl.sync.bfly.b32 $0, $1, $2, 31, -1;", F32, (F32, U32), memory=False
)
uniform = _assembly("uniform", "shfl.sync.idx.b32 $0, $1, 0, 31, -1;", U32, (U32,), memory=False)
"""uniform(value): lane 0's, so that the assembler knows that the warp branches as a whole."""

barrier = _assembly("barrier", "barrier.sync.aligned $0, $1;", None, (U32, U32))
"""barrier(number, threads): that many threads, whole warps, meet; number 0 is for the block."""
cluster_barrier = _assembly(
    "cluster_barrier",
    "barrier.cluster.arrive.release.aligned; barrier.cluster.wait.acquire.aligned;",
    None,
    (),
)
store_peer_if = _assembly(
    "store_peer_if",
    "{ .reg .pred p; .reg .u32 a; setp.ne.u32 p, $3, 0; "
    "mapa.shared::cluster.u32 a, $0, $1; @p st.shared::cluster.f32 [a], $2; }",
    None,
    (U32, U32, F32, U32),
)
"""store_peer_if(address, rank, value, flag): into the same place of another block of a cluster."""


def _shared_base() -> Any:
    """The address of dynamic shared memory in the shared window."""

    def emit(context: Any, builder: Any, values: Sequence[Any]) -> Any:
        del context, values
        module, name = builder.module, "edgelstm_shared"
        if name in module.globals:
            area = module.globals[name]
        else:
            kind = ir.ArrayType(ir.IntType(8), 0)
            area = ir.GlobalVariable(module, kind, name, addrspace=_SHARED)
            area.linkage = "external"
            area.align = 128
        return builder.ptrtoint(area, ir.IntType(32))

    return _define("shared_base", (), U32, emit)


shared_base = _shared_base()
