"""The integer functions, over all of their inputs against floating point."""

from __future__ import annotations

import numpy as np
import pytest

from edgelstm.engines.numpy_ops.quantized_dense import integer_softmax
from edgelstm.numerics.integer_arithmetic import (
    exact_product,
    interpolate,
    look_up,
    rounding_shift,
    saturate8,
    saturate16,
    unit_gate,
)
from edgelstm.numerics.integers import clip_limit, to_table_input
from edgelstm_compiler.ir.activations import SIGMOID, TANH, Activation, Fn
from edgelstm_compiler.quant.fixed_point import rescale
from edgelstm_compiler.quant.tables import (
    exponential_table,
    function_values,
    signed_table,
    unit_table,
)

ALL = np.arange(-32768, 32768, dtype=np.int32)
STEP = 2.0**-15
HARD = Activation(Fn.HARD_SIGMOID, 0.2, 0.5)


@pytest.mark.parametrize("activation", [SIGMOID, HARD], ids=str)
def test_gate_of_all_65536_inputs(activation: Activation) -> None:
    """A gate is within 6 steps of Q0.15 of the function at every int16 in Q4.11."""
    found = unit_gate(interpolate(unit_table(activation), ALL)) * STEP
    assert np.abs(found - function_values(activation, ALL / 2048.0)).max() <= 6 * STEP


def test_hard_sigmoid_bends() -> None:
    """Between its bends, where it is straight, hard sigmoid is exact to a step."""
    found = unit_gate(interpolate(unit_table(HARD), ALL)) * STEP
    x = ALL / 2048.0
    straight = np.abs(x) < 2.4
    assert np.abs(found - function_values(HARD, x))[straight].max() <= STEP


def test_tanh_of_all_65536_inputs() -> None:
    """Tanh is within 2.5 steps of Q0.15 at every int16 in Q3.12."""
    found = interpolate(signed_table(TANH), ALL) * STEP
    assert np.abs(found - np.tanh(ALL / 4096.0)).max() <= 2.5 * STEP


def test_exponential_of_all_inputs_below_zero() -> None:
    """The exponential of softmax is within 9 steps for all non-positive inputs."""
    x = ALL[ALL <= 0]
    found = unit_gate(interpolate(exponential_table(), x)) * STEP
    assert np.abs(found - np.exp(x / 2048.0)).max() <= 9 * STEP


@pytest.mark.parametrize("activation", [SIGMOID, TANH], ids=str)
def test_functions_never_fall(activation: Activation) -> None:
    """The integer functions are monotonic, as what they stand for."""
    table = unit_table(activation) if activation is SIGMOID else signed_table(activation)
    assert np.diff(interpolate(table, ALL)).min() >= 0


def test_gate_reaches_zero_and_one() -> None:
    """A saturated gate is exactly closed or exactly open: a cell can hold its state for ever."""
    gate = unit_gate(interpolate(unit_table(SIGMOID), ALL))
    assert (gate[0], gate[-1]) == (0, 32768)


def test_look_up_is_interpolation() -> None:
    """The complete table that NumPy uses gives the same integers as the formula."""
    table = signed_table(TANH)
    assert np.array_equal(look_up(table, ALL), interpolate(table, ALL))


def test_rounding_shift() -> None:
    """Halves are rounded up, also below zero; nothing happens for 0 bits."""
    values = np.array([-5, -3, -2, -1, 0, 1, 2, 3], np.int32)
    assert rounding_shift(values, 1).tolist() == [-2, -1, -1, 0, 0, 1, 1, 2]
    assert rounding_shift(values, 0) is values


def test_saturation() -> None:
    """Values beyond the type become its limits."""
    assert saturate8(np.array([-999, -128, 127, 999])).tolist() == [-128, -128, 127, 127]
    assert saturate16(np.array([-40000, 32768])).tolist() == [-32768, 32767]


@pytest.mark.parametrize("dtype", [np.int8, np.int16])
@pytest.mark.parametrize("columns", [1, 7, 516])
def test_exact_product(dtype: type[np.integer], columns: int) -> None:
    """Products by BLAS are the exact integer sums, also of the largest operands."""
    rng = np.random.default_rng(0)
    limits = np.iinfo(dtype)
    x = rng.integers(limits.min, limits.max + 1, (5, columns)).astype(dtype)
    w = rng.integers(-127, 128, (9, columns)).astype(np.int8)
    x[0], w[0], w[1] = limits.min, 127, -127
    w.setflags(write=False)
    wanted = x.astype(np.int64) @ w.T.astype(np.int64)
    assert np.array_equal(exact_product(x, w), wanted)
    assert np.array_equal(exact_product(x, w), wanted)


@pytest.mark.parametrize("exponent", [0, 2, 3, 5, 10])
def test_cell_state_as_table_input(exponent: int) -> None:
    """Every int16 cell state comes within half a step of Q3.12, saturated at +-8."""
    wanted = np.clip(ALL * 2.0 ** (exponent - 15), -8.0, 32767 / 4096)
    found = to_table_input(ALL, exponent) / 4096.0
    assert np.abs(found - wanted).max() <= 0.5 / 4096


def test_softmax() -> None:
    """Integer softmax is within 1e-3 of the float one and sums to one within the rounding."""
    rng = np.random.default_rng(0)
    scale = 12.0 / 32767
    x = rng.integers(-32768, 32768, (500, 7)).astype(np.int16)
    multiplier, shift = rescale(scale * 2048)
    fields = {"axis": 1, "multiplier": multiplier, "shift": shift}
    (found,) = integer_softmax(fields, [x, exponential_table()])
    powers = np.exp(x * scale - (x * scale).max(axis=1, keepdims=True))
    wanted = powers / powers.sum(axis=1, keepdims=True)
    assert np.abs(found * STEP - wanted).max() <= 1e-3
    assert np.abs(found.astype(np.int64).sum(axis=1) - 32768).max() <= 7


@pytest.mark.parametrize(
    ("clip", "limit"), [(0.5, 1024), (15.0, 30720), (16.0, 32767), (50, 32767)]
)
def test_clip_limit(clip: float, limit: int) -> None:
    """Clip in Q4.11, never beyond int16."""
    assert clip_limit(clip, 11) == limit


@pytest.mark.parametrize("value", [2.5, 1.0, 0.7, 0.01, 1e-5])
def test_rescale(value: float) -> None:
    """A multiplier below 2^14 and a shift stand for a number to 13 bits."""
    multiplier, shift = rescale(value)
    assert 0 < multiplier < 1 << 14
    assert abs(multiplier / 2**shift / value - 1) <= 2**-13
