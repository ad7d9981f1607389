"""Every operator that has no packed kernel computes what NumPy computes."""

from __future__ import annotations

import numpy as np
import pytest

from edgelstm.dtypes import DType
from edgelstm.engines.numpy_ops import apply
from edgelstm.errors import CapabilityError
from edgelstm_compiler.ir.activations import TANH, Activation, Fn
from edgelstm_compiler.ir.fields import op_fields
from edgelstm_compiler.ir.kernels import CopyKernel
from edgelstm_compiler.ir.ops import (
    Arithmetic,
    Binary,
    Broadcast,
    Cast,
    Concat,
    Gather,
    LayerNorm,
    LogSoftmax,
    MatMul,
    Reshape,
    Slice,
    Softmax,
    Transpose,
    Unary,
)
from tests.unit.targets.native import emit, natives
from tests.unit.targets.packing import ProgramBuilder
from tests.unit.targets.single_op import check, floats, integers, program

pytest.importorskip("tvm")
pytestmark = pytest.mark.tvm


@pytest.mark.parametrize("arithmetic", Arithmetic)
def test_binary(arithmetic):
    """Broadcasting, floats and integers; no division by zero here."""
    check(Binary(arithmetic), floats(3, 4, 5), floats(4, 1))
    check(Binary(arithmetic), floats(), floats())
    divisors = integers(4) + 100
    check(Binary(arithmetic), integers(3, 4), divisors)
    check(Binary(arithmetic), integers(3, 4, dtype=np.int64), divisors.astype(np.int64))


def test_integer_division_never_traps():
    """Dividing by zero, and the smallest integer by -1, stops no program."""
    smallest = np.iinfo(np.int32).min
    a = np.array([7, -7, smallest, 5], np.int32)
    b = np.array([0, 2, -1, -1], np.int32)
    for native in natives(program(Binary(Arithmetic.DIV), [a, b])).values():
        assert native.step(a, b)[0].tolist() == [0, -3, smallest, -5]


@pytest.mark.parametrize("fn", Fn)
def test_unary(fn):
    """Every function on float32."""
    x = floats(5, 17) * 3
    check(Unary(Activation(fn, 0.3, 1.2)), np.abs(x) + 0.1 if fn in (Fn.LOG, Fn.SQRT) else x)


@pytest.mark.parametrize("fn", [Fn.NEG, Fn.ABS, Fn.RELU, Fn.CLIP])
def test_unary_on_integers(fn):
    """Functions that exist for integers."""
    check(Unary(Activation(fn, -10.0, float("inf"))), integers(33))


def test_unary_refuses_what_it_cannot():
    """A transcendental function of doubles is refused by name."""
    with pytest.raises(CapabilityError, match=r"tanh in f32 only, found f64"):
        emit(program(Unary(TANH), [np.zeros(3)]))


@pytest.mark.parametrize("dtype", DType, ids=lambda dtype: dtype.value)
def test_cast_from_float(dtype):
    """Truncation; to bool: x != 0."""
    x = np.abs(floats(3, 9)) * 20
    x[0, 0] = 0
    check(Cast(dtype), x)


def test_cast_from_others():
    """Integers and bool to float and bool."""
    check(Cast(DType.F32), integers(9))
    check(Cast(DType.F32), floats(9) > 0)
    check(Cast(DType.BOOL), integers(30) // 10)


def test_softmax():
    """Any axis, and the logarithm; large inputs do not overflow."""
    check(Softmax(1), floats(3, 10))
    check(Softmax(0), floats(3, 10) * 100)
    check(LogSoftmax(1), floats(3, 10, 2) * 40, tolerance=1e-5)


def test_layer_norm():
    """With and without bias, over one and two axes."""
    check(LayerNorm(1, 1e-5), floats(3, 10), floats(10), floats(10), tolerance=1e-5)
    check(LayerNorm(1, 1e-5), floats(3, 4, 5), floats(4, 5), tolerance=1e-5)


@pytest.mark.parametrize(
    ("op", "arrays"),
    [
        (Transpose((2, 0, 1)), [floats(3, 4, 5)]),
        (Reshape((60,)), [floats(3, 4, 5)]),
        (Reshape((7, 1)), [integers(7, dtype=np.int8)]),
        (Broadcast((2, 3, 4)), [floats(3, 1)]),
        (Broadcast((2, 3)), [floats()]),
        (Slice(1, 8, -3, 3), [floats(2, 9, 4)]),
        (Slice(0, 1, 1, 2), [integers(4, 3)]),
        (Gather(1), [floats(3, 5, 2), np.array([[0, -1], [4, 2]])]),
        (Gather(0), [floats(5), np.array(-2, np.int32)]),
        (Concat(1), [floats(2, 3), floats(2, 400), floats(2, 1)]),
        (Concat(0), [integers(3, dtype=np.int64), integers(20, dtype=np.int64)]),
    ],
    ids=str,
)
def test_moving_elements(op, arrays):
    """Operators that compute nothing are exact."""
    check(op, *arrays, tolerance=0)


def test_gather_stays_in_memory():
    """Indices out of bounds read the nearest element."""
    x = floats(4)
    at = np.array([9, -9, 1])
    for native in natives(program(Gather(0), [x, at])).values():
        np.testing.assert_array_equal(native.step(x, at)[0], x[[3, 0, 1]])


@pytest.mark.parametrize(
    "shapes",
    [
        ((4, 5), (5, 6)),
        ((5,), (5, 6)),
        ((4, 5), (5,)),
        ((5,), (5,)),
        ((3, 4, 5), (5, 6)),
        ((2, 1, 4, 5), (3, 5, 20)),
        ((1, 5), (5, 1)),
    ],
)
def test_matmul(shapes):
    """NumPy's rules for vectors and batch axes."""
    check(MatMul(), *(floats(*shape) for shape in shapes))


@pytest.mark.parametrize(("rows", "features", "units"), [(1, 7, 6), (3, 40, 33), (2, 128, 64)])
@pytest.mark.parametrize("activation", [None, TANH, Activation(Fn.SOFTPLUS)], ids=str)
def test_dense(rows, features, units, activation):
    """A packed dense layer with its activation."""
    x, w, b = floats(rows, features), floats(features, units) * 0.2, floats(units)
    builder = ProgramBuilder("dense")
    source = builder.input(DType.F32, x.shape)
    builder.dense(source, builder.output(DType.F32, (rows, units)), w, b, activation)
    total = x.astype(np.float64) @ w + b
    fields = op_fields(Unary(activation)) if activation else None
    expected = apply("Unary", fields, [total])[0] if fields else total
    for isa, native in natives(builder.build("call")).items():
        np.testing.assert_allclose(native.step(x)[0], expected, 3e-6, 3e-6, err_msg=isa)


@pytest.mark.parametrize("shape", [(1,), (15,), (16,), (250,), (3000,)])
@pytest.mark.parametrize("dtype", [DType.F32, DType.I8, DType.I64])
def test_copy(shape, dtype):
    """Copies of any size, not one byte more (the caller watches the memory behind)."""
    data = integers(*shape, dtype=dtype.numpy)
    builder = ProgramBuilder("copy")
    source, target = builder.input(dtype, shape), builder.output(dtype, shape)
    builder.call(CopyKernel(), [source], [target])
    for native in natives(builder.build("call")).values():
        np.testing.assert_array_equal(native.step(data)[0], data)
