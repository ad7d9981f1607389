"""The rounding that a model gets is the one that its recordings say is best."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from edgelstm.errors import CapabilityError
from edgelstm_compiler.driver import compile_model
from edgelstm_compiler.ir.graph import StepGraph
from edgelstm_compiler.quant import rounding
from edgelstm_compiler.quant.accuracy import measure
from edgelstm_compiler.quant.calibrate import calibrate
from edgelstm_compiler.quant.calibration import Calibration
from edgelstm_compiler.quant.convert import quantize_graph
from edgelstm_compiler.quant.embedded import SECTION, restore_model, unpack_calibration
from edgelstm_compiler.quant.replay import Replay
from edgelstm_compiler.quant.rounding import MARGIN_DB, best_of, choose_rounding
from edgelstm_compiler.quant.scheme import Damping, QuantizeOptions, Scheme
from edgelstm_compiler.quant.support import is_layer
from tests.quantized_models import step_graph
from tests.unit.quant.generated_models import CellWeights, walk

HEAVY, LIGHT, MEDIUM = (
    QuantizeOptions(damping=each) for each in (Damping.HEAVY, Damping.LIGHT, Damping.MEDIUM)
)
NEAREST = QuantizeOptions(compensate=False)
TRIED = [(HEAVY, 0.0), (LIGHT, 0.0), (MEDIUM, MARGIN_DB), (NEAREST, MARGIN_DB)]
MODEL = CellWeights.uniform("LSTM", 4, 12).model()


@pytest.fixture(scope="module")
def graph() -> StepGraph:
    """A small layer."""
    return step_graph(MODEL)


@pytest.mark.parametrize(
    ("decibels", "chosen"),
    [
        ((30.0, 30.0, 30.0, 30.0), HEAVY),
        ((30.0, 30.1, 30.5, 30.6), LIGHT),
        ((30.0, 29.0, 30.6, 31.0), MEDIUM),
        ((30.0, 12.0, 31.0, 31.6), NEAREST),
        ((-np.inf, -np.inf, -np.inf, 20.0), NEAREST),
    ],
)
def test_the_best_by_a_margin(decibels: tuple[float, ...], chosen: QuantizeOptions) -> None:
    """The two rules of old compete at par, the others have to be better by half a decibel."""
    names = ("heavy", "light", "medium", "nearest")
    assert best_of(TRIED, dict(zip(names, decibels, strict=True))) == chosen


def test_what_is_measured_is_the_error_on_the_recordings(graph: StepGraph) -> None:
    """Of the quantized model with that damping; the options come back with the best."""
    seen = [{"x": walk(300, 4, 1)}]
    calibration = calibrate(graph, seen)
    found = choose_rounding(graph, calibration, seen, Scheme.W4, QuantizeOptions())
    wanted = Replay(graph).run(seen[0])["y"]
    assert list(found.measured) == ["heavy", "light", "medium", "nearest"]
    for (options, _), decibels in zip(TRIED, found.measured.values(), strict=True):
        quantized = quantize_graph(graph, calibration, Scheme.W4, options).graph
        error = measure(wanted, Replay(quantized).run(seen[0])["y"])
        assert error.sqnr_db == pytest.approx(decibels)
    assert found.options == best_of(TRIED, found.measured)
    assert len(set(found.measured.values())) == 4


def test_few_rows_do_not_judge_themselves(graph: StepGraph) -> None:
    """Light damping needs twice as many rows as operands: here 32."""
    for frames, tried in ((31, 3), (32, 4)):
        seen = [{"x": walk(frames, 4, 1)}]
        calibration = calibrate(graph, seen)
        found = choose_rounding(graph, calibration, seen, Scheme.INT8, QuantizeOptions())
        assert len(found.measured) == tried
        assert ("light" in found.measured) == (tried == 4)


def test_nothing_to_choose(graph: StepGraph) -> None:
    """Without recordings heavy damping; what was asked for stays, and halves are not rounded."""
    seen = [{"x": walk(100, 4, 1)}]
    calibration, options = calibrate(graph, seen), QuantizeOptions()
    assert choose_rounding(graph, calibration, [], Scheme.W4, options).options == HEAVY
    assert choose_rounding(graph, calibration, seen, Scheme.FP16, options).options == HEAVY
    assert choose_rounding(graph, None, [], Scheme.W8, options).options == options
    for given in (LIGHT, NEAREST):
        found = choose_rounding(graph, calibration, seen, Scheme.W4, given)
        assert found.options == given
        assert not found.measured


@pytest.mark.parametrize("best", ["light", "nearest"])
def test_the_record_makes_the_same_weights_again(
    graph: StepGraph, best: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was chosen stands in the manifest; the artifact holds all that it takes."""
    seen = [{"x": walk(60, 4, 1)}]
    monkeypatch.setattr(
        rounding, "best_of", lambda tried, _: next(o for o, _ in tried if rounding._name(o) == best)
    )
    artifact = compile_model(MODEL, target="reference", quantize="w4", calibration=seen)
    record = artifact.manifest["quantization"]
    assert record["rounding"]["chosen"] == best
    stored = unpack_calibration(artifact.container.sections[SECTION])
    again = restore_model(graph, record, stored)[0].graph
    calibration = calibrate(graph, seen)
    options = LIGHT if best == "light" else NEAREST
    wanted, other = (
        quantize_graph(graph, calibration, Scheme.W4, each).graph for each in (options, HEAVY)
    )
    pairs = list(zip(again.constants, wanted.constants, other.constants, strict=True))
    assert all(np.array_equal(a.data, b.data) for a, b, _ in pairs)
    assert not all(np.array_equal(a.data, c.data) for a, _, c in pairs)


