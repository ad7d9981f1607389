"""TOML with the line of every key, so that an error can say where it is."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgelstm.errors import EdgeLSTMError, RecordingError
from edgelstm.io.address import parse_seconds

KeyPath = tuple[str | int, ...]

_HEADER = re.compile(r"\s*(\[\[?)(.+?)\]\]?\s*(?:#.*)?$")
_KEY = re.compile(
    r"""\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*="""
)
_PART = re.compile(r"""[A-Za-z0-9_-]+|"[^"]*"|'[^']*'""")
_MOST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class TomlTable:
    """A table of a TOML file, that knows where its keys are.

    Args:
        values: as `tomllib` reads them.
        name: of the file.
        lines: line of each key, by its path in the file.
        path: of this table in the file.
    """

    values: Mapping[str, Any]
    name: str
    lines: Mapping[KeyPath, int]
    path: KeyPath = ()

    def where(self, *keys: str | int) -> str:
        """`file:line` of a key, or of what is nearest to it."""
        path = (*self.path, *keys)
        while path and path not in self.lines:
            path = path[:-1]
        return f"{self.name}:{self.lines[path]}" if path else self.name

    def fault(self, message: str, *keys: str | int) -> RecordingError:
        """An error about a key."""
        dotted = "".join(
            f"[{k + 1}]" if isinstance(k, int) else f".{k}" for k in (*self.path, *keys)
        )
        return RecordingError(f"{self.where(*keys)}: {dotted.lstrip('.') or 'the file'}: {message}")

    def with_hyphens(self) -> TomlTable:
        """The same with `gap-limit` for a key `gap_limit`; keys further down stay."""
        here = len(self.path)

        def renamed(path: KeyPath) -> KeyPath:
            if len(path) <= here or path[:here] != self.path or isinstance(path[here], int):
                return path
            return (*path[:here], str(path[here]).replace("_", "-"), *path[here + 1 :])

        return TomlTable(
            {key.replace("_", "-"): value for key, value in self.values.items()},
            self.name,
            {renamed(path): line for path, line in self.lines.items()},
            self.path,
        )

    def table(self, key: str) -> TomlTable | None:
        """A table in this one; None where there is none."""
        found = self.values.get(key)
        if found is None:
            return None
        if not isinstance(found, dict):
            raise self.fault(f"is {_kind(found)}, not a table: write [{key}]", key)
        return TomlTable(found, self.name, self.lines, (*self.path, key))

    def tables(self, key: str) -> list[TomlTable]:
        """The tables of a list."""
        found = self.values.get(key, [])
        if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
            raise self.fault(f"is {_kind(found)}, not a list of tables: write [[{key}]]", key)
        return [
            TomlTable(item, self.name, self.lines, (*self.path, key, i))
            for i, item in enumerate(found)
        ]

    def expect_keys(self, *known: str) -> None:
        """Refuse keys that mean nothing here.

        Raises:
            RecordingError: there is one.
        """
        for key in self.values:
            if key not in known:
                raise self.fault(f"is not known here; known are {', '.join(known)}", key)

    def number(
        self,
        key: str,
        default: float | None = None,
        low: float = -float("inf"),
        high: float = float("inf"),
        above: float = -float("inf"),
    ) -> float | None:
        """A number within limits; `above` is none that it may be."""
        found = self.values.get(key)
        if found is None:
            return default
        if not is_number(found) or not low <= found <= high or not found > above:
            limits = _limits(low, high) if above == -float("inf") else f"a number above {above:g}"
            raise self.fault(f"is {found!r}, not {limits}", key)
        return float(found)

    def count(self, key: str) -> int | None:
        """A whole number from 1."""
        found = self.values.get(key)
        if found is not None and (
            isinstance(found, bool) or not isinstance(found, int) or found < 1
        ):
            raise self.fault(f"is {found!r}, not an integer from 1", key)
        return found

    def seconds(self, key: str) -> float | None:
        """A duration: a number of seconds, or a text such as 500ms."""
        found = self.values.get(key)
        if not isinstance(found, str):
            return self.number(key, low=0.0)
        try:
            return parse_seconds(found)
        except ValueError as exc:
            raise self.fault(f"is {found!r}, not {exc}", key) from None

    def flag(self, key: str, default: bool) -> bool:
        """A truth value."""
        found = self.values.get(key, default)
        if not isinstance(found, bool):
            raise self.fault(f"is {found!r}, not true or false", key)
        return found

    def text(self, key: str, default: str | None = None, of: tuple[str, ...] = ()) -> str | None:
        """A text, perhaps one of some."""
        found = self.values.get(key, default)
        if found is not None and (not isinstance(found, str) or not found):
            raise self.fault(f"is {found!r}, not a text", key)
        if found is not None and of and found not in of:
            raise self.fault(f"is {found!r}, not one of {', '.join(of)}", key)
        return found

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts; empty where there is none."""
        found = self.values.get(key, [])
        if not isinstance(found, list) or not all(isinstance(item, str) and item for item in found):
            raise self.fault(f"is {_kind(found)}, not a list of texts", key)
        return tuple(found)


def is_number(value: Any) -> bool:
    """A finite number, which True is not."""
    return (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and abs(value) < float("inf")
    )


def read_toml(path: Path, error: Callable[[str], EdgeLSTMError] = RecordingError) -> TomlTable:
    """The whole of a file.

    Raises:
        RecordingError: it cannot be read, or is no TOML; names the line.
    """
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise error(f"cannot read {path}: {exc.strerror or exc}") from exc
    if len(data) > _MOST_BYTES:
        raise error(f"{path}: {len(data)} bytes are no configuration; at most {_MOST_BYTES}")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = data[: exc.start].count(b"\n") + 1
        raise error(
            f"{path}:{line}: not TOML: no text in UTF-8 (a byte here is not UTF-8)"
        ) from exc
    return parse_toml(text, str(path), error)


def parse_toml(
    text: str, name: str, error: Callable[[str], EdgeLSTMError] = RecordingError
) -> TomlTable:
    """The whole of a text.

    Raises:
        RecordingError: it is no TOML; names the line.
    """
    try:
        values = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as exc:
        found = re.search(r"\(at line (\d+), column (\d+)\)", str(exc))
        line = int(found[1]) if found else len(text.splitlines())
        reason = re.sub(r"\s*\(at .*\)", "", str(exc))
        raise error(f"{name}:{line}: not TOML: {reason} (no TOML from here on)") from exc
    return TomlTable(values, name, _lines_of(text))


def _lines_of(text: str) -> dict[KeyPath, int]:
    """Where each key is; the text is known to be TOML."""
    lines: dict[KeyPath, int] = {}
    counts: dict[KeyPath, int] = {}
    table: KeyPath = ()
    rest = _Rest()
    for number, line in enumerate(text.splitlines(), 1):
        if rest.is_open:
            rest.see(line)
            continue
        if found := _HEADER.match(line):
            keys = _with_indices(_parts(found[2]), counts)
            if found[1] == "[[":
                counts[keys] = counts.get(keys, -1) + 1
                lines.setdefault(keys, number)
                keys = (*keys, counts[keys])
            table = keys
            lines.setdefault(table, number)
        elif found := _KEY.match(line):
            path = (*table, *_parts(found[1]))
            for end in range(len(table) + 1, len(path) + 1):
                lines.setdefault(path[:end], number)
            rest.see(line[found.end() :])
    return lines


def _parts(text: str) -> tuple[str, ...]:
    return tuple(part.strip("\"'") for part in _PART.findall(text))


def _with_indices(keys: tuple[str, ...], counts: Mapping[KeyPath, int]) -> KeyPath:
    path: KeyPath = ()
    for k, key in enumerate(keys):
        path = (*path, key)
        if path in counts and k < len(keys) - 1:
            path = (*path, counts[path])
    return path


class _Rest:
    """Whether a value goes on in the next line."""

    def __init__(self) -> None:
        self._depth = 0
        self._quote = ""

    @property
    def is_open(self) -> bool:
        return self._depth > 0 or bool(self._quote)

    def see(self, text: str) -> None:
        at = 0
        while at < len(text):
            if self._quote:
                end = text.find(self._quote, at)
                if end < 0:
                    return
                is_escaped = self._quote[0] == '"' and text[:end].endswith("\\")
                at = end + (1 if is_escaped else len(self._quote))
                self._quote = self._quote if is_escaped else ""
                continue
            mark = text[at]
            if mark == "#":
                return
            if mark in "\"'":
                triple = mark * 3
                self._quote = triple if text.startswith(triple, at) else mark
                at += len(self._quote)
                continue
            self._depth += (mark in "[{") - (mark in "]}")
            at += 1


def _kind(value: Any) -> str:
    names = {dict: "a table", list: "a list", str: "a text", bool: "true or false"}
    return next((text for kind, text in names.items() if isinstance(value, kind)), repr(value))


def _limits(low: float, high: float) -> str:
    if low > -float("inf") and high < float("inf"):
        return f"a number from {low:g} to {high:g}"
    return f"a number of at least {low:g}" if low > -float("inf") else "a number"
