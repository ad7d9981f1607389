"""What is done with a store in the writer's thread: one transaction for everything of a moment."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from edgelstm.io.block import Array
from edgelstm.io.checkpoint import Checkpoint
from edgelstm.io.predictions import Event, ModelIdentity, Predictions, joined
from edgelstm.io.sinks.store.schema import open_store, patient_id, transaction


@dataclass(frozen=True, slots=True)
class Commit:
    """What is written together, or not at all.

    Args:
        predictions: rows.
        events: of any stream.
        checkpoints: where the streams stand behind those rows.
        counters: by stream, as JSON: what became of its samples so far.
    """

    predictions: Sequence[Predictions] = ()
    events: Sequence[Event] = ()
    checkpoints: Sequence[Checkpoint] = ()
    counters: Mapping[str, str] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """How many predictions."""
        return sum(map(len, self.predictions))


class Database:
    """An open store; all calls come from one thread.

    Args:
        path: of the file.
        model: whose predictions it gets.
        description: of the model, as JSON.
        patients: pseudonym by stream.
        patient: the pseudonym of all other streams; "" for none.
    """

    def __init__(
        self,
        path: str,
        model: ModelIdentity,
        description: str = "{}",
        patients: Mapping[str, str] | None = None,
        patient: str = "",
    ) -> None:
        self._path = path
        self._model = model
        self._description = description
        self._patients = dict(patients or {})
        self._patient = patient
        self._connection: sqlite3.Connection | None = None
        self._artifact = 0
        self._streams: dict[str, int] = {}
        self._sessions: dict[str, int] = {}

    def open(self) -> None:
        """Open the file.

        Raises:
            OutputError: see `open_store`.
        """
        connection = open_store(self._path)
        self._connection = connection
        model = self._model
        connection.execute(
            "INSERT INTO artifacts (model_id, name, outputs, inputs, labels, description) "
            "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (model_id) DO NOTHING",
            (
                model.model_id,
                model.name,
                json.dumps(model.outputs),
                json.dumps(model.inputs),
                json.dumps(model.labels),
                self._description,
            ),
        )
        row = connection.execute(
            "SELECT id FROM artifacts WHERE model_id = ?", (model.model_id,)
        ).fetchone()
        self._artifact = int(row[0])

    def checkpoint(self, stream: str) -> Checkpoint | None:
        """Where a stream stopped; None of one that is new."""
        row = (
            self._open()
            .execute(
                "SELECT c.last_sample, c.snapshot, c.policy, c.time, c.is_clean "
                "FROM checkpoints c JOIN streams s ON s.id = c.stream_id "
                "WHERE s.name = ? AND c.artifact_id = ?",
                (stream, self._artifact),
            )
            .fetchone()
        )
        if row is None:
            return None
        last, snapshot, policy, when, is_clean = row
        return Checkpoint(
            stream, self._model.model_id, last, snapshot, policy, when, bool(is_clean)
        )

    def commit(self, commit: Commit) -> int:
        """Write it all in one transaction; how many predictions were there already.

        Raises:
            sqlite3.Error: nothing was written.
        """
        connection = self._open()
        streams, sessions = dict(self._streams), dict(self._sessions)
        try:
            with transaction(connection):
                written = sum(map(self._insert_predictions, joined(commit.predictions)))
                for event in commit.events:
                    self._insert_event(event)
                for checkpoint in commit.checkpoints:
                    self._insert_checkpoint(checkpoint)
                for stream, counters in commit.counters.items():
                    connection.execute(
                        "UPDATE sessions SET counters = ? WHERE id = ?",
                        (counters, self._session(stream)),
                    )
        except BaseException:
            self._streams, self._sessions = streams, sessions
            raise
        return commit.rows - written

    def close(self) -> None:
        """Close the file; the log is written into it."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open(self) -> sqlite3.Connection:
        assert self._connection is not None
        return self._connection

    def _stream(self, name: str) -> int:
        known = self._streams.get(name)
        if known is not None:
            return known
        connection = self._open()
        patient = self._patients.get(name, self._patient)
        row = connection.execute("SELECT id FROM streams WHERE name = ?", (name,)).fetchone()
        if row is None:
            cursor = connection.execute("INSERT INTO streams (name) VALUES (?)", (name,))
            row = (cursor.lastrowid,)
        if patient:
            connection.execute(
                "UPDATE streams SET patient_id = ? WHERE id = ?",
                (patient_id(connection, patient), row[0]),
            )
        self._streams[name] = int(row[0])
        return self._streams[name]

    def _session(self, stream: str) -> int:
        known = self._sessions.get(stream)
        if known is None:
            connection = self._open()
            cursor = connection.execute(
                "INSERT INTO sessions (stream_id, artifact_id, patient_id, started) "
                "SELECT id, ?, patient_id, ? FROM streams WHERE id = ?",
                (self._artifact, time.time(), self._stream(stream)),
            )
            known = self._sessions[stream] = int(cursor.lastrowid or 0)
        return known

    def _insert_predictions(self, predictions: Predictions) -> int:
        """How many of them were not there yet."""
        connection = self._open()
        rows, session = self._rows(predictions), self._session(predictions.stream)
        before = connection.total_changes
        connection.executemany(
            "INSERT INTO predictions VALUES (?,?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT DO NOTHING", rows
        )
        written = connection.total_changes - before
        first, last = int(predictions.sequence[0]), int(predictions.sequence[-1])
        connection.execute(
            "UPDATE sessions SET first_sample = coalesce(first_sample, ?), last_sample = ? "
            "WHERE id = ?",
            (first, last, session),
        )
        return written

    def _rows(self, predictions: Predictions) -> Iterator[tuple[object, ...]]:
        stream, session = self._stream(predictions.stream), self._session(predictions.stream)
        n = len(predictions)
        labels = next(iter(predictions.labels.values()), None)
        outputs = packed_rows(predictions.outputs, n)
        inputs = packed_rows(predictions.inputs, n) if predictions.inputs else [None] * n
        stamps = predictions.stamps.tolist()
        return zip(
            [stream] * n,
            [self._artifact] * n,
            predictions.sequence.tolist(),
            [session] * n,
            predictions.time.tolist(),
            [None if stamp != stamp else stamp for stamp in stamps],
            predictions.flags.tolist(),
            predictions.valid.tolist(),
            np.round(predictions.quality.astype(np.float64), 4).tolist(),
            list(labels) if labels is not None else [None] * n,
            outputs,
            inputs,
            strict=True,
        )

    def _insert_event(self, event: Event) -> None:
        self._open().execute(
            "INSERT INTO events "
            "(stream_id, session_id, artifact_id, time, sample, kind, text, data) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (
                self._stream(event.stream) if event.stream else None,
                self._session(event.stream) if event.stream else None,
                self._artifact,
                event.time,
                event.sample,
                event.kind,
                event.text,
                json.dumps(dict(event.data)),
            ),
        )

    def _insert_checkpoint(self, checkpoint: Checkpoint) -> None:
        connection = self._open()
        stream = self._stream(checkpoint.stream)
        connection.execute(
            "INSERT INTO checkpoints VALUES (?,?,?,?,?,?,?) "
            "ON CONFLICT (stream_id, artifact_id) DO UPDATE SET last_sample = "
            "excluded.last_sample, snapshot = excluded.snapshot, policy = excluded.policy, "
            "time = excluded.time, is_clean = excluded.is_clean",
            (
                stream,
                self._artifact,
                checkpoint.last_sample,
                checkpoint.snapshot,
                checkpoint.policy,
                checkpoint.time,
                int(checkpoint.is_clean),
            ),
        )
        if checkpoint.is_clean:
            connection.execute(
                "UPDATE sessions SET ended = ? WHERE id = ?",
                (checkpoint.time, self._session(checkpoint.stream)),
            )


def packed_rows(arrays: Mapping[str, Array], n: int) -> list[bytes]:
    """The elements of all arrays, one after another, as bytes a row."""
    parts = [
        np.ascontiguousarray(values.reshape(n, -1)).view(np.uint8).reshape(n, -1)
        for values in arrays.values()
        if values.size
    ]
    if not parts:
        return [b""] * n
    table = np.ascontiguousarray(parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1))
    width = table.shape[1]
    data = table.tobytes()
    return [data[i : i + width] for i in range(0, n * width, width)]
