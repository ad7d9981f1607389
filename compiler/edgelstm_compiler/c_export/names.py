"""C identifiers and literals."""

from __future__ import annotations

import re
from collections.abc import Iterable

# Of C99 and C++20: headers are read by both.
_KEYWORDS = frozenset(
    """
    alignas alignof and and_eq asm auto bitand bitor bool break case catch char char8_t char16_t
    char32_t class compl concept const consteval constexpr constinit const_cast continue co_await
    co_return co_yield decltype default delete do double dynamic_cast else enum explicit export
    extern false float for friend goto if inline int long mutable namespace new noexcept not not_eq
    nullptr operator or or_eq private protected public register reinterpret_cast requires restrict
    return short signed sizeof static static_assert static_cast struct switch template this
    thread_local throw true try typedef typeid typename union unsigned using virtual void volatile
    wchar_t while xor xor_eq
    """.split()  # noqa: SIM905 - a list of a hundred lines says no more
)
_WORDS_PER_LINE = 8


def identifiers(texts: Iterable[str]) -> list[str]:
    """A C identifier for each text, all different."""
    found: list[str] = []
    for text in texts:
        name = re.sub(r"\W", "_", text, flags=re.ASCII).strip("_") or "value"
        if name[0].isdigit() or name in _KEYWORDS:
            name = f"v_{name}"
        unique, number = name, 1
        while unique in found:
            number += 1
            unique = f"{name}_{number}"
        found.append(unique)
    return found


def comment(text: str) -> str:
    """A text that cannot end the comment it stands in."""
    return "".join(c if c.isprintable() else "?" for c in text).replace("*/", "* /")


def words(data: bytes) -> str:
    """Little-endian words as the elements of a uint32_t array; at least one."""
    padded = data.ljust(-(-max(len(data), 1) // 4) * 4, b"\0")
    numbers = [
        f"0x{int.from_bytes(padded[i : i + 4], 'little'):08x}u" for i in range(0, len(padded), 4)
    ]
    lines = [
        ", ".join(numbers[i : i + _WORDS_PER_LINE]) for i in range(0, len(numbers), _WORDS_PER_LINE)
    ]
    return ",\n".join(f"    {line}" for line in lines)


def word_count(size: int) -> int:
    """Elements of that array."""
    return -(-max(size, 1) // 4)
