"""Calibration: what is seen, how it is kept, what it warns of."""

from __future__ import annotations

import json

import numpy as np
import pytest

from edgelstm.engines.numpy_ops import apply
from edgelstm.errors import CapabilityError
from edgelstm_compiler.ir.cells import LSTM
from edgelstm_compiler.ir.fields import op_fields
from edgelstm_compiler.quant.calibrate import calibrate
from edgelstm_compiler.quant.calibration import Calibration, ValueRange
from edgelstm_compiler.quant.recordings import as_recordings, limited
from edgelstm_compiler.quant.replay import Replay
from edgelstm_compiler.quant.scheme import Observer
from tests.models import gru_model, lstm_model
from tests.quantized_models import recordings, step_graph


def test_json_round_trip() -> None:
    """A calibration written and read is the same, and has the same digest."""
    graph = step_graph(lstm_model(steps=None))
    calibration = calibrate(graph, recordings(graph), model="abc")
    text = json.dumps(calibration.to_json())
    again = Calibration.from_json(json.loads(text))
    assert again.digest == calibration.digest
    assert again.to_json() == calibration.to_json()
    assert again.frames == 240


@pytest.mark.parametrize("data", [{}, {"format": 99}, {"format": 1, "values": 3}])
def test_broken_json(data: dict[str, object]) -> None:
    """What is no calibration is refused."""
    with pytest.raises(CapabilityError):
        Calibration.from_json(data)


@pytest.mark.parametrize("make", [lstm_model, gru_model])
def test_ranges_of_states(make: object) -> None:
    """The ranges of h and c are those that the stream goes through."""
    graph = step_graph(make(steps=None, hidden=6, peepholes=make is lstm_model))  # type: ignore[operator]
    given = recordings(graph)
    calibration = calibrate(graph, given)
    cell = next(iter(calibration.cells.values()))
    states = [state.write.name for state in graph.states]
    runs = [Replay(graph, states).run(recording) for recording in given]
    h = np.concatenate([run[states[0]] for run in runs])
    np.testing.assert_allclose(cell.h_largest[0], np.abs(h).max(axis=(0, 1, 2)), rtol=1e-5)
    if len(states) == 2:
        c = np.concatenate([run[states[1]] for run in runs])
        np.testing.assert_allclose(cell.c_largest[0], np.abs(c).max(axis=(0, 1, 2)), rtol=1e-4)


def test_call_sees_inside_of_the_sequence() -> None:
    """In call mode c is followed through the frames, not only at the end."""
    fields = {"hidden": 6, "features": 3, "batch": 2, "direction": "bidirectional"}
    graph = step_graph(lstm_model(steps=20, **fields), "call")
    given = recordings(graph, 2)
    cell = next(iter(calibrate(graph, given).cells.values()))
    (node,) = [node for node in graph.nodes if isinstance(node.op, LSTM)]
    data = {constant.value: constant.data for constant in graph.constants}
    largest = np.zeros((2, 6))
    for recording in given:
        for length in range(1, 21):
            # The backward direction ends at frame 0: it sees the last frames first.
            for d, x in ((0, recording["X"][:length]), (1, recording["X"][-length:])):
                operands = [x, *(data[v] if v else None for v in node.inputs[1:4])]
                _, _, c = apply("LSTM", op_fields(node.op), operands)
                largest[d] = np.maximum(largest[d], np.abs(c[d]).max(axis=0))
    np.testing.assert_allclose(cell.c_largest, largest, rtol=1e-4)


def test_warnings() -> None:
    """Few frames, channels that never change and units that never move are said."""
    graph = step_graph(lstm_model(steps=None, bias=False))
    still = [{"X": np.zeros((20, 3), np.float32)}]
    warnings = " ".join(calibrate(graph, still).warnings)
    assert "only 20 frames" in warnings
    assert "channels 0, 1, 2 never change" in warnings
    assert "4 of 4 units never move" in warnings


def test_saturated_gates_are_warned_of() -> None:
    """Gates that are wide open in all frames are named with their layer."""
    graph = step_graph(lstm_model(steps=None, gain=60.0))
    warnings = " ".join(calibrate(graph, [{"X": np.full((300, 3), 9.0, np.float32)}]).warnings)
    assert "LSTM 'lstm_1'" in warnings
    assert "saturated" in warnings


def test_not_finite() -> None:
    """A recording with NaN is refused with its number."""
    graph = step_graph(lstm_model(steps=None))
    x = np.zeros((20, 3), np.float32)
    x[3] = np.nan
    with pytest.raises(CapabilityError, match="recording 1"):
        calibrate(graph, [{"X": x}])


