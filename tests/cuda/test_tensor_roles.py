"""What stands around recurrent layers in groups of streams on tensor cores, in the emulator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import NodeProto, helper

from edgelstm_targets.numba_cuda import mma_placement
from edgelstm_targets.numba_cuda.chips import WARP
from tests import models
from tests.cuda.emulated import Compiled, EmulatedGpu
from tests.cuda.test_parity import expected_outputs
from tests.cuda.test_parity_tails import FEATURES, TAILS
from tests.cuda.test_tensor_cores import STREAMS, assert_near, compile_half, samples

Array = NDArray[Any]
WIDTH, HIDDEN, CLASSES = 9, 20, 11
GAIN = 0.6
"""Of weights: with larger ones errors of float16 grow from frame to frame."""


class Network:
    """Nodes from `X`, a frame of `width` elements, one behind the other.

    Every method gives the name of the value that it adds, a frame.
    """

    def __init__(self, width: int = WIDTH) -> None:
        self.rng = np.random.default_rng(5)
        self.nodes: list[NodeProto] = []
        self.arrays: dict[str, Array] = {"axis": np.array([1], np.int64)}
        self.widths = {"X": width}

    def node(self, op: str, *inputs: str, width: int = 0, **attributes: Any) -> str:
        """An operator whose first input says how wide its output is, unless told otherwise."""
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], name, **attributes))
        self.widths[name] = width or self.widths[inputs[0]]
        return name

    def constant(self, *shape: int, mean: float = 0.0, scale: float = 0.4) -> str:
        """Random numbers."""
        name = f"c{len(self.arrays)}"
        self.arrays[name] = self.rng.normal(mean, scale, shape).astype(np.float32)
        self.widths[name] = shape[-1]
        return name

    def layer(self, op: str, x: str, hidden: int = HIDDEN) -> tuple[str, str]:
        """A recurrent layer: its frames, and its cell state (of an LSTM)."""
        name = f"l{len(self.nodes)}"
        case = models.CellCase(op, hidden, self.widths[x], gain=GAIN, seed=len(self.nodes))
        self.arrays |= {f"{name}_{key}": data for key, data in models.cell_weights(case).items()}
        inputs = [x, *(f"{name}_{key}" for key in ("W", "R", "B"))]
        results = [f"{name}_{key}" for key in models.OUTPUTS[op]]
        attributes = models.cell_attributes(case)
        self.nodes.append(helper.make_node(op, inputs, results, name, **attributes))
        self.widths[results[-1]] = hidden
        return self.node("Squeeze", results[0], "axis", width=hidden), results[-1]

    def dense(self, x: str, units: int = CLASSES) -> str:
        """A product and a bias."""
        weights = self.constant(self.widths[x], units, scale=self.widths[x] ** -0.5)
        product = self.node("MatMul", x, weights, width=units)
        return self.node("Add", product, self.constant(units))

    def layer_norm(self, x: str, *, bias: bool = True) -> str:
        """Layer normalization, to a deviation that does not enlarge what float16 rounded."""
        constants = [self.constant(self.widths[x], mean=0.4, scale=0.2)]
        constants += [self.constant(self.widths[x], scale=0.2)] if bias else []
        return self.node("LayerNormalization", x, *constants, axis=-1, epsilon=1e-4)

    def model(self, *frames: str, states: Sequence[str] = ()) -> Any:
        """The model that gives these frames, and these states of layers."""
        shapes: dict[str, tuple[int | str, ...]] = {
            name: ("T", 1, self.widths[name]) for name in frames
        }
        shapes |= {name: (1, 1, self.widths[name]) for name in states}
        x = helper.make_tensor_value_info("X", 1, ("T", 1, self.widths["X"]))
        outputs = [helper.make_tensor_value_info(name, 1, shapes[name]) for name in shapes]
        used = {name for node in self.nodes for name in node.input}
        arrays = {name: data for name, data in self.arrays.items() if name in used}
        return models.make_model(self.nodes, [x], outputs, arrays)


def normalized_input() -> Any:
    """Layer normalization in front of a layer."""
    net = Network()
    return net.model(net.layer("LSTM", net.layer_norm("X", bias=False))[0])


def normalized_between() -> Any:
    """Layer normalization between two layers."""
    net = Network()
    frames, _ = net.layer("LSTM", "X")
    return net.model(net.layer("RNN", net.layer_norm(frames), hidden=13)[0])


def standardized_odd_width() -> Any:
    """(x - mean) / deviation of a frame of odd width, a chain of one role with the fetch."""
    net = Network(7)
    centred = net.node("Sub", "X", net.constant(7))
    scaled = net.node("Div", centred, net.constant(7, mean=2.0, scale=0.2))
    least = net.node("Max", scaled, net.constant(1, mean=-0.5))
    return net.model(net.layer("RNN", least, hidden=10)[0])


def combined_vectors() -> Any:
    """Sums and products of what two roles make, of a vector with itself, and with one number."""
    net = Network(HIDDEN)
    frames, _ = net.layer("RNN", "X")
    residual = net.node("Add", frames, "X")
    function = net.node("Sigmoid", net.node("Mul", residual, net.constant(1, mean=0.7)))
    gated = net.node("Mul", function, frames)
    square = net.node("Mul", gated, gated)
    rest = net.node("Sub", net.constant(HIDDEN), square)
    return net.model(net.node("Max", rest, net.node("Neg", residual)), gated)


def head_on_an_intermediate_layer() -> Any:
    """Two heads, of the first layer and of the last."""
    net = Network()
    first, _ = net.layer("GRU", "X")
    last, _ = net.layer("RNN", first, hidden=8)
    low, high = net.dense(first), net.dense(last, units=4)
    return net.model(net.node("LogSoftmax", low, axis=-1), net.node("Softmax", high, axis=-1))


def cell_states() -> Any:
    """Cell states as an output, and read by a dense layer and by a function."""
    net = Network()
    frames, cell = net.layer("LSTM", "X")
    return net.model(frames, states=(cell, net.dense(cell), net.node("Relu", cell)))


def wide(width: int) -> Any:
    """A layer with one warp, and a frame too large to be fetched ahead, with a function."""
    net = Network(width)
    return net.model(net.layer("RNN", net.node("Tanh", "X"), hidden=8)[0])


MODELS: dict[str, tuple[Any, int]] = {
    "normalized_input": (normalized_input(), WIDTH),
    "normalized_between": (normalized_between(), WIDTH),
    "standardized_odd_width": (standardized_odd_width(), 7),
    "combined_vectors": (combined_vectors(), HIDDEN),
    "head_on_an_intermediate_layer": (head_on_an_intermediate_layer(), WIDTH),
    "cell_states": (cell_states(), WIDTH),
    **{f"tail_{name}": (model, FEATURES) for name, model in TAILS.items()},
}


@pytest.mark.parametrize("name", MODELS)
def test_roles(gpu: EmulatedGpu, tmp_path: Path, name: str) -> None:
    """Each role gives what the reference gives, in chunks; the last group is a part of one."""
    model, width = MODELS[name]
    assert_parity(gpu, model, width, tmp_path)


@pytest.mark.parametrize("width", [88, 90, 91])
def test_frames_that_are_not_fetched_ahead(gpu: EmulatedGpu, tmp_path: Path, width: int) -> None:
    """Frames beyond what the threads of one warp hold, fetched four, two or one at a time."""
    assert min(mma_placement.GROUPS) * width > mma_placement.MOST_AHEAD * WARP
    assert_parity(gpu, wide(width), width, tmp_path)


def assert_parity(gpu: EmulatedGpu, model: Any, width: int, folder: Path) -> None:
    """Some frames, in two pieces, against the reference."""
    compiled = compile_half(model, folder)
    assert compiled.kernels[0]["shape"] == "tensor"
    gpu.ptx = compiled.ptx
    x = samples(5, STREAMS, width)
    session = compiled.artifact.session(streams=STREAMS, check_states=False)
    pieces = [by_name(compiled, session.run(chunk)) for chunk in (x[:2], x[2:])]
    assert gpu.failure is None
    found = {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}
    assert_near(found, expected_outputs(model, x))


def by_name(compiled: Compiled, result: Any) -> dict[str, Array]:
    """The outputs of a run by their names."""
    if isinstance(result, Mapping):
        return dict(result)
    return {compiled.artifact.signature.outputs[0].name: result}
