"""Small PyTorch networks of every kind that is exported in earnest, seeded; a program, too.

    python torch_networks.py FOLDER EXPORTER NAME...

EXPORTER is TorchScript or dynamo. Writes NAME.onnx and NAME.npz (in0, in1, ..., out0, ...) for
every network and head, and failures.json: what PyTorch itself does not export. Run by a Python that
has PyTorch; knows nothing of edgelstm.
"""

# ruff: noqa: D102 - forward is torch's own word

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus
from torch_heads import HEADS

FEATURES, HIDDEN, STEPS = 4, 6, 9


class Recurrent(nn.Module):
    """One or two layers, a norm, a head on all frames, the last one, or the final state."""

    def __init__(
        self,
        kind: str,
        layers: int = 1,
        *,
        both: bool = False,
        batch_first: bool = True,
        head: str = "frames",
        norm: bool = False,
    ) -> None:
        super().__init__()
        width = HIDDEN * (1 + both)
        self.cells = getattr(nn, kind)(
            FEATURES, HIDDEN, num_layers=layers, bidirectional=both, batch_first=batch_first
        )
        self.norm = nn.LayerNorm(width) if norm else nn.Identity()
        self.head = nn.Linear(HIDDEN if head == "state" else width, 3)
        self.on, self.time = head, 1 if batch_first else 0

    def forward(self, x: Tensor) -> Any:
        y, state = self.cells(x)
        if self.on == "state":
            return self.head((state[0] if isinstance(state, tuple) else state)[-1])
        y = self.norm(y)
        return self.head(y.select(self.time, -1) if self.on == "last" else y)


class ConvInFront(nn.Module):
    """Conv1d over time, then an LSTM."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(FEATURES, 5, 3, padding=1)
        self.cells = nn.LSTM(5, HIDDEN, batch_first=True)
        self.head = nn.Linear(HIDDEN, 2)

    def forward(self, x: Tensor) -> Any:
        frames = torch.relu(self.conv(x.transpose(1, 2))).transpose(1, 2)
        return self.head(self.cells(frames)[0][:, -1])


class Attention(nn.Module):
    """Multi-head attention over an LSTM's frames."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.LSTM(FEATURES, HIDDEN, batch_first=True)
        self.attention = nn.MultiheadAttention(HIDDEN, 2, batch_first=True)
        self.head = nn.Linear(HIDDEN, 2)

    def forward(self, x: Tensor) -> Any:
        y = self.cells(x)[0]
        return self.head(self.attention(y, y, y, need_weights=False)[0].mean(1))


def sees(steps: int, context: int | None) -> Tensor | None:
    """A mask in which each frame sees so many frames before it; None: no mask."""
    if context is None:
        return None
    places = torch.arange(steps)
    back = places[:, None] - places[None, :]
    return (back < 0) | (back >= context)


class MaskedAttention(nn.Module):
    """Multi-head attention over an LSTM's frames, each of which sees some before it."""

    def __init__(self, context: int | None) -> None:
        super().__init__()
        self.cells = nn.LSTM(FEATURES, HIDDEN, batch_first=True)
        self.attention = nn.MultiheadAttention(HIDDEN, 2, batch_first=True)
        self.head, self.context = nn.Linear(HIDDEN, 2), context

    def forward(self, x: Tensor) -> Any:
        y = self.cells(x)[0]
        mask = sees(x.shape[1], self.context)
        return self.head(self.attention(y, y, y, need_weights=False, attn_mask=mask)[0])


class Encoder(nn.Module):
    """A layer of a transformer whose frames see some before them, then an LSTM."""

    def __init__(self, context: int) -> None:
        super().__init__()
        self.first, self.context = nn.Linear(FEATURES, HIDDEN), context
        self.layer = nn.TransformerEncoderLayer(HIDDEN, 2, 12, batch_first=True)
        self.cells, self.head = nn.LSTM(HIDDEN, HIDDEN, batch_first=True), nn.Linear(HIDDEN, 2)

    def forward(self, x: Tensor) -> Any:
        mask = sees(x.shape[1], self.context)
        return self.head(self.cells(self.layer(self.first(x), src_mask=mask))[0])


