"""Limits of what is read from outside: beyond them input is refused by name, before it costs.

They bound memory, not use: each is far above what recordings of sensors hold.
"""

from __future__ import annotations

MAX_LINE_BYTES = 4 << 20
"""A line of CSV or NDJSON; a longer one is a malformed line, and is never held in memory."""

MAX_CELL_CHARS = 131_072
"""A cell of CSV (the limit of Python's csv module)."""

BLOCK_ROWS = 4096
"""Lines of a recording that are read together."""

BLOCK_BYTES = 4 << 20
"""Bytes of a recording that are read together, but for the last line."""

HEAD_LINES = 1000
"""Lines that a live stream may send before its first line of numbers."""

MAX_ARRAY_BYTES = 2 << 30
"""An array inside of an NPZ archive, unpacked; an NPY file is mapped and has no such limit."""

MAX_ARRAY_HEADER_BYTES = 10_000
"""The header of an array (NumPy's own limit, which must hold for members of archives, too)."""
