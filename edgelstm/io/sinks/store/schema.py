"""Tables of the store, and how older stores become newer ones.

A version is a script in `MIGRATIONS`; the file knows its own (`user_version`). A released script is
never changed: what is new comes in a script behind it.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgelstm.errors import OutputError

APPLICATION_ID = 0x45444745  # "EDGE"

_VERSION_1 = """
CREATE TABLE patients (
  id INTEGER PRIMARY KEY,
  pseudonym TEXT NOT NULL UNIQUE,
  created REAL NOT NULL,
  note TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE TABLE artifacts (
  id INTEGER PRIMARY KEY,
  model_id TEXT NOT NULL UNIQUE,
  name TEXT NOT NULL,
  outputs TEXT NOT NULL,
  inputs TEXT NOT NULL DEFAULT '[]',
  labels TEXT NOT NULL DEFAULT '[]',
  description TEXT NOT NULL DEFAULT '{}'
) STRICT;
CREATE TABLE streams (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  patient_id INTEGER REFERENCES patients (id)
) STRICT;
CREATE TABLE sessions (
  id INTEGER PRIMARY KEY,
  stream_id INTEGER NOT NULL REFERENCES streams (id),
  artifact_id INTEGER NOT NULL REFERENCES artifacts (id),
  patient_id INTEGER REFERENCES patients (id),
  started REAL NOT NULL,
  ended REAL,
  first_sample INTEGER,
  last_sample INTEGER,
  counters TEXT NOT NULL DEFAULT '{}'
) STRICT;
CREATE TABLE trials (
  id INTEGER PRIMARY KEY,
  session_id INTEGER NOT NULL REFERENCES sessions (id),
  name TEXT NOT NULL DEFAULT '',
  side TEXT NOT NULL DEFAULT '',
  started REAL NOT NULL,
  ended REAL,
  first_sample INTEGER,
  last_sample INTEGER,
  discarded TEXT
) STRICT;
CREATE TABLE predictions (
  stream_id INTEGER NOT NULL REFERENCES streams (id),
  artifact_id INTEGER NOT NULL REFERENCES artifacts (id),
  sample INTEGER NOT NULL,
  session_id INTEGER NOT NULL,
  time REAL NOT NULL,
  stamp REAL,
  flags INTEGER NOT NULL,
  valid INTEGER NOT NULL,
  quality REAL NOT NULL,
  label TEXT,
  outputs BLOB NOT NULL,
  inputs BLOB,
  PRIMARY KEY (stream_id, artifact_id, sample)
) STRICT, WITHOUT ROWID;
CREATE TABLE events (
  id INTEGER PRIMARY KEY,
  stream_id INTEGER REFERENCES streams (id),
  artifact_id INTEGER REFERENCES artifacts (id),
  time REAL NOT NULL,
  sample INTEGER,
  kind TEXT NOT NULL,
  text TEXT NOT NULL,
  data TEXT NOT NULL DEFAULT '{}',
  acknowledged REAL,
  acknowledged_by TEXT
) STRICT;
CREATE INDEX events_by_time ON events (stream_id, time);
CREATE UNIQUE INDEX events_of_samples ON events (stream_id, artifact_id, sample, kind, text)
  WHERE sample IS NOT NULL;
CREATE TABLE checkpoints (
  stream_id INTEGER NOT NULL REFERENCES streams (id),
  artifact_id INTEGER NOT NULL REFERENCES artifacts (id),
  last_sample INTEGER NOT NULL,
  snapshot BLOB NOT NULL,
  policy TEXT NOT NULL,
  time REAL NOT NULL,
  is_clean INTEGER NOT NULL,
  PRIMARY KEY (stream_id, artifact_id)
) STRICT, WITHOUT ROWID;
"""

_VERSION_2 = """
ALTER TABLE patients ADD COLUMN salt TEXT NOT NULL DEFAULT '';
UPDATE patients SET salt = lower(hex(randomblob(16)));
ALTER TABLE events ADD COLUMN session_id INTEGER;
UPDATE events SET session_id = coalesce(
  (SELECT max(s.id) FROM sessions s
    WHERE s.stream_id = events.stream_id AND s.started <= events.time),
  (SELECT min(s.id) FROM sessions s WHERE s.stream_id = events.stream_id));
CREATE INDEX events_by_session ON events (session_id, time);
ALTER TABLE trials ADD COLUMN is_automatic INTEGER NOT NULL DEFAULT 0;
CREATE INDEX trials_by_session ON trials (session_id, started);
CREATE TABLE measures (
  trial_id INTEGER NOT NULL REFERENCES trials (id) ON DELETE CASCADE,
  name TEXT NOT NULL,
  value REAL NOT NULL,
  unit TEXT NOT NULL,
  PRIMARY KEY (trial_id, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE measurement_errors (
  measure TEXT PRIMARY KEY,
  sem REAL NOT NULL,
  source TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE audit (
  id INTEGER PRIMARY KEY,
  time REAL NOT NULL,
  actor TEXT NOT NULL,
  action TEXT NOT NULL,
  subject TEXT NOT NULL,
  detail TEXT NOT NULL,
  digest TEXT NOT NULL
) STRICT;
"""
"""Trials with their measures, events by session, the audit log."""

MIGRATIONS: tuple[str, ...] = (_VERSION_1, _VERSION_2)
"""Version n is reached by the first n scripts."""

VERSION = len(MIGRATIONS)


def open_store(path: str | Path, *, is_new_allowed: bool = True) -> sqlite3.Connection:
    """A connection to a store of this version; an older one is brought up to it.

    Args:
        path: of the file.
        is_new_allowed: whether it may be made.

    Raises:
        OutputError: it is something else, of a newer version, damaged, or cannot be opened.
    """
    path = str(path)
    try:
        if not is_new_allowed and not Path(path).exists():
            raise OutputError(f"{path}: there is no such store")
        connection = sqlite3.connect(path, timeout=30.0, isolation_level=None)
        try:
            _prepare(connection, path)
        except BaseException:
            connection.close()
            raise
    except sqlite3.DatabaseError as exc:
        raise OutputError(f"{path}: {_advice(exc, is_new_allowed)}") from exc
    return connection


def _advice(error: sqlite3.DatabaseError, is_new_allowed: bool) -> str:
    """What is wrong and what to do; nobody is told to remove a file that may be all there is."""
    if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_NOTADB:
        return "this is no store of edgelstm, and no database: name another file"
    if is_new_allowed:
        return f"{error}; name another file, or move this one away to begin a new store"
    return f"{error}; use a copy of the store from before"


def _prepare(connection: sqlite3.Connection, path: str) -> None:
    # Another process may be making the store: where its tables are seen, so is what they are.
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION_ID and tables:
        raise OutputError(f"{path} is a database, but no store of edgelstm: name another file")
    if version > VERSION:
        raise OutputError(
            f"{path} is a store of version {version}, and this edgelstm knows {VERSION}: use the "
            "edgelstm that wrote it, or a newer one"
        )
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA trusted_schema = OFF")
    if version < VERSION:
        _migrate(connection, version)


def _migrate(connection: sqlite3.Connection, version: int) -> None:
    """All versions in one transaction: a store is of one version or of the other."""
    with transaction(connection):
        # Another process may have been faster.
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        for script in MIGRATIONS[version:]:
            for statement in filter(str.strip, script.split(";\n")):
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {VERSION}")


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All that is written in it, or nothing; no other writer comes in between."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def patient_id(connection: sqlite3.Connection, pseudonym: str) -> int:
    """The row of a patient, made where there is none."""
    connection.execute(
        "INSERT OR IGNORE INTO patients (pseudonym, created, salt) "
        "VALUES (?, ?, lower(hex(randomblob(16))))",
        (pseudonym, time.time()),
    )
    row = connection.execute("SELECT id FROM patients WHERE pseudonym = ?", (pseudonym,)).fetchone()
    return int(row[0])
