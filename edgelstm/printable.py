"""Text from files on its way to a terminal: what would steer the terminal is written out.

Names come from models, artifacts, recordings and devices. Escape sequences in them could rewrite
what stands on the screen, controls of writing direction what it seems to say.
"""

from __future__ import annotations


def printable(text: str, keep: str = "\n") -> str:
    r"""The text with every character that does not print as `\x1b`, `\u202e` and the like.

    Args:
        text: any text.
        keep: characters that stay although they do not print.
    """
    if text.isprintable():
        return text
    return "".join(c if c in keep or c.isprintable() else _escaped(c) for c in text)


def printable_json(text: str) -> str:
    """A JSON document with the same characters as JSON escapes; it means what it meant."""
    if text.replace("\n", "").isprintable():
        return text
    return "".join(c if c == "\n" or c.isprintable() else _json_escaped(c) for c in text)


def _escaped(character: str) -> str:
    number = ord(character)
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def _json_escaped(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))
