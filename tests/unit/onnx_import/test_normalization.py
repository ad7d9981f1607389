"""Softmax, layer and batch normalization, dropout: against ONNX Runtime, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgelstm.errors import ModelError, ShapeError, UnsupportedOpError
from edgelstm_compiler.ir.evaluate import evaluate
from tests.oracle import assert_close, run_onnxruntime
from tests.unit.onnx_import.one_node import (
    check_folded,
    check_node,
    imported,
    kinds,
    normal,
    one_node,
)


def statistics(channels: int) -> list[Any]:
    """Scale, bias, mean and variance."""
    return [normal(channels, seed=k) for k in range(3)] + [np.abs(normal(channels, seed=4)) + 0.1]


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("axis", [None, 0, 1, -1])
@pytest.mark.parametrize("opset", [7, 11, 13, 17])
def test_softmax(op: str, axis: int | None, opset: int) -> None:
    """Over all axes from the given one before opset 13, over one axis since."""
    if opset == 7 and axis == -1:
        axis = 2  # negative axes came with opset 11
    attributes = {} if axis is None else {"axis": axis}
    check_node(op, [normal(2, 3, 4)], opset=opset, **attributes)
    check_folded(op, [normal(2, 3, 4)], opset=opset, **attributes)


def test_old_softmax_on_the_last_axis_is_one_node() -> None:
    """No reshapes where the flattening changes nothing."""
    assert kinds(check_node("Softmax", [normal(2, 3)], opset=11)) == ["Softmax"]
    assert kinds(check_node("Softmax", [normal(2, 3, 1)], opset=11)) == ["Softmax"]


@pytest.mark.parametrize("axis", [-1, 1, 0])
@pytest.mark.parametrize("bias", [True, False])
def test_layer_normalization(axis: int, bias: bool) -> None:
    """Over the axes from the given one; bias optional."""
    shape = (2, 3, 4)[axis:]
    operands = [normal(2, 3, 4), normal(*shape, seed=1), normal(*shape, seed=2)]
    graph = check_node("LayerNormalization", operands if bias else operands[:2], axis=axis)
    assert kinds(graph) == ["LayerNorm"]


def test_layer_normalization_spreads_scale() -> None:
    """A constant scale in a smaller shape is spread over the normalized axes."""
    x, scale, bias = normal(2, 3, 4), normal(4, seed=1), normal(1, 4, seed=2)
    small, given = one_node("LayerNormalization", [x, scale, bias], axis=1)
    spread = [np.broadcast_to(item, (3, 4)).copy() for item in (scale, bias)]
    full, _ = one_node("LayerNormalization", [x, *spread], axis=1)
    # Older ONNX Runtimes refuse the small shapes.
    expected = run_onnxruntime(full, given)
    assert_close(evaluate(imported(small), given).outputs, expected)


def test_layer_normalization_statistics() -> None:
    """Mean and InvStdDev are computed where they are asked for."""
    for outputs in (2, 3):
        check_node("LayerNormalization", [normal(2, 3, 4), normal(4)], outputs=outputs)


def test_layer_normalization_in_double_is_refused() -> None:
    """stash_type asks for other arithmetic."""
    model, _ = one_node("LayerNormalization", [normal(2, 3), normal(3)], stash_type=11)
    with pytest.raises(UnsupportedOpError, match="stash_type is 11"):
        imported(model)


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4), (2, 3, 4, 5)])
@pytest.mark.parametrize("opset", [7, 9, 14, 15])
def test_batch_normalization(shape: tuple[int, ...], opset: int) -> None:
    """Folded to a product and a sum along axis 1."""
    options = {"opset": opset, "epsilon": 1e-3}
    graph = check_node("BatchNormalization", [normal(*shape), *statistics(3)], **options)
    assert kinds(graph) == ["Binary", "Binary"]


def test_batch_normalization_in_training_is_refused() -> None:
    """With the way out."""
    model, _ = one_node(
        "BatchNormalization", [normal(2, 3), *statistics(3)], outputs=3, training_mode=1
    )
    with pytest.raises(UnsupportedOpError, match=r"training_mode is 1; export .*evaluation mode"):
        imported(model)


def test_batch_normalization_with_computed_statistics_is_refused() -> None:
    """They must be known to be folded."""
    model, _ = one_node("BatchNormalization", [normal(2, 3), *statistics(3)], runtime=(0, 3))
    with pytest.raises(UnsupportedOpError, match="'it': the mean must be constant"):
        imported(model)


def test_batch_normalization_contradiction() -> None:
    """Channels that do not fit."""
    model, _ = one_node("BatchNormalization", [normal(2, 3), *statistics(3)])
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 4
    with pytest.raises(ShapeError, match=r"the scale has shape \(3,\), expected \(4,\)"):
        imported(model)


def test_batch_normalization_with_negative_variance() -> None:
    """The root of a negative variance is no weight."""
    broken = [*statistics(3)[:3], -np.ones(3, np.float32)]
    model, _ = one_node("BatchNormalization", [normal(2, 3), *broken])
    with pytest.raises(ModelError, match=r"BatchNormalization 'it'.*holds nan"):
        imported(model)


@pytest.mark.parametrize("opset", [7, 10, 12, 13, 22])
def test_dropout_vanishes(opset: int) -> None:
    """At inference nothing is dropped, and the mask lets everything through."""
    if opset < 12:
        graph = check_node("Dropout", [normal(2, 3)], opset=opset, ratio=0.5)
    else:
        ratio, training = np.asarray(np.float32(0.5)), np.asarray(False)
        graph = check_node("Dropout", [normal(2, 3), ratio, training], opset=opset)
        check_node("Dropout", [normal(2, 3), ratio], outputs=2, opset=opset)
    assert not graph.nodes
    assert graph.outputs[0].value is graph.inputs[0]


def test_dropout_in_training_is_refused() -> None:
    """With the way out."""
    options = [np.asarray(np.float32(0.5)), np.asarray(True)]
    model, _ = one_node("Dropout", [normal(2, 3), *options])
    with pytest.raises(UnsupportedOpError, match="Dropout 'it': training_mode is true; export"):
        imported(model)
