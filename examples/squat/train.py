"""Trains the model of squats with PyTorch and exports it to ONNX.

python examples/squat/train.py --data DIR --out examples/squat/squat.onnx

DIR is the folder `Data` of github.com/avakanski/A-Deep-Learning-Framework-for-Assessing-Physical-
Rehabilitation-Exercises (MIT): 90 correct and 90 incorrect deep squats of UI-PRMD, each 240 frames
of four channels that its autoencoder made of 117 joint angles, with a quality from 0 to 1.
The last fifth of the rows of each kind is held out; by their order probably other people's, but
there are no numbers of people. Same machine, same versions, same seed: the same file.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import numpy as np
import torch
from squats import CHANNELS, LABELS, Squats, read_squats, sequence
from torch import nn

HIDDEN = 24
BATCHES, BATCH = 500, 16
FRAMES = 1200
SEED = 1
OPSET = 17


class SquatModel(nn.Module):
    """One LSTM, with a head for the phase and one for the quality."""

    def __init__(self, mean: np.ndarray, scale: np.ndarray) -> None:
        super().__init__()
        self.register_buffer("mean", torch.from_numpy(mean))
        self.register_buffer("scale", torch.from_numpy(scale))
        self.lstm = nn.LSTM(len(CHANNELS), HIDDEN, batch_first=True)
        self.phase = nn.Linear(HIDDEN, len(LABELS))
        self.quality = nn.Linear(HIDDEN, 1)

    def forward(self, joints: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Probabilities of the labels, and the quality, of every frame."""
        h, _ = self.lstm((joints - self.mean) * self.scale)
        return torch.softmax(self.phase(h), dim=-1), torch.sigmoid(self.quality(h))


def train(squats: Squats) -> SquatModel:
    """Sequences of squats and rests, from zero state."""
    torch.manual_seed(SEED)
    rng = np.random.default_rng(SEED)
    frames = squats.frames.reshape(-1, len(CHANNELS))
    model = SquatModel(frames.mean(axis=0), 1 / frames.std(axis=0))
    optimizer = torch.optim.AdamW(model.parameters(), lr=8e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 8e-3, total_steps=BATCHES)
    for number in range(BATCHES):
        drawn = [sequence(squats, rng, FRAMES) for _ in range(BATCH)]
        x = torch.from_numpy(np.stack([each.frames for each in drawn]))
        labels = torch.from_numpy(np.stack([each.labels for each in drawn]))
        quality = torch.from_numpy(np.stack([each.quality for each in drawn]))
        phases, said = model(x)
        loss = nn.functional.nll_loss(
            torch.log(phases.clamp_min(1e-6)).reshape(-1, len(LABELS)), labels.reshape(-1)
        )
        # The quality counts while a squat goes up again: before, nobody can know it.
        is_up = labels == LABELS.index("UP")
        loss = loss + 20 * ((said[..., 0] - quality)[is_up] ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if number % 100 == 99:
            print(f"batch {number + 1}: loss {loss.item():.3f}")
    return model.eval()


def main() -> None:
    """Read, train, export."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(1)
    model = train(read_squats(given.data).trained)
    file = io.BytesIO()
    torch.onnx.export(
        model,
        (torch.zeros(1, 50, len(CHANNELS)),),
        file,
        input_names=["joints"],
        output_names=["phase", "quality"],
        dynamic_axes={name: {1: "time"} for name in ("joints", "phase", "quality")},
        opset_version=OPSET,
        dynamo=False,
    )
    given.out.write_bytes(file.getvalue())


if __name__ == "__main__":
    main()
