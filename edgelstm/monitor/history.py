"""Trials and visits of patients in a store: begun, ended, discarded, read."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edgelstm.errors import RecordingError
from edgelstm.monitor.measures import KINDS, Measure, TimedPhase, kind_of, measures_of
from edgelstm.monitor.trend import (
    MeasurementError,
    Verdict,
    compare,
    given_error,
    pooled_error,
)

VISIT_GAP_S = 3 * 3600.0
"""Trials with more time between them are of different visits."""

SIDES = ("", "affected", "unaffected", "left", "right")

_TRIALS = (
    "SELECT t.id, t.session_id, t.name, t.side, t.started, t.ended, t.discarded, t.is_automatic "
    "FROM trials t JOIN sessions s ON s.id = t.session_id "
)


@dataclass(frozen=True, slots=True)
class Trial:
    """One attempt.

    Units:
        started, ended: seconds since 1970 (UTC).

    Args:
        id: in the store.
        session: the run that recorded it.
        name: of the exercise; "" where it has none.
        side: one of `SIDES`.
        started: when it began.
        ended: None while it goes on.
        discarded: why it does not count; None where it does.
        is_automatic: its phases began and ended it.
        measures: by name.
    """

    id: int
    session: int
    name: str
    side: str
    started: float
    ended: float | None
    discarded: str | None
    is_automatic: bool = False
    measures: Mapping[str, Measure] = field(default_factory=dict)

    @property
    def counts(self) -> bool:
        """Whether trends use it."""
        return self.discarded is None and self.ended is not None


@dataclass(frozen=True, slots=True)
class Visit:
    """Trials of one occasion, in their order."""

    trials: tuple[Trial, ...]

    @property
    def started(self) -> float:
        """Seconds since 1970 (UTC)."""
        return self.trials[0].started

    def values(self, measure: str, side: str | None = None) -> list[float]:
        """A measure of the trials that count.

        Args:
            measure: its name.
            side: of this side alone.
        """
        return [
            trial.measures[measure].value
            for trial in self.trials
            if trial.counts and measure in trial.measures and side in (None, trial.side)
        ]


@dataclass(frozen=True, slots=True)
class PatientHistory:
    """Everything that trends of a patient rest on.

    Args:
        pseudonym: of the patient.
        visits: in their order.
        errors: that were given, by measure.
    """

    pseudonym: str
    visits: tuple[Visit, ...]
    errors: Mapping[str, MeasurementError] = field(default_factory=dict)

    @property
    def measures(self) -> list[str]:
        """Names of all measures, known ones first."""
        found = dict.fromkeys(
            name for visit in self.visits for trial in visit.trials for name in trial.measures
        )
        order = [*KINDS, *found]
        return sorted(found, key=order.index)

    @property
    def sides(self) -> list[str]:
        """Sides that trials which count have; "" is none."""
        found = {trial.side for visit in self.visits for trial in visit.trials if trial.counts}
        return [side for side in SIDES if side in found]

    def error(self, measure: str, side: str | None = None) -> MeasurementError:
        """How well a measure repeats: as given, else from the trials of all visits."""
        given = self.errors.get(measure)
        if given is not None:
            return given
        sides = self.sides if side is None else [side]
        # The difference of two sides is no scatter.
        groups = [visit.values(measure, each) for visit in self.visits for each in sides]
        return pooled_error(groups)

    def verdict(
        self, measure: str, side: str | None = None, before: int = 0, after: int = -1
    ) -> Verdict | None:
        """The change of a measure between two visits that have it; None with fewer than two.

        Args:
            measure: its name.
            side: of this side alone.
            before: which visit, of those that have the measure.
            after: which other one.
        """
        found = [values for visit in self.visits if (values := visit.values(measure, side))]
        if len(found) < 2:
            return None
        error = self.error(measure, side)
        return compare(found[before], found[after], error, kind_of(measure).better)

    def between_sides(self, measure: str, visit: Visit) -> Verdict | None:
        """One side against the other in a visit; None where it has not both."""
        for one, other in (("affected", "unaffected"), ("left", "right")):
            first, second = visit.values(measure, one), visit.values(measure, other)
            if first and second:
                return compare(first, second, self.error(measure), "")
        return None


class History:
    """The clinical part of a store; all calls come from one thread.

    Args:
        connection: from `open_store`.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def patients(self) -> list[str]:
        """Pseudonyms, sorted."""
        rows = self._connection.execute("SELECT pseudonym FROM patients ORDER BY pseudonym")
        return [row[0] for row in rows]

    def session_of(self, stream: str) -> int:
        """The run that records a stream now.

        Raises:
            RecordingError: nothing of the stream is stored yet.
        """
        row = self._connection.execute(
            "SELECT max(s.id) FROM sessions s JOIN streams n ON n.id = s.stream_id "
            "WHERE n.name = ?",
            (stream,),
        ).fetchone()
        if row[0] is None:
            raise RecordingError(f"nothing of stream {stream!r} is stored yet: wait for samples")
        return int(row[0])

    def begin_trial(
        self,
        session: int,
        name: str = "",
        side: str = "",
        started: float | None = None,
        is_automatic: bool = False,
    ) -> int:
        """Begin a trial; one that goes on in the same session ends.

        Raises:
            RecordingError: the side is none.
        """
        if side not in SIDES:
            raise RecordingError(f"side {side!r}: there are {', '.join(filter(None, SIDES))}")
        began = time.time() if started is None else started
        for (going_on,) in self._connection.execute(
            "SELECT id FROM trials WHERE session_id = ? AND ended IS NULL", (session,)
        ).fetchall():
            self.end_trial(going_on, began)
        cursor = self._connection.execute(
            "INSERT INTO trials (session_id, name, side, started, is_automatic) "
            "VALUES (?, ?, ?, ?, ?)",
            (session, name, side, began, int(is_automatic)),
        )
        return int(cursor.lastrowid or 0)

    def end_trial(self, trial: int, ended: float | None = None) -> list[Measure]:
        """End a trial, and measure it; what was measured.

        Raises:
            RecordingError: there is no such trial.
        """
        self._find(trial)
        self._connection.execute(
            "UPDATE trials SET ended = coalesce(ended, ?) WHERE id = ?",
            (time.time() if ended is None else ended, trial),
        )
        return self.measure_trial(trial)

    def measure_trial(self, trial: int) -> list[Measure]:
        """Measure a trial anew from the events that are stored now; decisions come late."""
        found = self._find(trial)
        end = found.ended if found.ended is not None else time.time()
        rows = self._connection.execute(
            "SELECT kind, time, data FROM events WHERE session_id = ? AND time > ? AND time <= ? "
            "ORDER BY time, id",
            (found.session, found.started, end),
        ).fetchall()
        measures = measures_of((kind, when, json.loads(data)) for kind, when, data in rows)
        if rows:
            self.put_measures(trial, measures)
        return measures

    def put_measures(self, trial: int, measures: Iterable[Measure]) -> None:
        """Store what a trial measures, in place of what was there."""
        self._connection.execute("DELETE FROM measures WHERE trial_id = ?", (trial,))
        self._connection.executemany(
            "INSERT INTO measures VALUES (?, ?, ?, ?)",
            [(trial, each.name, each.value, each.unit) for each in measures],
        )

    def discard_trial(self, trial: int, reason: str) -> None:
        """A trial does not count; it stays in the store with the reason.

        Raises:
            RecordingError: there is no such trial, or no reason.
        """
        self._find(trial)
        if not reason.strip():
            raise RecordingError("a trial is discarded with a reason")
        self._connection.execute(
            "UPDATE trials SET discarded = ?, ended = coalesce(ended, ?) WHERE id = ?",
            (reason.strip(), time.time(), trial),
        )

    def give_error(self, measure: str, sem: float, source: str) -> None:
        """Give the standard error of measurement of visits, such as a published one."""
        given_error(sem, source)
        self._connection.execute(
            "INSERT INTO measurement_errors VALUES (?, ?, ?) "
            "ON CONFLICT (measure) DO UPDATE SET sem = excluded.sem, source = excluded.source",
            (measure, sem, source),
        )

    def trials_of_session(self, session: int) -> list[Trial]:
        """In their order."""
        rows = self._connection.execute(
            f"{_TRIALS} WHERE t.session_id = ? ORDER BY t.started, t.id", (session,)
        ).fetchall()
        return self._trials(rows)

    def phases_of(self, trial: Trial) -> list[TimedPhase]:
        """What was decoded in a trial."""
        end = trial.ended if trial.ended is not None else time.time()
        rows = self._connection.execute(
            "SELECT data FROM events WHERE session_id = ? AND kind = 'phase ends' "
            "AND time > ? AND time <= ? ORDER BY time, id",
            (trial.session, trial.started, end),
        ).fetchall()
        found = [json.loads(row[0]) for row in rows]
        return [TimedPhase(x["name"], float(x["start"]), float(x["duration_s"])) for x in found]

    def notes_of(self, pseudonym: str) -> list[tuple[float, str, str]]:
        """What clinicians wrote: time, text, by whom."""
        rows = self._connection.execute(
            "SELECT e.time, e.text, e.data FROM events e JOIN sessions s ON s.id = e.session_id "
            "JOIN patients p ON p.id = s.patient_id "
            "WHERE p.pseudonym = ? AND e.kind IN ('note', 'marker') ORDER BY e.time, e.id",
            (pseudonym,),
        ).fetchall()
        return [(when, text, str(json.loads(data).get("by", ""))) for when, text, data in rows]

    def of_patient(self, pseudonym: str) -> PatientHistory:
        """All trials of a patient.

        Raises:
            RecordingError: the store knows no such patient.
        """
        if pseudonym not in self.patients():
            known = ", ".join(self.patients()) or "none"
            raise RecordingError(f"the store knows no patient {pseudonym!r}; there are: {known}")
        rows = self._connection.execute(
            f"{_TRIALS} JOIN patients p ON p.id = s.patient_id WHERE p.pseudonym = ? "
            "ORDER BY t.started, t.id",
            (pseudonym,),
        ).fetchall()
        errors = self._connection.execute("SELECT measure, sem, source FROM measurement_errors")
        return PatientHistory(
            pseudonym,
            visits_of(self._trials(rows)),
            {name: given_error(sem, source) for name, sem, source in errors},
        )

    def _find(self, trial: int) -> Trial:
        rows = self._connection.execute(f"{_TRIALS} WHERE t.id = ?", (trial,)).fetchall()
        if not rows:
            raise RecordingError(f"there is no trial {trial}")
        return self._trials(rows)[0]

    def _trials(self, rows: Sequence[tuple[Any, ...]]) -> list[Trial]:
        measures: dict[object, dict[str, Measure]] = {row[0]: {} for row in rows}
        for key in measures:
            for name, value, unit in self._connection.execute(
                "SELECT name, value, unit FROM measures WHERE trial_id = ?", (key,)
            ):
                measures[key][name] = Measure(name, value, unit)
        return [
            Trial(
                key, session, name, side, started, ended, discarded, bool(automatic), measures[key]
            )
            for key, session, name, side, started, ended, discarded, automatic in rows
        ]


def visits_of(trials: Sequence[Trial]) -> tuple[Visit, ...]:
    """Trials by occasion.

    Args:
        trials: in their order.
    """
    groups: list[list[Trial]] = []
    for trial in trials:
        if groups and trial.started - groups[-1][-1].started <= VISIT_GAP_S:
            groups[-1].append(trial)
        else:
            groups.append([trial])
    return tuple(Visit(tuple(group)) for group in groups)
