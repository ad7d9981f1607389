"""Static libraries: an `ar` archive of one object, with the index that linkers look into."""

from __future__ import annotations

from collections.abc import Sequence

_MAGIC = b"!<arch>\n"


def static_library(member: str, code: bytes, symbols: Sequence[str]) -> bytes:
    """An archive in System V's format, the same bytes every time.

    Args:
        member: file name of the object.
        code: the object.
        symbols: what it defines.
    """
    names = b"".join(symbol.encode() + b"\0" for symbol in symbols)
    size = 4 + 4 * len(symbols) + len(names)
    long_name = f"{member}/\n".encode()
    is_long = len(member) > 15
    start = len(_MAGIC) + _room(size) + (_room(len(long_name)) if is_long else 0)
    index = len(symbols).to_bytes(4, "big") + start.to_bytes(4, "big") * len(symbols) + names
    parts = [_MAGIC, _member("/", index)]
    if is_long:
        parts.append(_member("//", long_name))
    parts.append(_member("/0" if is_long else f"{member}/", code))
    return b"".join(parts)


def _room(size: int) -> int:
    return 60 + size + size % 2


def _member(name: str, data: bytes) -> bytes:
    head = f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n"
    return head.encode() + data + b"\n" * (len(data) % 2)
