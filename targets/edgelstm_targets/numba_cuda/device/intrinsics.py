"""Instructions that Numba-CUDA has no word for. The only module that touches llvmlite.

Addresses are plain integers: uint64 in global memory, uint32 in the shared window. Loads and stores
become typed LLVM accesses where LLVM knows the instruction (it then folds offsets into them), and
inline PTX where it does not. Whole numbers are words: 32 bits that each function here reads as
signed or unsigned as its name says; `word` writes a number as one.
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


def word(number: int) -> int:
    """The 32 bits of a whole number, for U32(...)."""
    return number & 0xFFFFFFFF


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


def _load(name: str, address: Any, space: int, count: int, element: Any = F32) -> Any:
    kind = _LLVM[element] if count == 1 else ir.VectorType(_LLVM[element], count)

    def emit(context: Any, builder: Any, values: Sequence[Any]) -> Any:
        del context
        place = builder.inttoptr(values[0], kind.as_pointer(space))
        loaded = builder.load(place, align=4 * count)
        if count == 1:
            return loaded
        number = ir.IntType(32)
        return [builder.extract_element(loaded, ir.Constant(number, k)) for k in range(count)]

    return _define(name, (address,), element if count == 1 else (element,) * count, emit)


def _load_narrow(name: str, address: Any, space: int, bits: int) -> Any:
    """A signed number of 8 or 16 bits as a word."""
    kind = ir.IntType(bits)

    def emit(context: Any, builder: Any, values: Sequence[Any]) -> Any:
        del context
        place = builder.inttoptr(values[0], kind.as_pointer(space))
        return builder.sext(builder.load(place, align=bits // 8), ir.IntType(32))

    return _define(name, (address,), U32, emit)


def _load_narrow_if(name: str, kind: str) -> Any:
    """name(address, flag): a signed number as a word; 0, and nothing read, where the flag is 0."""
    text = f"{{ .reg .pred p; setp.ne.u32 p, $2, 0; mov.b32 $0, 0; @p ld.global.{kind} $0, [$1]; }}"
    return _assembly(name, text, U32, (U64, U32))


def _store_if(name: str, address: Any, space: str, kind: str, value: Any) -> Any:
    """name(address, value, flag): no branch, behind which the warp would have to meet."""
    text = f"{{ .reg .pred p; setp.ne.u32 p, $2, 0; @p st.{space}.{kind} [$0], $1; }}"
    return _assembly(name, text, None, (address, value, U32))


def _store_peer_if(name: str, kind: str, value: Any) -> Any:
    """name(address, rank, value, flag): into the same place of another block of a cluster."""
    text = (
        "{ .reg .pred p; .reg .u32 a; setp.ne.u32 p, $3, 0; "
        f"mapa.shared::cluster.u32 a, $0, $1; @p st.shared::cluster.{kind} [a], $2; }}"
    )
    return _assembly(name, text, None, (U32, U32, value, U32))


def _store(name: str, address: Any, space: int, count: int, element: Any = F32) -> Any:
    kind = _LLVM[element] if count == 1 else ir.VectorType(_LLVM[element], count)

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

    return _define(name, (address, *(element,) * count), None, emit)


def _store_narrow(name: str, address: Any, space: int, bits: int) -> Any:
    """The low 8 or 16 bits of a word."""
    kind = ir.IntType(bits)

    def emit(context: Any, builder: Any, values: Sequence[Any]) -> None:
        del context
        place = builder.inttoptr(values[0], kind.as_pointer(space))
        builder.store(builder.trunc(values[1], kind), place, align=bits // 8)

    return _define(name, (address, U32), None, emit)


def _arithmetic(name: str, kind: Any, operation: str) -> Any:
    def emit(context: Any, builder: Any, values: Sequence[Any]) -> Any:
        del context
        return getattr(builder, operation)(*values)

    return _define(name, (kind, kind), kind, emit)


def _choice(name: str, comparison: str) -> Any:
    def emit(context: Any, builder: Any, values: Sequence[Any]) -> Any:
        del context
        return builder.select(builder.icmp_signed(comparison, *values), *values)

    return _define(name, (U32, U32), U32, emit)


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
shift_left = _arithmetic("shift_left", U32, "shl")
shift_right = _arithmetic("shift_right", U32, "ashr")
"""Arithmetic: rounds down."""
bxor = _arithmetic("bxor", U32, "xor")
add64 = _arithmetic("add64", U64, "add")
mul64 = _arithmetic("mul64", U64, "mul")

least = _choice("least", "<")
"""The smaller of two signed words."""
most = _choice("most", ">")
"""The larger of two signed words."""

bits_of = _bits("bits_of", F32, U32)
float_of = _bits("float_of", U32, F32)

load_shared = _load("load_shared", U32, _SHARED, 1)
load_shared4 = _load("load_shared4", U32, _SHARED, 4)
store_shared = _store("store_shared", U32, _SHARED, 1)
store_shared4 = _store("store_shared4", U32, _SHARED, 4)
load_shared2 = _load("load_shared2", U32, _SHARED, 2)
store_shared2 = _store("store_shared2", U32, _SHARED, 2)
load_global = _load("load_global", U64, _GLOBAL, 1)
load_global2 = _load("load_global2", U64, _GLOBAL, 2)
load_global4 = _load("load_global4", U64, _GLOBAL, 4)
store_global = _store("store_global", U64, _GLOBAL, 1)
store_shared_if = _store_if("store_shared_if", U32, "shared", "f32", F32)
store_global_if = _store_if("store_global_if", U64, "global", "f32", F32)
store_global2_if = _assembly(
    "store_global2_if",
    "{ .reg .pred p; setp.ne.u32 p, $3, 0; @p st.global.v2.f32 [$0], {$1,$2}; }",
    None,
    (U64, F32, F32, U32),
)
load_global_if = _assembly(
    "load_global_if",
    "{ .reg .pred p; setp.ne.u32 p, $2, 0; mov.b32 $0, 0; @p ld.global.f32 $0, [$1]; }",
    F32,
    (U64, U32),
)
"""load_global_if(address, flag): zero where the flag is 0, and then nothing is read."""
load_global2_if = _assembly(
    "load_global2_if",
    "{ .reg .pred p; setp.ne.u32 p, $3, 0; mov.b32 $0, 0; mov.b32 $1, 0; "
    "@p ld.global.v2.f32 {$0,$1}, [$2]; }",
    (F32, F32),
    (U64, U32),
)
load_global4_if = _assembly(
    "load_global4_if",
    "{ .reg .pred p; setp.ne.u32 p, $5, 0; mov.b32 $0, 0; mov.b32 $1, 0; mov.b32 $2, 0; "
    "mov.b32 $3, 0; @p ld.global.v4.f32 {$0,$1,$2,$3}, [$4]; }",
    (F32, F32, F32, F32),
    (U64, U32),
)
load_global_i8_if = _load_narrow_if("load_global_i8_if", "s8")
load_global_i16_if = _load_narrow_if("load_global_i16_if", "s16")
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

load_shared_word = _load("load_shared_word", U32, _SHARED, 1, U32)
load_shared_word2 = _load("load_shared_word2", U32, _SHARED, 2, U32)
load_shared_word4 = _load("load_shared_word4", U32, _SHARED, 4, U32)
load_global_word = _load("load_global_word", U64, _GLOBAL, 1, U32)
load_global_word2 = _load("load_global_word2", U64, _GLOBAL, 2, U32)
load_global_word4 = _load("load_global_word4", U64, _GLOBAL, 4, U32)
store_shared_word = _store("store_shared_word", U32, _SHARED, 1, U32)
store_shared_word2 = _store("store_shared_word2", U32, _SHARED, 2, U32)
store_shared_word4 = _store("store_shared_word4", U32, _SHARED, 4, U32)

load_shared_i8 = _load_narrow("load_shared_i8", U32, _SHARED, 8)
load_shared_i16 = _load_narrow("load_shared_i16", U32, _SHARED, 16)
load_global_i8 = _load_narrow("load_global_i8", U64, _GLOBAL, 8)
load_global_i16 = _load_narrow("load_global_i16", U64, _GLOBAL, 16)
store_shared_i8 = _store_narrow("store_shared_i8", U32, _SHARED, 8)
store_shared_i16 = _store_narrow("store_shared_i16", U32, _SHARED, 16)
store_global_i8 = _store_narrow("store_global_i8", U64, _GLOBAL, 8)
store_global_i16 = _store_narrow("store_global_i16", U64, _GLOBAL, 16)
store_shared_word_if = _store_if("store_shared_word_if", U32, "shared", "u32", U32)
store_shared_i8_if = _store_if("store_shared_i8_if", U32, "shared", "u8", U32)
store_shared_i16_if = _store_if("store_shared_i16_if", U32, "shared", "u16", U32)
store_global_i8_if = _store_if("store_global_i8_if", U64, "global", "u8", U32)
store_global_i16_if = _store_if("store_global_i16_if", U64, "global", "u16", U32)
store_peer_i8_if = _store_peer_if("store_peer_i8_if", "u8", U32)
store_peer_i16_if = _store_peer_if("store_peer_i16_if", "u16", U32)

dot4 = _assembly("dot4", "dp4a.s32.s32 $0, $1, $2, $3;", U32, (U32, U32, U32), effect=False)
"""dot4(a, b, sum): sum plus the products of four signed bytes each."""
dot2_low = _assembly(
    "dot2_low", "dp2a.lo.s32.s32 $0, $1, $2, $3;", U32, (U32, U32, U32), effect=False
)
"""dot2_low(a, b, sum): sum plus the two int16 of a times the two lower bytes of b."""
dot2_high = _assembly(
    "dot2_high", "dp2a.hi.s32.s32 $0, $1, $2, $3;", U32, (U32, U32, U32), effect=False
)
"""dot2_high(a, b, sum): the same with the two upper bytes of b."""
dot2_unsigned = _assembly(
    "dot2_unsigned", "dp2a.lo.s32.u32 $0, $1, $2, $3;", U32, (U32, U32, U32), effect=False
)
"""dot2_unsigned(a, b, sum): as dot2_low, bytes from 0 to 255."""
anew = _assembly("anew", "mov.b32 $0, $1;", U32, (U32,), memory=False)
"""anew(word): the same; what is computed of it is computed here, for every frame."""
permute = _assembly("permute", "prmt.b32 $0, $1, $2, $3;", U32, (U32, U32, U32), effect=False)
"""permute(a, b, selector): four of the eight bytes of a and b, one for each digit of 4 bits."""
halves = _assembly(
    "halves",
    "{ .reg .b16 low; .reg .b16 high; mov.b32 {low,high}, $2; "
    "cvt.f32.f16 $0, low; cvt.f32.f16 $1, high; }",
    (F32, F32),
    (U32,),
    effect=False,
)
"""halves(word) -> (low, high): two half-precision numbers."""
multiply = _assembly("multiply", "mul.rn.f32 $0, $1, $2;", F32, (F32, F32), effect=False)
"""A product rounded by itself: no sum is fused with it."""
round_even = _assembly("round_even", "cvt.rni.f32.f32 $0, $1;", F32, (F32,), effect=False)
"""To the nearest whole number, halves to even."""
float_of_word = _assembly("float_of_word", "cvt.rn.f32.s32 $0, $1;", F32, (U32,), effect=False)
"""A signed word as a number."""
word_of_float = _assembly("word_of_float", "cvt.rni.s32.f32 $0, $1;", U32, (F32,), effect=False)
"""The nearest whole number."""

exp2_approx = _assembly("exp2_approx", "ex2.approx.ftz.f32 $0, $1;", F32, (F32,), effect=False)
reciprocal_approx = _assembly(
    "reciprocal_approx", "rcp.approx.ftz.f32 $0, $1;", F32, (F32,), effect=False
)

fused = _assembly("fused", "fma.rn.f32 $0, $1, $2, $3;", F32, (F32, F32, F32), effect=False)
"""fused(a, b, c): a * b + c; the compiler makes two additions of twice a value and one."""

tanh_approx = _assembly("tanh_approx", "tanh.approx.f32 $0, $1;", F32, (F32,), effect=False)
"""Within 2^-11 of tanh, relatively: as good as float16, not better."""

# A value beyond the range of float16 becomes its largest number, 65504: infinity times a weight of
# zero, and infinity less infinity, are NaN, which a state would keep for ever.
pack_halves = _assembly(
    "pack_halves",
    "{ .reg .f32 low; .reg .f32 high; "
    "min.f32 low, $1, 0f477FE000; max.f32 low, low, 0fC77FE000; "
    "min.f32 high, $2, 0f477FE000; max.f32 high, high, 0fC77FE000; "
    "cvt.rn.f16x2.f32 $0, high, low; }",
    U32,
    (F32, F32),
    effect=False,
)
"""pack_halves(low, high): two values as float16 in one word, saturated."""
load_half = _assembly(
    "load_half",
    "{ .reg .b16 half; ld.shared.b16 half, [$1]; cvt.f32.f16 $0, half; }",
    F32,
    (U32,),
)
store_half = _assembly(
    "store_half",
    "{ .reg .b16 half; .reg .f32 near; "
    "min.f32 near, $1, 0f477FE000; max.f32 near, near, 0fC77FE000; "
    "cvt.rn.f16.f32 half, near; st.shared.b16 [$0], half; }",
    None,
    (U32, F32),
)
"""store_half(address, value): the value as float16, saturated."""
multiply_halves = _assembly(
    "multiply_halves",
    "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
    "{$0,$1,$2,$3}, {$4,$5,$6,$7}, {$8,$9}, {$10,$11,$12,$13};",
    (F32, F32, F32, F32),
    (U32, U32, U32, U32, U32, U32, F32, F32, F32, F32),
    memory=False,
)
"""The product of a warp on tensor cores; fragments as PTX ISA, "mma.m16n8k16"."""


def _multiply_bytes(name: str, left: str) -> Any:
    text = (
        f"mma.sync.aligned.m16n8k32.row.col.s32.{left}.s8.s32 "
        "{$0,$1,$2,$3}, {$4,$5,$6,$7}, {$8,$9}, {$10,$11,$12,$13};"
    )
    return _assembly(name, text, (U32,) * 4, (U32,) * 10, memory=False)


multiply_bytes = _multiply_bytes("multiply_bytes", "s8")
"""The same of signed bytes with int32 sums; fragments as PTX ISA, "mma.m16n8k32"."""
multiply_unsigned = _multiply_bytes("multiply_unsigned", "u8")
"""The same of unsigned bytes with signed ones."""

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
shuffle_word = _assembly(
    "shuffle_word", "shfl.sync.idx.b32 $0, $1, $2, 31, -1;", U32, (U32, U32), memory=False
)
shuffle_xor_word = _assembly(
    "shuffle_xor_word", "shfl.sync.bfly.b32 $0, $1, $2, 31, -1;", U32, (U32, U32), memory=False
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
store_peer_if = _store_peer_if("store_peer_if", "f32", F32)


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
