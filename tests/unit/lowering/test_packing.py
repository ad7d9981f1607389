"""Packing: every weight has one place, and comes back from it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgelstm_compiler.ir.cells import GRU, LSTM, RNN
from edgelstm_compiler.ir.kernels import (
    DenseKernel,
    RecurrentKernel,
    Source,
)
from edgelstm_compiler.ir.ops import Direction
from tests.unit.lowering.layers import (
    BLOCKS,
    SIZES,
    kernel_of,
    kernels,
    pack_dense,
    pack_recurrent,
    unpack_dense,
    unpack_recurrent,
)


def weights_of(kernel: RecurrentKernel, seed: int = 0) -> tuple[np.ndarray, ...]:
    """W, R, B and P with integers, so that sums of biases are exact."""
    rng = np.random.default_rng(seed)
    op, count = kernel.op, kernel.op.direction.count
    rows = op.gates * op.hidden

    def numbers(*shape: int) -> np.ndarray:
        return rng.integers(1, 1000, (count, *shape)).astype(np.float32)

    return (
        numbers(rows, kernel.features),
        numbers(rows, op.hidden),
        numbers(2 * rows),
        numbers(3 * op.hidden),
    )


def total_bias(b: np.ndarray) -> np.ndarray:
    """Input and recurrent bias added up."""
    return b.reshape(b.shape[0], 2, -1).sum(1)


@given(kernels(), st.integers(0, 100))
def test_weights_come_back(kernel: RecurrentKernel, seed: int) -> None:
    """W, R and P as they were; biases of one accumulator as their sum."""
    w, r, b, p = weights_of(kernel, seed)
    packed = pack_recurrent(kernel, w, r, b, p if kernel.has_peepholes else None)
    w2, r2, b2, p2 = unpack_recurrent(kernel, packed)
    np.testing.assert_array_equal(w2, w)
    np.testing.assert_array_equal(r2, r)
    np.testing.assert_array_equal(total_bias(b2), total_bias(b))
    if kernel.has_peepholes:
        np.testing.assert_array_equal(p2, p)
    else:
        assert p2 is None


@given(kernels())
def test_the_packed_size_is_that_of_the_layout(kernel: RecurrentKernel) -> None:
    """Whole blocks of bias, peepholes and sections, nothing between them."""
    w, r, b, p = weights_of(kernel)
    packed = pack_recurrent(kernel, w, r, b, p if kernel.has_peepholes else None)
    lines = sum(
        phase.accumulators
        + 3 * kernel.has_peepholes
        + sum(section.extent * len(section.gates) for section in phase.sections)
        for phase in kernel.phases
    )
    assert packed.shape == (kernel.op.direction.count * kernel.padded_hidden * lines,)
    assert packed.dtype == np.float32


def test_units_beyond_the_last_are_zero() -> None:
    """Padding multiplies to nothing."""
    kernel = kernel_of(RNN, 3, 2, 4, Direction.FORWARD)
    w, r, b, _ = weights_of(kernel)
    packed = pack_recurrent(kernel, w, r, b, None).reshape(-1, 4)
    assert not packed[:, 3].any()
    assert packed[:, :3].all()


def test_missing_bias_is_zero() -> None:
    """Its place stays."""
    kernel = kernel_of(GRU, 3, 2, 4, Direction.FORWARD)
    w, r, _, _ = weights_of(kernel)
    assert not unpack_recurrent(kernel, pack_recurrent(kernel, w, r, None, None))[2].any()


def test_a_block_is_bias_then_sections_by_input() -> None:
    """The order that code is generated for: by input, by gate, by unit."""
    kernel = kernel_of(LSTM, 4, 2, 4, Direction.FORWARD)
    w, r, b, _ = weights_of(kernel)
    packed = pack_recurrent(kernel, w, r, b, None).reshape(-1, 4)
    np.testing.assert_array_equal(packed[:4], total_bias(b)[0].reshape(4, 4))
    np.testing.assert_array_equal(packed[4:8], w[0, :, 0].reshape(4, 4))
    np.testing.assert_array_equal(packed[8:12], w[0, :, 1].reshape(4, 4))
    np.testing.assert_array_equal(packed[12:16], r[0, :, 0].reshape(4, 4))


def test_a_gru_with_reset_after_keeps_the_candidates_biases_apart() -> None:
    """The reset gate scales one of them only."""
    kernel = kernel_of(GRU, 2, 1, 4, Direction.FORWARD, linear_before_reset=True)
    w, r, b, _ = weights_of(kernel)
    found = unpack_recurrent(kernel, pack_recurrent(kernel, w, r, b, None))[2]
    np.testing.assert_array_equal(found[0, 4:6], b[0, 4:6])
    np.testing.assert_array_equal(found[0, 10:12], b[0, 10:12])


def test_a_gru_with_reset_before_has_two_phases() -> None:
    """The candidate reads r*h of all units."""
    kernel = kernel_of(GRU, 5, 2, 4, Direction.FORWARD)
    sources = [[section.source for section in phase.sections] for phase in kernel.phases]
    assert sources == [[Source.X, Source.H], [Source.X, Source.RESET_H]]
    assert kernel.sizes.workspace_elements == 4 * 8


@pytest.mark.parametrize(("hidden", "block", "padded"), [(1, 16, 16), (16, 16, 16), (37, 8, 40)])
def test_units_are_padded_to_whole_blocks(hidden: int, block: int, padded: int) -> None:
    """The workspace has room for them."""
    kernel = kernel_of(LSTM, hidden, 2, block, Direction.FORWARD)
    assert kernel.padded_hidden == padded
    assert kernel.sizes.workspace_elements == padded


@given(SIZES, SIZES, BLOCKS, st.booleans())
def test_dense_weights_come_back(features: int, units: int, block: int, has_bias: bool) -> None:
    """With and without bias."""
    kernel = DenseKernel(1, features, units, None, block)
    rng = np.random.default_rng(features * units)
    w = rng.standard_normal((features, units)).astype(np.float32)
    b = rng.standard_normal(units).astype(np.float32) if has_bias else None
    w2, b2 = unpack_dense(kernel, pack_dense(kernel, w, b))
    np.testing.assert_array_equal(w2, w)
    np.testing.assert_array_equal(b2, np.zeros(units) if b is None else b)
