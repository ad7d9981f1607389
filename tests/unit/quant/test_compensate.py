"""Rounding that compensates: what it knows of recordings, and what it gains."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from edgelstm_compiler.ir.cells import GRU, LSTM
from edgelstm_compiler.quant.accuracy import measure
from edgelstm_compiler.quant.calibrate import calibrate
from edgelstm_compiler.quant.calibration import Calibration
from edgelstm_compiler.quant.compensate import STRENGTHS, compensated, diagonal
from edgelstm_compiler.quant.convert import quantize_graph
from edgelstm_compiler.quant.moments import MomentSums, add_dense, row_kinds
from edgelstm_compiler.quant.replay import Replay
from edgelstm_compiler.quant.scheme import Damping, QuantizeOptions, Scheme
from tests.models import gru_model, lstm_model
from tests.quantized_models import recordings, step_graph
from tests.unit.quant.generated_models import CellWeights, walk


def test_moments_of_known_data() -> None:
    """Standard deviations and correlations, whatever the mean; a glitch counts for nothing."""
    rng = np.random.default_rng(0)
    mixed = rng.standard_normal((4000, 3)) @ np.array([[1, 2, 0], [0, 1, 0], [0, 0, 3]]) + 100.0
    dirty = mixed.copy()
    dirty[77, 1] = 1e9
    sums = MomentSums()
    add_dense(sums, dirty[:1000])
    add_dense(sums, dirty[1000:])
    found = sums.moments()
    assert found is not None
    np.testing.assert_allclose(found.deviation[0, 0], mixed.std(axis=0), rtol=0.01)
    wanted = np.corrcoef(mixed.T)
    np.testing.assert_allclose(found.correlation[0, 0], wanted, atol=0.01)
    turned = found.turned(np.array([1, -1, 1])).correlation[0, 0]
    assert turned[0, 1] == -found.correlation[0, 0, 0, 1]
    chosen = found.selected(np.array([True, False, True]))
    assert chosen.correlation[0, 0, 0, 1] == found.correlation[0, 0, 0, 2]


@pytest.mark.parametrize("make", [lstm_model, gru_model])
@pytest.mark.parametrize("linear", [False, True])
def test_moments_in_a_calibration(make: Any, linear: bool) -> None:
    """They are written and read to the same numbers; a GRU's candidate has its own."""
    fields = {"linear_before_reset": linear} if make is gru_model else {}
    graph = step_graph(make(steps=None, **fields))
    calibration = calibrate(graph, recordings(graph))
    ((name, moments),) = calibration.moments.items()
    assert moments.deviation.shape == (1, 2 if make is gru_model else 1, 3 + 4)
    again = Calibration.from_json(json.loads(json.dumps(calibration.to_json())))
    assert np.array_equal(again.moments[name].correlation, moments.correlation)
    assert again.digest == calibration.digest


def test_kinds_of_rows() -> None:
    """Only a GRU's candidate reads h otherwise than the gates."""
    graphs = {
        "lstm": step_graph(lstm_model()),
        "before": step_graph(gru_model()),
        "after": step_graph(gru_model(linear_before_reset=True)),
    }
    found = {}
    for name, graph in graphs.items():
        (op,) = [node.op for node in graph.nodes if isinstance(node.op, LSTM | GRU)]
        found[name] = row_kinds(op.cell())
    assert found["lstm"] == ([("h", None)], [0, 0, 0, 0])
    assert found["before"][1] == found["after"][1] == [0, 0, 1]
    assert found["after"][0][1] == ("h", "r")


def test_columns_make_up_for_each_other() -> None:
    """With correlated inputs the error of the sums is far below that of rounding to the nearest."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((5000, 4)) @ rng.standard_normal((4, 24))
    x += 0.05 * rng.standard_normal(x.shape)
    weights = rng.standard_normal((40, 24))
    scale = np.full(weights.shape, 0.4)
    nearest = np.clip(np.rint(weights / scale), -8, 7)
    deviation = x.std(axis=0)
    added = diagonal(deviation, 24, len(x), STRENGTHS[Damping.HEAVY], is_x_inner=True)
    found = compensated(weights, scale, nearest, np.corrcoef(x.T), deviation, added, (-8, 7))
    assert found.min() >= -8
    assert found.max() <= 7
    errors = [
        np.square((weights - steps * scale) @ (x - x.mean(axis=0)).T).sum(axis=1)
        for steps in (nearest, found)
    ]
    assert errors[1].sum() < 0.2 * errors[0].sum()


def test_what_rests_in_the_recordings_takes_up_little() -> None:
    """Few frames around far means: from the initial state the sums are no worse than rounded."""
    rng = np.random.default_rng(2)
    mean = rng.uniform(-0.9, 0.9, 100)
    size = 10.0 ** rng.uniform(-2.5, -0.5, 100)
    x = mean + size * (rng.standard_normal((24, 3)) @ rng.standard_normal((3, 100)))
    weights, scale = rng.standard_normal((40, 100)), np.full((40, 100), 0.03)
    nearest = np.rint(weights / scale)
    deviation = x.std(axis=0)
    added = diagonal(deviation, 100, len(x), STRENGTHS[Damping.HEAVY], is_x_inner=True)
    correlation = np.corrcoef(x.T)
    found = compensated(weights, scale, nearest, correlation, deviation, added, (-127, 127))
    inside, at_rest = (
        [np.square((weights - steps * scale) @ data).sum() for steps in (nearest, found)]
        for data in ((x - x.mean(axis=0)).T, x.mean(axis=0))
    )
    assert inside[1] < 0.5 * inside[0]
    assert at_rest[1] < 3.0 * at_rest[0]


@pytest.mark.parametrize(
    ("kind", "features", "hidden"), [("LSTM", 64, 128), ("LSTM", 6, 32), ("GRU", 9, 64)]
)
@pytest.mark.parametrize(
    ("scheme", "gain"), [(Scheme.W4, 3.5), (Scheme.W8, 1.5), (Scheme.INT8, 1.5)], ids=str
)
def test_gain(kind: str, features: int, hidden: int, scheme: Scheme, gain: float) -> None:
    """Decibels on recordings that calibration has not seen."""
    graph = step_graph(CellWeights.uniform(kind, features, hidden).model())
    calibration = calibrate(graph, [{"x": walk(1500, features, 1)}])
    unseen = {"x": walk(300, features, 2)}
    wanted = Replay(graph).run(unseen)["y"]
    graphs = [
        quantize_graph(graph, calibration, scheme, QuantizeOptions(compensate=compensate)).graph
        for compensate in (False, True)
    ]
    before, after = (measure(wanted, Replay(g).run(unseen)["y"]).sqnr_db for g in graphs)
    assert after >= before + gain
