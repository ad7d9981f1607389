"""Sensors with clocks of their own, whose true times are known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.io.block import Block
from edgelstm.io.clocks.points import RoundTrip
from edgelstm.io.clocks.sensor_clock import SensorClock

Array = NDArray[Any]


def make_block(
    stamps: Array, arrival: Array | None = None, sequence: Array | None = None, **frames: Array
) -> Block:
    """A block; what is not given is as plain as can be."""
    stamps = np.asarray(stamps, np.float64)
    n = len(stamps)
    given = frames or {"x": np.sin(np.nan_to_num(stamps))[:, None].astype(np.float32)}
    return Block(
        given,
        stamps,
        stamps + 0.002 if arrival is None else np.asarray(arrival, np.float64),
        np.arange(n, dtype=np.int64) if sequence is None else np.asarray(sequence, np.int64),
        np.zeros(n, np.uint8),
    )


@dataclass(frozen=True, slots=True)
class Simulated:
    """What a sensor sent, and when its samples were really taken by this machine's clock."""

    block: Block
    taken: Array


def simulate(
    seconds: float,
    rate_hz: float,
    ppm: float,
    offset_s: float,
    delay_s: float,
    jitter_s: float = 0.003,
    start: float = 1000.0,
    seed: int = 0,
) -> Simulated:
    """Samples over a connection with a constant delay and exponential jitter on top."""
    rng = np.random.default_rng(seed)
    taken = start + np.arange(int(seconds * rate_hz)) / rate_hz
    stamps = (taken - start) * (1 + ppm * 1e-6) + offset_s
    arrival = np.maximum.accumulate(taken + delay_s + rng.exponential(jitter_s, len(taken)))
    return Simulated(make_block(stamps, arrival, x=np.zeros((len(taken), 1), np.float32)), taken)


def round_trips(
    seconds: float, every_s: float, ppm: float, offset_s: float, delay_s: float, seed: int = 1
) -> list[RoundTrip]:
    """Answers of the same sensor, over the same connection both ways."""
    rng = np.random.default_rng(seed)
    sent = 1000.0 + np.arange(0.25, seconds, every_s)
    there = sent + delay_s + rng.exponential(0.003, len(sent))
    back = there + delay_s + rng.exponential(0.003, len(sent))
    seen = (there - 1000.0) * (1 + ppm * 1e-6) + offset_s
    return [RoundTrip(*map(float, times)) for times in zip(sent, seen, seen, back, strict=True)]


def feed_with_echo(
    clock: SensorClock, sent: Simulated, trips: list[RoundTrip], size: int
) -> Iterator[Block]:
    """Blocks and answers in the order in which they arrive."""
    at = 0
    for start in range(0, len(sent.block), size):
        block = sent.block.part(slice(start, start + size))
        while at < len(trips) and trips[at].returned <= block.arrival[0]:
            yield from clock.echo(trips[at])
            at += 1
        yield from clock.feed(block)
    yield from clock.finish()
