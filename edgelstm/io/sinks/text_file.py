"""`file:out.ndjson`, `file:out.csv`, `stdout:`: a line for each prediction."""

from __future__ import annotations

import csv
import io
import os
import sys

import numpy as np

from edgelstm.errors import OutputError
from edgelstm.io.address import Address, Options
from edgelstm.io.columns import names_of, number_texts
from edgelstm.io.live import SinkContext
from edgelstm.io.predictions import NO_PREDICTION, Event, Predictions, flag_names
from edgelstm.io.sinks.destination import Destination
from edgelstm.io.sinks.pending_bytes import PendingBytes, open_lines
from edgelstm.io.sinks.records import event_record, records, to_json

_FORMATS = {".ndjson": "ndjson", ".jsonl": "ndjson", ".json": "ndjson", ".csv": "csv"}

KEYS = ("stream", "sample", "time", "stamp", "artifact", "model", "valid", "quality", "flags")
"""The first columns of CSV."""


def open_sink(address: Address, context: SinkContext) -> TextFile:
    """The sink of an address.

    Raises:
        OutputError: the format is none that can be appended to.
    """
    return TextFile(address, context)


class TextFile(Destination):
    """Predictions as lines, which others can read while it grows.

    Args:
        address: `file:PATH` or `stdout:`.
        context: of the run.
    """

    def __init__(self, address: Address, context: SinkContext) -> None:
        options = Options(address)
        self._path = "" if address.scheme == "stdout" else address.path
        self.name = address.shown
        suffix = os.path.splitext(self._path)[1].lower()
        default = _FORMATS.get(suffix, "" if self._path else "ndjson")
        chosen = options.choice("format", ("ndjson", "csv", ""), default)
        mode = options.choice("mode", ("append", "new"), "append" if context.appends else "new")
        self._is_new = mode == "new"
        self._has_events = options.flag("events", True)
        options.finish()
        if not chosen:
            raise OutputError(
                f"{self._path}: a live run writes lines, .ndjson or .csv (or store:FILE, "
                f"parquet:FILE), not {suffix or 'a file without a suffix'}; or say format=ndjson"
            )
        self._is_csv = chosen == "csv"
        self._header = _header(context)
        self._pending: PendingBytes | None = None
        self._written: dict[str, int] = {}
        self._delivered: dict[str, int] = {}

    @property
    def waiting(self) -> int:
        """Rows, or as good as."""
        return 0 if self._pending is None else self._pending.waiting

    @property
    def trouble(self) -> str:
        """Why nothing is written just now."""
        return "" if self._pending is None else self._pending.trouble

    async def open(self) -> None:
        """Open the file; a new one replaces what was there."""
        if not self._path:
            if sys.stdout is None:
                raise OutputError("standard output is closed: name a file, --output")
            sys.stdout.flush()
            self._pending = PendingBytes(os.dup(sys.stdout.fileno()), self.name)
        else:
            self._pending = open_lines(self._path, self.name, is_new=self._is_new)
        if self._path and os.path.getsize(self._path):
            self._go_on()
        elif self._is_csv:
            self._pending.add(_csv_line(self._header))

    def _go_on(self) -> None:
        """The file is there already: it has the same columns, and ends with a whole line."""
        with open(self._path, "rb") as file:
            first = file.readline(1 << 20)
            if self._is_csv and first != _csv_line(self._header):
                raise OutputError(
                    f"{self._path} has other columns than this run writes: name a new file, or "
                    "say mode=new"
                )
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                # A run was killed while it wrote that line.
                self._add(b"\n")

    def write(self, predictions: Predictions) -> int:
        """Take rows."""
        if self._is_csv:
            data = _csv_rows(predictions)
        else:
            data = "".join(to_json(record) + "\n" for record in records(predictions)).encode(
                "utf-8", "backslashreplace"
            )
        self._written[predictions.stream] = int(predictions.sequence[-1])
        self._add(data)
        return self._delivered.get(predictions.stream, -1)

    def tell(self, event: Event) -> None:
        """Take an event; in CSV only what stands in place of a prediction is a row."""
        if self._is_csv:
            if event.kind == NO_PREDICTION:
                row = [event.stream, "", f"{event.time:.6f}", "", event.model, event.model_id[:12]]
                row += ["false", "0.0", NO_PREDICTION]
                self._add(_csv_line([*row, *[""] * (len(self._header) - len(row))]))
        elif self._has_events:
            self._add((to_json(event_record(event)) + "\n").encode())

    def poll(self) -> None:
        """Write what had no room before."""
        if self._pending is not None and len(self._pending):
            self._add(b"")

    async def close(self) -> None:
        """Write what is left.

        Raises:
            OutputError: there is no room for it.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            await pending.close()
            self._delivered.update(self._written)

    def _add(self, data: bytes) -> None:
        assert self._pending is not None
        self._pending.add(data)
        if not len(self._pending):
            self._delivered.update(self._written)


def _header(context: SinkContext) -> list[str]:
    names = [*KEYS, *context.model.labels]
    for name, shape, _ in context.model.outputs:
        names += names_of(name, shape)
    return names


def _csv_line(cells: list[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue().encode("utf-8", "backslashreplace")


def _csv_rows(predictions: Predictions) -> bytes:
    n = len(predictions)
    model = predictions.model
    columns = [
        [predictions.stream] * n,
        list(map(str, predictions.sequence.tolist())),
        [f"{value:.6f}" for value in predictions.time.tolist()],
        ["" if value != value else repr(value) for value in predictions.stamps.tolist()],
        [model.name] * n,
        [model.model_id[:12]] * n,
        ["true" if value else "false" for value in predictions.valid.tolist()],
        number_texts(predictions.quality),
        [" ".join(flag_names(value)) if value else "" for value in predictions.flags.tolist()],
        *(list(texts) for texts in predictions.labels.values()),
    ]
    for values in predictions.outputs.values():
        table = values.reshape(n, -1)
        columns += [number_texts(np.ascontiguousarray(table[:, k])) for k in range(table.shape[1])]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(zip(*columns, strict=True))
    return text.getvalue().encode("utf-8", "backslashreplace")
