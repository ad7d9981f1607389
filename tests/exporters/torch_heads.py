"""What people put in front of and behind an LSTM in PyTorch: everyday heads, seeded."""

# ruff: noqa: D102 - forward is torch's own word

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - as everybody does

FEATURES, HIDDEN, STEPS = 4, 6, 9


class Head(nn.Module):
    """An LSTM, and a function of its frames y (B, T, H) and of the input x (B, T, F)."""

    def __init__(self, head: Callable[..., Any], *layers: nn.Module, features: int = FEATURES):
        super().__init__()
        self.cells = nn.LSTM(features, HIDDEN, batch_first=True)
        self.layers = nn.ModuleList(layers)
        self.head = head

    def forward(self, x: Tensor) -> Any:
        return self.head(self.cells(x)[0], x, *self.layers)


class Scaled(nn.Module):
    """A function of the input, then an LSTM and a linear layer on its last frame."""

    def __init__(self, scale: Callable[[Tensor], Tensor], features: int = FEATURES):
        super().__init__()
        self.cells, self.out = nn.LSTM(features, HIDDEN, batch_first=True), nn.Linear(HIDDEN, 3)
        self.scale = scale

    def forward(self, x: Tensor) -> Any:
        return self.out(self.cells(self.scale(x))[0][:, -1])


class TwoInputs(nn.Module):
    """A sequence, and facts about the person who made it."""

    def __init__(self) -> None:
        super().__init__()
        self.cells, self.facts = nn.GRU(FEATURES, HIDDEN, batch_first=True), nn.Linear(2, 3)
        self.out = nn.Linear(HIDDEN + 3, 2)

    def forward(self, x: Tensor, facts: Tensor) -> Any:
        last = self.cells(x)[1][-1]
        return self.out(torch.cat([last, torch.relu(self.facts(facts))], 1))


