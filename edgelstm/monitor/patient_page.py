"""What a report and a page show of a patient, read from the store."""

from __future__ import annotations

from edgelstm.monitor.history import History, PatientHistory
from edgelstm.monitor.measures import TimedPhase
from edgelstm.monitor.report import history_body, overlay, report_page


def patient_report(history: History, pseudonym: str) -> str:
    """The printable report.

    Raises:
        RecordingError: the store knows no such patient.
    """
    found = history.of_patient(pseudonym)
    return report_page(found, history.notes_of(pseudonym), _first_and_last(history, found))


def patient_body(history: History, pseudonym: str) -> str:
    """The same without its frame.

    Raises:
        RecordingError: the store knows no such patient.
    """
    found = history.of_patient(pseudonym)
    return history_body(found, history.notes_of(pseudonym), _first_and_last(history, found))


def _first_and_last(
    history: History, found: PatientHistory
) -> list[tuple[str, tuple[TimedPhase, ...]]]:
    visits = [visit for visit in found.visits if any(trial.counts for trial in visit.trials)]
    chosen = [visits[0], visits[-1]] if len(visits) > 1 else visits
    rows = []
    for visit in chosen:
        trials = [trial for trial in visit.trials if trial.counts][:3]
        phases = [history.phases_of(trial) for trial in trials]
        rows += [(title, tuple(p)) for title, p in overlay([visit] * len(trials), phases)]
    return rows
