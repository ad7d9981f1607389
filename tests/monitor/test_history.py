"""Patients in a store: trials, reports, exports, the audit log, erasure."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from fhir.resources.bundle import Bundle

from edgelstm.cli import cli
from edgelstm.errors import OutputError, RecordingError
from edgelstm.io.sinks.store.schema import open_store
from edgelstm.monitor.audit_log import append_entry, entries, verify
from edgelstm.monitor.export import to_csv, to_fhir, to_json
from edgelstm.monitor.history import History
from edgelstm.monitor.patient_page import patient_report
from edgelstm.monitor.simulated import SimulatedPatient, write_patient
from edgelstm.monitor.trend import Change

NOW = 1_790_000_000.0
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store with three simulated patients."""
    path = tmp_path / "ward.db"
    connection = open_store(path)
    write_patient(connection, SimulatedPatient("recovering", (20.0, 18.0, 15.0)), 1, NOW)
    write_patient(connection, SimulatedPatient("=2+3", (12.0, 12.1, 17.0)), 2, NOW)
    write_patient(connection, SimulatedPatient(HOSTILE, (12.0, 12.0), trials=6), 3, NOW)
    connection.close()
    return path


@pytest.fixture
def store(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection to it."""
    connection = open_store(path)
    yield connection
    connection.close()


def _run(*arguments: str | Path) -> str:
    result = CliRunner().invoke(cli, [str(each) for each in arguments], standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return result.output


def test_trends_say_what_the_simulated_patients_did(store: sqlite3.Connection) -> None:
    """One recovered, one had a setback at the last visit."""
    history = History(store)
    recovering = history.of_patient("recovering").verdict("total")
    setback = history.of_patient("=2+3").verdict("total", before=-2)
    assert recovering is not None
    assert recovering.change is Change.IMPROVED
    assert setback is not None
    assert setback.change is Change.SETBACK


def test_measures_of_a_trial_come_from_its_events(store: sqlite3.Connection) -> None:
    """Total, sit-to-stand, walk, turn and sit-down add up."""
    trial = History(store).of_patient("recovering").visits[0].trials[0]
    values = {name: measure.value for name, measure in trial.measures.items()}
    parts = sum(values[name] for name in ("sit_to_stand", "walk", "turn", "sit_down"))
    assert values["total"] == pytest.approx(parts)
    assert values["turns"] == 2


def test_sides_are_compared_and_are_no_scatter(store: sqlite3.Connection) -> None:
    """The error of measurement comes from trials of one side."""
    found = History(store).of_patient(HOSTILE)
    assert found.sides == ["affected", "unaffected"]
    assert found.error("total").freedom == 2 * 2 * (3 - 1)
    assert found.between_sides("total", found.visits[-1]) is not None


def test_a_discarded_trial_stays_and_does_not_count(store: sqlite3.Connection) -> None:
    """Its reason is kept, trends leave it out."""
    history = History(store)
    visit = history.of_patient("recovering").visits[0]
    history.discard_trial(visit.trials[0].id, "stumbled")
    after = history.of_patient("recovering").visits[0]
    assert len(after.trials) == len(visit.trials)
    assert len(after.values("total")) == len(visit.values("total")) - 1
    assert after.trials[0].discarded == "stumbled"


def test_a_trial_is_discarded_with_a_reason_only(store: sqlite3.Connection) -> None:
    """Nothing disappears unexplained."""
    with pytest.raises(RecordingError, match="reason"):
        History(store).discard_trial(1, "  ")


def test_a_new_trial_ends_the_one_that_goes_on(store: sqlite3.Connection) -> None:
    """Repeating needs no stop in between."""
    history = History(store)
    first = history.begin_trial(1, "a", "left", NOW)
    second = history.begin_trial(1, "a", "right", NOW + 30)
    by_id = {trial.id: trial for trial in history.trials_of_session(1)}
    assert by_id[first].ended == NOW + 30
    assert by_id[second].ended is None
    with pytest.raises(RecordingError, match="affected, unaffected, left, right"):
        history.begin_trial(1, "a", "upper")


def test_a_given_error_takes_the_place_of_the_estimate(store: sqlite3.Connection) -> None:
    """The verdict rests on it, and says so."""
    history = History(store)
    history.give_error("total", 5.0, "a study")
    verdict = history.of_patient("recovering").verdict("total")
    assert verdict is not None
    assert verdict.change is Change.NONE
    assert "a study" in verdict.text()


def test_csv_is_safe_in_spreadsheets(store: sqlite3.Connection) -> None:
    """A pseudonym that looks like a formula is text."""
    rows = list(csv.DictReader(io.StringIO(to_csv(History(store).of_patient("=2+3")))))
    assert {row["patient"] for row in rows} == {"'=2+3"}
    assert {row["measure"] for row in rows} >= {"total", "walk", "turn"}


def test_json_has_the_verdicts_with_their_numbers(store: sqlite3.Connection) -> None:
    """SEM, MDC95 and degrees of freedom stand beside each verdict, in JSON without NaN."""
    data = to_json(History(store).of_patient("recovering"))
    json.dumps(data, allow_nan=False)
    trend = data["trends"]["total"]["since_first"]
    assert trend["change"] == "improved"
    assert trend["degrees_of_freedom"] == 6
    assert trend["mdc95"] > trend["sem"] > 0


def test_fhir_bundle_is_valid(store: sqlite3.Connection) -> None:
    """FHIR's own classes read it; one Observation a trial."""
    bundle = Bundle.model_validate(to_fhir(History(store).of_patient("recovering")))
    assert len(bundle.entry) == 9


def test_report_escapes_what_people_typed(store: sqlite3.Connection) -> None:
    """A pseudonym that is a script stays text."""
    page = patient_report(History(store), HOSTILE)
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_report_has_verdict_numbers_and_limits(path: Path, tmp_path: Path) -> None:
    """The page says what it is, and shows trend, error of measurement and charts."""
    out = tmp_path / "report.html"
    _run("report-patient", path, "recovering", "-o", out)
    page = out.read_text()
    for text in ("not a medical device", "improved", "MDC95", "<svg", "Standard error"):
        assert text in page


def test_report_takes_a_given_error_for_itself_alone(path: Path, tmp_path: Path) -> None:
    """`--sem` leaves the store as it was."""
    out = tmp_path / "report.html"
    _run("report-patient", path, "recovering", "--sem", "total=9", "-o", out)
    assert "no change beyond measurement error" in out.read_text()
    connection = open_store(path)
    assert connection.execute("SELECT count(*) FROM measurement_errors").fetchone() == (0,)
    connection.close()


def test_report_of_an_unknown_patient_names_the_known(path: Path) -> None:
    """One clear error."""
    with pytest.raises(RecordingError, match=r"knows no patient 'nobody'; there are: .*recovering"):
        _run("report-patient", path, "nobody")


def test_report_never_replaces_the_store(path: Path) -> None:
    """The output is not what is read."""
    with pytest.raises(OutputError):
        _run("report-patient", path, "recovering", "-o", path)


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE audit SET actor = 'nobody' WHERE id = 2",
        "UPDATE audit SET time = time + 1 WHERE id = 1",
        "DELETE FROM audit WHERE id = 2",
        "INSERT INTO audit SELECT 4, time, actor, action, subject, detail, digest FROM audit "
        "WHERE id = 3",
    ],
)
def test_audit_log_shows_every_change(store: sqlite3.Connection, damage: str) -> None:
    """An entry altered, removed or inserted breaks the chain."""
    for action in ("one", "two", "three"):
        append_entry(store, "annotate", action)
    assert verify(store)[0] == 3
    store.execute(damage)
    with pytest.raises(OutputError, match="audit log"):
        verify(store)