class TwoBranches(nn.Module):
    """Two sequences of different sensors, their last states multiplied."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.LSTM(FEATURES, HIDDEN, batch_first=True), nn.GRU(2, HIDDEN)

    def forward(self, x: Tensor, facts: Tensor) -> Any:
        return self.a(x)[0][:, -1] * self.b(facts.unsqueeze(0))[1][-1].tanh()


def attention_pooling(y: Tensor, x: Tensor, score: nn.Module) -> Tensor:
    return (torch.softmax(score(y), 1) * y).sum(1)


def causal_mask(y: Tensor, x: Tensor) -> Tensor:
    """Scores of later frames are minus infinity."""
    later = torch.triu(torch.ones(STEPS, STEPS, dtype=torch.bool), 1)
    scores = (y @ y.transpose(1, 2)).masked_fill(later, float("-inf"))
    return torch.softmax(scores, -1) @ y


def added_mask(y: Tensor, x: Tensor) -> Tensor:
    later = torch.triu(torch.full((STEPS, STEPS), float("-inf")), 1)
    return torch.softmax(y @ y.transpose(1, 2) / HIDDEN**0.5 + later, -1) @ y


def standardised(x: Tensor) -> Tensor:
    return (x - x.mean(1, keepdim=True)) / (x.std(1, keepdim=True) + 1e-5)


def between_zero_and_one(x: Tensor) -> Tensor:
    low, high = x.amin(1, keepdim=True), x.amax(1, keepdim=True)
    return (x - low) / (high - low + 1e-5)


def with_differences(x: Tensor) -> Tensor:
    moved = F.pad(x[:, 1:] - x[:, :-1], (0, 0, 1, 0))
    return torch.cat([x, moved], -1)


def prototypes(y: Tensor, x: Tensor) -> Tensor:
    """Negative distances to three points."""
    points = torch.linspace(-1, 1, 3 * HIDDEN).reshape(3, HIDDEN)
    return -((y[:, -1:, :] - points) ** 2).sum(-1)


HEADS: dict[str, Callable[[], nn.Module]] = {
    "mean over time": lambda: Head(lambda y, x: y.mean(1)),
    "maximum over time": lambda: Head(lambda y, x: y.max(1).values),
    "mean and maximum": lambda: Head(lambda y, x: torch.cat([y.mean(1), y.amax(1)], 1)),
    "norm over features": lambda: Head(lambda y, x: F.normalize(y, dim=-1)),
    "deviation over time": lambda: Head(lambda y, x: torch.cat([y.std(1), y.var(1)], 1)),
    "argmax": lambda: Head(lambda y, x, out: out(y).argmax(-1), nn.Linear(HIDDEN, 5)),
    "two largest": lambda: Head(lambda y, x: torch.topk(y, 2, -1)),
    "log softmax": lambda: Head(
        lambda y, x, out: torch.log_softmax(out(y), -1), nn.Linear(HIDDEN, 5)
    ),
    "attention pooling": lambda: Head(attention_pooling, nn.Linear(HIDDEN, 1)),
    "additive attention": lambda: Head(
        lambda y, x, a, b: attention_pooling(torch.tanh(a(y)), x, b),
        nn.Linear(HIDDEN, HIDDEN),
        nn.Linear(HIDDEN, 1),
    ),
    "causal mask": lambda: Head(causal_mask),
    "added mask": lambda: Head(added_mask),
    "scaled dot product": lambda: Head(
        lambda y, x: F.scaled_dot_product_attention(y, y, y, is_causal=True)
    ),
    "standardised window": lambda: Scaled(standardised),
    "window from zero to one": lambda: Scaled(between_zero_and_one),
    "differences": lambda: Scaled(with_differences, 2 * FEATURES),
    "spectral power": lambda: Scaled(lambda x: x.pow(2).cumsum(1).sqrt()),
    "two inputs": TwoInputs,
    "two branches": TwoBranches,
    "GELU and LayerNorm": lambda: Head(
        lambda y, x, norm, out: out(F.gelu(norm(y))), nn.LayerNorm(HIDDEN), nn.Linear(HIDDEN, 2)
    ),
    "BatchNorm1d": lambda: Head(lambda y, x, norm: norm(y.transpose(1, 2)), nn.BatchNorm1d(HIDDEN)),
    "InstanceNorm1d": lambda: Head(
        lambda y, x, norm: norm(y.transpose(1, 2)), nn.InstanceNorm1d(HIDDEN, affine=True)
    ),
    "GroupNorm": lambda: Head(lambda y, x, norm: norm(y.transpose(1, 2)), nn.GroupNorm(2, HIDDEN)),
    "thresholds": lambda: Head(
        lambda y, x: torch.where(y > 0.05, y, torch.zeros_like(y)).clamp(-0.2, 0.2).sign()
    ),
    "rounding": lambda: Head(lambda y, x: torch.round(y * 8) / 8 + torch.floor(y * 4)),
    "bilinear": lambda: Head(lambda y, x: torch.einsum("bti,btj->bij", y, x)),
    "cosine similarity": lambda: Head(
        lambda y, x: F.cosine_similarity(y[:, :-1], y[:, 1:], dim=-1)
    ),
    "prototypes": lambda: Head(prototypes),
    "pooling": lambda: Head(lambda y, x: F.avg_pool1d(F.max_pool1d(y.transpose(1, 2), 3, 2, 1), 2)),
    "adaptive pooling": lambda: Head(lambda y, x: F.adaptive_avg_pool1d(y.transpose(1, 2), 3)),
    "upsampling": lambda: Head(
        lambda y, x: F.interpolate(y.transpose(1, 2), scale_factor=2.0, mode="linear")
    ),
    "residual": lambda: Head(
        lambda y, x, a, b: y + b(F.dropout(torch.relu(a(y)), 0.3, training=False)),
        nn.Linear(HIDDEN, 8),
        nn.Linear(8, HIDDEN),
    ),
    "reversed": lambda: Head(lambda y, x: torch.cat([y, y.flip(1)], -1)),
    "gathered": lambda: Head(lambda y, x: y.gather(2, (x > 0).long().cumsum(-1))),
    "one hot": lambda: Head(lambda y, x: F.one_hot(y.argmax(-1), HIDDEN).float().mean(1)),
    "log sum exp": lambda: Head(lambda y, x: torch.logsumexp(y, 1)),
    "remainder": lambda: Head(lambda y, x: torch.remainder(y * 3, 0.7)),
    "PReLU": lambda: Head(lambda y, x, act: act(y.transpose(1, 2)), nn.PReLU(HIDDEN)),
    "unfolded": lambda: Head(lambda y, x: y.unfold(1, 3, 2).mean(-1)),
}
"""By name."""
