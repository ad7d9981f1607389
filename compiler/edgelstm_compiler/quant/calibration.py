"""`Calibration`: what recordings say about the values of a model, frozen and written as JSON."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgelstm.errors import CapabilityError
from edgelstm_compiler.ir.types import Array
from edgelstm_compiler.quant.observers import BINS, clip_ratio
from edgelstm_compiler.quant.scheme import Observer

FORMAT = 1


@dataclass(frozen=True, slots=True)
class ValueRange:
    """A value's extent over all recordings, by channel (last axis).

    Args:
        low, high, mean, square: smallest, largest, mean and mean square (K,).
        by_tensor: histogram of |x| over the largest |x| of the value, `BINS` bins over [0, 1].
        by_channel: histogram of |x| over the largest |x| of its own channel.
    """

    low: Array
    high: Array
    mean: Array
    square: Array
    by_tensor: Array
    by_channel: Array

    @property
    def largest(self) -> Array:
        """The largest magnitude of each channel."""
        return np.maximum(np.abs(self.low), np.abs(self.high))

    def limit(
        self, observer: Observer, percentile: float, levels: int, *, per_channel: bool
    ) -> Array:
        """The magnitude that the range of each channel should reach to (K,), never zero."""
        histogram = self.by_channel if per_channel else self.by_tensor
        ratio = clip_ratio(histogram, observer, percentile, levels)
        largest = self.largest if per_channel else np.full_like(self.largest, self.largest.max())
        limit = ratio * largest
        fallback = float(limit.max()) or 1.0
        return np.where(limit > 1e-6 * fallback, limit, fallback)

    @classmethod
    def of(cls, data: Array) -> ValueRange:
        """Of samples (..., K)."""
        flat = data.reshape(-1, data.shape[-1]).astype(np.float64)
        low, high = flat.min(axis=0), flat.max(axis=0)
        largest = np.maximum(np.abs(low), np.abs(high))
        top = float(largest.max())
        safe = np.where(largest > 0, largest, 1.0)
        magnitude = np.abs(flat)
        return cls(
            low=low,
            high=high,
            mean=flat.mean(axis=0),
            square=np.square(flat).mean(axis=0),
            by_tensor=_histogram(magnitude / (top or 1.0)),
            by_channel=_histogram(magnitude / safe),
        )


@dataclass(frozen=True, slots=True)
class CellRange:
    """What a recurrent layer did, by direction and unit (D, H)."""

    h_largest: Array
    h_mean: Array
    c_largest: Array


@dataclass(frozen=True, slots=True)
class Calibration:
    """The ranges of a model's values; tied to the model by the names of its values.

    Args:
        model: SHA-256 of the ONNX file, or "".
        frames: frames seen (calls in call mode).
        values: by name of the value in the float step graph.
        cells: by name of the layer.
        warnings: what the recordings do not exercise.
    """

    model: str
    frames: int
    values: Mapping[str, ValueRange]
    cells: Mapping[str, CellRange]
    warnings: tuple[str, ...] = field(default=())

    def value(self, name: str) -> ValueRange:
        """The range of a value.

        Raises:
            CapabilityError: it was made for another model.
        """
        if name not in self.values:
            raise CapabilityError(
                f"the calibration does not know the value {name!r}: it was made from another "
                "model or mode; calibrate again"
            )
        return self.values[name]

    def cell(self, name: str) -> CellRange:
        """The ranges inside of a layer.

        Raises:
            CapabilityError: it was made for another model.
        """
        if name not in self.cells:
            raise CapabilityError(
                f"the calibration does not know the layer {name!r}: it was made from another "
                "model or mode; calibrate again"
            )
        return self.cells[name]

    @property
    def digest(self) -> str:
        """SHA-256 of the JSON form."""
        text = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """A JSON object; `from_json` reads it back to the same numbers."""
        return {
            "format": FORMAT,
            "model": self.model,
            "frames": self.frames,
            "values": {name: _fields_to_json(item) for name, item in self.values.items()},
            "cells": {name: _fields_to_json(item) for name, item in self.cells.items()},
            "warnings": list(self.warnings),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Calibration:
        """Read what `to_json` wrote.

        Raises:
            CapabilityError: not a calibration, or a newer format.
        """
        try:
            if data["format"] != FORMAT:
                raise CapabilityError(
                    f"the calibration has format {data['format']!r}, this version reads {FORMAT}"
                )
            return cls(
                model=str(data["model"]),
                frames=int(data["frames"]),
                values={name: ValueRange(**_arrays(item)) for name, item in data["values"].items()},
                cells={name: CellRange(**_arrays(item)) for name, item in data["cells"].items()},
                warnings=tuple(data["warnings"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CapabilityError(f"this is no calibration: {error}; calibrate again") from error


def _histogram(magnitude: Array) -> Array:
    bins = np.minimum((magnitude * BINS).astype(np.int64), BINS - 1)
    return np.bincount(bins.ravel(), minlength=BINS)


def _fields_to_json(item: ValueRange | CellRange) -> dict[str, Any]:
    return {name: _to_json(getattr(item, name)) for name in item.__slots__}


def _to_json(data: Array) -> Any:
    if np.issubdtype(data.dtype, np.integer):
        # Histograms are mostly zeros at the end.
        return {"counts": np.trim_zeros(data, "b").tolist()}
    return data.tolist()


def _arrays(item: Mapping[str, Any]) -> dict[str, Array]:
    return {name: _from_json(value) for name, value in item.items()}


def _from_json(value: Any) -> Array:
    if isinstance(value, dict):
        counts = np.zeros(BINS, np.int64)
        counts[: len(value["counts"])] = value["counts"]
        return counts
    return np.asarray(value, dtype=np.float64)
