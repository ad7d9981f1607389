"""One operator compiled for all levels of x86-64, beside NumPy."""

from __future__ import annotations

import numpy as np

from edgelstm.dtypes import DType
from edgelstm.engines.numpy_ops import apply
from edgelstm_compiler.ir.fields import op_fields
from edgelstm_compiler.ir.kernels import OpKernel
from tests.unit.targets.native import natives
from tests.unit.targets.packing import ProgramBuilder

RNG = np.random.default_rng(3)


def floats(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def integers(*shape, dtype=np.int32):
    return RNG.integers(-50, 50, size=shape).astype(dtype)


def program(op, arrays):
    builder = ProgramBuilder("op")
    inputs = [builder.input(DType.from_numpy(a.dtype), a.shape) for a in arrays]
    (kind,) = op.infer([buffer.type for buffer in inputs])
    builder.call(OpKernel(op), inputs, [builder.output(kind.dtype, kind.shape)])
    return builder.build("call")


def check(op, *arrays, tolerance=2e-6):
    """The same as NumPy in float64, on every level."""
    doubles = [a.astype(np.float64) if a.dtype == np.float32 else a for a in arrays]
    (expected,) = apply(op.kind, op_fields(op), doubles)
    for isa, native in natives(program(op, arrays)).items():
        (actual,) = native.step(*arrays)
        assert actual.shape == expected.shape
        if actual.dtype.kind == "f":
            np.testing.assert_allclose(
                actual, expected.astype(actual.dtype), tolerance, tolerance, err_msg=isa
            )
        else:
            np.testing.assert_array_equal(actual, expected.astype(actual.dtype), err_msg=isa)
