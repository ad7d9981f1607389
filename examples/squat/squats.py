"""Squats as the model reads them: from the data set, or made up; NumPy only.

`python examples/squat/squats.py` writes `squats.csv`: five that nobody did.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

CHANNELS = ("joint_1", "joint_2", "joint_3", "joint_4")
LABELS = ("REST", "DOWN", "UP")
RATE_HZ = 60.0
"""The data set has 240 frames of every squat, whatever it took: four seconds are assumed."""

_MOVING = 0.12
_HELD_OUT = 0.2


@dataclass(frozen=True, slots=True)
class Squats:
    """Repetitions.

    Shapes:
        frames (n, 240, 4), quality (n,), is_correct (n,).
    """

    frames: NDArray[np.float32]
    quality: NDArray[np.float32]
    is_correct: NDArray[np.bool_]

    def labels(self, number: int) -> NDArray[np.int64]:
        """The phase of each frame of one: down to the frame furthest from where it began, then up.

        Less than an eighth of that way from the first or last frame is rest.
        """
        frames = self.frames[number]
        way = np.linalg.norm(frames - frames[0], axis=1)
        deepest = int(way.argmax())
        back = np.linalg.norm(frames - frames[-1], axis=1)
        found = np.zeros(len(frames), np.int64)
        found[: deepest + 1][way[: deepest + 1] > _MOVING * way.max()] = LABELS.index("DOWN")
        found[deepest:][back[deepest:] > _MOVING * back.max()] = LABELS.index("UP")
        return found


@dataclass(frozen=True, slots=True)
class Parts:
    """What a model may see, and what it may not."""

    trained: Squats
    held_out: Squats


@dataclass(frozen=True, slots=True)
class Sequence:
    """Squats and rests one behind the other.

    Shapes:
        frames (t, 4), labels (t,), quality (t,), of the squat that goes on; rows of `squats`:
        number, first frame, frame behind the last.
    """

    frames: NDArray[np.float32]
    labels: NDArray[np.int64]
    quality: NDArray[np.float32]
    squats: tuple[tuple[int, int, int], ...]


def read_squats(folder: Path) -> Parts:
    """The data set; the last fifth of each kind is held out."""
    parts: list[list[Squats]] = [[], []]
    for name, is_correct in (("Correct", True), ("Incorrect", False)):
        table = np.loadtxt(folder / f"Autoencoder_Output_{name}.csv", delimiter=",", dtype="f4")
        frames = table.reshape(len(table), -1, len(CHANNELS))
        quality = np.loadtxt(folder / f"Labels_{name}.csv", dtype="f4")
        first = round(len(table) * (1 - _HELD_OUT))
        for part, chosen in zip(parts, (slice(None, first), slice(first, None)), strict=True):
            kind = np.full(len(quality[chosen]), is_correct)
            part.append(Squats(frames[chosen], quality[chosen], kind))
    return Parts(*[_joined(part) for part in parts])


def simulated(seed: int, count: int, quality: float) -> Squats:
    """Squats that nobody did: a bow from a typical beginning to a typical depth and back.

    Args:
        seed: of the scatter.
        count: how many.
        quality: from 0.7 to 0.95, as the data set has it.
    """
    rng = np.random.default_rng(seed)
    poor = np.clip((0.945 - quality) / 0.245, 0.0, 1.0)
    start = np.array([0.25, -0.1, 0.25, -0.12]) + poor * np.array([0.0, 0.75, -0.45, -0.17])
    depth = np.array([-0.5, -0.1, -0.35, -0.07]) + poor * np.array([0.0, -0.55, 0.2, -0.2])
    bow = np.sin(np.pi * np.linspace(0.0, 1.0, 240))[:, None] ** 2
    frames = [
        start + (depth - start) * bow * rng.normal(1.0, 0.05) + rng.normal(0, 0.02, 4)
        for _ in range(count)
    ]
    return Squats(
        np.array(frames, np.float32),
        np.full(count, quality, np.float32),
        np.full(count, quality > 0.9),
    )


def sequence(squats: Squats, rng: np.random.Generator, frames: int | None = None) -> Sequence:
    """Squats drawn at random with rests between them, cut to a length; None: each one, in order."""
    order = (
        np.arange(len(squats.quality))
        if frames is None
        else rng.integers(len(squats.quality), size=frames // 200)
    )
    parts: list[NDArray[np.float32]] = []
    labels: list[NDArray[np.int64]] = []
    quality: list[NDArray[np.float32]] = []
    found = []
    at = 0
    last = squats.frames[order[0], 0]
    for number in order.tolist():
        squat, rest = squats.frames[number], int(rng.integers(30, 120))
        share = np.linspace(0, 1, rest, dtype=np.float32)[:, None]
        smooth = share * share * (3 - 2 * share)
        parts += [last + (squat[0] - last) * smooth, squat]
        labels += [np.zeros(rest, np.int64), squats.labels(number)]
        quality.append(np.full(rest + len(squat), squats.quality[number], np.float32))
        found.append((number, at + rest, at + rest + len(squat)))
        at += rest + len(squat)
        last = squat[-1]
    parts.append(np.repeat(last[None], 120, axis=0))
    labels.append(np.zeros(120, np.int64))
    quality.append(np.full(120, squats.quality[order[-1]], np.float32))
    x = np.concatenate(parts)
    x = (x + rng.normal(0, 0.003, x.shape)).astype(np.float32)
    end = len(x) if frames is None else frames
    return Sequence(
        x[:end], np.concatenate(labels)[:end], np.concatenate(quality)[:end], tuple(found)
    )


def write_recording(path: Path, drawn: Sequence) -> None:
    """A CSV file: `time_s` and the channels."""
    times = np.arange(len(drawn.frames)) / RATE_HZ
    table = np.column_stack([times, drawn.frames])
    header = ",".join(("time_s", *CHANNELS))
    np.savetxt(path, table, "%.4f", ",", header=header, comments="")


def _joined(parts: list[Squats]) -> Squats:
    return Squats(
        np.concatenate([part.frames for part in parts]),
        np.concatenate([part.quality for part in parts]),
        np.concatenate([part.is_correct for part in parts]),
    )


if __name__ == "__main__":
    five = sequence(simulated(3, 5, 0.94), np.random.default_rng(3))
    write_recording(Path(__file__).with_name("squats.csv"), five)
