"""Loops that are a recurrent operator written out take one node; others run as they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgelstm_compiler.ir.cells import GRU, LSTM, RNN
from tests.unit.onnx_import.one_node import check_model, kinds

T, B, I, H = 7, 2, 3, 4  # noqa: E741 - the field's letters
FLOAT = TensorProto.FLOAT


def scan_model(nodes: list[Any], weights: dict[str, Any], states: int) -> onnx.ModelProto:
    """A Scan over X (T, B, I) with that body, from zero states; Y collects the hidden state."""
    info = helper.make_tensor_value_info
    names = ["h", "c"][:states]
    body = helper.make_graph(
        [*nodes, helper.make_node("Identity", ["h_new"], ["y"])],
        "body",
        [*(info(name, FLOAT, [B, H]) for name in names), info("x", FLOAT, [B, I])],
        [*(info(f"{name}_new", FLOAT, [B, H]) for name in names), info("y", FLOAT, [B, H])],
    )
    scan = helper.make_node(
        "Scan",
        [*(f"{name}_0" for name in names), "X"],
        [*(f"{name}_T" for name in names), "Y"],
        body=body,
        num_scan_inputs=1,
    )
    stored = {**weights, **{f"{name}_0": np.zeros((B, H), np.float32) for name in names}}
    graph = helper.make_graph(
        [scan],
        "scan",
        [info("X", FLOAT, [T, B, I])],
        [info("Y", FLOAT, [T, B, H]), info("h_T", FLOAT, [B, H])],
        [
            numpy_helper.from_array(np.asarray(data, np.float32), name)
            for name, data in stored.items()
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def seeded(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(0, 0.5, shape).astype(np.float32)


def n(op: str, inputs: str, outputs: str, **attributes: Any) -> Any:
    return helper.make_node(op, inputs.split(), outputs.split(), **attributes)


def lstm(order: str) -> tuple[list[Any], dict[str, Any]]:
    """An LSTM cell whose gates stand side by side in that order."""
    nodes = [
        n("MatMul", "x W", "xw"),
        n("MatMul", "h R", "hr"),
        n("Add", "xw hr", "s"),
        n("Add", "s b", "z"),
        n("Split", "z", " ".join(f"s_{gate}" for gate in order), axis=1),
        *(n("Sigmoid", f"s_{gate}", gate) for gate in "ifo"),
        n("Tanh", "s_g", "g"),
        n("Mul", "f c", "fc"),
        n("Mul", "i g", "ig"),
        n("Add", "fc ig", "c_new"),
        n("Tanh", "c_new", "t"),
        n("Mul", "o t", "h_new"),
    ]
    return nodes, {"W": seeded(I, 4 * H), "R": seeded(H, 4 * H), "b": seeded(4 * H)}


def gru(resets_after: bool) -> tuple[list[Any], dict[str, Any]]:
    """A GRU cell of six matrices, the reset gate behind or in front of the product."""
    gates = [
        node
        for gate in "zr"
        for node in (
            n("MatMul", f"x W{gate}", f"xw{gate}"),
            n("MatMul", f"h R{gate}", f"hr{gate}"),
            n("Sum", f"xw{gate} hr{gate} b{gate}", f"s{gate}"),
            n("Sigmoid", f"s{gate}", gate),
        )
    ]
    reset = (
        [n("MatMul", "h Rn", "hrn"), n("Add", "hrn bn", "hrb"), n("Mul", "r hrb", "part")]
        if resets_after
        else [n("Mul", "r h", "rh"), n("MatMul", "rh Rn", "rhr"), n("Add", "rhr bn", "part")]
    )
    nodes = [
        *gates,
        *reset,
        n("MatMul", "x Wn", "xwn"),
        n("Add", "xwn part", "sn"),
        n("Tanh", "sn", "g"),
        n("Sub", "h g", "d"),
        n("Mul", "z d", "zd"),
        n("Add", "g zd", "h_new"),
    ]
    weights = {f"W{gate}": seeded(I, H) + k for k, gate in enumerate("zrn")}
    weights |= {f"R{gate}": seeded(H, H) - 0.1 * k for k, gate in enumerate("zrn")}
    return nodes, weights | {f"b{gate}": seeded(H) + k for k, gate in enumerate("zrn")}


def rnn(function: str) -> tuple[list[Any], dict[str, Any]]:
    """One product of [x, h] with a joined matrix."""
    nodes = [
        n("Concat", "x h", "xh", axis=1),
        n("MatMul", "xh K", "k"),
        n("Add", "k b", "s"),
        n(function, "s", "h_new"),
    ]
    return nodes, {"K": seeded(I + H, H), "b": seeded(H)}


def operators(model: onnx.ModelProto) -> list[str]:
    """What the graph is made of, once it computes what ONNX Runtime computes."""
    x = np.random.default_rng(1).standard_normal((T, B, I)).astype(np.float32)
    return kinds(check_model(model, {"X": x}))


@pytest.mark.parametrize("order", ["ifgo", "iofg", "igfo"])
def test_lstm(order: str) -> None:
    """Whatever the order of its gates."""
    nodes, weights = lstm(order)
    assert LSTM.__name__ in operators(scan_model(nodes, weights, 2))


@pytest.mark.parametrize("resets_after", [True, False])
def test_gru(resets_after: bool) -> None:
    """Of six matrices; h = g + z (h - g) is z h + (1 - z) g."""
    nodes, weights = gru(resets_after)
    assert GRU.__name__ in operators(scan_model(nodes, weights, 1))


@pytest.mark.parametrize("function", ["Tanh", "Relu"])
def test_rnn(function: str) -> None:
    """Of one matrix for [x, h]."""
    nodes, weights = rnn(function)
    assert RNN.__name__ in operators(scan_model(nodes, weights, 1))


def test_another_cell_runs_as_it_is() -> None:
    """Half of the state is kept: no recurrent operator, the copies of the body."""
    nodes, weights = rnn("Tanh")
    nodes[-1] = n("Tanh", "s", "u")
    nodes += [n("Sum", "u h h", "v"), n("Mul", "v third", "h_new")]
    weights["third"] = np.array(1 / 3)
    found = operators(scan_model(nodes, weights, 1))
    assert not {"LSTM", "GRU", "RNN"} & set(found)
