"""Times of timed-up-and-go trials, from people that the demo model was not trained on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgelstm.io.decoding.recipe import read_recipe
from edgelstm_compiler.demo import MODEL_PATH, REPORT_PATH
from edgelstm_compiler.demo.measure import RECIPE_PATH, TrialErrors, measure_trial
from edgelstm_compiler.demo.recordings import load_recordings
from edgelstm_compiler.onnx_import.peer import OnnxRuntimePeer

pytestmark = [pytest.mark.corpus]


@pytest.fixture(scope="module")
def trials(corpus: Path) -> list[TrialErrors]:
    """Every trial of the two held-out people, decoded by the recipe of the demo."""
    subjects = json.loads(REPORT_PATH.read_text(encoding="utf-8"))["held_out"]["subjects"]
    model, recipe = OnnxRuntimePeer(MODEL_PATH), read_recipe(RECIPE_PATH)
    return [
        measure_trial(each, model.run({"imu": each.samples[None]})["phase"][0], recipe)
        for each in load_recordings(corpus / "data" / "imu_sp_sw_har")
        if each.subject in subjects
    ]


def test_the_time_of_a_trial_is_right_within_a_third_of_a_second(trials: list[TrialErrors]) -> None:
    """Median at most 0.3 s, 90 % within 0.7 s; a trial without a time counts as wrong."""
    errors = [np.inf if trial.total_s is None else abs(trial.total_s) for trial in trials]
    assert len(errors) == 19
    assert np.median(errors) <= 0.3
    assert np.quantile(errors, 0.9) <= 0.7


def test_the_durations_of_phases_are_right_within_a_third_of_a_second(
    trials: list[TrialErrors],
) -> None:
    """The median over all phases of the trials in which they are told in order."""
    errors = [abs(error) for trial in trials for _, error in trial.phases_s]
    assert sum(bool(trial.phases_s) for trial in trials) >= 15
    assert np.median(errors) <= 0.3
