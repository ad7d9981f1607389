"""Prove the support table, and write it into README: `make support-table`."""

from __future__ import annotations

import sys

from tests.support.node_table import write as write_operators
from tests.support.rows import ROWS
from tests.support.table import faults, write


def main() -> int:
    """1 where a row says what its models do not show; then nothing is written."""
    wrong = [f"{row.what[:60]}: {fault}" for row in ROWS for fault in faults(row)]
    for line in wrong:
        print(line)
    if not wrong:
        write()
        write_operators()
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
