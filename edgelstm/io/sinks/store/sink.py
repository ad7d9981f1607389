"""`store:FILE.db`: predictions, events and where streams stand, one transaction every 0.5 s."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from edgelstm.errors import OutputError
from edgelstm.io.address import Address, Options
from edgelstm.io.checkpoint import Checkpoint
from edgelstm.io.live import SinkContext
from edgelstm.io.predictions import Event, Predictions
from edgelstm.io.sinks.store.database import Commit, Database

COMMIT_S = 0.5
_RETRY_S = 1.0
_LAST_TRIES_S = 5.0
_MOST_EVENTS = 10_000
_DEFAULT_NAME = "edgelstm.db"


def open_sink(address: Address, context: SinkContext) -> StoreSink:
    """The sink of an address."""
    return StoreSink(address, context)


class StoreSink:
    """A store that the pipeline commits to.

    Args:
        address: `store:FILE`.
        context: of the run.
    """

    def __init__(self, address: Address, context: SinkContext) -> None:
        options = Options(address)
        self.every_s = options.seconds("every", COMMIT_S)
        self.keeps_inputs = options.flag("inputs")
        patient = options.text("patient", "")
        options.finish()
        self.path = address.path or _DEFAULT_NAME
        self.name = address.shown
        self._writer = context.writer
        self._database = Database(
            self.path,
            context.model,
            json.dumps(context.description.to_json()) if context.description else "{}",
            context.patients,
            patient,
        )
        self._pending: list[Predictions] = []
        self._waiting = 0
        self._events: list[Event] = []
        self._job: asyncio.Future[object] | None = None
        self._sent: Commit | None = None
        self._retry_at = 0.0
        self._delivered: dict[str, int] = {}
        self._lost: Counter[str] = Counter()
        self.trouble = ""
        """Why the last attempt to write failed; see `LiveSink.trouble`."""
        self.stored_before = 0
        """Predictions that were there already under their keys."""

    @property
    def waiting(self) -> int:
        """Predictions that are not on the medium."""
        return self._waiting

    @property
    def lost(self) -> Mapping[str, int]:
        """Events beyond the number that are held while the medium is full; never predictions."""
        return self._lost

    async def open(self) -> None:
        """Open the file.

        Raises:
            OutputError: it cannot be.
        """
        await self._writer.submit(self._database.open)

    async def resume(self, stream: str) -> Checkpoint | None:
        """Where a stream stopped; None of one that is new."""
        found = await self._writer.submit(lambda: self._database.checkpoint(stream))
        assert found is None or isinstance(found, Checkpoint)
        return found

    def write(self, predictions: Predictions) -> int:
        """Take rows for the next transaction."""
        if predictions.inputs and not self.keeps_inputs:
            predictions = replace(predictions, inputs={})  # another sink asked for them
        self._pending.append(predictions)
        self._waiting += len(predictions)
        return self._delivered.get(predictions.stream, -1)

    def tell(self, event: Event) -> None:
        """Take an event for the next transaction."""
        if len(self._events) >= _MOST_EVENTS:
            self._lost["events while the store could not be written"] += 1
            return
        self._events.append(event)

    @property
    def is_ready(self) -> bool:
        """Whether the transaction before is done, so that another one may begin."""
        self.poll()
        return self._job is None and self._sent is None

    def commit(self, checkpoints: Sequence[Checkpoint], counters: Mapping[str, str]) -> None:
        """Begin a transaction with all that came since the last one.

        Args:
            checkpoints: where the streams stand behind the predictions that were written.
            counters: by stream, as JSON.
        """
        if not (self._pending or self._events or checkpoints):
            return
        self._sent = Commit(self._pending, self._events, checkpoints, counters)
        self._pending, self._events = [], []
        self._begin()

    def _begin(self) -> None:
        sent = self._sent
        assert sent is not None
        self._job = self._writer.submit(lambda: self._database.commit(sent))
        # Nobody asks any more once the run has given up on it.
        self._job.add_done_callback(lambda job: job.cancelled() or job.exception())

    def poll(self) -> None:
        """See what became of the last transaction; one that failed is tried again.

        Raises:
            OutputError: the store is damaged.
        """
        job, sent = self._job, self._sent
        if job is not None and job.done():
            self._job = None
            error = job.exception()
            if error is None:
                assert sent is not None
                result = job.result()
                self.stored_before += result if isinstance(result, int) else 0
                for checkpoint in sent.checkpoints:
                    self._delivered[checkpoint.stream] = checkpoint.last_sample
                self._waiting -= sent.rows
                self._sent, self.trouble = None, ""
            elif isinstance(error, sqlite3.OperationalError):
                # Full, locked or not to be written just now; the next attempt may go well.
                self.trouble = str(error)
                self._retry_at = time.monotonic() + _RETRY_S
            elif isinstance(error, sqlite3.Error):
                raise OutputError(f"cannot write {self.path}: {error}") from error
            else:
                raise error
        if self._job is None and self._sent is not None and time.monotonic() >= self._retry_at:
            self._begin()

    async def settle(self) -> None:
        """Wait for the transaction that has begun, or give up.

        Raises:
            OutputError: it cannot be written.
        """
        end = time.monotonic() + _LAST_TRIES_S
        while not self.is_ready:
            if self.trouble and time.monotonic() > end:
                raise OutputError(
                    f"cannot write {self.path}: {self.trouble}; {self.waiting} predictions are "
                    "not stored: make room, and start again"
                )
            await asyncio.sleep(0.005)

    async def close(self) -> None:
        """Write what is left, and close the file."""
        try:
            await self.settle()
            self.commit((), {})
            await self.settle()
        finally:
            await self._writer.submit(self._database.close)
