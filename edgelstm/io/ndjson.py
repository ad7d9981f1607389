"""NDJSON: one JSON value a line is a frame; a list, a number, or an object by columns."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any, TextIO

import numpy as np

from edgelstm.dtypes import DType, is_floating
from edgelstm.io.base import Array, Batch, Fault
from edgelstm.io.columns import (
    TIME_NAMES,
    choose_columns,
    element_names,
    plain_name,
    to_frames,
    unit_in_name,
)
from edgelstm.io.limits import BLOCK_ROWS
from edgelstm.io.numbers import json_float
from edgelstm.io.sources.csv_cells import MISSING, OUT_OF_RANGE
from edgelstm.io.sources.text_lines import ByteProgress, LineReader, Lines
from edgelstm.signature import Signature, TensorSpec

NOT_JSON = "not JSON"
NOT_A_NUMBER = "not a number"
SHAPE = "wrong shape"

_NAN = float("nan")


class NdjsonSource(ByteProgress):
    """Frames out of lines; arguments as for `CsvSource`.

    An object holds the inputs by name (`{"x": [1, 2]}`), or one number a column
    (`{"ax": 1, "ay": 2}`); null is a missing number. A list has the shape of a frame, or holds its
    elements row by row. Blank lines are none.
    """

    def __init__(
        self,
        file: IO[bytes],
        origin: str,
        signature: Signature,
        columns: Sequence[str] = (),
        keep: Sequence[str] = (),
        batch_size: int = BLOCK_ROWS,
        total: int | None = None,
        *,
        is_live: bool = False,
        described: Sequence[str] = (),
    ) -> None:
        self._origin = origin
        self._reader = LineReader(file, origin, is_live)
        self._specs = signature.inputs
        self._columns = tuple(columns)
        self._described = tuple(described)
        self._keep = tuple(keep)
        self._batch_size = batch_size
        self._total = total
        self._chosen: dict[str, list[str]] | None = None
        self._time: str | None = None

    @property
    def kept(self) -> tuple[str, ...]:
        """Keys that pass through."""
        return self._keep

    @property
    def mapping(self) -> Mapping[str, Sequence[str]]:
        """Which keys feed which input; known after the first frame."""
        return self._chosen or {spec.name: element_names(spec) for spec in self._specs}

    @property
    def units(self) -> Mapping[str, Sequence[str]]:
        """The units of these keys, as far as the keys tell."""
        return {
            name: [unit_in_name(column) for column in columns]
            for name, columns in self.mapping.items()
        }

    @property
    def time_name(self) -> str | None:
        """The key of the time stamps, where there is one; known after the first frame."""
        return self._time

    @property
    def remarks(self) -> Sequence[str]:
        """Nothing."""
        return ()

    def batches(self) -> Iterator[Batch]:
        """All lines in order."""
        while raw := self._reader.read(self._batch_size):
            batch = self._batch(self._reader.decode(raw))
            if batch is not None:
                yield batch

    def _batch(self, block: Lines) -> Batch | None:
        """The frames of these lines; None where all are blank."""
        numbers: list[int] = []
        values: list[Any] = []
        faults: dict[int, Fault] = {}
        for i, text in enumerate(block.texts):
            fault = block.faults.get(i)
            if fault is None and not text.strip():
                continue
            where = f"{self._origin}:{block.first + i}"
            value = None
            if fault is None:
                try:
                    value = _parse_line(text)
                except _NoFrameError as exc:
                    fault = Fault(exc.reason, f"{where}: {exc}")
            if fault is not None:
                faults[len(values)] = fault
            values.append(value)
            numbers.append(block.first + i)
        if not values:
            return None
        self._choose([value for value in values if isinstance(value, dict)])
        rows = [self._row(i, value, numbers[i], faults) for i, value in enumerate(values)]
        frames = {
            spec.name: to_frames([row[k] for row in rows], _flat(spec), "").reshape(-1, *spec.shape)
            for k, spec in enumerate(self._specs)
        }
        kept = {
            name: [value.get(name) if isinstance(value, dict) else None for value in values]
            for name in self._keep
        }
        origin = self._origin
        return Batch(frames, lambda i: f"{origin}:{numbers[i]}", kept, faults, self._times(values))

    def _row(
        self, index: int, value: Any, number: int, faults: dict[int, Fault]
    ) -> list[list[float]]:
        """The elements of each input; those of a line that is no frame mean nothing."""
        if index not in faults:
            try:
                return self._read_frame(value)
            except _NoFrameError as exc:
                faults[index] = Fault(exc.reason, f"{self._origin}:{number}: {exc}")
        return [
            [_NAN if spec.dtype.is_float else 0] * math.prod(spec.shape) for spec in self._specs
        ]

    def _read_frame(self, data: Any) -> list[list[float]]:
        specs = self._specs
        if not isinstance(data, dict):
            if len(specs) != 1 or self._columns:
                raise _NoFrameError(SHAPE, f"expected an object with keys, got {_kind(data)}")
            if self._keep:
                raise _NoFrameError(MISSING, f"no key {self._keep[0]!r} to keep")
            return [_elements(data, specs[0])]
        for name in self._keep:
            if name not in data:
                raise _NoFrameError(MISSING, f"no key {name!r} to keep")
        if not self._columns and all(spec.name in data for spec in specs):
            return [_elements(data[spec.name], spec) for spec in specs]
        chosen = self._chosen or {}
        frame = []
        for spec in specs:
            missing = [name for name in chosen[spec.name] if name not in data]
            if missing:
                raise _NoFrameError(MISSING, f"no key {', '.join(map(repr, missing))}")
            numbers = [data[name] for name in chosen[spec.name]]
            frame.append(_numbers(numbers, spec, chosen[spec.name]))
        return frame

    def _choose(self, objects: Sequence[Mapping[str, Any]]) -> None:
        """Decide which keys feed which input, with the first objects that there are."""
        by_input = all(spec.name in data for data in objects for spec in self._specs)
        if self._chosen is not None or not objects or (by_input and not self._columns):
            return
        header = list(dict.fromkeys(name for data in objects for name in data))
        numeric = [i for i, name in enumerate(header) if _is_numeric(objects, name)]
        found = choose_columns(
            header, self._specs, self._columns, numeric, self._origin, self._described
        )
        self._chosen = {name: [header[i] for i in indices] for name, indices in found.items()}
        times = [header[i] for i in numeric if plain_name(header[i]) in TIME_NAMES]
        self._time = times[0] if times else None

    def _times(self, values: Sequence[Any]) -> Array | None:
        if self._time is None:
            return None
        stamps = [value.get(self._time) if isinstance(value, dict) else None for value in values]
        return np.array([json_float(x) if type(x) in (int, float) else _NAN for x in stamps])


class NdjsonSink:
    """Predictions as objects, one a line: keys that pass through, then the outputs by name.

    Numbers are written so that they read back exactly; NaN and infinity, which JSON lacks, as null.
    """

    def __init__(self, stream: TextIO, signature: Signature, kept: Sequence[str] = ()) -> None:
        self._stream = stream
        self._specs = signature.outputs
        self._kept = tuple(kept)

    def write(self, outputs: Mapping[str, Array], kept: Mapping[str, Sequence[Any]]) -> None:
        """Write lines."""
        for i in range(len(outputs[self._specs[0].name])):
            record = {name: _plain(kept[name][i]) for name in self._kept}
            for spec in self._specs:
                record[spec.name] = _plain(outputs[spec.name][i])
            self._stream.write(_line(record))

    def flush(self) -> None:
        """Hand on what was written so far."""
        self._stream.flush()

    def finish(self) -> None:
        """All lines are out already; hand them on."""
        self._stream.flush()


def _line(record: Mapping[str, Any]) -> str:
    text = json.dumps(record, allow_nan=False, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        # Half of a surrogate pair has no bytes in UTF-8; JSON can escape it.
        text = json.dumps(record, allow_nan=False)
    return text + "\n"


def _plain(value: Any) -> Any:
    """A value as JSON has it."""
    if isinstance(value, list) or (isinstance(value, np.ndarray) and value.ndim):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, (np.floating, float)) or (
        isinstance(value, np.ndarray) and is_floating(value.dtype)
    ):
        # By way of the shortest text: 0.1 in single precision is 0.1, not 0.10000000149011612.
        return float(str(value)) if np.isfinite(value) else None
    return value.item() if isinstance(value, (np.generic, np.ndarray)) else value


class _NoFrameError(ValueError):
    """A line that is no frame.

    Args:
        reason: see `Fault`.
        message: without the place.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def _parse_line(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_object)
    except _NoFrameError:
        raise
    except (ValueError, RecursionError) as exc:
        stripped = text.strip()
        hint = ""
        if stripped in ("[", "{", "]", "}") or stripped.endswith(","):
            hint = " (a value over several lines? NDJSON has one value a line)"
        raise _NoFrameError(NOT_JSON, f"not JSON: {exc}{hint}") from exc


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _NoFrameError(NOT_JSON, f"the key {twice!r} stands twice in an object")
    return data


