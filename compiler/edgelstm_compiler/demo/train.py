"""Trains the demo model with PyTorch and exports it to ONNX; nothing at run time imports this.

python -m edgelstm_compiler.demo.train --data DIR --out tug_phase.onnx
"""

from __future__ import annotations

import argparse
import copy
import io
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn

from edgelstm.outputs import write_output
from edgelstm_compiler.demo import CHANNELS, MODEL_PATH, PHASES, RATE_HZ, UNITS
from edgelstm_compiler.demo.recordings import (
    Recording,
    chain,
    load_recordings,
    simulate_varied,
    vary,
)
from edgelstm_compiler.demo.simulate import simulate_trial
from edgelstm_compiler.demo.timeline import format_timeline, phase_timeline

TRAIN_SUBJECTS = ("s01", "s03", "s06", "s07", "s10")
VALIDATION_SUBJECTS = ("s08",)
TEST_SUBJECTS = ("s02", "s09")
IGNORED = -100  # label of padding
OPSET = 17
LONGEST = 4000  # samples of a training stream


@dataclass(frozen=True, slots=True)
class Settings:
    """What a training run depends on besides the data."""

    hidden: int = 32
    layers: int = 2
    dropout: float = 0.3
    batches: int = 900
    batch: int = 24
    simulated: float = 0.25  # share of simulated trials
    chunk: int = 300  # samples per step of truncated back-propagation
    learning_rate: float = 6e-3
    weight_decay: float = 1e-2
    smoothing: float = 0.1
    balance: float = 0.5  # class weights: frequency ** -balance
    seed: int = 1


class PhaseModel(nn.Module):
    """Raw samples (B, T, 6) -> probabilities (B, T, 5); normalisation is part of the model."""

    def __init__(self, settings: Settings, mean: np.ndarray, scale: np.ndarray) -> None:
        """Keeps the normalisation as constants of the graph."""
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("gain", torch.tensor(1.0 / scale, dtype=torch.float32))
        self.lstm = nn.LSTM(len(CHANNELS), settings.hidden, settings.layers, batch_first=True)
        self.dropout = nn.Dropout(settings.dropout)
        self.head = nn.Linear(settings.hidden, len(PHASES))

    def logits(self, imu: torch.Tensor, state: tuple | None = None) -> tuple[torch.Tensor, tuple]:
        """Class scores and the state after the last sample."""
        hidden, state = self.lstm((imu - self.mean) * self.gain, state)
        return self.head(self.dropout(hidden)), state

    def forward(self, imu: torch.Tensor) -> torch.Tensor:
        """Class probabilities of every sample, from zero state."""
        return torch.softmax(self.logits(imu)[0], dim=-1)


