"""Scales of 8 bits and biases of 16: what has a code comes back from it."""

from __future__ import annotations

import numpy as np
import pytest

from edgelstm_compiler.ir.compact import (
    ScaleCode,
    bias_exponent,
    bias_steps,
    coded_biases,
    coded_scales,
    scale_code,
    scale_ratio,
)


@pytest.mark.parametrize("exponent", [-126, -20, 0, 100])
@pytest.mark.parametrize("is_signed", [False, True])
def test_all_codes_come_back(exponent: int, is_signed: bool) -> None:
    """256 codes are 256 scales, and each of them has its code."""
    code = ScaleCode(exponent, is_signed)
    codes = np.arange(256, dtype=np.uint8)
    scales = code.decode(codes)
    assert len(np.unique(scales)) == 256
    np.testing.assert_array_equal(code.encode(scales), codes)


@pytest.mark.parametrize("is_signed", [False, True])
def test_rounded_scales_are_near_and_have_codes(is_signed: bool) -> None:
    """The nearest scale is at most 1/32 away, the next larger one at most 1/16."""
    rng = np.random.default_rng(0)
    scales = np.exp2(rng.uniform(-6, 0, 1000)) * (rng.choice([-1, 1], 1000) if is_signed else 1)
    near = coded_scales(scales, is_signed=is_signed)
    up = coded_scales(scales, is_signed=is_signed, up=True)
    assert (np.abs(near / scales - 1) <= 1 / 32).all()
    assert ((up / scales - 1 >= -1e-8) & (up / scales - 1 <= 1 / 16)).all()
    for rounded in (near, up):
        code = scale_code(rounded, is_signed=is_signed)
        assert code is not None
        np.testing.assert_array_equal(code.decode(code.encode(rounded)), rounded)


def test_scales_too_small_for_the_code() -> None:
    """They become its smallest, 2^-15 of the largest's power of two; so does zero."""
    found = coded_scales(np.array([1.5, 1e-9, 0.0]))
    np.testing.assert_array_equal(found, [1.5, 2.0**-15, 2.0**-15])
    assert scale_code(found) is not None


def test_other_scales_have_no_code() -> None:
    """Neither a fraction in between nor a range too wide is approximated by packing."""
    assert scale_code(np.array([1.0, 1.01])) is None
    assert scale_code(np.array([1.0, 2.0**-16])) is None
    assert scale_code(np.array([1.0, -1.0])) is None


def test_biases_keep_fifteen_bits() -> None:
    """They are off by half a step of 2^-15 of the largest's power of two, and have an exponent."""
    biases = np.random.default_rng(0).uniform(-3.9, 3.9, 500)
    found = coded_biases(biases, step=1e-3)
    assert np.abs(found - biases).max() <= 2.0**-14
    exponent = bias_exponent(found)
    assert exponent is not None
    np.testing.assert_array_equal(
        np.ldexp(bias_steps(found, exponent).astype(float), exponent), found
    )


@pytest.mark.parametrize("largest", [32767.4, 32767.6, 32768.0, -32768.0, 1.0, 0.0])
def test_the_largest_bias_fits(largest: float) -> None:
    """No bias wraps around, also where rounding brings it to the next power of two."""
    found = coded_biases(np.array([largest, 0.25]), step=10.0)
    exponent = bias_exponent(found)
    assert exponent is not None
    steps = bias_steps(found, exponent)
    assert abs(float(steps[0]) * 2.0**exponent - largest) <= 1.0


def test_biases_of_uneven_size_stay_whole() -> None:
    """Where 16 bits would be coarser than allowed, nothing is rounded."""
    biases = np.array([1000.0, 0.1234567])
    np.testing.assert_array_equal(coded_biases(biases, step=1e-3), biases.astype(np.float32))


def test_ratio_of_scales() -> None:
    """One power of two between all scales is found, any other ratio is not."""
    h = np.array([0.5, 0.75, 3.0], np.float32)
    assert scale_ratio(np.ldexp(h, -7), h) == -7
    assert scale_ratio(h * np.float32(3.0), h) is None
    assert scale_ratio(h * np.array([1, 1, 2], np.float32), h) is None
