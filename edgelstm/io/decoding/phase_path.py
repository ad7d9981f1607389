"""The likeliest course of phases: each lasts a while, and some follow only some others.

Source: Viterbi 1967; a phase with a shortest duration is a chain of states, as in Ferguson's
hidden semi-Markov models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_HOP = 10
"""Samples between two looks back: decisions come in such stretches, and cost a tenth."""


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the course of phases; a label may have several.

    Args:
        label: index of the class.
        shortest: samples that it lasts at least, 1 or more.
        after: positions that it may follow.
    """

    label: int
    shortest: int
    after: tuple[int, ...]


class PhasePath:
    """Finds the likeliest course so far, and decides each sample `lag` samples later.

    What was decided stays: later decisions are about courses that go on from there. The result
    does not depend on how samples come in blocks.

    Args:
        positions: see there.
        lag: samples that are looked ahead, at least the longest of the shortest durations.
        switch_cost: what a change of phase costs, in units of log probability.
        floor: smallest probability that is believed: a class is never impossible.
    """

    STATE = ("_scores", "_links")

    def __init__(
        self, positions: Sequence[Position], lag: int, switch_cost: float = 4.0, floor: float = 0.01
    ) -> None:
        sizes = np.array([position.shortest for position in positions])
        self._last = np.cumsum(sizes) - 1
        self._first = self._last - sizes + 1
        count = int(sizes.sum())
        self._of = np.repeat(np.arange(len(positions)), sizes)
        self._labels = np.array([position.label for position in positions])
        self._before = np.arange(count) - 1
        self._entries = np.full((len(positions), len(positions)), -np.inf)
        for number, position in enumerate(positions):
            self._entries[number, list(position.after)] = -switch_cost
        self.lag = max(lag, int(sizes.max()))
        self._floor = floor
        self._scores = np.full(count, -np.inf)
        # A stream may begin in the middle of any phase.
        self._scores[self._last] = 0.0
        self._back: list[Array] = []
        self._kind = np.dtype(np.int32 if count > 32767 else np.int16)

    @property
    def _links(self) -> Array:
        """The way back from the first and the last state of each chain, `(n, 2, positions)`.

        Between them it is the same in every step.
        """
        ends = np.stack([self._first, self._last])
        return np.array([back[ends] for back in self._back], self._kind).reshape(-1, *ends.shape)

    @_links.setter
    def _links(self, links: Array) -> None:
        self._back = []
        for first, last in links:
            back = self._before.astype(self._kind)
            back[self._first], back[self._last] = first, last
            self._back.append(back)

    def feed(self, scores: Array) -> Array:
        """Class probabilities `(n, C)`; the positions of the samples that are decided now.

        Rows with NaN say nothing: the course goes on over them.
        """
        decided: list[Array] = []
        known = np.asarray(np.isfinite(scores).all(axis=1))
        logs = np.log(np.maximum(np.where(known[:, None], scores, 1.0), self._floor))
        for row in logs[:, self._labels]:
            self._step(row)
            if len(self._back) >= self.lag + _HOP:
                decided.append(self._decide(_HOP))
        return np.concatenate(decided) if decided else np.empty(0, np.intp)

    def finish(self) -> Array:
        """The positions of all samples that are left."""
        return self._decide(len(self._back))

    def label(self, positions: Array) -> Array:
        """Class indices of positions."""
        return self._labels[positions]

    def _step(self, row: Array) -> None:
        old = self._scores
        stay = old[self._last]
        arrive = old[self._before]
        arrive[self._first] = -np.inf
        back = self._before.copy()
        new = arrive
        # The last state of a chain: whoever is there may stay.
        is_longer = stay >= new[self._last]
        new[self._last] = np.where(is_longer, stay, new[self._last])
        back[self._last] = np.where(is_longer, self._last, back[self._last])
        # The first one: whoever has been elsewhere long enough.
        table = self._entries + stay[None, :]
        origin = table.argmax(axis=1)
        entered = table[np.arange(len(origin)), origin]
        is_entered = entered > new[self._first]
        new[self._first] = np.where(is_entered, entered, new[self._first])
        back[self._first] = np.where(is_entered, self._last[origin], back[self._first])
        new += row[self._of]
        self._scores = new - new.max()
        self._back.append(np.asarray(back, self._kind))

    def _decide(self, count: int) -> Array:
        """Positions of the oldest `count` samples; what contradicts them is out."""
        if not count:
            return np.empty(0, np.intp)
        best = int(self._scores.argmax())
        ancestors = np.arange(len(self._scores))
        for back in self._back[:count:-1] if count < len(self._back) else ():
            ancestors = back[ancestors]
        if count < len(self._back):
            ancestors = self._back[count][ancestors]
            end = int(ancestors[best])
            self._scores = np.where(ancestors == end, self._scores, -np.inf)
        else:
            end = best
        path = np.empty(count, np.intp)
        for k in range(count - 1, -1, -1):
            path[k] = end
            end = int(self._back[k][end])
        del self._back[:count]
        return self._of[path]


def free_positions(shortest: Sequence[int]) -> list[Position]:
    """Every class may follow every other."""
    every = range(len(shortest))
    return [
        Position(label, duration, tuple(other for other in every if other != label))
        for label, duration in enumerate(shortest)
    ]


def ordered_positions(
    order: Sequence[int], shortest: Sequence[int], is_cyclic: bool = True
) -> list[Position]:
    """The classes in an order, in which one may stand several times; behind the last, the first."""
    count = len(order)
    return [
        Position(
            label,
            shortest[label],
            () if k == 0 and not is_cyclic else ((k - 1) % count,) if count > 1 else (),
        )
        for k, label in enumerate(order)
    ]
