"""Standard error of measurement, minimal detectable change, and verdicts on known truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from edgelstm.monitor.simulated import SimulatedPatient
from edgelstm.monitor.trend import (
    Change,
    MeasurementError,
    compare,
    given_error,
    pooled_error,
    t_quantile,
)

TRIALS, VISITS, PATIENTS = 3, 6, 3000
SCATTER = 0.6


@pytest.mark.parametrize("freedom", [1, 2, 5, 10, 29, 30, 31, 40, 100, 1000])
def test_quantiles_are_those_of_students_t(freedom: int) -> None:
    """The table and the expansion agree with SciPy."""
    assert t_quantile(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=2e-4)


def test_error_of_measurement_is_the_pooled_scatter() -> None:
    """Visits with different means do not count as scatter, and visits of one trial say nothing."""
    error = pooled_error([[10.0, 12.0], [20.0, 22.0], [5.0]])
    assert error.freedom == 2
    # sqrt(2) is the pooled standard deviation, 0.8862 its expected share at 2 degrees of freedom.
    assert error.sem == pytest.approx(math.sqrt(2.0) / 0.886227, rel=1e-5)


def test_error_of_measurement_is_unbiased() -> None:
    """On average the estimate from few trials is the truth."""
    rng = np.random.default_rng(5)
    found = [pooled_error(rng.normal(0, 1.0, (2, 3)).tolist()).sem for _ in range(4000)]
    assert np.mean(found) == pytest.approx(1.0, abs=0.02)


def test_given_error_is_that_of_a_visit() -> None:
    """MDC95 of a published error of measurement is 1.96 sqrt(2) SEM, however many trials."""
    error = given_error(0.9, "a study")
    assert error.mdc95(1, 1) == pytest.approx(1.96 * math.sqrt(2) * 0.9, rel=1e-4)
    assert error.mdc95(5, 5) == error.mdc95(1, 1)


def test_too_few_repeated_trials_give_no_verdict() -> None:
    """Without scatter to look at, nothing is said, whatever the difference."""
    verdict = compare([10.0], [3.0], pooled_error([[10.0], [3.0]]))
    assert verdict.change is Change.UNKNOWN
    assert "MDC95 unknown" in verdict.text("s")


@pytest.mark.parametrize(
    ("better", "after", "expected"),
    [
        ("lower", 8.0, Change.IMPROVED),
        ("lower", 12.0, Change.SETBACK),
        ("higher", 8.0, Change.SETBACK),
        ("higher", 12.0, Change.IMPROVED),
        ("", 12.0, Change.CHANGED),
        ("lower", 10.2, Change.NONE),
    ],
)
def test_direction_depends_on_the_measure(better: str, after: float, expected: Change) -> None:
    """A shorter time is better, a higher count is better, of others only the change is told."""
    verdict = compare([10.0], [after], given_error(0.3), better)  # type: ignore[arg-type]
    assert verdict.change is expected
    assert verdict.difference == pytest.approx(after - 10.0)


def _patients(change: float, seed: int, error: MeasurementError | None = None) -> list[Change]:
    rng = np.random.default_rng(seed)
    verdicts = []
    for _ in range(PATIENTS):
        start = float(rng.uniform(9.0, 25.0))
        totals = [start] * (VISITS - 1) + [start + change]
        visits = SimulatedPatient("P", totals, SCATTER, TRIALS).draw(rng)
        verdicts.append(compare(visits[0], visits[-1], error or pooled_error(visits)).change)
    return verdicts


GIVEN = given_error(SCATTER / math.sqrt(TRIALS))
"""What a study of test and retest finds where visits scatter as their trials do."""


@pytest.mark.parametrize("error", [None, GIVEN], ids=["estimated", "given"])
def test_at_most_five_in_a_hundred_false_alarms(error: MeasurementError | None) -> None:
    """Simulated patients in whom nothing changed: setback or improvement is said of few."""
    verdicts = _patients(0.0, seed=1, error=error)
    false = sum(verdict is not Change.NONE for verdict in verdicts) / len(verdicts)
    assert 0.0 < false <= 0.05


@pytest.mark.parametrize("error", [None, GIVEN], ids=["estimated", "given"])
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_ninety_five_in_a_hundred_right_at_twice_the_detectable_change(
    sign: float, error: MeasurementError | None
) -> None:
    """Simulated patients who truly changed by twice the MDC95, either way."""
    mdc = (error or MeasurementError(SCATTER, VISITS * (TRIALS - 1))).mdc95(TRIALS, TRIALS)
    expected = Change.IMPROVED if sign < 0 else Change.SETBACK
    verdicts = _patients(sign * 2.0 * mdc, seed=2, error=error)
    right = sum(verdict is expected for verdict in verdicts) / len(verdicts)
    assert right >= 0.95
