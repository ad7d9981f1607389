"""Tables of functions in scheme int8-full: what the device computes of them, for every int16."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgelstm.numerics.integer_arithmetic import TABLE_ENTRIES, interpolate, unit_gate
from edgelstm_compiler.ir.activations import SIGMOID, TANH
from edgelstm_compiler.quant.tables import signed_table, unit_table
from tests.cuda.emulator.machine import Launch, Machine

Array = NDArray[Any]
INTERVALS = TABLE_ENTRIES - 1
ALL = np.arange(-32768, 32768, dtype=np.int32)
ZIGZAG = np.where(np.arange(TABLE_ENTRIES) % 2, 32767, -32768).astype(np.int16)
TABLES = {
    "sigmoid": unit_table(SIGMOID),
    "tanh": signed_table(TANH),
    "zigzag": ZIGZAG,
    "zagzig": ~ZIGZAG,
}


def test_one_product_interpolates() -> None:
    """Low + ((rise * r + 64) >> 7) is one sum of two products, for every low end and every r."""
    low, rest = ALL[:, None], np.arange(128, dtype=np.int32)
    for high in np.array([-32768, -129, -1, 0, 1, 12345, 32767], np.int32):
        wanted = low + (((high - low) * rest + 64) >> 7)
        found = (low * (128 - rest) + high * rest + 64) >> 7
        np.testing.assert_array_equal(found, wanted)


def test_the_gate_is_part_of_the_rounding() -> None:
    """For every sum of products, two shifts and a sum between them are one of each."""
    sums = np.arange(-32768 * 128, 32768 * 128 + 1, dtype=np.int32)
    found = (sums + 64 + 128 * 32769) >> 8
    np.testing.assert_array_equal(found, unit_gate((sums + 64) >> 7))


@pytest.fixture(scope="module")
def kernel() -> str:
    """PTX that looks every int16 up: first the function, then the gate."""
    from tests.cuda.table_kernel import compile_table_kernel

    return compile_table_kernel()


@pytest.mark.parametrize("name", TABLES)
def test_every_value_is_the_reference(kernel: str, name: str) -> None:
    """The device's functions, on tables of gates and on those that rise and fall the most."""
    table = TABLES[name]
    pairs = np.stack([table[:-1], table[1:]], 1).view(np.float32)
    found = np.zeros((ALL.size, 3), np.int32)
    launch = Launch(ALL.size // INTERVALS, INTERVALS, INTERVALS * 4)
    Machine(kernel, "all_values", launch, [pairs, found]).run()
    np.testing.assert_array_equal(found[:, 0], interpolate(table, ALL))
    np.testing.assert_array_equal(found[:, 1], unit_gate(interpolate(table, ALL)))
    np.testing.assert_array_equal(found[:, 2], np.where(ALL % 2, found[:, 0], found[:, 1]))


def test_a_mix_of_two_states_needs_no_bounds() -> None:
    """GRU: between n and h, whatever the gate; the ends, where a sum of them is largest."""
    z = np.arange(32769, dtype=np.int64)
    for n in (-32768, 32767):
        for h in (-32768, 32767):
            mixed = ((32768 - z) * n + z * h + 16384) >> 15
            assert min(n, h) <= mixed.min()
            assert mixed.max() <= max(n, h)
