"""Trials of people not trained on, from the raw recordings to what the page shows of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgelstm_compiler.demo import MODEL_PATH, REPORT_PATH
from edgelstm_compiler.demo.measure_page import (
    MEASURES,
    TrialMeasures,
    compiled,
    measure_by_page,
)
from edgelstm_compiler.demo.recordings import load_recordings


@pytest.fixture(scope="module")
def trials(corpus: Path) -> list[TrialMeasures]:
    """Every phone recording of the two held-out people."""
    data = corpus / "data" / "imu_sp_sw_har"
    subjects = json.loads(REPORT_PATH.read_text(encoding="utf-8"))["held_out"]["subjects"]
    chosen = [each for each in load_recordings(data) if each.subject in subjects]
    return measure_by_page(compiled(MODEL_PATH, "reference"), data, chosen)


def test_every_trial_is_measured(trials: list[TrialMeasures]) -> None:
    """All 19, with all measures."""
    assert [sorted(trial.errors_s) for trial in trials] == [sorted(MEASURES)] * 19


def test_total_times_are_right(trials: list[TrialMeasures]) -> None:
    """Median at most 0.3 s, 90 % within 0.7 s."""
    errors = np.abs([trial.errors_s["total"] for trial in trials])
    assert np.median(errors) <= 0.3
    assert np.quantile(errors, 0.9) <= 0.7


@pytest.mark.parametrize("name", MEASURES)
def test_each_duration_is_right(trials: list[TrialMeasures], name: str) -> None:
    """Median at most 0.35 s, 95 % within 0.7 s, as README says of them."""
    errors = np.abs([trial.errors_s[name] for trial in trials])
    assert np.median(errors) <= 0.35
    assert np.quantile(errors, 0.95) <= 0.7
