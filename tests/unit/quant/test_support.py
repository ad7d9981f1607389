"""What schemes refuse is said by name; what the table promises works."""

from __future__ import annotations

from typing import Any

import pytest

from edgelstm.errors import CapabilityError, UnsupportedOpError
from edgelstm_compiler.quant.calibrate import calibrate
from edgelstm_compiler.quant.convert import CONVERTERS, layer_schemes, quantize_graph
from edgelstm_compiler.quant.scheme import QuantizeOptions, Scheme
from edgelstm_compiler.quant.support import OK, SUPPORT
from tests.models import gru_model, lstm_model, rnn_model, stacked_model
from tests.quantized_models import quantized, recordings, step_graph

REFUSED: list[tuple[Any, dict[str, Any], str]] = [
    (lstm_model, {"activations": ("Sigmoid", "Relu", "Tanh")}, "relu has no bounds"),
    (lstm_model, {"activations": ("Tanh", "Tanh", "Tanh")}, r"leaves \[0, 1\]"),
    (lstm_model, {"activations": ("Sigmoid", "Tanh", "Softsign")}, "does not settle"),
    (gru_model, {"activations": ("Sigmoid", "Softplus")}, "softplus has no bounds"),
    (rnn_model, {"activations": ("Relu",)}, "relu has no bounds"),
]


def test_table_and_converters_agree() -> None:
    """Every operator that the table admits has a converter, and every converter is for some."""
    for scheme, row in SUPPORT.items():
        converted = tuple(CONVERTERS[scheme])
        assert all(issubclass(op, converted) for op, why in row.items() if why == OK)
        assert all(any(issubclass(op, kind) for op in row) for kind in converted)


@pytest.mark.parametrize(("make", "fields", "message"), REFUSED)
def test_refusals_of_int8_full(make: Any, fields: dict[str, Any], message: str) -> None:
    """The layer, the scheme and the reason stand in the message."""
    graph = step_graph(make(steps=None, **fields))
    with pytest.raises(UnsupportedOpError, match=f"_1'?: scheme int8-full: .*{message}"):
        quantize_graph(graph, None, Scheme.INT8_FULL)


@pytest.mark.parametrize("scheme", [Scheme.W4, Scheme.INT8], ids=str)
@pytest.mark.parametrize(("make", "fields", "message"), REFUSED)
def test_other_schemes_admit_them(
    make: Any, fields: dict[str, Any], message: str, scheme: Scheme
) -> None:
    """Gates in float32 know no such bounds."""
    del message
    graph = step_graph(make(steps=None, gain=0.3, **fields))
    assert [layer.scheme for layer in quantized(graph, scheme).layers] == [scheme]


def test_scheme_without_calibration() -> None:
    """Integers need calibration; the message tells what does not."""
    graph = step_graph(lstm_model(steps=None))
    with pytest.raises(CapabilityError, match="fp16, w8 or w4"):
        quantize_graph(graph, None, Scheme.INT8)
    assert quantize_graph(graph, None, Scheme.W8).layers


def test_unknown_layer() -> None:
    """A scheme for a layer that is not there names those that are."""
    graph = step_graph(lstm_model(steps=None))
    with pytest.raises(CapabilityError, match="'lstm_1'"):
        layer_schemes(graph, {"lstm_9": Scheme.W8})


def test_schemes_by_layer() -> None:
    """Layers left out stay in float32; integers and floats meet through conversions."""
    graph = step_graph(stacked_model(ops=("LSTM", "LSTM", "GRU"), steps=None, head="sequence"))
    chosen = {"layer_1": Scheme.INT8_FULL, "layer_2": Scheme.INT8_FULL, "layer_3": Scheme.W4}

    result = quantize_graph(graph, calibrate(graph, recordings(graph)), chosen)
    kinds = [node.op.kind for node in result.graph.nodes]
    assert kinds.count("IntegerRecurrent") == 2
    assert kinds.count("GRU") == 1
    assert kinds.count("Quantize") == 1
    assert kinds.count("Dequantize") == 1


def test_integer_io_refuses_floating_point() -> None:
    """A float operator in between is named."""
    graph = step_graph(stacked_model(steps=None, head="sequence"))
    mixed = {"layer_1": Scheme.INT8_FULL}

    calibration = calibrate(graph, recordings(graph))
    with pytest.raises(UnsupportedOpError, match="integer_io"):
        quantize_graph(graph, calibration, mixed, QuantizeOptions(integer_io=True))
