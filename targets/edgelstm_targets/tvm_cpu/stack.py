"""How much stack the compiled functions take, read from LLVM's assembler listing."""

from __future__ import annotations

import re
from collections.abc import Sequence

_FUNCTION = re.compile(r"^([A-Za-z_]\w*):", re.M)
_END = re.compile(r"^\.Lfunc_end\d+:", re.M)
_CALL = re.compile(r"^\s+(?:bl|blx|b|b\.w|callq?|jmp)\s+([A-Za-z_]\w*)\b", re.M)
_PUSH = re.compile(r"^\s+v?(?:push|stmdb\s+sp!,|stmfd\s+sp!,)(?:\.w)?\s*\{([^}]*)\}", re.M)
_SUBTRACT = re.compile(r"^\s+subs?w?(?:\.w)?\s+sp, (?:sp, )?#(\d+)(?:, lsl #(\d+))?", re.M)
_BEFORE = re.compile(r"^\s+(?:stp|str|str\.w|vstr)\s.*\[sp, #-(\d+)\]!", re.M)
# Frames beyond the reach of immediate operands: the (negative) size stands in a pool of constants.
_BY_CONSTANT = re.compile(
    r"^\s+ldr(?:\.w)?\s+(r\d+), (\.L\w+)\n(?:[^\n]*\n)??\s+add\s+sp, \1$", re.M
)
_CONSTANT = re.compile(r"^(\.L\w+):\n\s+\.long\s+(-?\d+|0x[0-9a-f]+)", re.M)
# Vectors on the stack: the pointer is rounded down to their alignment, and comes back from r7.
_ROUND_DOWN = re.compile(
    r"^\s+mov\s+(r\d+), sp\n\s+(?:bfc\s+\1, #0, #(\d+)|"
    r"lsrs\s+\1, \1, #(\d+)\n\s+lsls\s+\1, \1, #\3)\n\s+mov\s+sp, \1$",
    re.M,
)
_BACK = re.compile(
    r"^\s+(?:subs?(?:\.w)?\s+(r\d+), r(?:7|11), #\d+\n(?:\s+subs\s+\1, (?:\1, )?#\d+\n)*"
    r"(?:[^\n]*\n){0,3}?\s+mov\s+sp, \1|mov\s+sp, r(?:7|11))$",
    re.M,
)
_BY_REGISTER = re.compile(r"^\s+(?:(?:sub|add)s?(?:\.w)?\s+sp, (?:sp, )?[a-z]|mov\s+sp, )", re.M)
_REGISTER = re.compile(r"([a-z]+)(\d+)(?:\s*-\s*[a-z]+(\d+))?|(lr|fp|ip|sl|pc)")
# Saved by the hardware or by whoever calls: not ours, but alignment may cost this much a call.
_ALIGNMENT, _WORD = 8, 4


def stack_bound(assembly: str, entries: Sequence[str]) -> int | None:
    """Bytes of stack that a call of any of these ARM functions takes at most.

    The frames along the deepest chain of calls; there is no recursion.

    Returns:
        None where a frame's size cannot be read off (also: not ARM).
    """
    bodies = _bodies(assembly)
    depths: dict[str, int | None] = {}

    def depth(name: str) -> int | None:
        if name not in depths:
            depths[name] = None
            own = _frame(bodies[name])
            called = [depth(c) for c in set(_CALL.findall(bodies[name])) if c in bodies]
            if own is not None and all(below is not None for below in called):
                deepest = max((below for below in called if below is not None), default=0)
                depths[name] = own + deepest
        return depths[name]

    found = [depth(name) for name in entries if name in bodies]
    if not found or any(bound is None for bound in found):
        return None
    return max(bound for bound in found if bound is not None)


def _bodies(assembly: str) -> dict[str, str]:
    bodies = {}
    for match in _FUNCTION.finditer(assembly):
        end = _END.search(assembly, match.end())
        if end is not None:
            bodies[match[1]] = assembly[match.end() : end.start()]
    return bodies


def _frame(body: str) -> int | None:
    """Bytes that one function's prologue takes."""
    size = 0
    constants = {match[1]: int(match[2], 0) for match in _CONSTANT.finditer(body)}
    for match in _BY_CONSTANT.finditer(body):
        moved = constants.get(match[2], 0)
        size += max(0, (1 << 32) - moved if moved >> 31 == 1 else -moved)
    for match in _ROUND_DOWN.finditer(body):
        size += (1 << int(match[2] or match[3])) - _WORD
    rest = _BACK.sub("", _ROUND_DOWN.sub("", _BY_CONSTANT.sub("", body)))
    if "%rsp" in body or "%esp" in body or _BY_REGISTER.search(rest):
        return None
    for match in _PUSH.finditer(body):
        size += _pushed(match[1])
    for match in _SUBTRACT.finditer(body):
        size += int(match[1]) << int(match[2] or 0)
    size += sum(int(match[1]) for match in _BEFORE.finditer(body))
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _pushed(names: str) -> int:
    """Bytes of a list of registers, `r4, r5, lr` or `d8-d15`."""
    size = 0
    for match in _REGISTER.finditer(names):
        count = int(match[3]) - int(match[2]) + 1 if match[3] else 1
        size += count * {"d": 8, "q": 16}.get(match[1] or "", 4)
    return size