def _elements(data: Any, spec: TensorSpec) -> list[float]:
    """The elements of one frame, row by row."""
    if data is None and math.prod(spec.shape) == 1:
        return _numbers([None], spec)
    if not isinstance(data, (list, int, float)):
        raise _NoFrameError(NOT_A_NUMBER, f"input {spec.name!r}: {_kind(data)} is no number")
    size = math.prod(spec.shape)
    flat = data if isinstance(data, list) else [data]
    if spec.shape and isinstance(data, list) and any(isinstance(item, list) for item in data):
        shape, flat = _shape_of(data)
        if shape != spec.shape:
            raise _shape_error(spec, str(shape) if shape else "lists of different lengths")
    elif len(flat) != size:
        raise _shape_error(spec, f"({len(flat)},)" if isinstance(data, list) else _kind(data))
    return _numbers(flat, spec)


def _shape_of(data: list[Any]) -> tuple[tuple[int, ...], list[Any]]:
    """Extents of nested lists and their items; () where they are ragged."""
    shape: list[int] = []
    level: list[Any] = [data]
    while level and all(isinstance(item, list) for item in level):
        lengths = {len(item) for item in level}
        if len(lengths) != 1:
            return (), []
        shape.append(lengths.pop())
        level = [item for items in level for item in items]
    return (() if any(isinstance(item, list) for item in level) else tuple(shape)), level


