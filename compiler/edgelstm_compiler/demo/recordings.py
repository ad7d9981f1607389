"""Reads the timed-up-and-go recordings and varies them for training; knows no model.

Source: Matey-Sanz, Casteleyn, Granell, "Dataset of inertial measurements of smartphones and
smartwatches for human activity recognition", Data in Brief 2023, 109809 (CC BY 4.0)
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm_compiler.demo import CHANNELS, PHASES, RATE_HZ
from edgelstm_compiler.demo.simulate import SEATED, random_parameters, simulate_trial

Array = NDArray[Any]

# The four ways to put a phone into a pocket: half turns about its own axes.
HALF_TURNS = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Recording:
    """One trial at `RATE_HZ`: samples (T, 6) in m/s^2 and rad/s, labels (T,) of `PHASES`."""

    subject: str
    name: str
    samples: NDArray[np.float32]
    labels: NDArray[np.int64]


def load_recordings(folder: Path) -> list[Recording]:
    """All phone recordings below `folder`, ordered by name."""
    paths = sorted(folder.rglob("s??_??_sp.csv"))
    if not paths:
        raise FileNotFoundError(f"no phone recordings (sXX_YY_sp.csv) below {folder}")
    return [_load(path) for path in paths]


def _load(path: Path) -> Recording:
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    samples = np.array([[float(row[channel]) for channel in CHANNELS] for row in rows])
    stamps_s = np.array([float(row["timestamp"]) for row in rows]) / 1000.0
    labels = np.array([PHASES.index(row["label"]) for row in rows])
    clock_s = regular_clock(stamps_s)
    samples, nearest = resample(samples, clock_s, RATE_HZ)
    name = path.stem.removesuffix("_sp")
    return Recording(name.split("_")[0], name, samples.astype(np.float32), labels[nearest])


def regular_clock(stamps_s: Array) -> Array:
    """The times at which samples were taken, from the times at which they arrived.

    The phone samples evenly (102.4 Hz) and delivers in bursts: equal stamps and gaps of up to
    0.15 s are the delivery's, no sample is lost. The straight line through stamp over index is
    the sensor's clock.
    """
    index = np.arange(stamps_s.size)
    slope, start = np.polyfit(index, stamps_s - stamps_s[0], 1)
    return np.asarray(start + slope * index)


def resample(samples: Array, clock_s: Array, rate_hz: float) -> tuple[Array, NDArray[np.intp]]:
    """Interpolates to an even rate; also the index of the sample that is nearest to each."""
    count = int(np.floor((clock_s[-1] - clock_s[0]) * rate_hz)) + 1
    time_s = clock_s[0] + np.arange(count) / rate_hz
    even = np.stack([np.interp(time_s, clock_s, column) for column in samples.T], axis=1)
    nearest = np.rint(np.interp(time_s, clock_s, np.arange(clock_s.size))).astype(np.intp)
    return even, nearest


def vary(recording: Recording, rng: np.random.Generator) -> tuple[Array, Array]:
    """Another trial that the same person might have made, as (samples, labels)."""
    samples, labels = recording.samples, recording.labels
    samples, labels = _sit_longer(samples, labels, rng)
    samples, labels = _change_pace(samples, labels, float(rng.uniform(0.85, 1.2)))
    if rng.random() < 0.5:
        samples = mirror(samples)
    samples = _carry_otherwise(samples, rng)
    return _add_noise(samples, rng), labels


def simulate_varied(rng: np.random.Generator) -> tuple[Array, Array]:
    """A simulated trial of another person, as (samples, labels)."""
    samples, _, labels = simulate_trial(int(rng.integers(1 << 31)), RATE_HZ, random_parameters(rng))
    return _carry_otherwise(samples, rng), labels


def chain(parts: list[tuple[Array, Array]]) -> tuple[Array, Array]:
    """One stream of several trials; between two of them the phone goes over smoothly, seated."""
    samples, labels = list(parts[0][:1]), list(parts[0][1:])
    for after, after_labels in parts[1:]:
        weight = np.linspace(0.0, 1.0, 62, dtype=np.float32)[1:-1, None]
        samples += [(1.0 - weight) * samples[-1][-1] + weight * after[0], after]
        labels += [np.full(weight.size, SEATED), after_labels]
    return np.concatenate(samples), np.concatenate(labels)


def mirror(samples: Array) -> Array:
    """Swaps left and right: x is reflected, and a rate of turn is an axial vector."""
    return np.asarray(samples * np.array([-1, 1, 1, 1, -1, -1], dtype=np.float32))


def _sit_longer(samples: Array, labels: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Lengthens the first and the last rest, forwards and backwards, by 4 s each on average."""
    order = np.arange(len(labels))
    resting = labels == SEATED
    first = int(np.argmin(resting)) if resting[0] else 0
    last = int(np.argmin(resting[::-1])) if resting[-1] else 0
    if first > 20:
        order = np.concatenate([_sway(first, _rest_samples(rng))[::-1], order])
    if last > 60:
        # The body still settles at first; only the second half is rest.
        calm = last // 2
        order = np.concatenate([order, len(labels) - 1 - _sway(calm, _rest_samples(rng))])
    return samples[order], labels[order]


def _rest_samples(rng: np.random.Generator) -> int:
    return int(min(rng.exponential(4.0), 20.0) * RATE_HZ)


def _sway(length: int, count: int) -> NDArray[np.intp]:
    """`count` indices that run to and fro over 0 .. length - 1, from 0."""
    period = 2 * (length - 1)
    phase = np.arange(1, count + 1) % period
    return np.minimum(phase, period - phase)


def _change_pace(samples: Array, labels: Array, factor: float) -> tuple[Array, Array]:
    """The same movement `factor` times as slow; rates of turn scale with it."""
    at = np.arange(0.0, len(labels) - 1, 1.0 / factor)
    index = np.arange(len(labels))
    slow = np.stack([np.interp(at, index, column) for column in samples.T], axis=1)
    slow[:, 3:] /= factor
    return slow.astype(np.float32), labels[np.rint(at).astype(np.intp)]


def _carry_otherwise(samples: Array, rng: np.random.Generator) -> Array:
    """Another half turn of the phone, and a small turn about each axis, most about the thigh."""
    angles = rng.normal(0.0, [0.12, 0.35, 0.12])
    turn = np.eye(3)
    for axis, angle in enumerate(angles):
        a, b = (axis + 1) % 3, (axis + 2) % 3
        about = np.eye(3)
        about[a, a] = about[b, b] = np.cos(angle)
        about[b, a] = np.sin(angle)
        about[a, b] = -about[b, a]
        turn = turn @ about
    turn = (HALF_TURNS[rng.integers(4)][:, None] * turn).astype(np.float32)
    return np.concatenate([samples[:, :3] @ turn.T, samples[:, 3:] @ turn.T], axis=1)


def _add_noise(samples: Array, rng: np.random.Generator) -> Array:
    gain = 1.0 + rng.normal(0.0, 0.03, 6)
    offset = rng.normal(0.0, [0.15] * 3 + [0.02] * 3)
    noise = rng.normal(0.0, [0.15] * 3 + [0.03] * 3, samples.shape)
    return np.asarray(samples * gain + offset + noise).astype(np.float32)
