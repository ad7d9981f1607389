"""How far two tensors are apart, for the self-check and for whoever looks for the first fault."""

from __future__ import annotations

import numpy as np

from edgelstm_compiler.ir.types import Array


def relative_error(actual: Array, expected: Array) -> float:
    """Largest absolute difference, over the largest expected magnitude where that exceeds 1."""
    if actual.shape != expected.shape:
        return float("inf")
    if not np.issubdtype(expected.dtype, np.floating):
        return 0.0 if np.array_equal(actual, expected) else float("inf")
    wanted = expected.astype(np.float64)
    if wanted.size == 0:
        return 0.0
    error = np.max(np.abs(actual.astype(np.float64) - wanted))
    return float(error / max(1.0, float(np.max(np.abs(wanted)))))