def test_audit_log_cut_at_its_end_shows_against_a_digest(path: Path) -> None:
    """The digest that `verify` printed is kept elsewhere, and is missed."""
    connection = open_store(path)
    append_entry(connection, "annotate", "one")
    append_entry(connection, "annotate", "two")
    head = json.loads(_run("audit-log", "verify", path, "--json"))["head"]
    connection.execute("DELETE FROM audit WHERE id = 2")
    connection.close()
    assert json.loads(_run("audit-log", "verify", path, "--json"))["entries"] == 1
    with pytest.raises(OutputError, match="cut off"):
        _run("audit-log", "verify", path, "--head", head)


def test_exports_stand_in_the_audit_log_without_the_name(path: Path) -> None:
    """An entry names a patient by a digest."""
    _run("patients", "export", path, "recovering", "--format", "fhir")
    shown = _run("audit-log", "show", path)
    assert "exported patient; patient " in shown
    assert "recovering" not in shown


def test_erasure_leaves_nothing_in_the_file(path: Path) -> None:
    """No byte of the pseudonym is left, others stay, and the log is whole."""
    _run("patients", "export", path, "recovering")
    _run("patients", "erase", path, "recovering", "--yes")
    files = [each for each in path.parent.iterdir() if each.name.startswith(path.name)]
    assert all(b"recovering" not in each.read_bytes() for each in files)
    connection = open_store(path)
    assert History(connection).patients() == [HOSTILE, "=2+3"]
    assert [each.action for each in entries(connection)] == ["exported patient", "erased patient"]
    assert verify(connection)[0] == 2
    assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    connection.close()


def test_erasure_refuses_what_is_being_recorded(store: sqlite3.Connection, path: Path) -> None:
    """A run that goes on would lose its rows under its hands."""
    store.execute("UPDATE sessions SET ended = NULL WHERE id = 3")
    store.execute(
        "INSERT INTO checkpoints SELECT stream_id, artifact_id, 1, x'', '{}', unixepoch(), 0 "
        "FROM sessions WHERE id = 3"
    )
    with pytest.raises(OutputError, match="being recorded"):
        _run("patients", "erase", path, "recovering", "--yes")


def test_retention_removes_old_runs_alone(path: Path) -> None:
    """A dry run only tells; then old visits go, and new ones stay."""
    connection = open_store(path)
    connection.execute("UPDATE sessions SET started = unixepoch() WHERE started >= ?", (NOW,))
    connection.close()
    dry = json.loads(_run("patients", "retain", path, "--days", 1, "--dry-run", "--json"))
    done = json.loads(_run("patients", "retain", path, "--days", 1, "--json"))
    assert dry["removed"] == done["removed"]
    connection = open_store(path)
    visits = {name: len(History(connection).of_patient(name).visits) for name in ("=2+3",)}
    connection.close()
    assert visits == {"=2+3": 1}
