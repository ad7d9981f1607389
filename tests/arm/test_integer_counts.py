"""Instructions of integer products on Cortex-A, counted: an LSTM of 64 inputs and 128 units."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgelstm_compiler import compile_model
from edgelstm_compiler.emulation.kernel import Cost, count_cost
from tests.models import CellCase, cell_attributes, cell_weights
from tests.quantized_models import recordings, step_graph

pytestmark = pytest.mark.tvm
pytest.importorskip("unicorn", reason="pip install unicorn==2.1.4")
pytest.importorskip("tvm")

MARGIN = 1.05
TARGETS = {"aarch64-dotprod": "aarch64", "aarch64": "aarch64", "armv7-vfpv4": "armv7"}
# Instructions per multiply-accumulate as they are. The inputs of a model have 16 bits: two products
# of bytes each, and their conversion is counted too.
FIRST = {
    ("int8", "aarch64-dotprod"): 0.212,
    ("int8", "aarch64"): 0.409,
    ("int8", "armv7-vfpv4"): 0.609,
    ("int8-full", "aarch64-dotprod"): 0.187,
    ("int8-full", "aarch64"): 0.371,
    ("int8-full", "armv7-vfpv4"): 0.553,
}
# A layer that another one feeds, in bytes; and what it must stay below in any case.
INNER = {
    ("int8-full", "aarch64-dotprod"): (0.1492, 0.15),
    ("int8-full", "aarch64"): (0.294, 0.40),
    ("int8", "aarch64-dotprod"): (0.177, 0.20),
}


def _stack(sizes: Sequence[tuple[int, int]]) -> onnx.ModelProto:
    """LSTM layers of some inputs and units, one upon another."""
    arrays: dict[str, np.ndarray[Any, Any]] = {"one": np.array([1], np.int64)}
    nodes, frames = [], "X"
    for i, (features, hidden) in enumerate(sizes):
        case = CellCase(op="LSTM", features=features, hidden=hidden, seed=i)
        arrays |= {f"{name}{i}": data for name, data in cell_weights(case).items()}
        inputs = [frames, *(f"{name}{i}" for name in "WRB")]
        nodes.append(helper.make_node("LSTM", inputs, [f"Y{i}", f"h{i}"], **cell_attributes(case)))
        nodes.append(helper.make_node("Squeeze", [f"Y{i}", "one"], [f"frames{i}"]))
        frames = f"frames{i}"
    x = helper.make_tensor_value_info("X", TensorProto.FLOAT, ["T", 1, sizes[0][0]])
    y = helper.make_tensor_value_info(frames, TensorProto.FLOAT, ["T", 1, sizes[-1][1]])
    initializers = [numpy_helper.from_array(data, name) for name, data in arrays.items()]
    graph = helper.make_graph(nodes, "net", [x], [y], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@functools.cache
def _costs(sizes: tuple[tuple[int, int], ...], scheme: str, target: str) -> dict[str, Cost]:
    """Of every instruction set."""
    model = _stack(sizes)
    artifact = compile_model(
        model,
        target=target,
        mode="stream",
        quantize=scheme,
        calibration=recordings(step_graph(model), count=1, frames=40),
        check=False,
    )
    entries = artifact.manifest["target"]["facts"]["isas"]
    names = [entry["section"].removeprefix("code/") for entry in entries]
    return {name: count_cost(artifact, name, steps=2) for name in names}


@pytest.mark.parametrize(("scheme", "isa"), FIRST)
def test_a_first_layer(scheme: str, isa: str) -> None:
    """With all that its model does besides: within five percent of what is written here."""
    cost = _costs(((64, 128),), scheme, TARGETS[isa])[isa]
    assert cost.per_mac <= FIRST[scheme, isa] * MARGIN, cost


@pytest.mark.parametrize(("scheme", "isa"), INNER)
def test_an_inner_layer(scheme: str, isa: str) -> None:
    """What a model costs more than the same one without its last layer."""
    below, whole = (
        _costs(sizes, scheme, TARGETS[isa])[isa] for sizes in (((9, 64),), ((9, 64), (64, 128)))
    )
    per_mac = (whole.instructions - below.instructions) / (whole.macs - below.macs)
    known, bound = INNER[scheme, isa]
    assert per_mac <= min(known * MARGIN, bound), per_mac
