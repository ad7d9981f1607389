"""Who did what in a store: entries chained by their digests, so that a change shows.

An entry names a patient by a digest of the pseudonym and a salt that erasure removes: what was done
stays, whose data it was does not. The chain shows entries that were altered, removed or inserted;
entries cut off at the end show against a digest that was kept elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass

from edgelstm.errors import OutputError
from edgelstm.io.sinks.store.schema import transaction

GENESIS = hashlib.sha256(b"edgelstm audit log").hexdigest()


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that was done.

    Args:
        id: counts from 1.
        time: seconds since 1970 (UTC).
        actor: who: a role, or the name of the account at the command line.
        action: what.
        subject: on what; a patient by `patient_digest`.
        detail: more, without anything that identifies a person.
        digest: of all of this and the entry before.
    """

    id: int
    time: float
    actor: str
    action: str
    subject: str
    detail: str
    digest: str


def patient_digest(connection: sqlite3.Connection, pseudonym: str) -> str:
    """How entries name a patient; "" of one that the store does not know."""
    row = connection.execute(
        "SELECT salt FROM patients WHERE pseudonym = ?", (pseudonym,)
    ).fetchone()
    if row is None:
        return ""
    return "patient " + hashlib.sha256(f"{row[0]} {pseudonym}".encode()).hexdigest()[:16]


def append_entry(
    connection: sqlite3.Connection, actor: str, action: str, subject: str = "", detail: str = ""
) -> str:
    """Add an entry, in the transaction that is open where one is; its digest."""
    # Two writers must not follow the same entry.
    with nullcontext() if connection.in_transaction else transaction(connection):
        last = connection.execute(
            "SELECT id, digest FROM audit ORDER BY id DESC LIMIT 1"
        ).fetchone()
        number, before = (1, GENESIS) if last is None else (last[0] + 1, last[1])
        now = time.time()
        digest = _digest(before, number, now, actor, action, subject, detail)
        connection.execute(
            "INSERT INTO audit VALUES (?, ?, ?, ?, ?, ?, ?)",
            (number, now, actor, action, subject, detail, digest),
        )
    return digest


def entries(connection: sqlite3.Connection) -> Iterator[Entry]:
    """All of them, in their order."""
    for row in connection.execute(
        "SELECT id, time, actor, action, subject, detail, digest FROM audit ORDER BY id"
    ):
        yield Entry(*row)


def verify(connection: sqlite3.Connection, head: str = "") -> tuple[int, str]:
    """How many entries there are, and the digest of the last one.

    Args:
        connection: to the store.
        head: a digest that was kept elsewhere and must be in the chain.

    Raises:
        OutputError: an entry was altered, removed or inserted; names it.
    """
    before, count, is_seen = GENESIS, 0, not head
    for entry in entries(connection):
        count += 1
        if entry.id != count:
            raise OutputError(f"audit log: entry {count} is missing, {entry.id} is in its place")
        expected = _digest(
            before, entry.id, entry.time, entry.actor, entry.action, entry.subject, entry.detail
        )
        if entry.digest != expected:
            raise OutputError(
                f"audit log: entry {entry.id} is not what was written (or the one before it): "
                "its digest does not fit; restore the store from a copy"
            )
        before = entry.digest
        is_seen = is_seen or before == head
    if not is_seen:
        raise OutputError(
            f"audit log: no entry has the digest {head}: entries behind it were cut off, or it is "
            "of another store"
        )
    return count, before


def _digest(before: str, *fields: object) -> str:
    return hashlib.sha256(json.dumps([before, *fields]).encode()).hexdigest()
