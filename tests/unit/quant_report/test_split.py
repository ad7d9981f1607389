"""The split by matrix and gate: what is exact costs nothing, and errors add up to the layer's."""

from __future__ import annotations

import numpy as np
import pytest

from edgelstm_compiler.quant.accuracy import measure
from edgelstm_compiler.quant.calibrate import calibrate
from edgelstm_compiler.quant.convert import quantize_graph
from edgelstm_compiler.quant.replay import Replay
from edgelstm_compiler.quant.scheme import QuantizeOptions, Scheme
from edgelstm_compiler.quant_report.page import split_texts
from edgelstm_compiler.quant_report.split import Split, measure_split
from tests.quantized_models import step_graph
from tests.unit.quant.generated_models import GATES, CellWeights, walk

HIDDEN = 6
FORGET = ("R", "forget gate")
NAMES = {
    "LSTM": ["input gate", "output gate", "forget gate", "candidate"],
    "GRU": ["update gate", "reset gate", "candidate"],
}


def _split(cell: CellWeights, scheme: Scheme, *, does_correct: bool = True) -> tuple[Split, float]:
    """Of a single layer, and the decibels of all of it."""
    graph, given = step_graph(cell.model()), [{"x": 1.0 + walk(200, 4, 1)}]
    options = QuantizeOptions(compensate=False, correct_bias=does_correct)
    converted = quantize_graph(graph, calibrate(graph, given), scheme, options)
    ((_, split),) = measure_split(converted, given, does_correct=does_correct).items()
    wanted, found = (Replay(g).run(given[0])["y"] for g in (graph, converted.graph))
    return split, measure(wanted, found).sqnr_db


@pytest.mark.parametrize("kind", NAMES)
def test_errors_add_up(kind: str) -> None:
    """Stored weights lose nothing else: powers of all matrices and gates are about the layer's."""
    split, whole = _split(CellWeights.uniform(kind, 4, HIDDEN), Scheme.W8)
    assert {matrix: list(gates) for matrix, gates in split.items()} == {
        matrix: NAMES[kind] for matrix in ("W", "R")
    }
    parts = [db for gates in split.values() for db in gates.values() if db is not None]
    assert len(parts) == 2 * GATES[kind]
    together = -10 * np.log10(np.sum(10 ** (-np.array(parts) / 10)))
    assert together == pytest.approx(whole, abs=3.0)


@pytest.mark.parametrize("scheme", [Scheme.W8, Scheme.INT8_FULL])
def test_what_is_exact_costs_nothing(scheme: Scheme) -> None:
    """R of the forget gate is whole steps of its scale: the others' errors are not its own."""
    cell = CellWeights.uniform("LSTM", 4, HIDDEN)
    exact = np.random.default_rng(0).integers(-127, 128, (HIDDEN, HIDDEN))
    exact[:, 0] = 127
    cell.r[0, 2 * HIDDEN : 3 * HIDDEN] = exact / 256.0
    split, _ = _split(cell, scheme)
    found = {
        (m, gate): np.inf if db is None else db
        for m, gates in split.items()
        for gate, db in gates.items()
    }
    others = max(db for place, db in found.items() if place != FORGET)
    assert found[FORGET] > others + 20.0


def test_the_mean_is_taken_back_where_the_layer_does() -> None:
    """Inputs far from zero: with the correction of biases W costs far less."""
    cell = CellWeights.uniform("LSTM", 4, HIDDEN)
    with_it, without = (_split(cell, Scheme.W4, does_correct=does)[0] for does in (True, False))
    assert sum(with_it["W"].values()) > sum(without["W"].values()) + 4.0  # type: ignore[arg-type]


def test_it_is_told_by_layer_and_matrix() -> None:
    """As rows of text; layers without one have none."""
    rows = [{"name": "a", "split": {"W": {"i": 41.26, "f": None}}}, {"name": "b"}]
    assert split_texts(rows) == [("a", "W", "i 41.3, f exact")]