@pytest.mark.parametrize("observer", list(Observer))
def test_observers_on_outliers(observer: Observer) -> None:
    """One outlier in 100,000: only min-max lets it set the range."""
    values = np.abs(np.random.default_rng(0).standard_normal(100_000))
    values[0] = 60.0
    (limit,) = ValueRange.of(values[:, None]).limit(observer, 99.99, 127, per_channel=True)
    if observer is Observer.MIN_MAX:
        assert limit == 60.0
    else:
        assert 2.0 <= limit <= 6.0


@pytest.mark.parametrize("levels", [127, 32767])
@pytest.mark.parametrize("size", [1e2, 1e6, 1e12])
@pytest.mark.parametrize("observer", [o for o in Observer if o is not Observer.MIN_MAX])
def test_a_glitch_takes_no_resolution(observer: Observer, size: float, levels: int) -> None:
    """However far out one value of 400 is, the range of the others is found, in 16 bits too."""
    rng = np.random.default_rng(0)
    clean = rng.standard_normal((400, 3))
    dirty = clean.copy()
    dirty[200, 1] = size
    wanted, found = (
        ValueRange.of(x).limit(observer, 99.99, levels, per_channel=True) for x in (clean, dirty)
    )
    np.testing.assert_allclose(found, wanted, rtol=0.2)


def test_a_movement_is_no_glitch() -> None:
    """What lasts longer than a few frames belongs to the range and is not warned of."""
    graph = step_graph(lstm_model(steps=None))
    x = 0.01 * np.random.default_rng(0).standard_normal((1000, 3)).astype(np.float32)
    x[500:508] = 3.0
    calibration = calibrate(graph, [{"X": x}])
    assert not any("far out" in warning for warning in calibration.warnings)
    assert calibration.value("X").core.min() >= 2.9


def test_a_glitch_is_named() -> None:
    """The warning has recording and frame, channel and size."""
    graph = step_graph(lstm_model(steps=None))
    rng = np.random.default_rng(0)
    given = [{"X": rng.standard_normal((300, 3)).astype(np.float32)} for _ in range(3)]
    given[1]["X"][41, 2] = -1e4
    (warning,) = [w for w in calibrate(graph, given).warnings if "far out" in w]
    assert warning.startswith("recording 2, frame 42: input 'X' channel 2 is -1e+04")


def test_format_1_is_refused_with_the_command() -> None:
    """A calibration of an older version says how to make it again."""
    with pytest.raises(CapabilityError, match="edgelstm calibrate"):
        Calibration.from_json({"format": 1})


def test_a_channel_far_from_zero_has_a_center() -> None:
    """Its core is its movement; a channel that crosses zero has none."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((500, 2)) * [50.0, 1.0] + [101325.0, 0.3]
    found = ValueRange.of(x)
    assert abs(found.center[0] - 101325) < 20
    assert found.center[1] == 0
    assert found.core[0] < 300


def test_range_of_a_channel_that_is_zero() -> None:
    """A silent channel gets the range of the loudest, not zero."""
    data = np.zeros((10, 2), np.float32)
    data[:, 1] = np.linspace(-3, 2, 10)
    limit = ValueRange.of(data).limit(Observer.MIN_MAX, 100.0, 127, per_channel=True)
    assert limit.tolist() == [3.0, 3.0]


def test_recordings_as_users_have_them() -> None:
    """Frames, frames by name, and whole sequences as the model takes them are the same."""
    graph = step_graph(lstm_model(steps=None))
    frames = np.random.default_rng(0).standard_normal((7, 3)).astype(np.float32)
    for given in (frames, {"X": frames}, [frames], [{"X": frames[:, None]}]):
        (found,) = as_recordings(graph, given)
        assert np.array_equal(np.asarray(found["X"]).reshape(7, 3), frames)
    with pytest.raises(CapabilityError, match="recording 1"):
        as_recordings(graph, frames[:, :2])


def test_limited_recordings_are_spread() -> None:
    """A limit of frames takes some of all recordings, not the first ones."""
    graph = step_graph(lstm_model(steps=None))
    given = [{"X": np.full((10, 3), index, np.float32)} for index in range(10)]
    found = limited(given, graph, 35)
    assert sum(len(recording["X"]) for recording in found) == 35
    assert found[-1]["X"][0, 0] >= 7
