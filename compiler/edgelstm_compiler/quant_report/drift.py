"""Whether the error of a stream grows: both programs over a very long input, block by block."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgelstm_compiler.ir.types import Array
from edgelstm_compiler.quant.replay import Recording
from edgelstm_compiler.quant_report.restore import Runner

STEPS = 100_000
"""Length of the run where none is asked for, in frames."""

SECONDS = 60.0
"""The same in time: programs in NumPy take what they can of it."""

BLOCKS = 100
FEW_BLOCKS = 20
PER_STEPS = 100_000
"""The slope is told per so many steps."""

_TRIAL = 50
_SURE = 3.0
_WORTH = 0.1


@dataclass(frozen=True, slots=True)
class Drift:
    """The error over a long stream.

    Args:
        steps: how many frames.
        source: what the input was.
        block: frames per block.
        rms, largest: error of each block, over all outputs.
        slope: of the block's RMS error per `PER_STEPS` steps, by least squares.
        slope_error: its standard error.
    """

    steps: int
    source: str
    block: int
    rms: Array
    largest: Array
    slope: float
    slope_error: float

    @property
    def mean(self) -> float:
        """Mean of the blocks' RMS errors."""
        return float(self.rms.mean())

    @property
    def grows(self) -> bool:
        """Whether the slope is certain, and more than a tenth of the error over the whole run."""
        gained = self.slope * self.steps / PER_STEPS
        return self.slope > _SURE * self.slope_error and gained > _WORTH * self.mean

    @property
    def verdict(self) -> str:
        """What that means, in a sentence."""
        if self.grows:
            gained = self.slope * self.steps / PER_STEPS
            return (
                f"The error grows: by {gained:.2g} over {self.steps:,} steps, from a mean of "
                f"{self.mean:.2g}. Reset the stream now and then, or take a finer scheme."
            )
        return (
            f"The error does not grow over {self.steps:,} steps: slope {self.slope:.2g} ± "
            f"{self.slope_error:.1g} per {PER_STEPS:,} steps beside a mean of {self.mean:.2g}."
        )

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {
            "steps": self.steps,
            "source": self.source,
            "block_steps": self.block,
            "rms_error": [float(f"{x:.4g}") for x in self.rms],
            "max_error": [float(f"{x:.4g}") for x in self.largest],
            "slope_per_100000_steps": float(f"{self.slope:.4g}"),
            "slope_standard_error": float(f"{self.slope_error:.4g}"),
            "grows": self.grows,
            "verdict": self.verdict,
        }


def measure_drift(
    exact: Runner,
    quantized: Runner,
    recording: Recording,
    source: str,
    period: int = 0,
    chunk: int = 1,
) -> Drift:
    """Run both over a recording of many steps, without a reset.

    Args:
        exact: the float32 program.
        quantized: the quantized one.
        recording: see `repeat_recordings`.
        source: what the input is, for the report.
        period: after how many steps the input repeats; 0: never. Blocks are whole periods where
            there are enough of them, so that they see the same input.
        chunk: frames that a step of both answers for.
    """
    squares, largest = _errors(exact.run(recording), quantized.run(recording))
    steps = len(squares)
    block = max(1, steps // BLOCKS)
    if period and steps // period >= FEW_BLOCKS:
        block = -(-block // period) * period
    count = steps // block
    rms = np.sqrt(squares[: count * block].reshape(count, block).mean(axis=1))
    peaks = largest[: count * block].reshape(count, block).max(axis=1)
    slope, error = _slope((np.arange(count) + 0.5) * block * chunk / PER_STEPS, rms)
    return Drift(steps * chunk, source, block * chunk, rms, peaks, slope, error)


def affordable_steps(
    exact: Runner, quantized: Runner, recordings: Sequence[Recording], timed: set[str], chunk: int
) -> int:
    """How many of `STEPS` frames, in steps of both programs, `SECONDS` are enough for.

    Compiled code takes all of them in less than a second, a graph in NumPy may take minutes.
    """
    short = repeat_recordings(recordings, timed, _TRIAL)
    began = time.perf_counter()
    for runner in (exact, quantized):
        runner.run(short)
    each = (time.perf_counter() - began) / _TRIAL
    return max(_TRIAL, min(-(-STEPS // chunk), int(SECONDS / each)))


def repeat_recordings(recordings: Sequence[Recording], timed: set[str], steps: int) -> Recording:
    """Recordings one after the other, again and again, up to so many steps."""
    first = recordings[0]
    repeated: dict[str, Array] = {}
    for name in first:
        if name not in timed:
            repeated[name] = first[name]
            continue
        joined = np.concatenate([recording[name] for recording in recordings])
        times = -(-steps // len(joined))
        repeated[name] = np.concatenate([joined] * times)[:steps]
    return repeated


def _errors(wanted: Mapping[str, Array], found: Mapping[str, Array]) -> tuple[Array, Array]:
    """Mean square and largest error of every step, over all outputs."""
    steps = len(next(iter(wanted.values())))
    rows = [(found[name].astype(np.float64) - wanted[name]).reshape(steps, -1) for name in wanted]
    errors = np.abs(np.concatenate(rows, axis=1))
    return np.square(errors).mean(axis=1), errors.max(axis=1)


def _slope(x: Array, y: Array) -> tuple[float, float]:
    """Slope of a line of least squares, and its standard error."""
    if len(x) < 3:
        return 0.0, 0.0
    centred = x - x.mean()
    spread = float(np.square(centred).sum())
    slope = float((centred * y).sum() / spread)
    residual = y - y.mean() - slope * centred
    variance = float(np.square(residual).sum()) / (len(x) - 2)
    return slope, float(np.sqrt(variance / spread))
