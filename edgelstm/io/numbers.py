"""Which text is a number in a recording, and why other text is none.

A number is what C and JSON write, in ASCII digits: `-12`, `.5`, `3.`, `6.02e23`, and `nan`, `inf`,
`infinity` with or without a sign, in any case. Nothing, `na`, `n/a`, `null`, `none` and `<na>` are
missing values. Python's own `1_000` and the digits of other scripts are no numbers here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, Literal

from edgelstm.dtypes import DType
from edgelstm.signature import TensorSpec

Decimal = Literal[".", ","]

MISSING = frozenset({"", "na", "n/a", "null", "none", "<na>"})

_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_COMMA_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:,[0-9]*)?|,[0-9]+)(?:[eE][+-]?[0-9]+)?")
_WORD = re.compile(r"[+-]?(?:nan|inf|infinity)", re.IGNORECASE | re.ASCII)
_INTEGER = re.compile(r"[+-]?[0-9]+")
_WHOLE = re.compile(r"[+-]?[0-9]+\.0*")
_GROUPED = re.compile(
    r"[+-]?[0-9]{1,3}(?:([, .'\u00a0\u202f])[0-9]{3})(?:\1[0-9]{3})*(?:[.,][0-9]*)?"
)
_TRUTH = {"0": 0, "1": 1, "false": 0, "true": 1}
_BLANKS = " \t\r\n"
MAX_INTEGER_DIGITS = 400
"""Digits of an integer; longer ones are refused before they are converted."""


class NotANumberError(ValueError):
    """A cell that holds something else; the message says what is likely the cause."""


def parse_float(text: str, decimal: Decimal = ".") -> float:
    """A number; NaN for a missing one.

    Raises:
        NotANumberError: it is neither.
    """
    text = text.strip(_BLANKS)
    pattern = _NUMBER if decimal == "." else _COMMA_NUMBER
    if pattern.fullmatch(text) or _WORD.fullmatch(text):
        return float(text.replace(",", ".") if decimal == "," else text)
    if is_missing(text):
        return float("nan")
    raise NotANumberError(f"{shown(text)} is no number{likely_cause(text, decimal)}")


def parse_integer(text: str) -> int:
    """An integer, also as `3.0`.

    Raises:
        NotANumberError: it is none, or missing.
    """
    text = text.strip(_BLANKS)
    if len(text) > MAX_INTEGER_DIGITS:
        raise NotANumberError(f"{shown(text)} is an integer of {len(text)} digits")
    if _INTEGER.fullmatch(text):
        return int(text)
    if _WHOLE.fullmatch(text):
        return int(text.partition(".")[0])
    if is_missing(text):
        raise NotANumberError("missing, and integers have no NaN")
    if _NUMBER.fullmatch(text) and float(text).is_integer():
        return int(float(text))
    raise NotANumberError(f"{shown(text)} is no integer{likely_cause(text, '.')}")


def parse_truth(text: str) -> int:
    """`0`, `1`, `false` or `true`.

    Raises:
        NotANumberError: it is none of them.
    """
    value = _TRUTH.get(text.strip(_BLANKS).lower())
    if value is None:
        raise NotANumberError(f"{shown(text)} is none of 0, 1, false and true")
    return value


def parser_for(spec: TensorSpec, decimal: Decimal = ".") -> Callable[[str], float]:
    """How a cell of this input is read."""
    if spec.dtype.is_float:
        return (lambda text: parse_float(text, ",")) if decimal == "," else parse_float
    return parse_truth if spec.dtype is DType.BOOL else parse_integer


def is_missing(text: str) -> bool:
    """Whether a cell says that there is no value."""
    return text.strip(_BLANKS).lower() in MISSING


def is_number(text: str, decimal: Decimal = ".") -> bool:
    """Whether a cell holds a number, or says that there is none."""
    text = text.strip(_BLANKS)
    pattern = _NUMBER if decimal == "." else _COMMA_NUMBER
    return bool(pattern.fullmatch(text) or _WORD.fullmatch(text)) or text.lower() in MISSING


def shown(text: str, limit: int = 40) -> str:
    """A cell in a message, cut where it is long."""
    return repr(text) if len(text) <= limit else f"{text[:limit]!r}... ({len(text)} characters)"


def likely_cause(text: str, decimal: Decimal) -> str:
    """Why text that looks like a number is none, to append to a message; else nothing."""
    if not any(character.isdigit() for character in text):
        return ""
    if not text.isascii():
        folded = "".join(_ascii_of(character) for character in text)
        if folded != text and is_number(folded, decimal):
            return f" (digits or a sign that are not ASCII: write {folded})"
    if "_" in text and is_number(text.replace("_", ""), decimal):
        return f" (an underscore between digits: write {text.replace('_', '')})"
    if decimal == "." and _COMMA_NUMBER.fullmatch(text):
        if _GROUPED.fullmatch(text):
            return " (a decimal comma, or a comma between thousands?)"
        return " (a decimal comma?)"
    if decimal == "," and _NUMBER.fullmatch(text):
        return " (a decimal point, where the others have a comma?)"
    if _GROUPED.fullmatch(text):
        return " (separators between thousands? write the number without them)"
    if ";" in text or "\t" in text:
        return " (another delimiter?)"
    return ""


def _ascii_of(character: str) -> str:
    if character == "\u2212":
        return "-"
    if character.isdecimal() and not character.isascii():
        return str(int(character))
    return character


def json_float(value: Any) -> float:
    """A number of JSON; null is missing, and integers beyond all floats are infinite."""
    try:
        return math.nan if value is None else float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
