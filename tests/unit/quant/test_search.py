"""The search of `auto`: no step that is taken adds to the error."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from edgelstm_compiler.quant import search
from edgelstm_compiler.quant.calibrate import calibrate
from edgelstm_compiler.quant.scheme import QuantizeOptions, Scheme
from edgelstm_compiler.quant.search import LADDER, Trial, best_step, search_schemes
from tests.models import stacked_model
from tests.quantized_models import recordings, step_graph


def trial(error: float, size: int) -> Trial:
    """A trial of any schemes."""
    return Trial({}, error, size, taken=False)


def test_no_step_adds_to_the_error() -> None:
    """Not even where nothing else is left, or where it would save bytes."""
    best = trial(0.5, 100)
    assert best_step(best, [trial(0.6, 110), trial(0.5, 90)], 0.1) is None
    assert best_step(best, [], 0.1) is None
    better = trial(0.4, 1000)
    assert best_step(best, [trial(0.6, 110), better], 0.1) is better


def test_most_error_per_byte() -> None:
    """Among what lessens the error the steepest is taken; what is good enough by its bytes."""
    best, steep = trial(0.5, 100), trial(0.4, 110)
    assert best_step(best, [trial(0.3, 200), steep], 0.1) is steep
    small = trial(0.09, 150)
    assert best_step(best, [steep, trial(0.01, 200), small], 0.1) is small


def _searched(
    monkeypatch: pytest.MonkeyPatch,
    error: Callable[[list[int]], float],
    bound: float,
    layers: int = 2,
) -> tuple[dict[str, Scheme], list[Trial]]:
    """Layers whose error is a function of their places on the ladder."""
    graph = step_graph(stacked_model(steps=None, ops=("LSTM",) * layers))
    given = recordings(graph, count=1, frames=8)

    def measured(self: object, schemes: Mapping[str, Scheme]) -> Trial:
        del self
        rungs = [LADDER.index(scheme) for scheme in schemes.values()]
        return Trial(dict(schemes), error(rungs), 100 + sum(rungs), taken=False)

    monkeypatch.setattr(search._Search, "trial", measured)
    calibration = calibrate(graph, given)
    found, trials = search_schemes(graph, calibration, given, bound, QuantizeOptions())
    return found, list(trials)


def test_errors_that_cancel_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where every single change adds to the error, all layers become dearer together."""

    def error(rungs: list[int]) -> float:
        return 0.8 ** sum(rungs) + abs(rungs[0] - rungs[1])

    found, trials = _searched(monkeypatch, error, 0.3)
    taken = [each.error for each in trials if each.taken]
    above = [each for each in taken if each > 0.3]
    assert above == sorted(set(above), reverse=True)
    assert error([LADDER.index(scheme) for scheme in found.values()]) <= 0.3


def test_search_ends_in_float(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing but float32 everywhere lessens the error, that is what is found."""
    last = len(LADDER) - 1

    def error(rungs: list[int]) -> float:
        return 0.0 if all(rung == last for rung in rungs) else 1.0 + sum(rungs)

    found, trials = _searched(monkeypatch, error, 0.1)
    assert set(found.values()) == {Scheme.FP32}
    assert [each.error for each in trials if each.taken] == [1.0, 0.0]


def test_the_first_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is tried beyond the cheapest schemes where they stay under the bound."""
    found, trials = _searched(monkeypatch, lambda rungs: 0.05, 0.1)
    assert set(found.values()) == {LADDER[0]}
    assert len(trials) == 1


def test_layers_become_cheaper_under_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """A change that later ones made unnecessary is taken back."""

    def error(rungs: list[int]) -> float:
        # The first layer's is the cheapest change, the others make it unnecessary.
        return 1.0 - 0.3 * (rungs[0] > 0) - 0.35 * (rungs[1] > 1) - 0.35 * (rungs[2] > 1)

    found, trials = _searched(monkeypatch, error, 0.31, layers=3)
    assert [LADDER.index(scheme) for scheme in found.values()] == [0, 2, 2]
    assert [each.schemes for each in trials if each.taken][-1] == found
