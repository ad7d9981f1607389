"""Reading one line of a text form: words, numbers, JSON values, types."""

from __future__ import annotations

import json
import re
from typing import Any, cast

from edgelstm.dtypes import DType
from edgelstm_compiler.ir.types import TensorType

NAME = r"[A-Za-z0-9_./][A-Za-z0-9_./\-]*(?::+[A-Za-z0-9_./\-]+)*"
"""Names that are written as they are."""
PLAIN_NAME = re.compile(NAME)
TYPE = re.compile(r"(\w+)\[([0-9,]*)\]")
MISFITS = (
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RecursionError,
)
"""What reading a line that is not in the form can come to."""


class Cursor:
    """A place in one line; blanks are skipped."""

    _decoder = json.JSONDecoder()

    def __init__(self, line: str) -> None:
        self.line = line
        self.at = 0
        self._space()

    def _space(self) -> None:
        while self.at < len(self.line) and self.line[self.at] == " ":
            self.at += 1

    def skip(self, word: str) -> bool:
        """Whether the word stands here; then go on behind it."""
        if not self.line.startswith(word, self.at):
            return False
        self.at += len(word)
        self._space()
        return True

    def expect(self, word: str) -> None:
        """Go on behind the word.

        Raises:
            ValueError: something else stands here.
        """
        if not self.skip(word):
            raise ValueError(f"expected {word!r} at column {self.at + 1}")

    def take(self, pattern: str) -> str:
        """What matches the pattern here.

        Raises:
            ValueError: nothing does.
        """
        match = re.compile(pattern).match(self.line, self.at)
        if match is None:
            raise ValueError(f"expected {pattern} at column {self.at + 1}")
        self.at = match.end()
        self._space()
        return match.group()

    def word(self) -> str:
        """A name, plain or as a JSON string."""
        if self.line.startswith('"', self.at):
            return str(self.json())
        # A colon that ends a typed name is followed by a space, one inside a name is not.
        return self.take(NAME)

    def json(self) -> Any:
        """A JSON value."""
        value, self.at = self._decoder.raw_decode(self.line, self.at)
        self._space()
        return value

    def type(self) -> TensorType:
        """A tensor type."""
        dtype, extents = cast("re.Match[str]", TYPE.fullmatch(self.take(TYPE.pattern))).groups()
        return TensorType(DType(dtype), tuple(int(word) for word in extents.split(",") if word))

    def axes(self) -> tuple[int | None, int | None]:
        """Time axis and batch axis, where they are given."""
        time = self.optional() if self.skip("time=") else None
        batch = self.optional() if self.skip("batch=") else None
        return time, batch

    def number(self, key: str) -> int:
        """A natural number behind the word `key`."""
        self.expect(key)
        return int(self.take(r"\d+"))

    def optional(self) -> int | None:
        """A number, or None for a dash."""
        word = self.take(r"-|\d+")
        return None if word == "-" else int(word)

    def end(self) -> None:
        """Check that nothing follows.

        Raises:
            ValueError: something does.
        """
        if self.at != len(self.line):
            raise ValueError(f"unexpected text at column {self.at + 1}")
