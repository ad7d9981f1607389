"""Reads PTX text: one kernel's parameters, registers, shared memory and instructions."""

from __future__ import annotations

import re
from dataclasses import dataclass

_ENTRY = re.compile(r"\.entry\s+(\w+)\s*\((.*?)\)(.*?)\n\{(.*?)\n\}", re.DOTALL)
_PARAMETER = re.compile(r"\.param\s+\.(\w+)\s+(\w+)")
_REGISTERS = re.compile(r"\.reg\s+\.(\w+)\s+(%\w+)<(\d+)>;")
_SHARED = re.compile(r"\.shared \.align (\d+) \.b8 (\w+)\[(\d*)\];")
_SCOPE = re.compile(r"\{ (\.reg .*?) \}", re.DOTALL)
_SCOPED = re.compile(r"\.reg \.(\w+) (\w+);")
_OPERAND = re.compile(r"\{[^}]*\}|\[[^\]]*\]|[^,\s]+")
_GUARD = re.compile(r"^@(!?)(%[\w.]+)\s+")


@dataclass(frozen=True)
class Instruction:
    """One instruction.

    Args:
        guard: predicate register, or "".
        negated: executed where the guard is false.
        parts: the opcode at its dots, `("ld", "global", "f32")`.
        operands: as written.
        text: for messages.
    """

    guard: str
    negated: bool
    parts: tuple[str, ...]
    operands: tuple[str, ...]
    text: str


@dataclass(frozen=True)
class Program:
    """A kernel.

    Args:
        name: of the entry.
        parameters: (type, name) in order.
        registers: type of each register.
        shared: places of shared symbols; dynamic shared memory begins where the static ends.
        static_bytes: size of static shared memory.
        code: instructions in order.
        labels: index of the instruction behind each label.
    """

    name: str
    parameters: tuple[tuple[str, str], ...]
    registers: dict[str, str]
    shared: dict[str, int]
    static_bytes: int
    code: tuple[Instruction, ...]
    labels: dict[str, int]


def parse(ptx: str, entry: str) -> Program:
    """The kernel of that name.

    Raises:
        ValueError: the text has no such kernel.
    """
    text = re.sub(r"//[^\n]*", "", ptx)
    for found in _ENTRY.finditer(text):
        if found.group(1) == entry:
            break
    else:
        raise ValueError(f"no kernel {entry!r} in this PTX")
    body = found.group(4)
    registers = {
        f"{prefix}{index}": kind
        for kind, prefix, count in _REGISTERS.findall(body)
        for index in range(int(count))
    }
    body = _REGISTERS.sub("", body)
    body = _open_scopes(body, registers)
    shared, static_bytes = _place_shared(text)
    code: list[Instruction] = []
    labels: dict[str, int] = {}
    for statement in re.split(r";|(?<=:)\n", re.sub(r"\.pragma [^;]*;", "", body)):
        rest = statement.strip()
        while label := re.match(r"^(\$\w+):\s*", rest):
            labels[label.group(1)] = len(code)
            rest = rest[label.end() :].strip()
        if rest:
            code.append(_decode(rest))
    code.append(_decode("ret"))
    return Program(
        entry,
        tuple(_PARAMETER.findall(found.group(2))),
        registers,
        shared,
        static_bytes,
        tuple(code),
        labels,
    )


def _open_scopes(body: str, registers: dict[str, str]) -> str:
    """Names of `{ .reg .pred p; ... }` become registers of the whole kernel."""
    count = 0

    def rename(found: re.Match[str]) -> str:
        nonlocal count
        inner = found.group(1)
        for kind, name in _SCOPED.findall(inner):
            count += 1
            fresh = f"%scoped{count}"
            registers[fresh] = kind
            inner = re.sub(rf"(?<![\w.%$]){name}\b", fresh, inner)
        return re.sub(r"\.reg \.\w+ [^;]*;", "", inner)

    return _SCOPE.sub(rename, body)


def _place_shared(text: str) -> tuple[dict[str, int], int]:
    places: dict[str, int] = {}
    at = 0
    for alignment, name, size in _SHARED.findall(text):
        if size:
            at = -(-at // int(alignment)) * int(alignment)
            places[name] = at
            at += int(size)
    at = -(-at // 128) * 128
    places.update((name, at) for _, name, size in _SHARED.findall(text) if not size)
    return places, at


def _decode(statement: str) -> Instruction:
    guard = _GUARD.match(statement)
    rest = statement[guard.end() :] if guard else statement
    opcode, _, tail = rest.partition(" ") if " " in rest.split("\t")[0] else _split_tab(rest)
    return Instruction(
        guard.group(2) if guard else "",
        bool(guard and guard.group(1)),
        tuple(opcode.strip().split(".")),
        tuple(_OPERAND.findall(tail)),
        re.sub(r"\s+", " ", statement),
    )


def _split_tab(rest: str) -> tuple[str, str, str]:
    opcode, _, tail = rest.partition("\t")
    return opcode, "", tail
