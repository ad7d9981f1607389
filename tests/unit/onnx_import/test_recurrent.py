"""LSTM, GRU and RNN: every attribute arrives in the graph as ONNX Runtime understands it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import HealthCheck, assume, given, settings

from edgelstm.errors import ModelError, ShapeError, UnsupportedOpError
from edgelstm_compiler.ir.evaluate import evaluate
from edgelstm_compiler.ir.ops import Recurrent
from edgelstm_compiler.onnx_import.ops.recurrent import ACTIVATIONS
from edgelstm_compiler.onnx_import.peer import SOUND_RNN
from tests.models import CellCase, cell_cases, cell_model, gru_model, lstm_model, rnn_model
from tests.oracle import assert_close, expected_outputs, is_tame, random_inputs, run_onnxruntime
from tests.unit.onnx_import.one_node import imported, kinds

IS_SOUND = tuple(map(int, onnxruntime.__version__.split(".")[:2])) >= SOUND_RNN


def cell_of(model: onnx.ModelProto) -> Recurrent:
    """The one recurrent operator of the imported model."""
    (op,) = [node.op for node in imported(model).nodes if isinstance(node.op, Recurrent)]
    return op


def changed(model: onnx.ModelProto, **attributes: Any) -> onnx.ModelProto:
    """The model with attributes of its first node replaced (None: removed)."""
    node = model.graph.node[0]
    kept = [item for item in node.attribute if item.name not in attributes]
    del node.attribute[:]
    node.attribute.extend(kept)
    node.attribute.extend(
        onnx.helper.make_attribute(name, value)
        for name, value in attributes.items()
        if value is not None
    )
    return model


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(cell_cases())
def test_whole_attribute_matrix(case: CellCase) -> None:
    """Whatever the attributes and inputs, the graph computes what ONNX Runtime computes."""
    model = cell_model(case)
    inputs = random_inputs(model, seed=case.seed)
    assume(IS_SOUND or case.op != "RNN")
    expected = expected_outputs(model, inputs)
    assume(is_tame(expected))
    graph = imported(model)
    assert_close(evaluate(graph, inputs).outputs, expected)
    assert [output.name for output in graph.outputs] == list(case.connected)


@pytest.mark.parametrize("opset", [7, 9, 13, 14, 21, 22])
@pytest.mark.parametrize("build", [lstm_model, gru_model, rnn_model])
def test_opsets(build: Any, opset: int) -> None:
    """All versions of the operators since opset 7."""
    model = build(opset=opset)
    inputs = random_inputs(model)
    assert_close(evaluate(imported(model), inputs).outputs, run_onnxruntime(model, inputs))


@pytest.mark.skipif(not IS_SOUND, reason="this onnxruntime aborts on parameters of RNN")
@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
@pytest.mark.parametrize("alpha", [None, (), (0.3,), (0.3, 0.6)])
@pytest.mark.parametrize("beta", [None, (0.7,)])
def test_activation_defaults_and_parameters(
    name: str, alpha: tuple[float, ...] | None, beta: tuple[float, ...] | None
) -> None:
    """Parameters go to the functions that take them, in order; the rest get the defaults."""
    spelling = {n.lower(): n for n in _SPELLINGS}[name]
    model = rnn_model(
        direction="bidirectional",
        activations=(spelling, "LeakyRelu"),
        alpha=alpha or None,
        beta=beta,
        gain=0.5,
    )
    inputs = random_inputs(model)
    assert_close(evaluate(imported(model), inputs).outputs, run_onnxruntime(model, inputs))


_SPELLINGS = (
    *("Affine", "LeakyRelu", "ThresholdedRelu", "ScaledTanh", "HardSigmoid", "Elu"),
    *("Sigmoid", "Tanh", "Relu", "Softsign", "Softplus"),
)


@pytest.mark.parametrize("spell", [str.lower, str.upper, str.title])
def test_activations_in_any_case_of_letters(spell: Any) -> None:
    """ONNX says that activation names ignore case."""
    plain = lstm_model(activations=("HardSigmoid", "Tanh", "LeakyRelu"))
    odd = lstm_model(activations=tuple(map(spell, ("HardSigmoid", "Tanh", "LeakyRelu"))))
    assert cell_of(odd) == cell_of(plain)


def test_defaults_are_resolved() -> None:
    """Absent activations become the operator's own, for each direction."""
    op = cell_of(lstm_model(direction="bidirectional"))
    assert [str(item) for item in op.activations] == ["sigmoid", "tanh", "tanh"] * 2
    assert op.clip is None