def _shape_error(spec: TensorSpec, found: str) -> _NoFrameError:
    return _NoFrameError(
        SHAPE, f"input {spec.name!r} has frames of shape {spec.shape}, the recording {found}"
    )


def _numbers(values: Sequence[Any], spec: TensorSpec, names: Sequence[str] = ()) -> list[float]:
    """Values of JSON as elements of an input; null is NaN."""
    kinds = set(map(type, values))
    if spec.dtype.is_float:
        if kinds == {float}:
            return list(values)
        if kinds <= {float, int, type(None)}:
            return [json_float(value) for value in values]
    allowed = (bool, int) if spec.dtype is DType.BOOL else (int, float)
    out: list[float] = []
    limits = np.iinfo(spec.dtype.numpy.name) if spec.dtype.numpy.kind in "iu" else None
    for i, value in enumerate(values):
        what = f"key {names[i]!r}" if names else f"input {spec.name!r}"
        if value is None and not spec.dtype.is_float:
            raise _NoFrameError(MISSING, f"{what}: missing, and integers have no NaN")
        if type(value) not in (*allowed, type(None)):
            raise _NoFrameError(NOT_A_NUMBER, f"{what}: {_kind(value)} is no number")
        if isinstance(value, float) and not spec.dtype.is_float:
            if not value.is_integer():
                raise _NoFrameError(NOT_A_NUMBER, f"{what}: {value!r} is no integer")
            value = int(value)
        if spec.dtype is DType.BOOL and value not in (0, 1):
            raise _NoFrameError(NOT_A_NUMBER, f"{what}: {value!r} is none of 0, 1, false and true")
        if limits is not None and not limits.min <= value <= limits.max:
            raise _NoFrameError(OUT_OF_RANGE, f"{what}: beyond {spec.dtype.numpy.name}")
        out.append(bool(value) if spec.dtype is DType.BOOL else value)
    return out


def _is_numeric(objects: Sequence[Mapping[str, Any]], name: str) -> bool:
    """Whether a key holds numbers in most of the objects that have a value for it."""
    values = [data[name] for data in objects if data.get(name) is not None]
    return 2 * sum(type(value) in (int, float) for value in values) >= len(values)


def _flat(spec: TensorSpec) -> TensorSpec:
    """The same input with its elements in a row."""
    return dataclasses.replace(spec, shape=(math.prod(spec.shape),))


def _kind(value: Any) -> str:
    names = {
        list: "a list",
        dict: "an object",
        str: "text",
        type(None): "null",
        bool: "true" if value else "false",
    }
    return names.get(type(value), "a number")
