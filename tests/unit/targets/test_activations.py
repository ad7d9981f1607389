"""Errors of the native tanh, sigmoid, exp, ...: on a dense subset, and over float32."""

from __future__ import annotations

import os
from math import erf as scalar_erf

import numpy as np
import pytest

from edgelstm.dtypes import DType
from edgelstm_compiler.ir.activations import Activation, Fn
from edgelstm_compiler.ir.kernels import OpKernel
from edgelstm_compiler.ir.ops import Unary
from tests.unit.targets.native import natives
from tests.unit.targets.packing import ProgramBuilder

pytest.importorskip("tvm")
pytestmark = pytest.mark.tvm

CHUNK = 1 << 20


def function(fn, count=CHUNK):
    builder = ProgramBuilder("function")
    x = builder.input(DType.F32, (count,))
    builder.call(OpKernel(Unary(Activation(fn))), [x], [builder.output(DType.F32, (count,))])
    return natives(builder.build("call"))


def subset():
    """Every exponent and sign, 2048 mantissas each: a mebi of finite values and denormals."""
    bits = np.arange(CHUNK, dtype=np.uint64) * (1 << 32) // CHUNK
    jitter = np.random.default_rng(0).integers(0, (1 << 32) // CHUNK, CHUNK, dtype=np.uint64)
    x = (bits + jitter).astype(np.uint32).view(np.float32)
    return np.where(np.isfinite(x), x, np.float32(0.0))


def sigmoid(x):
    """In float64."""
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-x))


def fn_name(value):
    """The same in every process, so that several can share the tests."""
    return value.value if isinstance(value, Fn) else ""


# Function, its float64, bound of the absolute error, and the range that is never left.
BOUNDED = [
    (Fn.TANH, np.tanh, 3e-7, -1, 1),
    (Fn.SIGMOID, sigmoid, 1.2e-7, 0, 1),
    (Fn.ERF, np.vectorize(scalar_erf, otypes=[np.float64]), 3e-7, -1, 1),
]
RELATIVE = [
    (Fn.EXP, np.exp, 2.5e-7),
    (Fn.LOG, np.log, 2.5e-7),
]


def worst(reference, low, high, x, natives_):
    """The largest error with FMA, and without."""
    exact = reference(x.astype(np.float64))
    errors = {True: 0.0, False: 0.0}
    for isa, native in natives_.items():
        (y,) = native.step(x)
        assert y.min() >= low, isa
        assert y.max() <= high, isa
        has_fma = isa != "x86-64-v2"
        errors[has_fma] = max(errors[has_fma], float(np.abs(y - exact).max()))
    return errors


@pytest.mark.parametrize(("fn", "reference", "bound", "low", "high"), BOUNDED, ids=fn_name)
def test_bounded_functions_on_a_subset(fn, reference, bound, low, high):
    """Error and range over all exponents."""
    x = subset()
    near = np.random.default_rng(1).uniform(-12, 12, CHUNK).astype(np.float32)
    code = function(fn)
    for values in (x, near):
        errors = worst(reference, low, high, values, code)
        assert errors[True] <= bound
        assert errors[False] <= 1.3 * bound


@pytest.mark.parametrize(("fn", "reference", "bound"), RELATIVE, ids=fn_name)
def test_relative_functions(fn, reference, bound):
    """Relative error of the results that are normal float32."""
    x = subset() if fn is Fn.EXP else np.abs(subset())
    x = np.where(x == 0, np.float32(1), x)
    near = np.random.default_rng(1).uniform(-80, 80, CHUNK).astype(np.float32)
    near = near if fn is Fn.EXP else np.exp(near).astype(np.float32)
    code = function(fn)
    for values in (x, near):
        with np.errstate(all="ignore"):
            exact = reference(values.astype(np.float64))
            rounded = exact.astype(np.float32)
        normal = np.isfinite(rounded) & (np.abs(rounded) >= np.finfo(np.float32).tiny)
        for isa, native in code.items():
            (y,) = native.step(values)
            error = np.abs(y[normal] - exact[normal]) / np.abs(exact[normal])
            assert error.max() <= bound, isa
            assert not np.isnan(y).any(), isa
            np.testing.assert_allclose(y[~normal], rounded[~normal], rtol=0.2, atol=1e-43)


@pytest.mark.parametrize(
    ("fn", "reference", "bound"),
    [(Fn.TANH, np.tanh, 4e-7), (Fn.SIGMOID, sigmoid, 3e-7)],
    ids=fn_name,
)
def test_small_results_of_bounded_functions(fn, reference, bound):
    """Relative error from the smallest normal argument to where the sigmoid ends."""
    x = np.random.default_rng(2).uniform(-29, 29, CHUNK).astype(np.float32)
    x[::2] = np.clip(subset()[::2], -29, 29)
    x = np.where(np.abs(x) < 2.0**-120, np.float32(0.5), x)
    exact = reference(x.astype(np.float64))
    for isa, native in function(fn).items():
        (y,) = native.step(x)
        assert (np.abs(y - exact) / np.abs(exact)).max() <= bound, isa


@pytest.mark.slow
@pytest.mark.parametrize(("fn", "reference", "bound", "low", "high"), BOUNDED[:2], ids=fn_name)
def test_bounded_functions_over_float32(fn, reference, bound, low, high):
    """Every 29th float32 but NaN and infinity, on the best instruction set; `make fuzz`: every.

    Beyond +-32 only the extremes have to hold, which are compared without the float64 function.
    """
    isa, native = next(iter(function(fn, 1 << 22).items()))
    size = 1 << 22
    stride = 1 if "EDGELSTM_EVERY_FLOAT" in os.environ else 29
    for start in range(0, 1 << 32, size * stride):
        bits = np.arange(start, start + size * stride, stride, np.uint64).astype(np.uint32)
        x = bits.view(np.float32)
        x = np.where(np.isfinite(x), x, np.float32(0.0))
        (y,) = native.step(x)
        assert y.min() >= low, isa
        assert y.max() <= high, isa
        largest, smallest = np.abs(x).max(), np.abs(x).min()
        if smallest > 32:
            exact = np.where(x > 0, high, low)
        elif largest < 1e-8:
            exact = x if fn is Fn.TANH else 0.5
        else:
            exact = reference(x.astype(np.float64))
        assert np.abs(y - exact).max() <= bound, (isa, hex(start))
