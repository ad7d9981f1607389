"""C functions that return a value, as LLVM IR: TVM's own functions can return nothing but 0.

A stub calls the TVM function of its name plus `INNER`, which has one parameter more: a pointer
through which it writes what the stub returns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

INNER = "_inner"
POINTER, INT32, INT64 = "ptr", "i32", "i64"


_LOOPS = """\
define ptr @{name}(ptr %to, {second}, i64 %size) nounwind {{
entry:
  {prepare}
  %whole = and i64 %size, -64
  br label %wide
wide:
  %i = phi i64 [ 0, %entry ], [ %i.next, %wide.body ]
  %more = icmp ult i64 %i, %whole
  br i1 %more, label %wide.body, label %narrow
wide.body:
  {wide_load}
  %wide.to = getelementptr i8, ptr %to, i64 %i
  store <16 x i32> %wide.value, ptr %wide.to, align 1
  %i.next = add i64 %i, 64
  br label %wide
narrow:
  %j = phi i64 [ %whole, %wide ], [ %j.next, %narrow.body ]
  %rest = icmp ult i64 %j, %size
  br i1 %rest, label %narrow.body, label %done
narrow.body:
  {narrow_load}
  %narrow.to = getelementptr i8, ptr %to, i64 %j
  store i8 %narrow.value, ptr %narrow.to
  %j.next = add i64 %j, 1
  br label %narrow
done:
  ret ptr %to
}}"""
MEMORY_FUNCTIONS = {
    "memcpy": _LOOPS.format(
        name="memcpy",
        second="ptr %from",
        prepare="",
        wide_load="""%wide.from = getelementptr i8, ptr %from, i64 %i
  %wide.value = load <16 x i32>, ptr %wide.from, align 1""",
        narrow_load="""%narrow.from = getelementptr i8, ptr %from, i64 %j
  %narrow.value = load i8, ptr %narrow.from""",
    ),
    "memset": _LOOPS.format(
        name="memset",
        second="i32 %filling",
        prepare="""%narrow.value = trunc i32 %filling to i8
  %byte = insertelement <64 x i8> poison, i8 %narrow.value, i32 0
  %bytes = shufflevector <64 x i8> %byte, <64 x i8> poison, <64 x i32> zeroinitializer
  %wide.value = bitcast <64 x i8> %bytes to <16 x i32>""",
        wide_load="",
        narrow_load="",
    ),
}
"""LLVM makes calls of these out of loops, and no library provides them here."""


@dataclass(frozen=True, slots=True)
class Stub:
    """A function of the shared object.

    Args:
        name: its symbol.
        parameters: LLVM types.
        returns: LLVM type.
    """

    name: str
    parameters: tuple[str, ...]
    returns: str


def stub_module(stubs: Sequence[Stub], memory: Sequence[str], target: str, triple: str) -> str:
    """LLVM IR of the stubs.

    Args:
        stubs: the functions.
        memory: names of `MEMORY_FUNCTIONS` that are needed too.
        target: TVM's target as JSON, in which its LLVM back end finds processor and options.
        triple: LLVM's target triple.
    """
    flag = "".join(c if c.isalnum() or c in " .,:;{}[]-_=" else f"\\{ord(c):02X}" for c in target)
    return "\n".join(
        (
            f'target triple = "{triple}"',
            *map(_stub, stubs),
            *(MEMORY_FUNCTIONS[name] for name in memory),
            "!llvm.module.flags = !{!0}",
            f'!0 = !{{i32 4, !"tvm_target", !"{flag}"}}',
            "",
        )
    )


def _stub(stub: Stub) -> str:
    inner, result = f"@{stub.name}{INNER}", stub.returns
    types = ", ".join((*stub.parameters, POINTER))
    arguments = ", ".join(f"{kind} %{i}" for i, kind in enumerate(stub.parameters))
    return f"""\
declare i32 {inner}({types})
define {result} @{stub.name}({arguments}) nounwind {{
  %slot = alloca {result}
  %ignored = call i32 {inner}({arguments}, ptr %slot)
  %result = load {result}, ptr %slot
  ret {result} %result
}}"""
