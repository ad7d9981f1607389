"""C functions that return a value, as LLVM IR: TVM's own functions can return nothing but 0.

A stub calls the TVM function of its name plus `INNER`, which has one parameter more: a pointer
through which it writes what the stub returns. Here also: what LLVM calls without being asked.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from edgelstm_targets.tvm_cpu.division import division_functions, is_division

INNER = "_inner"
POINTER, INT32, INT64 = "ptr", "i32", "i64"


@dataclass(frozen=True, slots=True)
class Stub:
    """A function that callers see.

    Args:
        name: its symbol.
        parameters: LLVM types.
        returns: LLVM type.
    """

    name: str
    parameters: tuple[str, ...]
    returns: str


@dataclass(frozen=True, slots=True)
class Table:
    """Numbers that callers see, as int64.

    Args:
        name: its symbol.
        numbers: in order.
    """

    name: str
    numbers: tuple[int, ...]


_LOOPS = """\
define internal ptr @{name}(ptr %to, {second}, {word} %size) nounwind {{
entry:
  {prepare}
  %whole = and {word} %size, -64
  br label %wide
wide:
  %i = phi {word} [ 0, %entry ], [ %i.next, %wide.body ]
  %more = icmp ult {word} %i, %whole
  br i1 %more, label %wide.body, label %narrow
wide.body:
  {wide_load}
  %wide.to = getelementptr i8, ptr %to, {word} %i
  store <16 x i32> %wide.value, ptr %wide.to, align 1
  %i.next = add {word} %i, 64
  br label %wide
narrow:
  %j = phi {word} [ %whole, %wide ], [ %j.next, %narrow.body ]
  %rest = icmp ult {word} %j, %size
  br i1 %rest, label %narrow.body, label %done
narrow.body:
  {narrow_load}
  %narrow.to = getelementptr i8, ptr %to, {word} %j
  store i8 %narrow.value, ptr %narrow.to
  %j.next = add {word} %j, 1
  br label %narrow
done:
  ret ptr %to
}}"""
_COPY_PARTS = {
    "second": "ptr %from",
    "prepare": "",
    "wide_load": """%wide.from = getelementptr i8, ptr %from, {word} %i
  %wide.value = load <16 x i32>, ptr %wide.from, align 1""",
    "narrow_load": """%narrow.from = getelementptr i8, ptr %from, {word} %j
  %narrow.value = load i8, ptr %narrow.from""",
}
_FILL_PARTS = {
    "second": "i32 %filling",
    "prepare": """%narrow.value = trunc i32 %filling to i8
  %byte = insertelement <64 x i8> poison, i8 %narrow.value, i32 0
  %bytes = shufflevector <64 x i8> %byte, <64 x i8> poison, <64 x i32> zeroinitializer
  %wide.value = bitcast <64 x i8> %bytes to <16 x i32>""",
    "wide_load": "",
    "narrow_load": "",
}
# ARM's names of the two; those that end in 4 and 8 know more about alignment.
_EABI = re.compile(r"__aeabi_mem(cpy|set|clr)[48]?\Z")
_EABI_PARAMETERS = {
    "cpy": ("ptr %to, ptr %from, i32 %size", "memcpy(ptr %to, ptr %from, i32 %size)"),
    "set": ("ptr %to, i32 %size, i32 %filling", "memset(ptr %to, i32 %filling, i32 %size)"),
    "clr": ("ptr %to, i32 %size", "memset(ptr %to, i32 0, i32 %size)"),
}
# Places in TVM's own listing: of no use to anybody, and half of the object.
_DEBUG = re.compile(r",? !dbg !\d+|^ *#dbg_.*\n|^!llvm\.dbg\.cu = .*\n", re.M)
_HALF_HELPERS = re.compile(
    r"^define weak [^\n]*@__(?:truncsfhf2|extendhfsf2)\(.*?^}\n", re.M | re.S
)
_INTERNAL = re.compile(r"^define internal [^\n]*?@([\w.]+)\(.*?^}\n", re.M | re.S)
_NAMED = re.compile(r"@([\w.]+)")


def complete_module(
    listing: str,
    stubs: Sequence[Stub],
    table: Table | None,
    wanted: Sequence[str],
    *,
    is_wide: bool,
) -> str:
    """The LLVM IR of an object that shows the stubs and the table and nothing else.

    Args:
        listing: TVM's module; everything in it becomes internal.
        stubs: the functions that callers see.
        table: numbers that they see, or None.
        wanted: functions that LLVM calls; those that `is_provided` does not know are left alone.
        is_wide: addresses have 64 bits.
    """
    text = _DEBUG.sub("", listing).replace("define dllexport ", "define internal ")
    if not re.search(r"\bhalf\b", _HALF_HELPERS.sub("", text)):
        text = _HALF_HELPERS.sub("", text)
    entries = [_stub(stub) for stub in stubs]
    if table is not None:
        entries.append(_table(table))
    text = _without_unused(text, "\n".join(entries))
    memory = _memory_functions(wanted, "i64" if is_wide else "i32")
    parts = [text, *entries, *memory, *division_functions(wanted)]
    return "\n".join((*parts, ""))


def _without_unused(text: str, entries: str) -> str:
    """The listing without functions that were inlined everywhere."""
    bodies = {match[1]: match[0] for match in _INTERNAL.finditer(text)}
    reached: set[str] = set()
    fresh = {name for name in _NAMED.findall(entries) if name in bodies}
    while fresh:
        reached |= fresh
        called = {name for body in fresh for name in _NAMED.findall(bodies[body])}
        fresh = {name for name in called if name in bodies} - reached
    return _INTERNAL.sub(lambda match: match[0] if match[1] in reached else "", text)


def is_provided(name: str) -> bool:
    """Whether it comes with the code where LLVM calls it unasked; no library does here."""
    is_memory = name in ("memcpy", "memset") or _EABI.match(name) is not None
    return is_memory or is_division(name)


def _memory_functions(wanted: Sequence[str], word: str) -> list[str]:
    bases, wrappers = {name for name in wanted if name in ("memcpy", "memset")}, []
    for name in sorted(wanted):
        found = _EABI.match(name)
        if found:
            parameters, call = _EABI_PARAMETERS[found[1]]
            bases.add(call.partition("(")[0])
            wrappers.append(
                f"define internal void @{name}({parameters}) nounwind {{\n"
                f"  %ignored = call ptr @{call}\n  ret void\n}}"
            )
    bodies = {"memcpy": _COPY_PARTS, "memset": _FILL_PARTS}
    for base in sorted(bases):
        parts = {key: part.format(word=word) for key, part in bodies[base].items()}
        wrappers.append(_LOOPS.format(name=base, word=word, **parts))
    return wrappers


def _table(table: Table) -> str:
    numbers = ", ".join(f"i64 {number}" for number in table.numbers)
    return f"@{table.name} = constant [{len(table.numbers)} x i64] [{numbers}], align 8"


def _stub(stub: Stub) -> str:
    result = stub.returns
    arguments = ", ".join(f"{kind} %{i}" for i, kind in enumerate(stub.parameters))
    return f"""\
define {result} @{stub.name}({arguments}) nounwind {{
  %slot = alloca {result}
  %ignored = call i32 @{stub.name}{INNER}({arguments}, ptr %slot)
  %result = load {result}, ptr %slot
  ret {result} %result
}}"""
