"""Simulated patients with known truth: their trials, and the phases in them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgelstm.io.decoding.events import PHASE_ENDS
from edgelstm.io.sinks.store.schema import patient_id, transaction
from edgelstm.monitor.history import History

_DAY_S = 86_400.0
_ORDER = (
    ("STANDING_UP", 0.13),
    ("WALKING", 0.28),
    ("TURNING", 0.13),
    ("WALKING", 0.22),
    ("TURNING", 0.09),
    ("SITTING_DOWN", 0.15),
)
"""Phases of a timed-up-and-go trial with their share of its time."""


@dataclass(frozen=True, slots=True)
class SimulatedPatient:
    """A patient whose true course is known.

    Args:
        pseudonym: how the store calls it.
        totals_s: true total time at each visit.
        scatter_s: standard deviation of a trial's total time.
        trials: at each visit.
        days: between visits.
    """

    pseudonym: str
    totals_s: Sequence[float]
    scatter_s: float = 0.5
    trials: int = 3
    days: float = 7.0

    def draw(self, rng: np.random.Generator) -> list[list[float]]:
        """Total times, by visit."""
        return [
            [float(max(rng.normal(total, self.scatter_s), 2.0)) for _ in range(self.trials)]
            for total in self.totals_s
        ]


DEMO_PATIENTS = (
    SimulatedPatient("DEMO-recovering", (21.0, 19.4, 17.5, 16.1, 14.8, 13.9)),
    SimulatedPatient("DEMO-setback", (17.0, 15.8, 14.9, 14.6, 17.8)),
    SimulatedPatient("DEMO-steady", (13.2, 13.2, 13.2, 13.2)),
)


def write_patient(
    connection: sqlite3.Connection, patient: SimulatedPatient, seed: int, last_visit: float
) -> None:
    """Store a simulated patient: a run for each visit, with its trials and phases.

    Args:
        connection: from `open_store`.
        patient: whose course.
        seed: of the scatter.
        last_visit: seconds since 1970 (UTC).
    """
    rng = np.random.default_rng(seed)
    history = History(connection)
    with transaction(connection):
        person = patient_id(connection, patient.pseudonym)
        artifact = connection.execute(
            "INSERT INTO artifacts (model_id, name, outputs) VALUES ('simulated', 'simulated', "
            "'[]') ON CONFLICT (model_id) DO UPDATE SET name = name RETURNING id"
        ).fetchone()[0]
        stream = connection.execute(
            "INSERT INTO streams (name, patient_id) VALUES (?, ?) RETURNING id",
            (f"simulated {patient.pseudonym}", person),
        ).fetchone()[0]
        visits = patient.draw(rng)
        for k, totals in enumerate(visits):
            start = last_visit - (len(visits) - 1 - k) * patient.days * _DAY_S
            session = connection.execute(
                "INSERT INTO sessions (stream_id, artifact_id, patient_id, started, ended) "
                "VALUES (?, ?, ?, ?, ?) RETURNING id",
                (stream, artifact, person, start, start + 600.0),
            ).fetchone()[0]
            for i, total in enumerate(totals):
                side = ("affected", "unaffected")[i % 2] if patient.trials > 3 else ""
                _write_trial(connection, history, rng, session, start + 90.0 * i, total, side)


def _write_trial(
    connection: sqlite3.Connection,
    history: History,
    rng: np.random.Generator,
    session: int,
    start: float,
    total: float,
    side: str,
) -> None:
    trial = history.begin_trial(session, "timed up and go", side, start)
    shares = np.array([share for _, share in _ORDER]) * rng.normal(1.0, 0.04, len(_ORDER))
    at = start + 1.0
    for (label, _), share in zip(_ORDER, (shares / shares.sum()).tolist(), strict=True):
        duration = total * share
        data = {"name": label, "start": at, "duration_s": duration}
        at += duration
        connection.execute(
            "INSERT INTO events (stream_id, session_id, time, kind, text, data) "
            "SELECT stream_id, id, ?, ?, ?, ? FROM sessions WHERE id = ?",
            (at, PHASE_ENDS, f"{label} took {duration:.2f} s", json.dumps(data), session),
        )
    history.end_trial(trial, at + 1.0)
