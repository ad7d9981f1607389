"""The demo: a timed-up-and-go phase model, its training, a simulated trial and its time line."""

from __future__ import annotations

from pathlib import Path

RATE_HZ = 100.0
PHASES = ("SEATED", "STANDING_UP", "WALKING", "TURNING", "SITTING_DOWN")
CHANNELS = ("x_acc", "y_acc", "z_acc", "x_gyro", "y_gyro", "z_gyro")
UNITS = ("m/s^2", "m/s^2", "m/s^2", "rad/s", "rad/s", "rad/s")

FOLDER = Path(__file__).resolve().parent
MODEL_PATH = FOLDER / "tug_phase.onnx"
REPORT_PATH = FOLDER / "tug_phase.json"
TRIAL_PATH = FOLDER / "tug_trial.csv"
