"""NEON's instructions give NumPy's integers: products at their extremes, tables over all inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgelstm.dtypes import DType
from edgelstm.engines.numpy_ops import apply
from edgelstm_compiler.emulation.image import read_image
from edgelstm_compiler.emulation.kernel import emulator_of
from edgelstm_compiler.emulation.machine import Machine
from edgelstm_compiler.ir.fields import op_fields
from edgelstm_compiler.ir.ops import IntegerDense
from edgelstm_compiler.ir.program import Program
from edgelstm_targets.processors.cortex_a import AARCH64, AARCH64_DOT, ARMV7_NEON, ARMV7_VFPV4
from edgelstm_targets.processors.isa import InstructionSet
from tests.unit.targets.integer_layers import integer_dense

pytestmark = pytest.mark.tvm
pytest.importorskip("unicorn", reason="pip install unicorn==2.1.4")
pytest.importorskip("tvm")

SETS = {isa.name: isa for isa in (AARCH64, AARCH64_DOT, ARMV7_VFPV4, ARMV7_NEON)}
RNG = np.random.default_rng(11)


def _step(program: Program, isa: InstructionSet, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The only output of one emulated call."""
    from edgelstm_targets.tvm_cpu.build import compile_functions
    from edgelstm_targets.tvm_cpu.codegen import program_functions
    from edgelstm_targets.tvm_cpu.entry import stubs
    from edgelstm_targets.tvm_cpu.link import find_linkers, link

    entries = stubs(program.signature.name, isa)
    compiled = compile_functions(program_functions(program, isa), entries, isa)
    shared, _ = link(compiled.code, [stub.name for stub in entries], find_linkers())
    machine = Machine(read_image(shared), emulator_of(isa.name))
    blocks = [program.weights, program.state_init, bytes(program.scratch_bytes), x.tobytes()]
    places = []
    for block in blocks:
        places.append(machine.allocate(len(block)))
        machine.write(places[-1], block)
    size = program.signature.output_bytes
    places.append(machine.allocate(size))
    assert machine.call(f"{program.signature.name}_step", places) == 1  # its output is new
    (spec,) = program.signature.outputs
    found = np.frombuffer(machine.read(places[-1], size), spec.dtype.numpy)
    return found[: int(np.prod(spec.shape))].reshape(spec.shape)


@pytest.mark.parametrize("isa", SETS)
@pytest.mark.parametrize("dtype", [np.int8, np.int16])
@pytest.mark.parametrize("features", [1, 6, 17, 130])
def test_products_at_their_extremes(features: int, dtype: type, isa: str) -> None:
    """Sums of the largest products are exact: nothing saturates, no digit is lost."""
    info = np.iinfo(dtype)
    edges = [info.min, info.min + 1, -1, 0, 1, info.max]
    if dtype is np.int16:
        edges += [32639, 32640, -32640]
    x = RNG.choice(np.array(edges, dtype), (9, features))
    x[0], x[1] = info.min, info.max
    x[2, ::2], x[2, 1::2] = info.min, info.max
    x[3] = 1
    w = RNG.choice(np.array([-127, -1, 0, 1, 127], np.int8), (21, features))
    w[0], w[1] = -127, 127
    w[2, ::2], w[2, 1::2] = 127, -127
    largest = int(np.abs(x.astype(np.int64) @ w.T.astype(np.int64)).max())
    shift = max(0, largest.bit_length() - 15)
    op = IntegerDense(DType.I16, shift, 0, -32768, 32767)
    operands = (w, RNG.integers(-9, 9, 21).astype(np.int32), np.ones(21, np.int16))
    (wanted,) = apply("IntegerDense", op_fields(op), [x, *operands, None])
    found = _step(integer_dense(op, x, *operands, offset=0), SETS[isa], x)
    assert np.array_equal(found, wanted)


@pytest.mark.parametrize("isa", SETS)
@pytest.mark.parametrize("is_unit", [False, True])
def test_table_over_its_inputs(is_unit: bool, isa: str) -> None:
    """A table of steps of any height gives NumPy's integer between all of its entries."""
    x = np.r_[-32768:32768:9, -32767, -1, 0, 1, 127, 128, 32639, 32640, 32766, 32767]
    x = x.astype(np.int16)[:, None]
    table = RNG.integers(-32768, 32768, 513).astype(np.int16)
    table[:4] = (-32768, 32767, -32768, -32768)
    table[-3:] = (32767, -32768, 32767)
    op = IntegerDense(DType.I16, 0, 0, -32768, 32767, is_unit)
    operands = (np.ones((1, 1), np.int8), np.zeros(1, np.int32), np.ones(1, np.int16))
    (wanted,) = apply("IntegerDense", op_fields(op), [x, *operands, table])
    assert len(np.unique(wanted)) > 1000
    found = _step(integer_dense(op, x, *operands, table, offset=0), SETS[isa], x)
    assert np.array_equal(found, wanted)
