"""Windows that overlap on code for many streams: what they share changes no bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from edgelstm.artifact import Artifact
from edgelstm.engines.native import code_variants
from edgelstm.errors import NonFiniteSampleError, NonFiniteStateError
from edgelstm_compiler import compile_model
from edgelstm_compiler.streaming.modes.window import Window
from tests.models import gru_model, lstm_model, rnn_model, stacked_model

pytestmark = pytest.mark.tvm
pytest.importorskip("tvm")

W, HOP, FRAMES = 12, 2, 160
"""More windows than are computed together at once, so that both ways are taken."""

CASES: dict[str, dict[str, Any]] = {
    "lstm": {"make": lstm_model, "hidden": 33, "peepholes": True, "initial_c": "constant"},
    "gru": {"make": gru_model, "hidden": 17, "clip": 0.4},
    "gru linear": {"make": gru_model, "hidden": 16, "linear_before_reset": True},
    "rnn": {"make": rnn_model, "hidden": 9},
}


def windows(model: onnx.ModelProto, *, shares: bool = True, **options: Any) -> Artifact:
    """Code for many streams, of one instruction set."""
    with pytest.MonkeyPatch.context() as patch:
        if not shares:
            patch.setattr(Window, "shares_frames", lambda *_: False)
        chosen = {"streams": "yes", "cpu": options.pop("cpu", "native")}
        return compile_model(
            model, hop=HOP, check=False, target_options=chosen, name="net", **options
        )


def recording(features: int = 3) -> NDArray[np.float32]:
    return np.random.default_rng(5).standard_normal((FRAMES, features)).astype(np.float32)


def both_ways(artifact: Artifact, frames: NDArray[np.float32]) -> list[NDArray[Any]]:
    """The answers of one block, and of single steps."""
    stepped = artifact.session()
    rows = [stepped.step(frame) for frame in frames]
    return [artifact.session().run(frames), np.stack([row for row in rows if row is not None])]


def entry_of(artifact: Artifact) -> bytes:
    """Which entry point the code for many streams has."""
    (section,) = [name for name in artifact.sizes if name.startswith("streams/")]
    code = bytes(artifact.container.section(section))
    (found,) = {name for name in (b"net_batch\0", b"net_shared\0") if name in code}
    return found


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_bits_are_those_of_windows_on_their_own(case: dict[str, Any]) -> None:
    """Every kind of cell; 17 and 33 units fill no register."""
    make, *fields = case["make"], {k: v for k, v in case.items() if k != "make"}
    model = make(steps=W, outputs=("Y_h",), **fields[0])
    shared, apart = windows(model), windows(model, shares=False)
    assert (entry_of(shared), entry_of(apart)) == (b"net_shared\0", b"net_batch\0")
    frames = recording()
    wanted = both_ways(apart, frames)
    assert len(wanted[0]) == (FRAMES - W) // HOP + 1
    for found, right in zip(both_ways(shared, frames), wanted, strict=True):
        np.testing.assert_array_equal(found, right)


def test_every_instruction_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Registers that hold a part of a block; each beside the same without sharing."""
    model = gru_model(steps=W, hidden=20, outputs=("Y_h",))
    shared, apart = (windows(model, shares=shares, cpu="generic") for shares in (True, False))
    frames = recording()
    for variant in code_variants(shared.container):
        if variant.obstacle():
            continue
        monkeypatch.setenv("EDGELSTM_ISA", variant.isa)
        chosen, other = (Artifact(each.container) for each in (shared, apart))
        assert chosen.session().kernel.facts["isa"] == variant.isa
        for found, right in zip(both_ways(chosen, frames), both_ways(other, frames), strict=True):
            np.testing.assert_array_equal(found, right)


def test_two_layers_and_a_head() -> None:
    """Only the first reads the frames as they come."""
    model = stacked_model(ops=("LSTM", "GRU"), features=3, hidden=8, steps=W, head="final_state")
    frames = recording()
    for found, right in zip(
        both_ways(windows(model), frames),
        both_ways(windows(model, shares=False), frames),
        strict=True,
    ):
        np.testing.assert_array_equal(found, right)


def test_frames_that_others_read_too() -> None:
    """Two cells side by side, and the newest frame beside their answers."""
    one, other = (lstm_model(steps=W, hidden=6, outputs=("Y_h",), seed=seed) for seed in (1, 2))
    for node in other.graph.node:
        node.name = f"other_{node.name}"
        node.input[1:] = [f"other_{name}" if name else "" for name in node.input[1:]]
        node.output[:] = [f"other_{name}" if name else "" for name in node.output]
    for tensor in other.graph.initializer:
        tensor.name = f"other_{tensor.name}"
    graph = one.graph
    graph.node.extend(other.graph.node)
    graph.initializer.extend(other.graph.initializer)
    graph.initializer.append(helper.make_tensor("last", TensorProto.INT64, [1], [W - 1]))
    graph.node.append(helper.make_node("Gather", ["X", "last"], ["newest"], axis=0))
    graph.node.append(helper.make_node("Concat", ["Y_h", "other_Y_h", "newest"], ["all"], axis=2))
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("all", TensorProto.FLOAT, None))
    frames = recording()
    shared = windows(one)
    assert entry_of(shared) == b"net_shared\0"
    for found, right in zip(
        both_ways(shared, frames), both_ways(windows(one, shares=False), frames), strict=True
    ):
        np.testing.assert_array_equal(found, right)


def test_refused_frames() -> None:
    """NaN in a step and in a block: nothing was fed."""
    artifact = windows(lstm_model(steps=W, hidden=8, outputs=("Y_h",)))
    frames = recording()
    wanted = artifact.session().run(frames)
    session, rows = artifact.session(), []
    bad = frames[3].copy()
    bad[1] = np.nan
    for frame in frames:
        with pytest.raises(NonFiniteSampleError):
            session.step(bad)
        rows.append(session.step(frame))
    np.testing.assert_array_equal(np.stack([row for row in rows if row is not None]), wanted)
    session.reset()
    with pytest.raises(NonFiniteSampleError):
        session.run(np.concatenate([frames, bad[None]]))
    np.testing.assert_array_equal(session.run(frames), wanted)


def test_states_that_overflow() -> None:
    """The frame is refused in all windows; the other frames go on."""
    model = rnn_model(steps=W, hidden=4, outputs=("Y_h",), activations=("Relu",))
    frames = recording()
    frames[50:54] = 9e37
    results = []
    for shares in (True, False):
        session = windows(model, shares=shares).session()
        rows, refused = [], []
        for index, frame in enumerate(frames):
            try:
                rows.append(session.step(frame))
            except NonFiniteStateError:
                refused.append(index)
        results.append((np.stack([row for row in rows if row is not None]), refused))
    assert results[0][1] == results[1][1]
    assert results[0][1]
    np.testing.assert_array_equal(results[0][0], results[1][0])


def test_other_numerics_stay_apart() -> None:
    """Quantized inputs are not shared: the bits of int8-full are those of before."""
    frames = recording()
    model = lstm_model(steps=W, hidden=8, outputs=("Y_h",))
    shared, apart = (
        windows(model, shares=shares, quantize="int8-full", calibration=[frames])
        for shares in (True, False)
    )
    assert entry_of(shared) == b"net_batch\0"
    assert bytes(shared.container.section("weights")) == bytes(apart.container.section("weights"))
    np.testing.assert_array_equal(shared.session().run(frames), apart.session().run(frames))
