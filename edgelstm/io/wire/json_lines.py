"""JSON of sensors: a sample or several in a line or message, as objects, lists or numbers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from edgelstm.io.numbers import json_float
from edgelstm.io.wire.base import (
    BAD_BYTE,
    CUT_AT_START,
    MISSING,
    NOT_A_NUMBER,
    NOT_JSON,
    WRONG_LENGTH,
    RowList,
    Rows,
)
from edgelstm.io.wire.line_stream import LineStream

_MOST_COLUMNS = 4096
_MOST_SHARED = 1 << 17
"""Values that stand once in a message and are those of several samples: so many in all."""


class JsonLines:
    """Rows out of JSON.

    An object gives a column for each number in it: `{"ax": 1, "gyro": {"x": 2}, "q": [3, 4]}` has
    `ax`, `gyro.x`, `q[0]`, `q[1]`; text is left out. A list of numbers is a sample, a list of
    objects or lists several; so is an object with exactly one such list in it, the numbers beside
    which are the same for all of them.

    Args:
        columns: keys in order, where not all are wanted, or names for lists of numbers.
    """

    def __init__(self, columns: Sequence[str] = ()) -> None:
        self._given = tuple(columns)
        self.names: tuple[str, ...] = self._given
        self.has_names = bool(columns)
        self._lines = LineStream()
        self._width = 0
        self._lists: set[str] = set()

    def begin(self, is_cut: bool) -> None:
        """A connection begins."""
        self._lines.begin(is_cut)

    def end(self) -> Mapping[str, int]:
        """A connection ends."""
        return self._lines.end()

    def feed(self, data: bytes, now: float) -> Rows:
        """Bytes of a stream: a JSON value a line."""
        del now
        lines, faults = self._lines.feed(data)
        rows = RowList(len(self.names))
        for i, line in enumerate(lines):
            reason = faults.get(i)
            if reason == CUT_AT_START and _is_json(line):
                reason = None  # the rest of an object or list is none
            if reason == CUT_AT_START:
                rows.refused[reason] += 1
            elif reason is not None:
                rows.fault(reason)
            elif line.strip():
                self._read(line, rows)
        return rows.done()

    def message(self, data: bytes) -> Rows:
        """One JSON value, or several, one a line."""
        rows = RowList(len(self.names))
        if data.strip():
            lines = [line for line in data.split(b"\n") if line.strip()]
            if len(lines) > 1 and _is_json(lines[0]):
                for line in lines:
                    self._read(line, rows)
            else:
                self._read(data, rows)
        return rows.done()

    def _read(self, data: bytes, rows: RowList) -> None:
        try:
            value = json.loads(data.decode())
        except UnicodeDecodeError:
            rows.fault(BAD_BYTE)
            return
        except (ValueError, RecursionError):
            rows.fault(NOT_JSON)
            return
        try:
            for sample in _samples(value):
                self._read_sample(sample, rows)
        except _TooManyError:
            rows.fault(WRONG_LENGTH)

    def _read_sample(self, sample: Any, rows: RowList) -> None:
        try:
            flat = dict(_numbers_in(sample, self._given))
        except _TooManyError:
            rows.fault(WRONG_LENGTH)
            return
        is_object = isinstance(sample, dict)
        if not flat:
            rows.fault(NOT_A_NUMBER)
            return
        if not self.names:
            self.names = tuple(flat)
            self.has_names = is_object
        if not self._width:
            self._width = len(flat)
            self._lists = {_list_name(name) for name in self.names} - {""}
        if not is_object:
            values = list(flat.values())
            if len(values) != len(self.names):
                rows.fault(WRONG_LENGTH)
                return
        else:
            found = [flat.get(name) for name in self.names]
            if len(flat) != self._width and self._is_longer(flat):
                rows.fault(WRONG_LENGTH)
                return
            if None in found:
                rows.fault(NOT_A_NUMBER if _holds_text(sample, self.names) else MISSING)
                return
            values = [value for value in found if value is not None]
        rows.add(values)

    def _is_longer(self, flat: Mapping[str, float]) -> bool:
        """Whether a list has more numbers than that of the first sample."""
        return any(name not in self.names and _list_name(name) in self._lists for name in flat)


def _list_name(name: str) -> str:
    return name.partition("[")[0] if name.endswith("]") else ""


def _is_json(line: bytes) -> bool:
    """Whether a line is an object or a list: the rest of one is neither."""
    if not line.lstrip().startswith((b"{", b"[")):
        return False
    try:
        json.loads(line.decode())
    except (ValueError, RecursionError):
        return False
    return True


def _samples(value: Any) -> Iterator[Any]:
    """The samples of a message.

    Raises:
        _TooManyError: what they share makes far more of them than the message is long.
    """
    if _is_several(value):
        yield from value
        return
    if isinstance(value, dict):
        lists = [name for name, item in value.items() if _is_several(item)]
        if len(lists) == 1:
            beside = {name: item for name, item in value.items() if name != lists[0]}
            if _values_in(beside) * len(value[lists[0]]) > _MOST_SHARED:
                raise _TooManyError
            for item in value[lists[0]]:
                yield {**beside, **item} if isinstance(item, dict) else item
            return
    yield value


def _values_in(value: Any) -> int:
    """How many values there are, counting objects and lists, up to more than any sensor has."""
    stack, count = [value], 0
    while stack and count <= _MOST_COLUMNS:
        item = stack.pop()
        count += 1
        if isinstance(item, (dict, list)):
            inner = item.values() if isinstance(item, dict) else item
            stack += islice(inner, _MOST_COLUMNS)
            count += max(len(item) - _MOST_COLUMNS, 0)
    return count


def _is_several(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(item, (dict, list)) for item in value)
    )


class _TooManyError(ValueError):
    """More numbers than a sensor has."""


def _numbers_in(value: Any, wanted: Sequence[str]) -> Iterator[tuple[str, float]]:
    """Every number with its name; missing ones are NaN, true and false are numbers if wanted.

    Raises:
        _TooManyError: there are too many.
    """
    stack: list[tuple[str, tuple[int, ...], Any]] = [("", (), value)]
    count = 0
    while stack:
        name, place, item = stack.pop()
        if isinstance(item, dict):
            prefix = f"{_named(name, place)}." if name or place else ""
            stack += [(prefix + key, (), each) for key, each in reversed(item.items())]
        elif isinstance(item, list):
            stack += [(name, (*place, i), each) for i, each in reversed(list(enumerate(item)))]
        elif item is None or type(item) in (int, float) or _named(name, place) in wanted:
            if isinstance(item, str):
                continue
            yield _named(name, place), json_float(item)
            count += 1
        if count > _MOST_COLUMNS or len(stack) > _MOST_COLUMNS:
            raise _TooManyError


def _named(name: str, place: tuple[int, ...]) -> str:
    if not place:
        return name
    return f"{name}[{','.join(map(str, place))}]" if name else ",".join(map(str, place))


def _holds_text(sample: Mapping[str, Any], names: Sequence[str]) -> bool:
    return any(isinstance(sample.get(name), str) for name in names)
