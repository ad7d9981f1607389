"""`edgelstm audit`: a model's accuracy by groups of people."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from edgelstm.artifact import Artifact
from edgelstm.cli import cli
from edgelstm.errors import EdgeLSTMError, RecordingError
from edgelstm.monitor.fairness import audit_model, read_groups
from edgelstm_compiler.demo.simulate import random_parameters, simulate_trial, write_trial

PEOPLE = 9


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trials of people, two of whom carry a device that clips and is noisy; one is 80."""
    folder = tmp_path_factory.mktemp("trials")
    rng = np.random.default_rng(4)
    rows = ["recording,person,age,device"]
    for k in range(PEOPLE):
        samples, times, labels = simulate_trial(k, parameters=random_parameters(rng))
        is_bad = k >= PEOPLE - 3
        if is_bad:
            samples = np.clip(samples, -2.0, 2.0) + rng.normal(0, 2.0, samples.shape)
        write_trial(folder / f"trial_{k}.csv", samples, times, labels)
        age, device = "80" if k == 0 else "50", "watch" if is_bad else "phone"
        rows.append(f"trial_{k},person_{k},{age},{device}")
    (folder.parent / "people.csv").write_text("\n".join(rows) + "\n")
    return folder


def _audit(model: Path, folder: Path, output: Path) -> str:
    words = ["audit", model, "--recordings", folder, "--groups", folder.parent / "people.csv"]
    for suffix in (".csv", ".json"):
        words += ["--data", output.with_suffix(suffix)]
    result = CliRunner().invoke(cli, [*map(str, words), "-o", str(output)], standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return result.output


def test_a_group_that_fares_worse_shows_with_its_interval(
    tug_path: Path, folder: Path, tmp_path: Path
) -> None:
    """The bad device's interval lies below the other's; the smallest group is named."""
    said = _audit(tug_path, folder, tmp_path / "audit.html")
    data = json.loads((tmp_path / "audit.json").read_text())
    groups = {f"{g['attribute']}={g['group']}": g for g in data["groups"]}
    watch, phone = groups["device=watch"], groups["device=phone"]
    assert watch["accuracy"]["high"] < phone["accuracy"]["low"]
    assert watch["people"] == 3
    assert data["smallest_group"]["group"] == "80"
    assert "smallest group: age = 80, 1 people" in said
    # Of one person there is no interval.
    assert groups["age=80"]["accuracy"]["low"] is None
    assert groups["=everyone"]["samples"] == sum(g["samples"] for g in data["recordings"])


def test_report_stands_beside_its_data(tug_path: Path, folder: Path, tmp_path: Path) -> None:
    """HTML with a chart, figures as CSV, everything as JSON."""
    _audit(tug_path, folder, tmp_path / "audit.html")
    page = (tmp_path / "audit.html").read_text()
    assert "<svg" in page
    assert "Smallest group: age = 80" in page
    rows = list(csv.DictReader((tmp_path / "audit.csv").read_text().splitlines()))
    assert [row["group"] for row in rows] == ["everyone", "50", "80", "phone", "watch"]
    assert all(0.0 < float(row["accuracy"]) < 1.0 for row in rows)


def test_delay_is_the_time_until_the_phase_is_named(tug: Artifact, folder: Path) -> None:
    """The demo model names most phases of simulated people within half a second."""
    audit = audit_model(tug, folder, read_groups(folder.parent / "people.csv"))
    phone = next(each for each in audit.results if each.group == "phone")
    assert 0.0 <= phone.delay_s.value < 0.5
    assert phone.delay_s.low <= phone.delay_s.value <= phone.delay_s.high
    assert phone.missed.value < 0.3
    assert math.isnan(next(r for r in audit.results if r.group == "80").missed.low)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("file,age\ntrial_0.csv,50\n", "needs a column `recording`"),
        ("recording,age\ntrial_0,50\ntrial_0,60\n", ":3: .*there already"),
        ("recording,age\nnobody,50\n", "0 recordings are called 'nobody'"),
        ("recording,age\ntrial_0,50\n", "trial_1.csv.* stand in no row"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(
    tug: Artifact, folder: Path, tmp_path: Path, table: str, message: str
) -> None:
    """One clear error, before anything is run."""
    path = tmp_path / "groups.csv"
    path.write_text(table)
    with pytest.raises(RecordingError, match=message):
        audit_model(tug, folder, read_groups(path))


def test_a_label_of_another_model_is_refused(tug: Artifact, tmp_path: Path) -> None:
    """It would count as an error of the model."""
    samples, times, labels = simulate_trial(1)
    write_trial(tmp_path / "a.csv", samples[:50], times[:50], labels[:50])
    text = (tmp_path / "a.csv").read_text().replace("SEATED", "RUNNING")
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(RecordingError, match="'RUNNING' is none of the model's"):
        audit_model(tug, tmp_path, {"a": {"age": "50"}})


def test_output_never_replaces_a_recording(tug_path: Path, folder: Path) -> None:
    """The report's data would stand where a recording stands."""
    with pytest.raises(EdgeLSTMError):
        _audit(tug_path, folder, folder / "trial_0.html")
