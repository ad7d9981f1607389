"""What stands behind recurrent layers, and streams that come and go, against the reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import NodeProto, helper

from edgelstm.errors import CapabilityError
from edgelstm_compiler.driver import compile_model
from tests import models
from tests.cuda.emulated import EmulatedGpu, compile_for
from tests.cuda.test_parity import FP32, check, stack

HIDDEN, FEATURES, CLASSES = 12, 4, 5


def layer_with_tail(tail: list[NodeProto], width: int, **arrays: Any) -> Any:
    """A layer with Relu, and nodes from `frames` to `Z`."""
    case = models.CellCase(
        op="RNN", hidden=HIDDEN, features=FEATURES, seed=4, activations=("Relu",)
    )
    names = [("X", "W", "R", "B"), ("Y", "Y_h")]
    nodes = [
        helper.make_node("RNN", *map(list, names), name="layer", **models.cell_attributes(case)),
        helper.make_node("Squeeze", ["Y", "axis"], ["frames"]),
        *tail,
    ]
    arrays.update(models.cell_weights(case), axis=np.array([1], np.int64))
    return models.make_model(
        nodes,
        [helper.make_tensor_value_info("X", 1, ("T", 1, FEATURES))],
        [helper.make_tensor_value_info("Z", 1, ("T", 1, width))],
        {name: data for name, data in arrays.items() if any(name in n.input for n in nodes)},
    )


def chain(*steps: tuple[str, list[str], dict[str, Any]]) -> list[NodeProto]:
    """Nodes one behind the other: operator, further inputs, attributes."""
    nodes, value = [], "frames"
    for index, (op, more, attributes) in enumerate(steps, start=1):
        after = "Z" if index == len(steps) else f"v{index}"
        nodes.append(helper.make_node(op, [value, *more], [after], f"n{index}", **attributes))
        value = after
    return nodes


RNG = np.random.default_rng(8)
TAILS: dict[str, Any] = {
    "layer_norm_and_log_softmax": layer_with_tail(
        chain(
            ("LayerNormalization", ["scale", "shift"], {"axis": -1, "epsilon": 1e-4}),
            ("MatMul", ["w"], {}),
            ("Add", ["b"], {}),
            ("LogSoftmax", [], {"axis": -1}),
        ),
        CLASSES,
        scale=RNG.normal(1, 0.2, HIDDEN).astype(np.float32),
        shift=RNG.normal(0, 0.2, HIDDEN).astype(np.float32),
        w=RNG.normal(0, 0.4, (HIDDEN, CLASSES)).astype(np.float32),
        b=RNG.normal(0, 0.4, CLASSES).astype(np.float32),
    ),
    "activations_and_arithmetic": layer_with_tail(
        chain(
            ("Sub", ["half"], {}),
            ("LeakyRelu", [], {"alpha": 0.2}),
            ("Elu", [], {"alpha": 0.7}),
            ("Mul", ["factors"], {}),
            ("Softsign", [], {}),
            ("Softplus", [], {}),
            ("HardSigmoid", [], {"alpha": 0.3, "beta": 0.4}),
            ("Tanh", [], {}),
            ("Sigmoid", [], {}),
            ("Relu", [], {}),
        ),
        HIDDEN,
        half=np.array(0.5, np.float32),
        factors=RNG.normal(0, 2, HIDDEN).astype(np.float32),
    ),
    "square_of_a_function": layer_with_tail(
        chain(("Softplus", [], {}), ("Mul", ["v1"], {}), ("Neg", [], {})), HIDDEN
    ),
}


@pytest.mark.parametrize("name", TAILS)
def test_tails(gpu: EmulatedGpu, tmp_path: Path, name: str) -> None:
    """Normalization, softmax, activations and arithmetic behind a layer."""
    check(gpu, TAILS[name], FEATURES, tmp_path, streams=3, frames=5)


def test_states_that_must_be_checked(gpu: EmulatedGpu, tmp_path: Path) -> None:
    """Many streams of a model whose states are not proven bounded: only where that is accepted."""
    compiled = compile_for(TAILS["square_of_a_function"], "cuda:sm_90", tmp_path)
    gpu.ptx = compiled.ptx
    assert compiled.artifact.signature.checks_states
    with pytest.raises(CapabilityError, match="pass check_states=False"):
        compiled.artifact.session(streams=3)
    with pytest.raises(ValueError, match="many streams"):
        compiled.artifact.session(check_states=False)  # type: ignore[call-overload]
    assert len(compiled.artifact.session(streams=3, check_states=False)) == 3


@pytest.mark.parametrize("shape", ["block", "exchange"])
def test_streams_that_come_and_go(gpu: EmulatedGpu, tmp_path: Path, shape: str) -> None:
    """Whatever joins, leaves, is reset or restored: every stream is as if it were alone."""
    model = stack("LSTM", hidden=16, features=FEATURES)
    compiled = compile_for(model, "cuda:sm_90", tmp_path, shape=shape)
    gpu.ptx = compiled.ptx
    reference = compile_model(model, target="reference", check=False)
    rng = np.random.default_rng(6)
    places, absent = 4, 0
    streams = compiled.artifact.session(streams=places)
    alone = [reference.session() for _ in range(places)]
    for turn in range(12):
        place = int(rng.integers(places))
        match turn % 4:
            case 0 if streams.active[place]:
                streams.leave(place)
            case 1 if not streams.active.all():
                taken = streams.join()
                alone[taken].reset()
            case 2:
                streams.reset(place)
                alone[place].reset()
            case 3:
                other = int(rng.integers(places))
                streams.restore(other, streams.snapshot(place))
                alone[other].restore(alone[place].snapshot())
        count = int(rng.integers(1, 4))
        x = rng.standard_normal((count, places, FEATURES)).astype(np.float32)
        found = streams.run(x)
        active = streams.active
        absent += int(not active.all())
        for each in range(places):
            expected = alone[each].run(x[:, each]) if active[each] else np.zeros_like(found[:, 0])
            assert np.abs(found[:, each] - expected).max() <= FP32, (turn, each)
    assert gpu.failure is None
    assert absent
