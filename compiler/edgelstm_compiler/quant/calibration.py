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
from edgelstm_compiler.quant.extremes import Spread
from edgelstm_compiler.quant.moments import Moments
from edgelstm_compiler.quant.observers import BINS, clip_ratio, histogram, pooled
from edgelstm_compiler.quant.scheme import Observer

FORMAT = 2

_FAR = 2.0
"""How many times its own movement a channel stays away from zero before it gets a center."""


@dataclass(frozen=True, slots=True)
class ValueRange:
    """A value's extent over all recordings, by channel (last axis).

    Args:
        low, high: smallest and largest (K,).
        mean, square: mean and mean square, glitches (`extremes.Spread`) left out (K,).
        center: what the values lie around where they stay far from zero, else 0 (K,).
        core: the largest |x - center|, glitches left out (K,).
        counts: histogram of |x - center| / core, glitches left out (K, BINS).
    """

    low: Array
    high: Array
    mean: Array
    square: Array
    center: Array
    core: Array
    counts: Array

    @property
    def largest(self) -> Array:
        """The largest magnitude of each channel."""
        return np.asarray(np.maximum(np.abs(self.low), np.abs(self.high)))

    @property
    def variance(self) -> Array:
        """Mean square of the distance from the mean (K,)."""
        return np.asarray(np.maximum(self.square - np.square(self.mean), 0.0))

    @property
    def rows(self) -> int:
        """How many rows of channels were seen, glitches left out."""
        return int(self.counts.sum(axis=-1).max(initial=0))

    def reach(
        self, observer: Observer, percentile: float, levels: int, *, per_channel: bool
    ) -> Array:
        """The magnitude that the range of each channel should reach to (K,); 0: it never moves."""
        if observer is Observer.MIN_MAX:
            reach = self.largest
            return reach if per_channel else np.full_like(reach, reach.max())
        if per_channel or self.center.any():
            ratios = [clip_ratio(counts, observer, percentile, levels) for counts in self.counts]
            reach = np.abs(self.center) + np.array(ratios) * self.core
            return reach if per_channel else np.full_like(reach, reach.max())
        ratio = clip_ratio(pooled(self.counts, self.core), observer, percentile, levels)
        return np.full_like(self.core, ratio * self.core.max())

    def limit(
        self, observer: Observer, percentile: float, levels: int, *, per_channel: bool
    ) -> Array:
        """The same, never zero: a channel that stays at zero takes the range of the widest."""
        reach = self.reach(observer, percentile, levels, per_channel=per_channel)
        return np.where(reach > 0, reach, float(reach.max()) or 1.0)

    def moved(self, offset: Array, factor: Array) -> ValueRange:
        """The range of (x - offset) * factor, for factors above zero.

        The offset is `center` or 0 in each channel.
        """
        mean = self.mean - offset
        square = self.variance + np.square(mean)
        return ValueRange(
            low=(self.low - offset) * factor,
            high=(self.high - offset) * factor,
            mean=mean * factor,
            square=square * np.square(factor),
            center=(self.center - offset) * factor,
            core=self.core * factor,
            counts=self.counts,
        )

    def selected(self, channels: Array) -> ValueRange:
        """The range of some of the channels."""
        return ValueRange(**{name: getattr(self, name)[channels] for name in self.__slots__})

    @classmethod
    def of(cls, data: Array, spread: Spread | None = None) -> ValueRange:
        """Of samples (..., K)."""
        flat = data.reshape(-1, data.shape[-1]).astype(np.float64)
        spread = spread or Spread.of(flat)
        kept = np.where(spread.extreme, np.nan, flat)
        distance = np.nanmax(np.abs(kept - spread.median), axis=0)
        is_far = np.abs(spread.median) > _FAR * distance
        center = np.where(is_far, spread.median.astype(np.float32), 0.0)
        core = np.nanmax(np.abs(kept - center), axis=0)
        safe = np.where(core > 0, core, 1.0)
        ratios = np.abs(kept - center) / safe
        counts = [histogram(ratios[~gone, k]) for k, gone in enumerate(spread.extreme.T)]
        return cls(
            low=flat.min(axis=0),
            high=flat.max(axis=0),
            mean=np.nanmean(kept, axis=0),
            square=np.nanmean(np.square(kept), axis=0),
            center=center,
            core=core,
            counts=np.stack(counts),
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
        moments: by name of the layer: how the operands of its sums vary together.
        roundings: by scheme: the rounding that its recordings chose (`rounding.py`); empty where
            they are at hand when a model is quantized.
    """

    model: str
    frames: int
    values: Mapping[str, ValueRange]
    cells: Mapping[str, CellRange]
    warnings: tuple[str, ...] = field(default=())
    moments: Mapping[str, Moments] = field(default_factory=dict)
    roundings: Mapping[str, str] = field(default_factory=dict)

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
            "moments": {name: found.to_json() for name, found in self.moments.items()},
            **({"roundings": dict(self.roundings)} if self.roundings else {}),
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
                    f"the calibration has format {data['format']!r}, this version reads {FORMAT}: "
                    "make it again with `edgelstm calibrate MODEL --input FILE -o FILE.json`"
                )
            return cls(
                model=str(data["model"]),
                frames=int(data["frames"]),
                values={name: ValueRange(**_arrays(item)) for name, item in data["values"].items()},
                cells={name: CellRange(**_arrays(item)) for name, item in data["cells"].items()},
                warnings=tuple(data["warnings"]),
                moments={n: Moments.from_json(item) for n, item in data["moments"].items()},
                roundings={str(k): str(v) for k, v in data.get("roundings", {}).items()},
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CapabilityError(f"this is no calibration: {error}; calibrate again") from error


def _fields_to_json(item: ValueRange | CellRange) -> dict[str, Any]:
    return {name: _to_json(getattr(item, name)) for name in item.__slots__}


def _to_json(data: Array) -> Any:
    if np.issubdtype(data.dtype, np.integer):
        # Histograms are mostly zeros: by channel the first bin that is none, and the counts.
        return {"counts": [_trimmed(counts) for counts in data]}
    return data.tolist()


def _trimmed(counts: Array) -> list[int]:
    filled = np.flatnonzero(counts)
    if not filled.size:
        return []
    return [int(filled[0]), *counts[filled[0] : filled[-1] + 1].tolist()]


def _arrays(item: Mapping[str, Any]) -> dict[str, Array]:
    return {name: _from_json(value) for name, value in item.items()}


def _from_json(value: Any) -> Array:
    if isinstance(value, dict):
        counts = np.zeros((len(value["counts"]), BINS), np.int64)
        for row, given in zip(counts, value["counts"], strict=True):
            if given:
                row[given[0] : given[0] + len(given) - 1] = given[1:]
        return counts
    return np.asarray(value, dtype=np.float64)
