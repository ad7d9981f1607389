"""Trains a small phase classifier with PyTorch and exports it to ONNX: examples/gait.onnx.

pip install torch onnxscript
python examples/train_pytorch.py
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from recordings import HERE, RECORDINGS, trial

FEATURES, HIDDEN, CLASSES = 6, 24, 5
TRIALS, EPOCHS, PIECE = 80, 25, 200


class GaitPhases(nn.Module):
    """Frames (1, T, 6) in m/s^2 and rad/s to probabilities (1, T, 5), one row a frame."""

    def __init__(self, mean: torch.Tensor, deviation: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("scale", 1 / deviation)
        self.lstm = nn.LSTM(FEATURES, HIDDEN, batch_first=True)
        self.head = nn.Linear(HIDDEN, CLASSES)

    def logits(self, imu: torch.Tensor) -> torch.Tensor:
        """What goes into the softmax, for training."""
        return self.head(self.lstm((imu - self.mean) * self.scale)[0])

    def forward(self, imu: torch.Tensor) -> torch.Tensor:
        """Probabilities of every frame."""
        return torch.softmax(self.logits(imu), dim=-1)


def main() -> None:
    """Train on simulated people, tell how many frames of two others are right, export."""
    torch.manual_seed(0)
    people = [trial(seed) for seed in range(TRIALS)]
    frames = np.concatenate([samples for samples, _, _ in people])
    model = GaitPhases(torch.tensor(frames.mean(0)), torch.tensor(frames.std(0)))
    pieces = [
        (samples[start : start + PIECE], labels[start : start + PIECE])
        for samples, _, labels in people
        for start in range(0, len(samples) - PIECE, PIECE // 2)
    ]
    x = torch.tensor(np.stack([samples for samples, _ in pieces]))
    y = torch.tensor(np.stack([labels for _, labels in pieces]))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(x)).split(32):
            loss = nn.functional.cross_entropy(model.logits(x[batch]).mT, y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    model.eval()
    for name, seed in RECORDINGS.items():
        samples, _, labels = trial(seed)
        found = model(torch.tensor(samples)[None])[0].argmax(-1).numpy()
        print(f"{name}: {100 * np.mean(found == labels):.1f} % of {len(labels)} frames right")
    # The exporter behind dynamo=True declares outputs of 50 frames here, whatever is asked.
    torch.onnx.export(
        model,
        (torch.zeros(1, 50, FEATURES),),
        str(HERE / "gait.onnx"),
        input_names=["imu"],
        output_names=["phase"],
        dynamic_axes={"imu": {1: "time"}, "phase": {1: "time"}},
        dynamo=False,
    )


if __name__ == "__main__":
    main()
