"""A small part of `make accuracy-grid`."""

from __future__ import annotations

import pytest

from edgelstm_compiler.quant.scheme import Scheme
from tests.unit.quant.accuracy_grid import LEAST, Case, cases, decibels

CASES = [case for case in cases((2,)) if case.name.startswith("GRU")]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.kind)
def test_thirty_decibels(case: Case) -> None:
    """In any units, with offsets, pruned and with outliers, against float64."""
    assert decibels(case, Scheme.INT8_FULL) >= LEAST
