"""NDJSON: one JSON value a line is a frame; a list, a number, or an object by columns."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TextIO

import numpy as np

from edgelstm.errors import RecordingError
from edgelstm.signature import Signature, TensorSpec
from edgelstm.streams.base import Array, Batch
from edgelstm.streams.columns import choose_columns, element_names, to_frames


class NdjsonSource:
    """Frames out of lines; arguments as for `CsvSource`.

    An object holds the inputs by name (`{"x": [1, 2]}`), or one number a column
    (`{"ax": 1, "ay": 2}`); null is a missing number.
    """

    def __init__(
        self,
        stream: TextIO,
        origin: str,
        signature: Signature,
        columns: Sequence[str] = (),
        keep: Sequence[str] = (),
        batch_size: int = 4096,
        total: int | None = None,
    ) -> None:
        self._stream = stream
        self._origin = origin
        self._specs = signature.inputs
        self._columns = tuple(columns)
        self._keep = tuple(keep)
        self._batch_size = batch_size
        self._total = total
        self._chosen: dict[str, list[str]] | None = None

    @property
    def kept(self) -> tuple[str, ...]:
        """Keys that pass through."""
        return self._keep

    @property
    def mapping(self) -> Mapping[str, Sequence[str]]:
        """Which keys feed which input; known after the first frame."""
        return self._chosen or {spec.name: element_names(spec) for spec in self._specs}

    @property
    def total(self) -> int | None:
        """Bytes to read, where known."""
        return self._total

    @property
    def done(self) -> int:
        """Bytes read so far."""
        return int(self._stream.buffer.tell()) if self._total is not None else 0

    def batches(self) -> Iterator[Batch]:
        """All lines in order."""
        rows: list[list[Array]] = []
        kept: list[list[Any]] = []
        lines: list[int] = []
        try:
            for number, text in self._read_lines():
                where = f"{self._origin}:{number}"
                data = _parse_line(text, where)
                rows.append(self._read_frame(data, where))
                kept.append(self._read_kept(data, where))
                lines.append(number)
                if len(rows) >= self._batch_size:
                    yield self._batch(rows, kept, lines)
                    rows, kept, lines = [], [], []
        except RecordingError:
            if kept:
                yield self._batch(rows[: len(kept)], kept, lines)
            raise
        if rows:
            yield self._batch(rows, kept, lines)

    def _read_lines(self) -> Iterator[tuple[int, str]]:
        number = 0
        try:
            for text in iter(self._stream.readline, ""):
                number += 1
                if text.strip():
                    yield number, text.removeprefix("\ufeff")
        except UnicodeDecodeError as exc:
            raise RecordingError(
                f"{self._origin}: not text in UTF-8 after line {number}: {exc.reason}"
            ) from exc

    def _read_frame(self, data: Any, where: str) -> list[Array]:
        specs = self._specs
        if not isinstance(data, dict):
            if len(specs) != 1 or self._columns:
                raise RecordingError(f"{where}: expected an object with keys, got {_kind(data)}")
            return [_numbers(data, specs[0], where)]
        if not self._columns and all(spec.name in data for spec in specs):
            return [_numbers(data[spec.name], spec, where) for spec in specs]
        chosen = self._choose(data, where)
        frame = []
        for spec in specs:
            missing = [name for name in chosen[spec.name] if name not in data]
            if missing:
                raise RecordingError(f"{where}: no key {', '.join(map(repr, missing))}")
            frame.append(_numbers([data[name] for name in chosen[spec.name]], spec, where))
        return frame

    def _choose(self, data: Mapping[str, Any], where: str) -> dict[str, list[str]]:
        """Which keys feed which input, decided by the first frame."""
        if self._chosen is None:
            header = list(data)
            numeric = [
                i for i, value in enumerate(data.values()) if isinstance(value, (int, float))
            ]
            found = choose_columns(header, self._specs, self._columns, numeric, where)
            self._chosen = {name: [header[i] for i in indices] for name, indices in found.items()}
        return self._chosen

    def _read_kept(self, data: Any, where: str) -> list[Any]:
        if not self._keep:
            return []
        if not isinstance(data, dict) or any(name not in data for name in self._keep):
            raise RecordingError(f"{where}: no key {', '.join(map(repr, self._keep))} to keep")
        return [data[name] for name in self._keep]

    def _batch(self, rows: list[list[Array]], kept: list[list[Any]], lines: list[int]) -> Batch:
        frames = {
            spec.name: np.concatenate([row[i] for row in rows])
            for i, spec in enumerate(self._specs)
        }
        columns = {name: [row[i] for row in kept] for i, name in enumerate(self._keep)}
        return Batch(frames, lambda i: f"{self._origin}:{lines[i]}", columns)


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
            self._stream.write(json.dumps(record, allow_nan=False, ensure_ascii=False) + "\n")

    def flush(self) -> None:
        """Hand on what was written so far."""
        self._stream.flush()

    def finish(self) -> None:
        """All lines are out already; hand them on."""
        self._stream.flush()


def _plain(value: Any) -> Any:
    """A value as JSON has it."""
    if isinstance(value, np.ndarray) and value.ndim:
        return [_plain(item) for item in value]
    if isinstance(value, (np.floating, float)) or (
        isinstance(value, np.ndarray) and value.dtype.kind == "f"
    ):
        # By way of the shortest text: 0.1 in single precision is 0.1, not 0.10000000149011612.
        return float(str(value)) if np.isfinite(value) else None
    return value.item() if isinstance(value, (np.generic, np.ndarray)) else value


def _parse_line(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise RecordingError(f"{where}: not JSON: {exc}") from exc


def _numbers(data: Any, spec: TensorSpec, where: str) -> Array:
    """One frame `(1, *frame)`; null is NaN."""
    flat: list[Any] = []
    _flatten(data, flat)
    for value in flat:
        if not isinstance(value, (int, float)):
            raise RecordingError(f"{where}: input {spec.name!r}: {_kind(value)} is no number")
    if any(isinstance(value, int) and abs(value) >= 2**63 for value in flat):
        flat = [float(value) for value in flat]
    return to_frames([flat], spec, where)


def _flatten(data: Any, flat: list[Any]) -> None:
    if isinstance(data, list):
        for item in data:
            _flatten(item, flat)
    else:
        flat.append(float("nan") if data is None else data)


def _kind(value: Any) -> str:
    names = {list: "a list", dict: "an object", str: "text", type(None): "null", bool: "a boolean"}
    return names.get(type(value), "a number")
