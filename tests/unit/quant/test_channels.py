"""Channels in any units, offsets and dead channels cost no accuracy, in any scheme."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgelstm.dtypes import DType
from edgelstm_compiler.driver import compile_model
from edgelstm_compiler.ir.graph import StepGraph
from edgelstm_compiler.ir.ops import Dense, Int8Dense
from edgelstm_compiler.ir.verify import verify
from edgelstm_compiler.quant.accuracy import measure
from edgelstm_compiler.quant.calibrate import calibrate
from edgelstm_compiler.quant.channels import fit_channels
from edgelstm_compiler.quant.convert import quantize_graph
from edgelstm_compiler.quant.model import is_integer
from edgelstm_compiler.quant.replay import Replay
from edgelstm_compiler.quant.scheme import Observer, QuantizeOptions, Scheme
from tests.quantized_models import step_graph
from tests.unit.quant.generated_models import Array, CellWeights, walk

LEAST = {Scheme.W8: 38.0, Scheme.W4: 15.0, Scheme.INT8: 38.0, Scheme.INT8_FULL: 35.0}
UNITS: dict[str, tuple[Array, Array]] = {
    "IMU": (np.array([0.3] * 3 + [100.0] * 3), np.zeros(6)),
    "barometer": (np.array([0.3] * 3 + [100.0] * 2 + [50.0]), np.array([0.0] * 5 + [101325.0])),
    "wide": (10.0 ** np.array([-6, -3, -1, 1, 4, 6]), np.zeros(6)),
    "EMG": (np.full(6, 1e-6), np.zeros(6)),
    "offsets": (np.array([1e-2, 1.0, 1.0, 5.0, 30.0, 1e3]),
                np.array([9.81, 20.0, -1e4, 273.0, 1e5, -1e5])),
}  # fmt: skip


def _sqnr(
    cell: CellWeights,
    scale: Array,
    offset: Array,
    scheme: Scheme,
    options: QuantizeOptions | None = None,
    *,
    calibrated: bool = True,
) -> float:
    model = cell.in_units(scale, offset).model()
    graph, features = step_graph(model), cell.w.shape[-1]
    seen, unseen = (
        {"x": np.asarray(walk(500, features, seed) * scale + offset, np.float32)} for seed in (1, 2)
    )
    calibration = calibrate(graph, [seen]) if calibrated else None
    result = quantize_graph(graph, calibration, scheme, options)
    wanted, found = (Replay(g).run(unseen)["y"] for g in (graph, result.graph))
    return measure(wanted, found).sqnr_db


@pytest.mark.parametrize("scheme", list(LEAST), ids=lambda scheme: scheme.value)
@pytest.mark.parametrize("units", UNITS)
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_units_do_not_matter(kind: str, units: str, scheme: Scheme) -> None:
    """A layer trained in other units computes as closely as one in normalized ones."""
    scale, offset = UNITS[units]
    assert _sqnr(CellWeights.normal(kind, 6, 16), scale, offset, scheme) >= LEAST[scheme]


@pytest.mark.parametrize("scheme", [Scheme.W8, Scheme.W4], ids=lambda scheme: scheme.value)
@pytest.mark.parametrize("units", ["IMU", "wide", "EMG"])
def test_units_do_not_matter_without_calibration(units: str, scheme: Scheme) -> None:
    """Where nothing is known of the inputs, their weights tell their units."""
    cell = CellWeights.normal("LSTM", 6, 16)
    assert _sqnr(cell, *UNITS[units], scheme, calibrated=False) >= LEAST[scheme]


@pytest.mark.parametrize("scheme", list(LEAST), ids=lambda scheme: scheme.value)
@pytest.mark.parametrize("by", ["rows", "columns", "elements"])
@pytest.mark.parametrize("share", [0.5, 0.9])
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_pruning_costs_nothing(kind: str, share: float, by: str, scheme: Scheme) -> None:
    """Zero rows, columns and elements leave the accuracy of the others as it is."""
    cell = CellWeights.normal(kind, 6, 16).pruned(share, by)
    assert _sqnr(cell, np.ones(6), np.zeros(6), scheme) >= LEAST[scheme]


@pytest.mark.parametrize("scheme", [Scheme.INT8, Scheme.INT8_FULL], ids=lambda s: s.value)
@pytest.mark.parametrize("hidden", [1, 2, 33, 130])
def test_everything_at_once(hidden: int, scheme: Scheme) -> None:
    """Units, offsets and pruned elements together, in layers of any size."""
    cell = CellWeights.normal("LSTM", 6, hidden).pruned(0.7, "elements")
    assert _sqnr(cell, *UNITS["offsets"], scheme) >= 30.0


@pytest.mark.parametrize("scheme", [Scheme.INT8, Scheme.INT8_FULL], ids=lambda s: s.value)
def test_a_far_reaching_channel_leaves_the_others_their_bits(scheme: Scheme) -> None:
    """An input range thirty times too wide takes less than 8 dB: inputs have 16 bits."""
    cell = CellWeights.normal("LSTM", 6, 16)
    graph = step_graph(cell.model())
    seen, unseen = ({"x": walk(500, 6, seed)} for seed in (1, 2))
    seen["x"][100:110, 2] *= 30
    result = quantize_graph(graph, calibrate(graph, [seen]), scheme)
    wanted, found = (Replay(g).run(unseen)["y"] for g in (graph, result.graph))
    assert measure(wanted, found).sqnr_db >= 33.0


@pytest.mark.parametrize("observer", [o for o in Observer if o is not Observer.MIN_MAX])
@pytest.mark.parametrize("scheme", [Scheme.INT8, Scheme.INT8_FULL], ids=lambda s: s.value)
def test_glitches_cost_nothing(scheme: Scheme, observer: Observer) -> None:
    """With one in 1,000 frames up to a million times out, other frames are as close as ever."""
    cell = CellWeights.normal("LSTM", 6, 16)
    graph, rng = step_graph(cell.model()), np.random.default_rng(0)
    seen, unseen = ({"x": walk(3000, 6, seed)} for seed in (1, 2))
    seen["x"][[400, 1500, 2600], rng.integers(0, 6, 3)] = [1e2, -1e4, 1e6]
    options = QuantizeOptions(observer=observer)
    result = quantize_graph(graph, calibrate(graph, [seen]), scheme, options)
    wanted, found = (Replay(g).run(unseen)["y"] for g in (graph, result.graph))
    assert measure(wanted, found).sqnr_db >= 35.0


def test_even_channels_are_left_alone() -> None:
    """Where nothing is gained the SAME graph comes back: no operator for nothing."""
    graph = step_graph(CellWeights.uniform("LSTM", 6, 32).model())
    calibration = calibrate(graph, [{"x": walk(300, 6, 1)}])
    name = graph.nodes[0].name
    for scheme in LEAST:
        fitted = fit_channels(graph, calibration, {name: scheme}, QuantizeOptions())
        assert fitted.graph is graph


def test_an_offset_is_part_of_the_conversion() -> None:
    """In int8-full everything behind it is integers, and it stays exact."""
    scale, offset = UNITS["barometer"]
    graph = step_graph(CellWeights.normal("LSTM", 6, 16).in_units(scale, offset).model())
    seen = {"x": np.asarray(walk(300, 6, 1) * scale + offset, np.float32)}
    result = quantize_graph(graph, calibrate(graph, [seen]), Scheme.INT8_FULL)
    verify(result.graph)
    assert is_integer(result.graph)
    assert [node.op.kind for node in result.graph.nodes][:2] == ["Binary", "Quantize"]


def test_integer_inputs_have_the_offset() -> None:
    """With integer inputs and outputs the record tells what they mean: no operator is added."""
    scale, offset = UNITS["barometer"]
    model = CellWeights.normal("LSTM", 6, 16).in_units(scale, offset).model()
    seen, unseen = (np.asarray(walk(500, 6, seed) * scale + offset, np.float32) for seed in (1, 2))
    artifact = compile_model(
        model,
        target="reference",
        quantize="int8-full",
        calibration=[seen],
        quantize_options=QuantizeOptions(integer_io=True),
    )
    given, shown = artifact.manifest["quantization"]["borders"]
    assert abs(given["offset"][5] - 101325) < 100
    steps = np.rint((unseen - np.array(given["offset"])) / np.array(given["scale"]))
    found = artifact.session().run(steps.clip(-32768, 32767).astype(np.int16))
    wanted = Replay(step_graph(model)).run({"x": unseen})["y"]
    y = np.asarray(found).reshape(wanted.shape) * np.array(shown["scale"])
    assert measure(wanted, y).sqnr_db >= 35.0


def test_layers_inside_have_one_unit() -> None:
    """Without calibration, small weights of a column do not tell of large values there."""
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((16, 8)) * 10.0 ** rng.uniform(-2, 0, (16, 1))
    graph = _two_dense_layers(rng.standard_normal((4, 16)), weights)
    schemes = {node.name: Scheme.W8 for node in graph.nodes if isinstance(node.op, Dense)}
    assert fit_channels(graph, None, schemes, QuantizeOptions()).graph is graph


@pytest.mark.parametrize("scheme", [Scheme.INT8, Scheme.INT8_FULL], ids=lambda scheme: scheme.value)
@pytest.mark.parametrize(("power", "dtype"), [(1, DType.I8), (7, DType.I16)])
def test_peaks_inside_have_sixteen_bits(power: int, dtype: DType, scheme: Scheme) -> None:
    """Where 8 bits of what a layer gives leave little of it, the next reads 16."""
    rng = np.random.default_rng(0)
    one, two = rng.standard_normal((4, 16)), rng.standard_normal((16, 8))
    graph = _two_dense_layers(one, two)
    data = {"x": np.asarray(rng.standard_normal((400, 1, 4)) ** power, np.float32)}
    result = quantize_graph(graph, calibrate(graph, [data]), scheme)
    last = next(node for node in reversed(result.graph.nodes) if "Dense" in node.op.kind)
    read = last.inputs[0]
    assert read is not None
    assert (last.op.x_dtype if isinstance(last.op, Int8Dense) else read.type.dtype) is dtype
    wanted, found = (Replay(g).run(data)["y"] for g in (graph, result.graph))
    assert measure(wanted, found).sqnr_db >= 36.0


def _two_dense_layers(one: Array, two: Array) -> StepGraph:
    """400 rows of x through a ReLU to y, as a call."""
    nodes = [
        helper.make_node("MatMul", ["x", "one"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("MatMul", ["b", "two"], ["y"]),
    ]
    shapes = {"x": one.shape[0], "y": two.shape[1]}
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [400, 1, width])
        for name, width in shapes.items()
    )
    arrays = {"one": one, "two": two}
    constants = [numpy_helper.from_array(a.astype(np.float32), n) for n, a in arrays.items()]
    graph = helper.make_graph(nodes, "dense", [x], [y], constants)
    opsets = [helper.make_opsetid("", 17)]
    return step_graph(helper.make_model(graph, opset_imports=opsets, ir_version=9), "call")


@pytest.mark.parametrize("scheme", list(LEAST), ids=lambda scheme: scheme.value)
def test_a_channel_that_never_moves_costs_nothing(scheme: Scheme) -> None:
    """Whether it stays at zero or elsewhere, in whatever unit."""
    cell = CellWeights.normal("LSTM", 6, 16)
    scale = 10.0 ** np.array([-4.0, 0, 0, 0, 0, 5])
    graph = step_graph(cell.in_units(scale, np.zeros(6)).model())
    data = [np.asarray(walk(500, 6, seed) * scale, np.float32) for seed in (1, 2)]
    for x in data:
        x[:, 0], x[:, 5] = 0.0, 3e5
    calibration = calibrate(graph, [{"x": data[0]}])
    result = quantize_graph(graph, calibration, scheme)
    wanted, found = (Replay(g).run({"x": data[1]})["y"] for g in (graph, result.graph))
    assert measure(wanted, found).sqnr_db >= LEAST[scheme] - 5
