"""README's support table says what its models show, and is the one that was generated."""

from __future__ import annotations

import pytest

from tests.support.rows import ROWS, Row
from tests.support.table import committed, faults, rendered


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.what[:40])
def test_row(row: Row) -> None:
    """Every model of the row compiles, or is refused, as the row says."""
    assert row.cases
    assert not faults(row)


def test_the_table_is_the_one_in_the_readme() -> None:
    """After a change: make support-table."""
    assert committed() == rendered()
