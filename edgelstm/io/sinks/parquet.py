"""`parquet:out.parquet`: a table by pyarrow; of a live run a folder of tables, each one whole."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from edgelstm.errors import OutputError
from edgelstm.extras import load_extra
from edgelstm.io.address import Address, Options
from edgelstm.io.columns import names_of
from edgelstm.io.live import SinkContext
from edgelstm.io.predictions import Event, Predictions
from edgelstm.io.sinks.destination import Destination
from edgelstm.io.sinks.pending_bytes import FULL

EVERY_S = 60.0
_MOST_ROWS = 200_000
_RETRY_S = 1.0
_LAST_TRIES_S = 5.0


def open_sink(address: Address, context: SinkContext) -> ParquetSink:
    """The sink of an address.

    Raises:
        OutputError: no file is named.
        TargetUnavailableError: pyarrow is not installed.
    """
    return ParquetSink(address, context)


class ParquetSink(Destination):
    """Predictions as a table: what text files have as columns.

    A table that is not ended cannot be read, so a live run writes one every minute, into a folder
    that readers of Parquet take for one table.

    Args:
        address: `parquet:PATH`.
        context: of the run.
    """

    def __init__(self, address: Address, context: SinkContext) -> None:
        options = Options(address)
        self._every = options.seconds("every", EVERY_S)
        options.finish()
        self.name = address.shown
        self._path = Path(address.path)
        self._is_folder = context.appends
        self._arrow: Any = load_extra("pyarrow", "parquet", "Parquet files")
        self._parquet: Any = load_extra("pyarrow.parquet", "parquet", "Parquet files")
        self._writer = context.writer
        self._model = context.model
        self._pending: list[Predictions] = []
        self._since = time.monotonic()
        self._file: Any = None
        if not address.path:
            raise OutputError(f"{address.text}: name a file, as in parquet:out.parquet")
        self._partial = self._path.with_name(f".{self._path.name}.{os.getpid()}.part")
        self._job: asyncio.Future[object] | None = None
        self._sent: list[Predictions] = []
        self._retry_at = 0.0
        self._trouble = ""

    @property
    def waiting(self) -> int:
        """Rows that are not written."""
        return sum(map(len, self._sent)) + sum(map(len, self._pending))

    @property
    def trouble(self) -> str:
        """Why the last table could not be written, where it is tried again."""
        return self._trouble

    async def open(self) -> None:
        """See that the folder is there.

        Raises:
            OutputError: it is not, or a file is in the way.
        """
        folder = self._path if self._is_folder else self._path.parent
        try:
            folder.mkdir(parents=self._is_folder, exist_ok=True)
        except OSError as exc:
            raise OutputError(f"cannot write {self._path}: {exc.strerror or exc}") from exc
        if not self._is_folder and self._path.is_dir():
            raise OutputError(f"{self._path} is a folder: name a file")

    def write(self, predictions: Predictions) -> int:
        """Take rows."""
        self._pending.append(predictions)
        return -1

    def tell(self, event: Event) -> None:
        """A table of predictions has no place for it."""

    def poll(self) -> None:
        """Begin a table if it is time.

        Raises:
            OutputError: the last one could not be written.
        """
        if self._job is not None and self._job.done():
            error, self._job = self._job.exception(), None
            if self._is_folder and isinstance(error, OSError) and error.errno in FULL:
                # None of it is there; the next attempt may find room.
                self._trouble = os.strerror(error.errno or 0)
                self._retry_at = time.monotonic() + _RETRY_S
            else:
                self._sent, self._trouble = [], ""
                self._raise(error)
        if self._job is not None:
            return
        if self._sent:
            if time.monotonic() >= self._retry_at:
                self._submit()
        elif self._pending:
            is_due = time.monotonic() - self._since >= self._every
            if is_due or self.waiting >= _MOST_ROWS // 4:
                self._begin()

    def _begin(self) -> None:
        self._sent, self._pending = self._pending, []
        self._since = time.monotonic()
        self._submit()

    def _submit(self) -> None:
        parts = self._sent
        self._job = self._writer.submit(lambda: self._write_rows(parts))

    async def close(self) -> None:
        """Write what is left.

        Raises:
            OutputError: it cannot be written.
        """
        end = time.monotonic() + _LAST_TRIES_S
        while self.waiting:
            if self._job is None and not self._sent:
                self._begin()
            if self._job is not None:
                await asyncio.wait([self._job])
            self.poll()
            if self._trouble and time.monotonic() > end:
                raise OutputError(
                    f"cannot write {self._path}: {self._trouble}; {self.waiting} predictions are "
                    "not stored: make room, and start again"
                )
            await asyncio.sleep(0.01)
        try:
            await self._writer.submit(self._end)
        except OSError as exc:
            self._raise(exc)

    def _raise(self, error: BaseException | None) -> None:
        if isinstance(error, OSError):
            raise OutputError(f"cannot write {self._path}: {error.strerror or error}") from error
        if error is not None:
            raise error

    def _write_rows(self, parts: list[Predictions]) -> None:
        """In the writer's thread."""
        table = self._table(parts)
        if not self._is_folder:
            if self._file is None:
                self._file = self._parquet.ParquetWriter(self._partial, table.schema)
            self._file.write_table(table)
            return
        name = f"{time.time_ns():020d}-{os.getpid()}.parquet"
        partial = self._path / f".{name}.part"
        try:
            self._parquet.write_table(table, partial)
            os.replace(partial, self._path / name)
        except OSError:
            partial.unlink(missing_ok=True)  # it takes room, and is no table
            raise

    def _end(self) -> None:
        """In the writer's thread: the table gets its name."""
        if self._is_folder:
            return
        if self._file is None:
            self._file = self._parquet.ParquetWriter(self._partial, self._table([]).schema)
        self._file.close()
        os.replace(self._partial, self._path)

    def _table(self, parts: list[Predictions]) -> Any:
        arrow = self._arrow
        model = self._model
        n = sum(map(len, parts))

        def joined(name: str, kind: str) -> Any:
            arrays = [getattr(part, name) for part in parts]
            return np.concatenate(arrays) if arrays else np.zeros(0, kind)

        columns: dict[str, Any] = {
            "stream": arrow.array(
                [part.stream for part in parts for _ in range(len(part))], arrow.string()
            ),
            "sample": joined("sequence", "<i8"),
            "time": joined("time", "<f8"),
            "stamp": joined("stamps", "<f8"),
            "artifact": arrow.array([model.name] * n, arrow.string()),
            "model": arrow.array([model.model_id[:12]] * n, arrow.string()),
            "valid": joined("valid", "?"),
            "quality": joined("quality", "<f4"),
            "flags": joined("flags", "u1"),
        }
        for name in model.labels:
            texts = [text for part in parts for text in part.labels[name]]
            columns[name] = arrow.array(texts, arrow.string())
        for name, shape, kind in model.outputs:
            rows = [part.outputs[name].reshape(len(part), -1) for part in parts]
            names = names_of(name, shape)
            table = np.concatenate(rows) if rows else np.zeros((0, len(names)), kind)
            for k, element in enumerate(names):
                columns[element] = np.ascontiguousarray(table[:, k])
        return arrow.table(columns)
