"""Integer kernels give NumPy's integers: tables over all inputs, products at their extremes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgelstm.dtypes import DType
from edgelstm.engines.numpy_ops import apply
from edgelstm_compiler.ir.fields import op_fields
from edgelstm_compiler.ir.kernels import OpKernel
from edgelstm_compiler.ir.ops import Dequantize, IntegerDense, IntegerSoftmax, Quantize
from edgelstm_targets.processors.x86 import X86_64_V3
from tests.unit.targets.integer_layers import integer_dense
from tests.unit.targets.native import Native, natives
from tests.unit.targets.packing import ProgramBuilder

pytest.importorskip("tvm")
pytestmark = pytest.mark.tvm

RNG = np.random.default_rng(11)
PLAIN = replace(X86_64_V3, name="plain", dot="", gather="")
"""No instruction for products of bytes or for tables: what any processor falls back to."""


def _all_natives(program) -> dict[str, Native]:
    """Every instruction set of this machine, and the fallback."""
    from edgelstm_targets.tvm_cpu.build import compile_functions
    from edgelstm_targets.tvm_cpu.codegen import program_functions
    from edgelstm_targets.tvm_cpu.entry import stubs
    from edgelstm_targets.tvm_cpu.link import find_linkers, link

    entries = stubs(program.signature.name, PLAIN)
    compiled = compile_functions(program_functions(program, PLAIN), entries, PLAIN)
    shared, _ = link(compiled.code, [stub.name for stub in entries], find_linkers())
    return {**natives(program), "plain": Native(program, shared)}


def _expect(program, wanted, *inputs):
    for isa, native in _all_natives(program).items():
        (found,) = native.step(*inputs)
        assert np.array_equal(found, wanted), isa


def _random_table() -> np.ndarray:
    """Steps of any height, the extremes included."""
    table = RNG.integers(-32768, 32768, 513).astype(np.int16)
    table[:4] = (-32768, 32767, -32768, -32768)
    table[-3:] = (32767, -32768, 32767)
    return table


@pytest.mark.parametrize("is_unit", [False, True])
@pytest.mark.parametrize("kind", ["random", "sigmoid"])
def test_table_over_all_inputs(kind: str, is_unit: bool) -> None:
    """A table gives NumPy's integer at each of the 65,536 int16."""
    x = np.arange(-32768, 32768, dtype=np.int16)[:, None]
    if kind == "random":
        table = _random_table()
    else:
        points = np.arange(-256, 257) / 16.0
        table = np.rint(32767 * np.tanh(points / 2)).astype(np.int16)
    op = IntegerDense(DType.I16, 0, 0, -32768, 32767, is_unit)
    one = np.ones((1, 1), np.int8)
    operands = (one, np.zeros(1, np.int32), np.ones(1, np.int16))
    (wanted,) = apply("IntegerDense", op_fields(op), [x, *operands, table])
    assert len(np.unique(wanted)) > 1000
    _expect(integer_dense(op, x, *operands, table), wanted, x)


@pytest.mark.parametrize("offset", [0, 128])
@pytest.mark.parametrize("dtype", [np.int8, np.int16])
@pytest.mark.parametrize("features", [1, 6, 17, 130, 516])
def test_products_at_their_extremes(features: int, dtype: type, offset: int) -> None:
    """Sums of the largest products are exact: no instruction saturates on the way."""
    info = np.iinfo(dtype)
    choices = np.array([info.min, info.min + 1, -1, 0, 1, info.max], dtype)
    x = RNG.choice(choices, (12, features))
    x[0], x[1] = info.min, info.max
    x[2, ::2], x[2, 1::2] = info.min, info.max
    w = RNG.choice(np.array([-127, -1, 0, 1, 127], np.int8), (21, features))
    w[0], w[1] = -127, 127
    w[2, ::2], w[2, 1::2] = 127, -127
    largest = int(np.abs(x.astype(np.int64) @ w.T.astype(np.int64)).max())
    shift = max(0, largest.bit_length() - 15)
    op = IntegerDense(DType.I16, shift, 0, -32768, 32767)
    operands = (w, RNG.integers(-9, 9, 21).astype(np.int32), np.ones(21, np.int16))
    (wanted,) = apply("IntegerDense", op_fields(op), [x, *operands, None])
    _expect(integer_dense(op, x, *operands, offset=offset), wanted, x)


def _operator(op, inputs, output):
    builder = ProgramBuilder()
    x = builder.input(DType.from_numpy(inputs[0].dtype), inputs[0].shape)
    constants = [builder.weight(data) for data in inputs[1:]]
    target = builder.output(output, inputs[0].shape)
    builder.call(OpKernel(op), (x, *constants), (target,))
    return builder.build("call")


@pytest.mark.parametrize("dtype", [DType.I8, DType.I16])
@pytest.mark.parametrize("per_column", [False, True])
@pytest.mark.parametrize("zero_point", [0, -7, 100])
def test_quantize(dtype: DType, per_column: bool, zero_point: int) -> None:
    """Ties to even, saturation far beyond the range, bit for bit."""
    x = RNG.normal(0, 300, (40, 19)).astype(np.float32)
    x[0] = np.float32([0.5, 1.5, 2.5, -0.5, -1.5, 127.5, 128.5, -128.5, 1e30, -1e30, *range(9)])
    x[1] = np.linspace(-33000, 33000, 19)
    inverse = np.ones(1, np.float32)
    if per_column:
        inverse = RNG.uniform(0.3, 200, 19).astype(np.float32)
    op = Quantize(dtype, zero_point)
    (wanted,) = apply("Quantize", op_fields(op), [x, inverse])
    _expect(_operator(op, [x, inverse], dtype), wanted, x)


@pytest.mark.parametrize("kind", [np.int8, np.int16])
@pytest.mark.parametrize("per_column", [False, True])
def test_dequantize(kind: type, per_column: bool) -> None:
    """Every int8 and int16, bit for bit."""
    info = np.iinfo(kind)
    q = np.arange(info.min, info.max + 1).astype(kind).reshape(-1, 32)
    scale = RNG.uniform(0.001, 3, 32 if per_column else 1).astype(np.float32)
    op = Dequantize(3)
    (wanted,) = apply("Dequantize", op_fields(op), [q, scale])
    _expect(_operator(op, [q, scale], DType.F32), wanted, q)


@pytest.mark.parametrize("shape", [(7, 5), (3, 1), (2, 6, 3)])
def test_softmax(shape: tuple[int, ...]) -> None:
    """Probabilities in Q0.15, bit for bit, along the second axis."""
    x = RNG.integers(-32768, 32768, shape).astype(np.int16)
    table = _exponential()
    op = IntegerSoftmax(1, 300, 7)
    (wanted,) = apply("IntegerSoftmax", op_fields(op), [x, table])
    _expect(_operator(op, [x, table], DType.I16), wanted, x)


def _exponential() -> np.ndarray:
    points = np.arange(-256, 257) / 16.0
    return np.rint(32767 * (2 * np.exp(np.minimum(points, 0)) - 1)).astype(np.int16)
