"""Reading JSON objects that came from a file: every value has the type it should, or one error.

Whoever reads a part of a manifest takes a `Fields` and asks for what it knows; keys that nobody
asks for are left alone, so that newer files can say more.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any, NoReturn, TypeVar

from edgelstm.errors import ArtifactFormatError

LARGEST_COUNT = 1 << 62
"""No number of anything in a file is larger."""

MOST_ITEMS = 1 << 20
"""No list in a manifest is longer."""

MOST_AXES = 32
"""No tensor has more axes; NumPy refuses them, too."""

_E = TypeVar("_E", bound=Enum)
_REQUIRED: Any = object()


class Fields:
    """One JSON object.

    Args:
        data: what was parsed.
        where: its place, for messages: "target.facts".

    Raises:
        ArtifactFormatError: it is no object.
    """

    __slots__ = ("_data", "_where")

    def __init__(self, data: Any, where: str = "") -> None:
        self._where = where
        if not isinstance(data, dict):
            _refuse(where or "manifest", data, "an object")
        self._data: Mapping[str, Any] = data

    def __contains__(self, name: str) -> bool:
        return self._data.get(name) is not None

    @property
    def data(self) -> Mapping[str, Any]:
        """The object itself."""
        return self._data

    def text(self, name: str, default: str = _REQUIRED) -> str:
        """Text."""
        value = self._value(name, default)
        if not isinstance(value, str):
            self._refuse(name, value, "text")
        return value

    def matching(self, name: str, pattern: str, what: str) -> str:
        """Text that a regular expression matches as a whole."""
        value = self.text(name)
        if re.fullmatch(pattern, value) is None:
            self._refuse(name, value, what)
        return value

    def one_of(self, name: str, kind: type[_E]) -> _E:
        """The member of an enumeration that has this value."""
        value = self._value(name, _REQUIRED)
        try:
            return kind(value)
        except (ValueError, TypeError):
            self._refuse(name, value, f"one of {', '.join(str(each.value) for each in kind)}")

    def flag(self, name: str, default: bool = _REQUIRED) -> bool:
        """True or false."""
        value = self._value(name, default)
        if not isinstance(value, bool):
            self._refuse(name, value, "true or false")
        return value

    def count(self, name: str, default: int = _REQUIRED, most: int = LARGEST_COUNT) -> int:
        """An integer that is not negative."""
        value = self._value(name, default)
        if type(value) is not int or not 0 <= value <= most:
            self._refuse(name, value, f"an integer from 0 to {most}")
        return value

    def integer(self, name: str, low: int, high: int, default: int = _REQUIRED) -> int:
        """An integer in a range, both ends included."""
        value = self._value(name, default)
        if type(value) is not int or not low <= value <= high:
            self._refuse(name, value, f"an integer from {low} to {high}")
        return value

    def number(self, name: str, default: float = _REQUIRED) -> float:
        """A finite number."""
        return _number(self._value(name, default), self._at(name))

    def optional_count(self, name: str) -> int | None:
        """An integer that is not negative, or nothing."""
        return self.count(name) if name in self else None

    def optional_number(self, name: str) -> float | None:
        """A finite number, or nothing."""
        return self.number(name) if name in self else None

    def counts(self, name: str, most: int = MOST_ITEMS) -> tuple[int, ...]:
        """A list of integers that are not negative."""
        values = self._list(name, most)
        for index, value in enumerate(values):
            if type(value) is not int or not 0 <= value <= LARGEST_COUNT:
                _refuse(
                    f"{self._at(name)}[{index}]", value, f"an integer from 0 to {LARGEST_COUNT}"
                )
        return tuple(values)

    def shape(self, name: str) -> tuple[int, ...]:
        """The extents of a tensor."""
        return self.counts(name, MOST_AXES)

    def numbers(self, name: str) -> tuple[float, ...]:
        """A list of finite numbers."""
        values = self._list(name, MOST_ITEMS)
        return tuple(_number(v, f"{self._at(name)}[{i}]") for i, v in enumerate(values))

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts; none there stands for an empty one."""
        values = self._list(name, MOST_ITEMS) if name in self._data else []
        for index, value in enumerate(values):
            if not isinstance(value, str):
                _refuse(f"{self._at(name)}[{index}]", value, "text")
        return tuple(values)

    def object(self, name: str) -> Fields:
        """An object."""
        return Fields(self._value(name, _REQUIRED), self._at(name))

    def optional(self, name: str) -> Fields:
        """An object; an empty one where there is none."""
        return self.object(name) if name in self._data else Fields({}, self._at(name))

    def objects(self, name: str) -> Iterator[Fields]:
        """A list of objects; none there stands for an empty one."""
        values = self._list(name, MOST_ITEMS) if name in self._data else []
        for index, value in enumerate(values):
            yield Fields(value, f"{self._at(name)}[{index}]")

    def refuse(self, name: str, expected: str) -> NoReturn:
        """Complain about a value that has the right type and is wrong all the same."""
        self._refuse(name, self._data.get(name), expected)

    def items(self, name: str) -> list[Any]:
        """A list of anything."""
        return self._list(name, MOST_ITEMS)

    def _list(self, name: str, most: int) -> list[Any]:
        value = self._value(name, _REQUIRED)
        if not isinstance(value, list) or len(value) > most:
            self._refuse(name, value, f"a list of up to {most} items")
        return value

    def _value(self, name: str, default: Any) -> Any:
        if name in self._data:
            return self._data[name]
        if default is _REQUIRED:
            self._refuse(name, None, "a value")
        return default

    def _at(self, name: str) -> str:
        return f"{self._where}.{name}" if self._where else name

    def _refuse(self, name: str, found: Any, expected: str) -> NoReturn:
        _refuse(self._at(name), found, expected)


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        _refuse(where, value, "a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        _refuse(where, value, "a finite number")
    return number


def _refuse(where: str, found: Any, expected: str) -> NoReturn:
    try:
        shown = repr(found)
    except (ValueError, RecursionError):  # integers of thousands of digits have no text
        shown = f"a {type(found).__name__}"
    shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
    raise ArtifactFormatError(
        f"the manifest is malformed: {where} is {shown}, expected {expected}; copy the artifact "
        "again, or compile the model again"
    )