def test_integers_at_the_borders_do_not_matter(graph: StepGraph) -> None:
    """The same choice with `integer_io`: errors are those of floats."""
    seen = [{"x": walk(60, 4, 1)}]
    calibration, options = calibrate(graph, seen), QuantizeOptions()
    integers = replace(options, integer_io=True)
    found = [
        choose_rounding(graph, calibration, seen, Scheme.INT8_FULL, o) for o in (options, integers)
    ]
    assert found[0].measured == found[1].measured
    assert found[1].options == replace(found[0].options, integer_io=True)


def test_a_calibration_file_knows_what_its_recordings_chose(graph: StepGraph) -> None:
    """By scheme; it survives JSON, and a model of several schemes has heavy damping."""
    seen = [{"x": walk(60, 4, 1)}]
    found = rounding.with_roundings(graph, calibrate(graph, seen), seen)
    assert list(found.roundings) == ["w8", "w4", "int8", "int8-full"]
    again = Calibration.from_json(json.loads(json.dumps(found.to_json())))
    (layer,) = (node.name for node in graph.nodes if is_layer(node))
    for name, chosen in found.roundings.items():
        asked = QuantizeOptions()
        wanted = choose_rounding(graph, found, seen, Scheme(name), asked).options
        assert rounding._name(wanted) == chosen
        for schemes in (Scheme(name), {layer: Scheme(name), "kept": Scheme.FP32}):
            assert choose_rounding(graph, again, [], schemes, asked).options == wanted
    mixed = {layer: Scheme.W4, "other": Scheme.W8}
    for each in ("light", "nearest"):
        told = replace(found, roundings={"w4": each})
        options = choose_rounding(graph, told, [], Scheme.W4, QuantizeOptions()).options
        assert options == (LIGHT if each == "light" else NEAREST)
        assert choose_rounding(graph, told, [], mixed, QuantizeOptions()).options == HEAVY
    told = replace(found, roundings={"w4": "hard"})
    with pytest.raises(CapabilityError, match="no calibration"):
        choose_rounding(graph, told, [], Scheme.W4, QuantizeOptions())
