"""How far quantized values are from the float ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from edgelstm_compiler.ir.types import Array


@dataclass(frozen=True, slots=True)
class ErrorMeasure:
    """The distance of two arrays.

    Args:
        sqnr_db: 10 log10 of signal power over error power.
        max_error, mean_error, rms_error: absolute.
        agreement: share of rows with the same largest element; None where rows have one element.
    """

    sqnr_db: float
    max_error: float
    mean_error: float
    rms_error: float
    agreement: float | None

    def to_json(self) -> dict[str, Any]:
        """A JSON object; an infinite ratio is null."""
        return {
            "sqnr_db": round(self.sqnr_db, 2) if np.isfinite(self.sqnr_db) else None,
            "max_error": float(f"{self.max_error:.4g}"),
            "mean_error": float(f"{self.mean_error:.4g}"),
            "rms_error": float(f"{self.rms_error:.4g}"),
            "agreement": self.agreement,
        }


def measure(expected: Array, actual: Array) -> ErrorMeasure:
    """Compare rows along the last axis."""
    wanted, found = expected.astype(np.float64), actual.astype(np.float64)
    error = found - wanted
    power = float(np.square(error).sum())
    signal = float(np.square(wanted).sum())
    agreement = None
    if wanted.ndim and wanted.shape[-1] > 1:
        agreement = float(np.mean(wanted.argmax(axis=-1) == found.argmax(axis=-1)))
    return ErrorMeasure(
        sqnr_db=sqnr_db(signal, power),
        max_error=float(np.abs(error).max(initial=0.0)),
        mean_error=float(np.abs(error).mean()) if error.size else 0.0,
        rms_error=float(np.sqrt(power / max(error.size, 1))),
        agreement=agreement,
    )


def sqnr_db(signal: float, error: float) -> float:
    """Signal power over error power in decibels."""
    if error == 0.0:
        return float("inf")
    return float(10.0 * np.log10(signal / error)) if signal > 0.0 else float("-inf")
