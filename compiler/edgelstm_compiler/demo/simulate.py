"""Simulates a timed-up-and-go trial with a phone in the trouser pocket; holds no recorded sample.

The thigh is a rigid body: its orientation and the acceleration of the pocket are written as
functions of time, and the six channels are what an ideal sensor fixed to it reads, plus noise.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.outputs import write_output
from edgelstm_compiler.demo import CHANNELS, PHASES, RATE_HZ, TRIAL_PATH

Array = NDArray[Any]

GRAVITY = 9.81
BUNDLED_SEED = 7
SEATED, STANDING_UP, WALKING, TURNING, SITTING_DOWN = range(5)
SEQUENCE = (SEATED, STANDING_UP, WALKING, TURNING, WALKING, TURNING, SITTING_DOWN, SEATED)


@dataclass(frozen=True, slots=True)
class TrialParameters:
    """How the simulated person sits, walks and turns, and how the phone lies in the pocket.

    Units:  angles in rad, lengths in m, accelerations in m/s^2
    """

    durations_s: tuple[float, ...] = (3.0, 1.4, 5.2, 1.4, 5.0, 1.2, 1.7, 3.0)
    turns: tuple[float, float] = (1.0, -1.0)  # +1 left, -1 right
    cadence_hz: float = 1.85  # steps per second, two steps to a stride
    seated_pitch: float = 1.36  # of the thigh, 0 when standing
    rise: float = 0.22  # of the pocket, from seated to standing
    lean: float = 0.10  # of the thigh, before it leaves the seat
    swing: float = 0.25  # of the thigh, at the stride frequency
    sway: float = 0.11  # sideways, at the stride frequency
    twist: float = 0.10  # about the thigh, at the stride frequency
    bounce: float = 2.0  # vertical acceleration, at the step frequency
    surge: float = 1.5  # forward acceleration, at the step frequency
    heel_strike: float = 4.0
    seat_impact: float = 3.0
    pocket_yaw: float = 0.42  # of the phone about the thigh
    pocket_roll: float = 0.05  # of the phone in its own plane
    noise: float = 1.0  # 1: a phone's sensor and a thigh's tremor


def random_parameters(rng: np.random.Generator) -> TrialParameters:
    """Draws another person, another pace and another way to carry the phone."""

    def between(low: float, high: float) -> float:
        return float(rng.uniform(low, high))

    walk_s = between(2.0, 7.0)
    return TrialParameters(
        durations_s=(
            between(0.5, 6.0) ** 1.6,
            between(0.9, 2.0),
            walk_s,
            between(0.9, 1.7),
            walk_s * between(0.8, 1.1),
            between(0.8, 1.5),
            between(1.0, 2.2),
            between(0.5, 6.0) ** 1.6,
        ),
        turns=(float(rng.choice([-1.0, 1.0])), float(rng.choice([-1.0, 1.0]))),
        cadence_hz=between(1.6, 2.1),
        seated_pitch=between(0.9, 1.55),
        rise=between(0.10, 0.35),
        lean=between(0.0, 0.2),
        swing=between(0.12, 0.35),
        sway=between(0.03, 0.17),
        twist=between(0.05, 0.18),
        bounce=between(1.2, 3.0),
        surge=between(0.8, 2.5),
        heel_strike=between(1.0, 8.0),
        seat_impact=between(0.5, 5.0),
        pocket_yaw=between(-1.3, 1.3),
        pocket_roll=between(-0.4, 0.4),
        noise=between(0.5, 2.0),
    )


def simulate_trial(
    seed: int = BUNDLED_SEED,
    rate_hz: float = RATE_HZ,
    parameters: TrialParameters | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.int64]]:
    """A trial: seated, up, walk, turn, walk back, turn, sit down, seated.

    The phone lies in the front pocket, its long side along the thigh and its back outwards
    (`back` in the training data): standing, y points up.

    Args:
        seed: of the noise and of the gait's irregularities.
        rate_hz: samples per second.
        parameters: of the person and the phone; without them the typical ones.

    Returns:
        samples (T, 6) in m/s^2 and rad/s, time_s (T,), labels (T,) as indices of `PHASES`.
    """
    who = parameters or TrialParameters()
    rng = np.random.default_rng(seed)
    durations = np.asarray(who.durations_s)
    if durations.shape != (len(SEQUENCE),):
        raise ValueError(f"durations_s needs {len(SEQUENCE)} values, found {durations.size}")
    edges_s = np.concatenate([[0.0], np.cumsum(durations)])
    time_s = np.arange(round(edges_s[-1] * rate_hz)) / rate_hz
    at = np.minimum(np.searchsorted(edges_s, time_s, side="right") - 1, len(SEQUENCE) - 1)
    labels = np.asarray(SEQUENCE, dtype=np.int64)[at]

    cadence = who.cadence_hz * (1.0 + 0.04 * _drift(rng, time_s, rate_hz, 0.7))
    stride = 2.0 * np.pi * np.cumsum(cadence / 2.0) / rate_hz + rng.uniform(0.0, 2.0 * np.pi)
    strength = _gait_strength(time_s, edges_s) * (1.0 + 0.08 * _drift(rng, time_s, rate_hz, 1.0))
    upright = _ramp(time_s, edges_s[1] + 0.25 * durations[1], edges_s[2] - 0.05 * durations[1])
    upright *= 1.0 - _ramp(time_s, edges_s[6] + 0.1 * durations[6], edges_s[7] - 0.1 * durations[6])

    rotation = _orientation(rng, who, time_s, edges_s, rate_hz, stride, strength, upright)
    force = _pocket_force(rng, who, time_s, edges_s, rate_hz, stride, strength, upright)
    acc = np.einsum("tji,tj->ti", rotation, force)
    gyro = _angular_rate(rotation, rate_hz)

    samples = np.concatenate([acc, gyro], axis=1)
    moving = 0.15 + strength[:, None]
    scale = np.array([0.35, 0.35, 0.35, 0.06, 0.06, 0.06])
    samples += who.noise * moving * scale * rng.standard_normal(samples.shape)
    samples += who.noise * np.array([0.05] * 3 + [0.005] * 3) * rng.standard_normal(6)
    return samples.astype(np.float32), time_s, labels


def _orientation(
    rng: np.random.Generator,
    who: TrialParameters,
    time_s: Array,
    edges_s: Array,
    rate_hz: float,
    stride: Array,
    strength: Array,
    upright: Array,
) -> Array:
    """Device to world (T, 3, 3); world: x forward at the start, y left, z up."""
    p = rng.uniform(-0.4, 0.4, 6)
    pitch = who.seated_pitch * (1.0 - upright) + 0.02 * _drift(rng, time_s, rate_hz, 0.5)
    leaving = _pulse(time_s, edges_s[1], edges_s[2] - 0.3 * who.durations_s[1])
    arriving = _pulse(time_s, edges_s[6] + 0.5 * who.durations_s[6], edges_s[7])
    pitch += who.lean * (leaving + arriving)
    pitch += (
        who.swing
        * strength
        * (
            np.sin(stride)
            + 0.28 * np.sin(2 * stride + 0.9 + p[0])
            + 0.10 * np.sin(3 * stride + 2.0 + p[1])
        )
    )
    roll = strength * who.sway * (np.sin(stride + 0.4 + p[2]) + 0.25 * np.sin(2 * stride + p[3]))
    twist = strength * who.twist * (np.sin(stride - 0.8 + p[4]) + 0.4 * np.sin(2 * stride + p[5]))
    roll += 0.012 * _drift(rng, time_s, rate_hz, 0.5)
    twist += 0.03 * strength * _drift(rng, time_s, rate_hz, 1.5)

    heading = np.zeros_like(time_s)
    for sign, phase in zip(who.turns, (3, 5), strict=True):
        spread = 0.12 * who.durations_s[phase]
        heading += (
            sign * np.pi * _ramp(time_s, edges_s[phase] - spread, edges_s[phase + 1] + spread)
        )
    thigh = _about(2, heading + twist) @ _about(1, -pitch) @ _about(0, roll)
    # The back of the phone outwards: its x to the right, its y up, its z backwards.
    mount = np.array([[0.0, 0.0, -1.0], [-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    carried = _about(2, np.array([who.pocket_yaw]))[0] @ mount
    return np.asarray(thigh @ (carried @ _about(2, np.array([who.pocket_roll]))[0]))


def _pocket_force(
    rng: np.random.Generator,
    who: TrialParameters,
    time_s: Array,
    edges_s: Array,
    rate_hz: float,
    stride: Array,
    strength: Array,
    upright: Array,
) -> Array:
    """Acceleration of the pocket less gravity (T, 3), in the world's axes."""
    p = rng.uniform(-0.5, 0.5, 8)
    step = 2.0 * stride
    up = who.bounce * (
        np.sin(step + p[0]) + 0.5 * np.sin(2 * step + 0.6 + p[1]) + 0.3 * np.sin(3 * step + p[2])
    )
    ahead = who.surge * (
        np.sin(step + 1.9 + p[3]) + np.sin(stride + 0.5 + p[4]) + 0.5 * np.sin(2 * step + p[5])
    )
    aside = 0.7 * who.surge * (np.sin(stride + p[6]) + 0.5 * np.sin(2 * step + p[7]))
    since_step = np.mod(step, 2.0 * np.pi) / (2.0 * np.pi * who.cadence_hz)
    force_of_step = 1.0 + 0.3 * _drift(rng, time_s, rate_hz, 2.0)
    # The leg that carries the phone hits harder than the other one.
    own_leg = np.where(np.mod(stride, 2.0 * np.pi) < np.pi, 1.0, 0.4)
    strike = who.heel_strike * own_leg * force_of_step * _ring(since_step, 11.0, 22.0)
    contact_s = edges_s[7] - 0.25 * who.durations_s[6]
    impact = who.seat_impact * _ring(time_s - contact_s, 5.0, 9.0)

    lift = np.gradient(np.gradient(who.rise * upright, 1.0 / rate_hz), 1.0 / rate_hz)
    world = np.stack(
        [
            strength * (ahead - 0.5 * strike) + 0.6 * lift,
            strength * (aside + 0.3 * strike),
            strength * (up + strike) + lift + impact,
        ],
        axis=1,
    )
    heading_blind = _about(2, rng.uniform(-0.2, 0.2, 1))[0]
    return np.asarray(world @ heading_blind.T + np.array([0.0, 0.0, GRAVITY]))


