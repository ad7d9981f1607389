"""Writes the recordings: two simulated people in a timed-up-and-go, a phone in the pocket.

python examples/recordings.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgelstm_compiler.demo.simulate import random_parameters, simulate_trial, write_trial

HERE = Path(__file__).parent
RATE_HZ = 50.0
RECORDINGS = {"walk.csv": 101, "other_person.csv": 202}
"""Files, and the seed of the person in each."""


def trial(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Samples (T, 6) in m/s^2 and rad/s, times (T,) in s, labels (T,) as class indices."""
    person = random_parameters(np.random.default_rng(seed))
    return simulate_trial(seed, RATE_HZ, person)


if __name__ == "__main__":
    for name, seed in RECORDINGS.items():
        write_trial(HERE / name, *trial(seed))
