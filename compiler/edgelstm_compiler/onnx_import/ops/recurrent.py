"""LSTM, GRU and RNN of ONNX: attributes, activations, optional inputs, layout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgelstm.dtypes import DType
from edgelstm.errors import ModelError, ShapeError
from edgelstm_compiler.ir.activations import Activation, Fn
from edgelstm_compiler.ir.cells import GRU, LSTM, RNN
from edgelstm_compiler.ir.ops import Direction, Recurrent
from edgelstm_compiler.ir.ops.recurrent import INITIAL_C, INITIAL_H, SEQUENCE_LENS, P, R, W, X
from edgelstm_compiler.ir.types import Value
from edgelstm_compiler.onnx_import.frames import Line, RefusedError
from edgelstm_compiler.onnx_import.ops.elementwise import check_float
from edgelstm_compiler.onnx_import.source import (
    Known,
    OnnxNode,
    Operand,
    Results,
    shape_of,
    type_of,
)


@dataclass(frozen=True, slots=True)
class ActivationRule:
    """An activation of the recurrent operators: which parameters it takes, and their defaults.

    Source: ONNX Runtime 1.31, rnn_helpers.cc, checked by running it. Affine, ScaledTanh and
    ThresholdedRelu have no default there and get zeros, unlike the ONNX operators of these names.
    """

    fn: Fn
    takes_alpha: bool = False
    takes_beta: bool = False
    alpha: float = 0.0
    beta: float = 0.0


ACTIVATIONS: dict[str, ActivationRule] = {
    "sigmoid": ActivationRule(Fn.SIGMOID),
    "tanh": ActivationRule(Fn.TANH),
    "relu": ActivationRule(Fn.RELU),
    "affine": ActivationRule(Fn.AFFINE, True, True),
    "leakyrelu": ActivationRule(Fn.LEAKY_RELU, True, alpha=0.01),
    "thresholdedrelu": ActivationRule(Fn.THRESHOLDED_RELU, True),
    "scaledtanh": ActivationRule(Fn.SCALED_TANH, True, True),
    "hardsigmoid": ActivationRule(Fn.HARD_SIGMOID, True, True, alpha=0.2, beta=0.5),
    "elu": ActivationRule(Fn.ELU, True, alpha=1.0),
    "softsign": ActivationRule(Fn.SOFTSIGN),
    "softplus": ActivationRule(Fn.SOFTPLUS),
}
"""By lower-case name."""


def import_lstm(node: OnnxNode) -> Results:
    """LSTM-7, -14, -22."""
    shared = _read_shared(node, gates=4, defaults=("Sigmoid", "Tanh", "Tanh"))
    op = LSTM(*shared, input_forget=bool(node.integer("input_forget", 0)))
    return _emit(node, op, optional_inputs=(INITIAL_H, INITIAL_C))


def import_gru(node: OnnxNode) -> Results:
    """GRU-7, -14, -22."""
    shared = _read_shared(node, gates=3, defaults=("Sigmoid", "Tanh"))
    op = GRU(*shared, linear_before_reset=bool(node.integer("linear_before_reset", 0)))
    return _emit(node, op, optional_inputs=(INITIAL_H,))


def import_rnn(node: OnnxNode) -> Results:
    """RNN-7, -14, -22."""
    op = RNN(*_read_shared(node, gates=1, defaults=("Tanh",)))
    return _emit(node, op, optional_inputs=(INITIAL_H,))


def read_activations(
    node: OnnxNode, defaults: Sequence[str], directions: int
) -> tuple[Activation, ...]:
    """The functions of all directions, parameters filled in as ONNX Runtime does.

    Parameters are consumed in the order of the functions, by those alone that take them.
    """
    wanted = len(defaults) * directions
    names = node.texts("activations") or tuple(defaults) * directions
    if len(defaults) == 1:
        # The specification's own default for RNN names two functions, whatever the direction.
        names = names[: max(wanted, 1)]
    if len(names) != wanted:
        raise ModelError(
            f"{node.origin}: {len(names)} activations ({', '.join(names)}), expected {wanted}: "
            f"{len(defaults)} for each direction"
        )
    alphas, betas = iter(node.numbers("activation_alpha")), iter(node.numbers("activation_beta"))
    found = []
    for name in names:
        rule = ACTIVATIONS.get(name.lower())
        if rule is None:
            raise RefusedError(
                f"the activation '{name}' is none of Sigmoid, Tanh, Relu, Affine, LeakyRelu, "
                "ThresholdedRelu, ScaledTanh, HardSigmoid, Elu, Softsign, Softplus"
            )
        alpha = next(alphas, rule.alpha) if rule.takes_alpha else 0.0
        beta = next(betas, rule.beta) if rule.takes_beta else 0.0
        if not np.isfinite([alpha, beta]).all():
            raise ModelError(f"{node.origin}: the activation {name} has parameters {alpha}, {beta}")
        found.append(Activation(rule.fn, float(np.float32(alpha)), float(np.float32(beta))))
    return tuple(found)


def _read_shared(
    node: OnnxNode, gates: int, defaults: Sequence[str]
) -> tuple[int, Direction, tuple[Activation, ...], float | None]:
    word = node.text("direction", "forward")
    try:
        direction = Direction(word)
    except ValueError as error:
        raise RefusedError(
            f"direction '{word}' is none of forward, reverse, bidirectional"
        ) from error
    hidden = _hidden_size(node, gates)
    activations = read_activations(node, defaults, direction.count)
    clip = node.number("clip", 0.0) if "clip" in node.attributes else None
    if clip is not None and not clip > 0:
        raise RefusedError(f"clip is {clip}; it has to be positive, as ONNX Runtime demands")
    return hidden, direction, activations, clip


def _hidden_size(node: OnnxNode, gates: int) -> int:
    """The attribute, or what R and W say where it is missing."""
    recurrent, weights = shape_of(node.operand(R)), shape_of(node.operand(W))
    for name, shape in (("W", weights), ("R", recurrent)):
        if len(shape) != 3:
            raise ShapeError(
                f"{node.origin}: {name} has shape {shape}, expected "
                "3 axes (directions, rows, columns)"
            )
    hidden = node.integer("hidden_size", recurrent[2])
    if hidden < 1:
        raise ShapeError(f"{node.origin}: hidden_size is {hidden}; a layer needs at least one unit")
    if recurrent[2] != hidden or recurrent[1] != gates * hidden or weights[1] != gates * hidden:
        raise ShapeError(
            f"{node.origin}: hidden_size {hidden} wants {gates * hidden} rows in W and R and "
            f"{hidden} columns in R, found W {weights} and R {recurrent}"
        )
    return hidden


def _emit(node: OnnxNode, op: Recurrent, optional_inputs: Sequence[int]) -> Results:
    layout = node.integer("layout", 0)
    if layout not in (0, 1):
        raise RefusedError(f"layout is {layout}, expected 0 or 1")
    check_float(node.operand(X))
    limit = P + 1 if isinstance(op, LSTM) else INITIAL_H + 1
    inputs: list[Operand | None] = [node.optional(index) for index in range(limit)]
    if len(shape_of(node.operand(X))) != 3:
        raise ShapeError(
            f"{node.origin}: X has shape {shape_of(node.operand(X))}, expected 3 axes "
            "(time, batch, features)"
        )
    if layout == 1:
        for index in (X, *optional_inputs):
            given = inputs[index]
            if given is None:
                continue
            if len(shape_of(given)) != 3:
                raise ShapeError(f"{node.origin}: input {index} has shape {shape_of(given)}")
            inputs[index] = node.transpose(given, (1, 0, 2))
    if _covers_all_frames(node, layout):
        inputs[SEQUENCE_LENS] = None
    else:
        _check_sequence_lens(node, shape_of(node.operand(X))[layout])
    outputs: list[Value] = list(node.emit_all(op, *inputs))
    if layout == 0:
        return outputs
    # Y (T, D, B, H) -> (B, T, D, H); states (D, B, H) -> (B, D, H).
    perms = ((2, 0, 1, 3), (1, 0, 2), (1, 0, 2))
    return [
        node.transpose(value, perm) if node.is_wanted(index) else None
        for index, (value, perm) in enumerate(zip(outputs, perms, strict=False))
    ]


def _covers_all_frames(node: OnnxNode, time_axis: int) -> bool:
    """Whether the lengths grow with the frames and are always all of them."""
    lens = node.optional(SEQUENCE_LENS)
    if not (isinstance(lens, Known) and isinstance(lens.frames, Line)):
        return False
    extent = node.extents(node.operand(X))[time_axis]
    return all(count == extent for count in node.counts(SEQUENCE_LENS, "sequence_lens"))


def _check_sequence_lens(node: OnnxNode, steps: int) -> None:
    lens = node.optional(SEQUENCE_LENS)
    if lens is None:
        return
    kind = type_of(lens)
    if kind is None or kind.dtype is not DType.I32:
        name = lens.trial.dtype if isinstance(lens, Known) else lens.type.dtype.value
        raise RefusedError(
            f"sequence_lens '{lens.name}' has elements of type {name}; ONNX demands int32"
        )
    if isinstance(lens, Known) and not ((lens.data >= 0) & (lens.data <= steps)).all():
        raise ShapeError(
            f"{node.origin}: sequence_lens is {lens.data.tolist()}, expected lengths from 0 to the "
            f"{steps} steps of X"
        )