class Embedded(nn.Module):
    """Numbers of words, a GRU."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(20, FEATURES)
        self.cells = nn.GRU(FEATURES, HIDDEN, batch_first=True)
        self.head = nn.Linear(HIDDEN, 2)

    def forward(self, x: Tensor) -> Any:
        return self.head(self.cells(self.table(x))[0][:, -1])


class Walked(nn.Module):
    """A cell in a loop over the frames; `step` gives the next state and the result."""

    def start(self, x: Tensor) -> tuple[Tensor, ...]:
        """What it begins with."""
        return (x.new_zeros(x.shape[0], HIDDEN),)

    def step(self, x: Tensor, state: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], Tensor]:
        """One frame."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Any:
        state, found = self.start(x), []
        for t in range(x.shape[1]):
            state, y = self.step(x[:, t], state)
            found.append(y)
        return torch.stack(found, 1)


class LSTMCells(Walked):
    """nn.LSTMCell, frame by frame."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(FEATURES, HIDDEN)

    def start(self, x: Tensor) -> tuple[Tensor, ...]:
        zero = x.new_zeros(x.shape[0], HIDDEN)
        return zero, zero

    def step(self, x: Tensor, state: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], Tensor]:
        h, c = self.cell(x, state)
        return (h, c), h


class MinGRU(Walked):
    """minGRU. Source: arXiv 2410.01201, section 3.1."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.value = nn.Linear(FEATURES, HIDDEN), nn.Linear(FEATURES, HIDDEN)

    def step(self, x: Tensor, state: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], Tensor]:
        z = torch.sigmoid(self.gate(x))
        h = (1 - z) * state[0] + z * self.value(x)
        return (h,), h