def draw_batch(
    recordings: Sequence[Recording], settings: Settings, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Padded streams of one or two varied trials of one person: (B, T, 6), (B, T)."""
    streams = []
    for _ in range(settings.batch):
        if rng.random() < settings.simulated:
            streams.append(simulate_varied(rng))
            continue
        first = recordings[rng.integers(len(recordings))]
        parts = [vary(first, rng)]
        if rng.random() < 0.25:
            same = [other for other in recordings if other.subject == first.subject]
            parts.append(vary(same[rng.integers(len(same))], rng))
        streams.append(chain(parts))
    steps = max(len(labels) for _, labels in streams)
    steps = min(steps, LONGEST)
    imu = np.zeros((len(streams), steps, len(CHANNELS)), np.float32)
    target = np.full((len(streams), steps), IGNORED, np.int64)
    for row, (samples, labels) in enumerate(streams):
        kept = min(steps, len(labels))
        imu[row, :kept] = samples[:kept]
        target[row, :kept] = labels[:kept]
    return torch.from_numpy(imu), torch.from_numpy(target)


def train(recordings: Sequence[Recording], settings: Settings) -> PhaseModel:
    """Truncated back-propagation over whole trials from zero state; returns averaged weights."""
    torch.manual_seed(settings.seed)
    rng = np.random.default_rng(settings.seed)
    imu, labels = draw_batch(recordings, Settings(batch=200), np.random.default_rng(0))
    seen = labels != IGNORED
    model = PhaseModel(settings, imu[seen].mean(0).numpy(), imu[seen].std(0).numpy())
    average = copy.deepcopy(model)
    counts = torch.bincount(labels[seen], minlength=len(PHASES)).float()
    weight = (counts.sum() / counts) ** settings.balance
    measure = nn.CrossEntropyLoss(
        weight=weight / weight.mean(), label_smoothing=settings.smoothing, ignore_index=IGNORED
    )
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=settings.batches, pct_start=0.15
    )
    start_s = time.monotonic()
    for batch in range(settings.batches):
        imu, target = draw_batch(recordings, settings, rng)
        state, total = None, 0.0
        for begin in range(0, imu.shape[1], settings.chunk):
            part = slice(begin, begin + settings.chunk)
            if not (target[:, part] != IGNORED).any():
                break
            scores, state = model.logits(imu[:, part], state)
            state = tuple(value.detach() for value in state)
            loss = measure(scores.flatten(0, 1), target[:, part].flatten())
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            total = loss.item()
        schedule.step()
        keep = min(0.95, batch / (batch + 10))
        with torch.no_grad():
            for old, new in zip(average.parameters(), model.parameters(), strict=True):
                old.lerp_(new, 1.0 - keep)
        if batch % 25 == 24:
            print(f"batch {batch + 1:4d}  loss {total:.3f}  {time.monotonic() - start_s:.0f} s")
    return average.eval()


def evaluate(model: PhaseModel, recordings: Sequence[Recording]) -> dict[str, object]:
    """Accuracy per sample of every recording streamed whole, as recorded."""
    confusion = np.zeros((len(PHASES), len(PHASES)), np.int64)
    calm_right = calm_all = in_order = 0
    with torch.no_grad():
        for recording in recordings:
            found = model(torch.from_numpy(recording.samples)[None])[0].argmax(-1).numpy()
            np.add.at(confusion, (recording.labels, found), 1)
            near = np.convolve(np.diff(recording.labels) != 0, np.ones(50), "full")[24:-24]
            calm = np.append(near, 0)[: len(found)] < 0.5
            calm_right += int((found == recording.labels)[calm].sum())
            calm_all += int(calm.sum())
            told = [span[0] for span in phase_timeline(found, PHASES, RATE_HZ)]
            true = [span[0] for span in phase_timeline(recording.labels, PHASES, RATE_HZ)]
            in_order += told == true
    recall = confusion.diagonal() / np.maximum(confusion.sum(1), 1)
    return {
        "subjects": sorted({recording.subject for recording in recordings}),
        "recordings": len(recordings),
        "samples": int(confusion.sum()),
        "accuracy": round(float(confusion.trace() / confusion.sum()), 4),
        "balanced_accuracy": round(float(recall.mean()), 4),
        "accuracy_beyond_250_ms_of_a_label_change": round(calm_right / calm_all, 4),
        "recordings_with_all_phases_in_order": in_order,
        "recall": {name: round(float(r), 4) for name, r in zip(PHASES, recall, strict=True)},
        "confusion_rows_true_columns_found": confusion.tolist(),
    }


def print_report(title: str, report: dict) -> None:
    """Accuracy, recall and the confusion matrix as text."""
    print(f"{title}: {', '.join(report['subjects'])}, {report['recordings']} recordings")
    print(
        f"  accuracy {report['accuracy']:.4f}  balanced {report['balanced_accuracy']:.4f}  "
        f"beyond 250 ms {report['accuracy_beyond_250_ms_of_a_label_change']:.4f}  "
        f"in order {report['recordings_with_all_phases_in_order']}"
    )
    rows = report["confusion_rows_true_columns_found"]
    for name, counts in zip(PHASES, rows, strict=True):
        numbers = "".join(f"{count:7d}" for count in counts)
        print(f"  {name:13s} recall {report['recall'][name]:.3f} {numbers}")


def export(model: PhaseModel, path: Path) -> int:
    """Writes the model as ONNX with a free time axis; returns its size in bytes."""
    buffer = io.BytesIO()
    torch.onnx.export(
        model,
        (torch.zeros(1, 200, len(CHANNELS)),),
        buffer,
        dynamo=False,
        opset_version=OPSET,
        input_names=["imu"],
        output_names=["phase"],
        dynamic_axes={"imu": {1: "time"}, "phase": {1: "time"}},
    )
    proto = onnx.load_from_string(buffer.getvalue())
    onnx.checker.check_model(proto, full_check=True)
    return write_output(path, proto.SerializeToString())


def check_export(model: PhaseModel, path: Path, recordings: Sequence[Recording]) -> float:
    """The largest difference between ONNX Runtime and PyTorch over whole recordings."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    worst = 0.0
    for recording in recordings:
        imu = recording.samples[None]
        with torch.no_grad():
            expected = model(torch.from_numpy(imu)).numpy()
        (found,) = session.run(["phase"], {"imu": imu})
        worst = max(worst, float(np.abs(found - expected).max()))
    if worst > 1e-4:
        raise RuntimeError(f"{path} differs from PyTorch by {worst:.2e}")
    return worst


def read_trial(path: Path) -> tuple[list[tuple[str, float, float]], float]:
    """The exported model's time line of the bundled simulated trial, and its accuracy."""
    samples, _, labels = simulate_trial()
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (found,) = session.run(["phase"], {"imu": samples[None]})
    accuracy = float((found[0].argmax(-1) == labels).mean())
    return phase_timeline(found, PHASES, RATE_HZ), accuracy


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains, exports, checks and reports the demo model."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with sXX/sXX_YY_sp.csv")
    parser.add_argument("--out", type=Path, default=MODEL_PATH)
    parser.add_argument(
        "--validate", action="store_true", help="leave the validation subject out, test nothing"
    )
    parser.add_argument(
        "--leave-out", metavar="SUBJECTS", help="train on all others, export, and report on these"
    )
    for field, value in asdict(Settings()).items():
        parser.add_argument(f"--{field.replace('_', '-')}", type=type(value), default=value)
    options = vars(parser.parse_args(arguments))
    settings = Settings(**{field: options[field] for field in asdict(Settings())})
    torch.set_num_threads(1)
    recordings = load_recordings(options["data"])

    def of(subjects: Sequence[str]) -> list[Recording]:
        return [recording for recording in recordings if recording.subject in subjects]

    if options["leave_out"]:
        held_out = options["leave_out"].split(",")
        model = train([each for each in recordings if each.subject not in held_out], settings)
        print_report("left out", evaluate(model, of(held_out)))
        export(model, options["out"])
        return

    if options["validate"]:
        model = train(of(TRAIN_SUBJECTS), settings)
        print_report("train", evaluate(model, of(TRAIN_SUBJECTS)))
        print_report("validation", evaluate(model, of(VALIDATION_SUBJECTS)))
        export(model, options["out"])
        timeline, accuracy = read_trial(options["out"])
        print(f"simulated trial: accuracy {accuracy:.4f}\n{format_timeline(timeline)}")
        return

    model = train(of(TRAIN_SUBJECTS + VALIDATION_SUBJECTS), settings)
    trained = evaluate(model, of(TRAIN_SUBJECTS + VALIDATION_SUBJECTS))
    held_out = evaluate(model, of(TEST_SUBJECTS))
    size = export(model, options["out"])
    worst = check_export(model, options["out"], recordings)
    timeline, accuracy = read_trial(options["out"])
    print_report("train", trained)
    print_report("held out", held_out)
    print(f"{options['out']}: {size} bytes, ONNX Runtime within {worst:.1e} of PyTorch")
    print(f"simulated trial: accuracy {accuracy:.4f}\n{format_timeline(timeline)}")
    report = {
        "model": options["out"].name,
        "bytes": size,
        "rate_hz": RATE_HZ,
        "labels": PHASES,
        "channels": CHANNELS,
        "units": dict(zip(CHANNELS, UNITS, strict=True)),
        "input": {"name": "imu", "shape": [1, "time", len(CHANNELS)]},
        "output": {"name": "phase", "shape": [1, "time", len(PHASES)]},
        "device": "phone in the trouser pocket",
        "settings": asdict(settings),
        "settings_chosen_by_leaving_out": ["s08", "s10"],
        "simulated_share_of_training_trials": settings.simulated,
        "train": trained,
        "held_out": held_out,
        "simulated_trial": {"accuracy": round(accuracy, 4), "timeline": timeline},
        "onnxruntime_max_abs_difference": float(f"{worst:.1e}"),
        "dataset": "Matey-Sanz, Casteleyn, Granell, Data in Brief 2023, 109809 (CC BY 4.0)",
    }
    text = json.dumps(report, indent=2)
    write_output(options["out"].with_suffix(".json"), (text + "\n").encode())


if __name__ == "__main__":
    main()