def test_rnn_accepts_the_default_of_the_specification() -> None:
    """The ONNX default for RNN names two functions although one direction has one."""
    model = changed(rnn_model(), activations=["Tanh", "Tanh"])
    inputs = random_inputs(model)
    assert_close(evaluate(imported(model), inputs).outputs, run_onnxruntime(model, inputs))


@pytest.mark.parametrize("build", [lstm_model, gru_model, rnn_model])
def test_hidden_size_is_inferred(build: Any) -> None:
    """Without hidden_size, R says it."""
    model = changed(build(hidden=5), hidden_size=None)
    assert cell_of(model).hidden == 5


def test_layout_1_becomes_transposes() -> None:
    """Transposes stand around a cell of layout 0; unconnected outputs get none."""
    graph = imported(lstm_model(layout=1, initial_h="input", outputs=("Y_h",)))
    assert kinds(graph) == ["Transpose", "Transpose", "LSTM", "Transpose"]


def test_all_outputs_stand_in_the_graph() -> None:
    """Outputs that ONNX leaves out exist in the graph under names of their own."""
    graph = imported(lstm_model(outputs=("Y_c",)))
    (node,) = graph.nodes
    assert len(node.outputs) == 3
    assert graph.outputs[0].value is node.outputs[2]
    assert node.outputs[2].name == "Y_c"
    assert len({value.name for value in node.outputs}) == 3


def test_names_and_origin() -> None:
    """Nodes carry the ONNX name, and their origin for messages."""
    (node,) = imported(lstm_model()).nodes
    assert (node.name, node.origin) == ("lstm_1", "LSTM 'lstm_1'")


REFUSED: dict[str, tuple[Any, dict[str, Any], str]] = {
    "activation": (lstm_model, {"activations": ["Sigmoid", "Tanh", "Gelu"]}, "Gelu"),
    "clip zero": (lstm_model, {"clip": 0.0}, "clip"),
    "clip negative": (rnn_model, {"clip": -1.0}, "clip"),
    "direction": (gru_model, {"direction": "backward"}, "backward"),
    "layout": (gru_model, {"layout": 2}, "layout"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_by_name(case: str) -> None:
    """Attributes that nobody defines are refused with the node's name."""
    build, attributes, word = REFUSED[case]
    with pytest.raises(UnsupportedOpError, match=f"(?s)_1'.*{word}"):
        imported(changed(build(), **attributes))


def test_float_sequence_lens_are_refused_by_name() -> None:
    """sequence_lens are int32 by the specification."""
    model = lstm_model(sequence_lens="input")
    model.graph.input[1].type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    with pytest.raises(UnsupportedOpError, match=r"LSTM 'lstm_1'.*sequence_lens.*f32.*int32"):
        imported(model)


@pytest.mark.parametrize("lens", [(6,), (-1,)])
def test_sequence_lens_beyond_the_frames(lens: tuple[int, ...]) -> None:
    """Constant lengths lie between 0 and T."""
    with pytest.raises(ShapeError, match=r"lstm_1.*sequence_lens.*5 steps"):
        imported(lstm_model(sequence_lens=lens))


@pytest.mark.parametrize(
    ("attributes", "match"),
    [
        ({"activations": ["Tanh"]}, "1 activations .*expected 3"),
        ({"hidden_size": 3}, "hidden_size 3"),
        ({"hidden_size": 0}, "hidden_size is 0"),
        ({"direction": "bidirectional", "activations": None}, "W has shape"),
        ({"activations": ["Elu", "Tanh", "Tanh"], "activation_alpha": [np.nan]}, "parameters nan"),
    ],
)
def test_contradictions(attributes: dict[str, Any], match: str) -> None:
    """Attributes that contradict the weights name the node and both sides."""
    with pytest.raises(ModelError, match=f"LSTM 'lstm_1'.*{match}"):
        imported(changed(lstm_model(), **attributes))


def test_weights_may_be_inputs() -> None:
    """Weights that come from outside are typed values; bound to constants they are weights."""
    model = lstm_model()
    weights = {item.name: onnx.numpy_helper.to_array(item) for item in model.graph.initializer}
    inputs = random_inputs(model)
    expected = run_onnxruntime(model, inputs)
    infos = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, data.shape)
        for name, data in weights.items()
    ]
    model.graph.input.extend(infos)
    del model.graph.initializer[:]
    graph = imported(model)
    assert [value.name for value in graph.inputs] == ["X", *weights]
    assert_close(evaluate(graph, {**inputs, **weights}).outputs, expected)