class SLSTM(Walked):
    """xLSTM's sLSTM with its stabilizer. Source: arXiv 2405.04517, equations 8 to 17."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Linear(FEATURES, 4 * HIDDEN)
        self.r = nn.Linear(HIDDEN, 4 * HIDDEN, bias=False)

    def start(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(x.new_zeros(x.shape[0], HIDDEN) for _ in range(4))

    def step(self, x: Tensor, state: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], Tensor]:
        h, c, n, m = state
        i, f, z, o = (self.w(x) + self.r(h)).chunk(4, 1)
        forget = -softplus(-f)
        stable = torch.maximum(forget + m, i)
        entering, kept = torch.exp(i - stable), torch.exp(forget + m - stable)
        c = kept * c + entering * torch.tanh(z)
        n = kept * n + entering
        h = torch.sigmoid(o) * c / torch.clamp(n.abs(), min=1.0)
        return (h, c, n, stable), h


class LRU(Walked):
    """A linear recurrent unit, real and imaginary parts apart. Source: arXiv 2303.06349."""

    def __init__(self) -> None:
        super().__init__()
        self.size, self.angle = nn.Parameter(torch.rand(HIDDEN)), nn.Parameter(torch.rand(HIDDEN))
        self.enter = nn.Linear(FEATURES, 2 * HIDDEN, bias=False)
        self.leave = nn.Linear(2 * HIDDEN, 3, bias=False)

    def start(self, x: Tensor) -> tuple[Tensor, ...]:
        zero = x.new_zeros(x.shape[0], HIDDEN)
        return zero, zero

    def step(self, x: Tensor, state: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], Tensor]:
        size = torch.exp(-torch.exp(self.size))
        real, imaginary = size * torch.cos(self.angle), size * torch.sin(self.angle)
        a, b = state
        first, second = self.enter(x).chunk(2, 1)
        a, b = real * a - imaginary * b + first, real * b + imaginary * a + second
        return (a, b), self.leave(torch.cat([a, b], 1))


class Mamba(Walked):
    """The selective state space step of Mamba. Source: arXiv 2312.00752, algorithm 2."""

    def __init__(self) -> None:
        super().__init__()
        self.decay = nn.Parameter(torch.randn(FEATURES, 5))
        self.skip = nn.Parameter(torch.ones(FEATURES))
        self.rate = nn.Linear(FEATURES, FEATURES)
        self.enter = nn.Linear(FEATURES, 5, bias=False)
        self.leave = nn.Linear(FEATURES, 5, bias=False)

    def start(self, x: Tensor) -> tuple[Tensor, ...]:
        return (x.new_zeros(x.shape[0], FEATURES, 5),)

    def step(self, x: Tensor, state: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], Tensor]:
        rate = softplus(self.rate(x))
        kept = torch.exp(rate.unsqueeze(-1) * -torch.exp(self.decay))
        h = kept * state[0] + (rate * x).unsqueeze(-1) * self.enter(x).unsqueeze(1)
        y = (h * self.leave(x).unsqueeze(1)).sum(-1) + self.skip * x
        return (h,), y


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "LSTM": lambda: Recurrent("LSTM"),
    "LSTM, two layers": lambda: Recurrent("LSTM", 2),
    "LSTM, both directions": lambda: Recurrent("LSTM", both=True),
    "LSTM, time first": lambda: Recurrent("LSTM", batch_first=False),
    "LSTM, final state": lambda: Recurrent("LSTM", head="state"),
    "LSTM, LayerNorm": lambda: Recurrent("LSTM", norm=True),
    "GRU": lambda: Recurrent("GRU"),
    "GRU, two layers, both directions": lambda: Recurrent("GRU", 2, both=True),
    "GRU, last step": lambda: Recurrent("GRU", head="last"),
    "RNN": lambda: Recurrent("RNN"),
    "RNN, two layers, final state": lambda: Recurrent("RNN", 2, head="state"),
    "Conv1d in front": ConvInFront,
    "attention": Attention,
    "attention, no mask": lambda: MaskedAttention(None),
    "attention, causal": lambda: MaskedAttention(STEPS),
    "attention, band": lambda: MaskedAttention(4),
    "encoder, causal": lambda: Encoder(STEPS),
    "encoder, band": lambda: Encoder(4),
    "embedding": Embedded,
    "LSTMCell loop": LSTMCells,
    "minGRU": MinGRU,
    "sLSTM": SLSTM,
    "LRU": LRU,
    "Mamba": Mamba,
}
"""By name."""


def example(name: str) -> tuple[Tensor, ...]:
    """Inputs of a network."""
    torch.manual_seed(1)
    if name == "embedding":
        return (torch.randint(0, 20, (1, STEPS)),)
    shape = (STEPS, 1, FEATURES) if name == "LSTM, time first" else (1, STEPS, FEATURES)
    x = torch.randn(shape)
    return (x, torch.randn(1, 2)) if name in TWO else (x,)


TWO = ("two inputs", "two branches")
"""Networks with a second input."""


def export(name: str, path: Path, exporter: str) -> dict[str, Any]:
    """Write a network, and tell its inputs and outputs."""
    torch.manual_seed(0)
    network, given = (NETWORKS | HEADS)[name]().eval(), example(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if exporter == "dynamo":
            torch.onnx.export(network, given, dynamo=True, verbose=False).save(path)
        else:
            torch.onnx.export(network, given, path, dynamo=False)
        with torch.no_grad():
            found = network(*given)
    shown = list(found) if isinstance(found, tuple | list) else [found]
    arrays = {f"in{k}": x.numpy() for k, x in enumerate(given)}
    return arrays | {f"out{k}": y.numpy() for k, y in enumerate(shown)}


def main() -> int:
    """Export those that were named."""
    folder, exporter, names = Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
    failures = {}
    for name in names:
        try:
            arrays = export(name, folder / f"{name}.onnx", exporter)
        except Exception as error:
            failures[name] = f"{type(error).__name__}: {error}"
            continue
        numpy.savez(folder / f"{name}.npz", **arrays)
    (folder / "failures.json").write_text(json.dumps(failures), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
