"""What `edgelstm monitor --demo` shows: the demo model and recordings of simulated patients."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from edgelstm_compiler.demo import CHANNELS, MODEL_PATH, PHASES, RATE_HZ, UNITS
from edgelstm_compiler.demo.simulate import TrialParameters, simulate_trial, write_trial
from edgelstm_compiler.driver import compile_model
from edgelstm_compiler.target import DEFAULT_TARGET

PATIENTS = {"DEMO-recovering": 0.95, "DEMO-setback": 1.35, "DEMO-failing-sensor": 1.1}
"""How slow each one is."""

DECODING = """output = "phase"

[phases]
minimum_s = {SEATED = 0.3, STANDING_UP = 0.3, WALKING = 0.6, TURNING = 0.4, SITTING_DOWN = 0.6}
order = ["SEATED", "STANDING_UP", "WALKING", "TURNING", "WALKING", "TURNING", "SITTING_DOWN"]
lag_s = 1.5

[[repetitions]]
name = "turns"
cycle = ["TURNING"]

[[spans]]
name = "timed up and go"
first = "STANDING_UP"
last = "SITTING_DOWN"
longest_s = 120

[[alarms]]
name = "long turn"
column = "TURNING"
above = 0.8
for_s = 0.8
acknowledge = true
"""

FAILS_AFTER_S = 12.0
"""When the failing sensor's gyroscope sticks."""


_HERE = {"cpu": "native"}
"""It runs on this machine, and only once."""


def prepare(
    folder: Path, trials: int = 3, target: str = DEFAULT_TARGET
) -> tuple[Path, Path, dict[str, Path]]:
    """Compile the model and write the recordings.

    Args:
        folder: where to.
        trials: of each recording, which are repeated.
        target: that the model is compiled for.

    Returns:
        The artifact, the file of the decoding, a recording by patient.
    """
    artifact, decoding = folder / "tug.edgelstm", folder / "decoding.toml"
    compile_demo(artifact, target)
    decoding.write_text(DECODING, encoding="utf-8")
    recordings = {}
    for k, (patient, slowness) in enumerate(PATIENTS.items()):
        parts = [_trial(10 * k + i, slowness) for i in range(trials)]
        samples = np.concatenate([part[0] for part in parts])
        labels = np.concatenate([part[1] for part in parts])
        if "failing" in patient:
            since = round(FAILS_AFTER_S * RATE_HZ)
            samples[since:, 3] = samples[since, 3]
        path = folder / f"{patient}.csv"
        write_trial(path, samples, np.arange(len(samples)) / RATE_HZ, labels)
        recordings[patient] = path
    return artifact, decoding, recordings


def compile_demo(path: Path, target: str) -> None:
    """Compile the model into a file; with target `reference` it is the one that shows its gates."""
    model = compile_model(
        MODEL_PATH,
        rate_hz=RATE_HZ,
        columns=CHANNELS,
        units=list(UNITS),
        labels=list(PHASES),
        check=False,
        target=target,
        target_options=_HERE if target == DEFAULT_TARGET else None,
    )
    model.save(path)


def _trial(seed: int, slowness: float) -> tuple[np.ndarray, np.ndarray]:
    typical = TrialParameters()
    durations = tuple(slowness * seconds for seconds in typical.durations_s)
    samples, _, labels = simulate_trial(seed, parameters=replace(typical, durations_s=durations))
    return samples, labels