def _gait_strength(time_s: Array, edges_s: Array) -> Array:
    """0 where the person sits or stands, 1 where it walks, less in the turns."""
    strength = _ramp(time_s, edges_s[2] - 0.3, edges_s[2] + 0.4)
    strength = strength * (1.0 - _ramp(time_s, edges_s[6] - 0.5, edges_s[6] + 0.3))
    for phase in (3, 5):
        dip = _ramp(time_s, edges_s[phase] - 0.2, edges_s[phase] + 0.3)
        dip *= 1.0 - _ramp(time_s, edges_s[phase + 1] - 0.3, edges_s[phase + 1] + 0.2)
        strength = strength * (1.0 - 0.35 * dip)
    return strength


def _ramp(time_s: Array, start_s: float, end_s: float) -> Array:
    """From 0 to 1 with a bell-shaped rate: 6 u^5 - 15 u^4 + 10 u^3."""
    u = np.clip((time_s - start_s) / (end_s - start_s), 0.0, 1.0)
    return np.asarray(u**3 * (10.0 + u * (6.0 * u - 15.0)))


def _pulse(time_s: Array, start_s: float, end_s: float) -> Array:
    """From 0 up to 1 and back to 0."""
    middle_s = 0.5 * (start_s + end_s)
    return _ramp(time_s, start_s, middle_s) * (1.0 - _ramp(time_s, middle_s, end_s))


