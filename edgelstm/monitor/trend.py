"""Is a change beyond the error of measurement? Standard error, minimal detectable change, verdict.

A visit holds repeated trials. Their scatter within visits, pooled, is the standard error of
measurement of one trial; the change of two visits' means that scatter alone exceeds in 5 % of all
cases is the minimal detectable change (MDC95).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

Better = Literal["lower", "higher", ""]
"""Which way a measure improves; "" where neither way is better."""

FEWEST_FREEDOM = 3
"""Degrees of freedom below which scatter says too little for a verdict."""

_Z = 1.959964
_T = (
    *(12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281),
    *(2.2010, 2.1788, 2.1604, 2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860),
    *(2.0796, 2.0739, 2.0687, 2.0639, 2.0595, 2.0555, 2.0518, 2.0484, 2.0452, 2.0423),
)


class Change(StrEnum):
    """What a comparison of two visits says."""

    IMPROVED = "improved"
    NONE = "no change beyond measurement error"
    SETBACK = "setback"
    CHANGED = "changed"  # of a measure that is better neither way
    UNKNOWN = "not enough repeated trials"


@dataclass(frozen=True, slots=True)
class MeasurementError:
    """How well a measure repeats.

    Args:
        sem: standard error of measurement, in the measure's unit.
        freedom: degrees of freedom that it was estimated with; infinity where it was given.
        source: `repeated trials`, or who gave it.
    """

    sem: float
    freedom: float
    source: str = "repeated trials"

    @property
    def is_given(self) -> bool:
        """Whether it was given, as the error from visit to visit (test and retest)."""
        return math.isinf(self.freedom)

    @property
    def is_enough(self) -> bool:
        """Whether a verdict can rest on it."""
        return self.freedom >= FEWEST_FREEDOM and math.isfinite(self.sem)

    def mdc95(self, before: int = 1, after: int = 1) -> float:
        """Minimal detectable change between the means of so many trials.

        One that was given is the error of a visit, however many trials it has.
        """
        if before < 1 or after < 1 or not self.freedom:
            return math.nan
        share = 2.0 if self.is_given else 1.0 / before + 1.0 / after
        return t_quantile(self.freedom) * self.sem * math.sqrt(share)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A comparison of two visits, with the numbers behind it.

    Args:
        change: what it says.
        before, after: means of the visits.
        trials_before, trials_after: how many there are.
        error: of one trial.
        mdc95: change that scatter alone exceeds in 5 % of all cases.
    """

    change: Change
    before: float
    after: float
    trials_before: int
    trials_after: int
    error: MeasurementError
    mdc95: float

    @property
    def difference(self) -> float:
        """After less before."""
        return self.after - self.before

    def text(self, unit: str = "") -> str:
        """In one line, with the numbers."""
        space = f" {unit}" if unit else ""
        numbers = f"{self.before:.3g} to {self.after:.3g}{space} ({self.difference:+.3g}{space}"
        if self.change is Change.UNKNOWN:
            return f"{self.change}: {numbers}; MDC95 unknown)"
        given = "" if not self.error.is_given else f", {self.error.source}"
        return f"{self.change}: {numbers}; MDC95 {self.mdc95:.3g}{space}{given})"

    def to_json(self) -> dict[str, Any]:
        """For exports and the page."""
        return {
            "change": str(self.change),
            "before": self.before,
            "after": self.after,
            "difference": self.difference,
            "trials_before": self.trials_before,
            "trials_after": self.trials_after,
            "sem": finite(self.error.sem),
            "sem_source": self.error.source,
            "degrees_of_freedom": finite(self.error.freedom),
            "mdc95": finite(self.mdc95),
        }


def finite(value: float) -> float | None:
    """A number that JSON has; None of others."""
    return value if math.isfinite(value) else None


def t_quantile(freedom: float) -> float:
    """The 97.5 % quantile of Student's t.

    Source: a table to 30; beyond, the expansion of Cornish and Fisher, exact to 1e-4.
    """
    if math.isinf(freedom):
        return _Z
    if freedom < 1:
        return math.inf
    n = math.floor(freedom)
    if n <= len(_T):
        return _T[n - 1]
    z = _Z
    return z + (z**3 + z) / (4 * n) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)


def pooled_error(visits: Sequence[Sequence[float]]) -> MeasurementError:
    """The standard error of measurement from trials repeated within visits.

    Its small-sample bias is taken out: a standard deviation of few values is too small on average.
    """
    freedom = sum(len(values) - 1 for values in visits if len(values) > 1)
    if not freedom:
        return MeasurementError(math.nan, 0)
    total = 0.0
    for values in visits:
        if len(values) > 1:
            mean = math.fsum(values) / len(values)
            total += math.fsum((value - mean) ** 2 for value in values)
    bias = math.sqrt(2 / freedom) * math.exp(
        math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)
    )
    return MeasurementError(math.sqrt(total / freedom) / bias, freedom)


def given_error(sem: float, source: str = "given") -> MeasurementError:
    """A standard error of measurement from elsewhere, such as a published test and retest.

    Raises:
        ValueError: it is no positive number.
    """
    if not (math.isfinite(sem) and sem > 0):
        raise ValueError(f"a standard error of measurement is above 0, found {sem!r}")
    return MeasurementError(sem, math.inf, source)


def compare(
    before: Sequence[float],
    after: Sequence[float],
    error: MeasurementError,
    better: Better = "lower",
) -> Verdict:
    """What the trials of two visits say.

    Raises:
        ValueError: a visit has no trials.
    """
    if not before or not after:
        raise ValueError("a visit without trials cannot be compared")
    mean_before = math.fsum(before) / len(before)
    mean_after = math.fsum(after) / len(after)
    mdc = error.mdc95(len(before), len(after))
    difference = mean_after - mean_before
    if not error.is_enough or (difference and not error.sem):
        # Trials that never differ, as counts do, show no error to compare a change with.
        change = Change.UNKNOWN
    elif abs(difference) <= mdc:
        change = Change.NONE
    elif not better:
        change = Change.CHANGED
    else:
        change = Change.IMPROVED if (difference < 0) == (better == "lower") else Change.SETBACK
    return Verdict(change, mean_before, mean_after, len(before), len(after), error, mdc)
