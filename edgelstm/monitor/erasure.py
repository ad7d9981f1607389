"""Erasing a patient from a store, and what is older than its retention."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence

from edgelstm.errors import OutputError, RecordingError
from edgelstm.io.sinks.store.schema import transaction
from edgelstm.monitor.audit_log import append_entry, patient_digest

_STILL_S = 15.0


def erase_patient(connection: sqlite3.Connection, pseudonym: str, actor: str) -> int:
    """Remove everything of a patient from the file; how many runs that were.

    Raises:
        RecordingError: the store knows no such patient.
        OutputError: it is being recorded right now, or the file is in use.
    """
    row = connection.execute("SELECT id FROM patients WHERE pseudonym = ?", (pseudonym,)).fetchone()
    if row is None:
        raise RecordingError(f"the store knows no patient {pseudonym!r}")
    patient = int(row[0])
    sessions = [
        int(each[0])
        for each in connection.execute("SELECT id FROM sessions WHERE patient_id = ?", (patient,))
    ]
    _expect_still(connection, sessions)
    connection.execute("PRAGMA secure_delete = ON")
    with transaction(connection):
        subject = patient_digest(connection, pseudonym)
        _remove_sessions(connection, sessions)
        streams = connection.execute(
            "SELECT id FROM streams WHERE patient_id = ?", (patient,)
        ).fetchall()
        connection.execute("UPDATE streams SET patient_id = NULL WHERE patient_id = ?", (patient,))
        for (stream,) in streams:
            _remove_stream_without_sessions(connection, stream)
        connection.execute("DELETE FROM patients WHERE id = ?", (patient,))
        append_entry(connection, actor, "erased patient", subject, f"{len(sessions)} runs")
    _rewrite(connection)
    return len(sessions)


def apply_retention(
    connection: sqlite3.Connection, days: float, actor: str, is_dry: bool = False
) -> list[tuple[int, str]]:
    """Remove runs that began more than so many days ago; their numbers and patients.

    Raises:
        OutputError: one is being recorded right now, or the file is in use.
    """
    limit = time.time() - days * 86_400.0
    old = connection.execute(
        "SELECT s.id, coalesce(p.pseudonym, '') FROM sessions s "
        "LEFT JOIN patients p ON p.id = s.patient_id WHERE s.started < ? ORDER BY s.id",
        (limit,),
    ).fetchall()
    found = [(int(session), str(pseudonym)) for session, pseudonym in old]
    if is_dry:
        return found
    if not found:
        _rewrite(connection)
        return found
    sessions = [session for session, _ in found]
    _expect_still(connection, sessions)
    connection.execute("PRAGMA secure_delete = ON")
    with transaction(connection):
        _remove_sessions(connection, sessions)
        for (stream,) in connection.execute("SELECT id FROM streams").fetchall():
            _remove_stream_without_sessions(connection, stream)
        connection.execute(
            "DELETE FROM patients WHERE created < ? AND id NOT IN "
            "(SELECT patient_id FROM sessions WHERE patient_id IS NOT NULL) AND id NOT IN "
            "(SELECT patient_id FROM streams WHERE patient_id IS NOT NULL)",
            (limit,),
        )
        append_entry(
            connection, actor, "applied retention", "", f"{len(found)} runs over {days:g} days"
        )
    _rewrite(connection)
    return found


def _expect_still(connection: sqlite3.Connection, sessions: Sequence[int]) -> None:
    """No run goes on: what it wrote next would have lost its rows."""
    now = time.time()
    for session in sessions:
        row = connection.execute(
            "SELECT n.name FROM sessions s JOIN streams n ON n.id = s.stream_id "
            "JOIN checkpoints c ON c.stream_id = s.stream_id AND c.artifact_id = s.artifact_id "
            "WHERE s.id = ? AND s.ended IS NULL AND c.is_clean = 0 AND c.time > ? "
            "AND s.id = (SELECT max(id) FROM sessions WHERE stream_id = s.stream_id)",
            (session, now - _STILL_S),
        ).fetchone()
        if row is not None:
            raise OutputError(f"stream {row[0]!r} is being recorded: end that run first")


def _remove_sessions(connection: sqlite3.Connection, sessions: Sequence[int]) -> None:
    for session in sessions:
        connection.execute(
            "DELETE FROM measures WHERE trial_id IN (SELECT id FROM trials WHERE session_id = ?)",
            (session,),
        )
        for table in ("trials", "predictions", "events"):
            connection.execute(f"DELETE FROM {table} WHERE session_id = ?", (session,))
        # A snapshot holds what the model remembers of the person.
        connection.execute(
            "DELETE FROM checkpoints WHERE (stream_id, artifact_id) IN "
            "(SELECT stream_id, artifact_id FROM sessions WHERE id = ?1) AND ?1 = (SELECT max(m.id)"
            " FROM sessions m WHERE m.stream_id = checkpoints.stream_id)",
            (session,),
        )
        connection.execute("DELETE FROM sessions WHERE id = ?", (session,))


def _remove_stream_without_sessions(connection: sqlite3.Connection, stream: int) -> None:
    used = connection.execute(
        "SELECT count(*) FROM sessions WHERE stream_id = ?", (stream,)
    ).fetchone()
    if used[0]:
        return
    for table in ("checkpoints", "events", "predictions"):
        connection.execute(f"DELETE FROM {table} WHERE stream_id = ?", (stream,))
    connection.execute("DELETE FROM streams WHERE id = ?", (stream,))


def _rewrite(connection: sqlite3.Connection) -> None:
    """Nothing of what was removed stays in the file or in its log.

    Raises:
        OutputError: another program has the file open.
    """
    try:
        connection.execute("VACUUM")
        (busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except sqlite3.OperationalError as exc:
        raise OutputError(
            f"removed, but the file could not be rewritten ({exc}): {_AGAIN}"
        ) from exc
    if busy:
        raise OutputError(f"removed, but the file is in use and its log stays: {_AGAIN}")


_AGAIN = "end other programs that use the store, then run `edgelstm patients retain` on it"