def _ring(since_s: Array, frequency_hz: float, decay_hz: float) -> Array:
    """A damped oscillation that starts at 0 s."""
    late = np.maximum(since_s, 0.0)
    return np.asarray(np.sin(2.0 * np.pi * frequency_hz * late) * np.exp(-decay_hz * late))


def _drift(rng: np.random.Generator, time_s: Array, rate_hz: float, cutoff_hz: float) -> Array:
    """Smooth noise of unit variance with little above `cutoff_hz`."""
    frequency = np.fft.rfftfreq(time_s.size, 1.0 / rate_hz)
    spectrum = np.fft.rfft(rng.standard_normal(time_s.size))
    smooth = np.fft.irfft(spectrum * np.exp(-((frequency / cutoff_hz) ** 2)), time_s.size)
    return np.asarray(smooth / smooth.std())


def _about(axis: int, angle: Array) -> Array:
    """Rotations (T, 3, 3) about one axis."""
    b, c = (axis + 1) % 3, (axis + 2) % 3
    rotation = np.zeros((angle.size, 3, 3))
    rotation[:, axis, axis] = 1.0
    rotation[:, b, b] = rotation[:, c, c] = np.cos(angle)
    rotation[:, c, b] = np.sin(angle)
    rotation[:, b, c] = -rotation[:, c, b]
    return rotation


def _angular_rate(rotation: Array, rate_hz: float) -> Array:
    """What a gyroscope on the body reads (T, 3): R^T dR/dt = [w]x."""
    cross = np.einsum("tji,tjk->tik", rotation, np.gradient(rotation, 1.0 / rate_hz, axis=0))
    skew = 0.5 * (cross - np.transpose(cross, (0, 2, 1)))
    return np.stack([skew[:, 2, 1], skew[:, 0, 2], skew[:, 1, 0]], axis=1)


def write_trial(path: Path, samples: Array, time_s: Array, labels: Array) -> None:
    """Writes a trial as CSV: time_s, the six channels, label."""
    lines = [",".join(("time_s", *CHANNELS, "label"))]
    for stamp, row, label in zip(time_s, samples, labels, strict=True):
        values = ",".join(f"{value:.4g}" for value in row)
        lines.append(f"{stamp:.2f},{values},{PHASES[label]}")
    write_output(path, ("\n".join(lines) + "\n").encode("ascii"))


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the bundled trial."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, default=TRIAL_PATH)
    parser.add_argument("--seed", type=int, default=BUNDLED_SEED)
    options = parser.parse_args(arguments)
    samples, time_s, labels = simulate_trial(options.seed)
    write_trial(options.out, samples, time_s, labels)
    print(f"{options.out}: {len(samples)} samples, {time_s[-1]:.2f} s, seed {options.seed}")


if __name__ == "__main__":
    main()
