"""The stages of one stream, by what is asked of its time, its units and its range."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from edgelstm.artifact import Artifact
from edgelstm.errors import RecordingError
from edgelstm.io.alignment import Alignment
from edgelstm.io.block import Block, SampleFlag
from edgelstm.io.counted import CountedStage
from edgelstm.io.counters import Counters
from edgelstm.io.decoding.range_guard import RangeGuard
from edgelstm.io.decoding.recipe import Recipe, recipe_from_json
from edgelstm.io.gaps import GapFilter, GapPolicy
from edgelstm.io.preparation import ScaleInputs, UnitWatch
from edgelstm.io.rate import RateCheck
from edgelstm.io.stage import Stage
from edgelstm.io.time_settings import TimeSettings

_RESET = np.uint8(SampleFlag.RESET)

USED = "resampled"
"""Reason under which samples end that ticks were made of."""


class _Rate:
    """Says it when stamps contradict the rate."""

    def __init__(self, check: RateCheck, say: Callable[[str], None]) -> None:
        self._check = check
        self._say = say

    def feed(self, block: Block) -> list[Block]:
        for text in self._check.see(block):
            self._say(text)
        return [block]

    def finish(self) -> list[Block]:
        return []


class _OneSensor:
    """An alignment of a single sensor, as a stage."""

    def __init__(self, alignment: Alignment, name: str) -> None:
        self._alignment = alignment
        self._name = name

    def feed(self, block: Block) -> list[Block]:
        return self._alignment.feed(self._name, block)

    def finish(self) -> list[Block]:
        return self._alignment.finish()


def expect_rate(settings: TimeSettings, rate_hz: float | None) -> None:
    """Refuse what counts in seconds where no rate is known.

    Raises:
        RecordingError: names the option.
    """
    if rate_hz is None and (settings.on_gap is not None or settings.is_resampled):
        option = "--resample" if settings.is_resampled else "--on-gap"
        raise RecordingError(f"{option}: the model's rate is not known: give --rate HZ")


def stages_in_front(
    name: str,
    settings: TimeSettings,
    model: Artifact,
    rate_hz: float | None,
    counters: Counters,
    say: Callable[[str], None],
) -> list[Stage]:
    """Between a sensor and the assignment of its columns.

    Args:
        name: of the stream.
        settings: see there.
        model: what is fed.
        rate_hz: of the samples, as given or as the model has it.
        counters: of the stream.
        say: called with what is odd.
    """
    expect_rate(settings, rate_hz)
    stages: list[Stage] = []
    if rate_hz is None:
        return stages
    stages.append(_Rate(RateCheck(rate_hz, name), say))
    if settings.on_gap is not None:
        policy = GapPolicy(
            rate_hz,
            settings.on_gap,
            settings.gap_limit_s,
            settings.gap_after_s,
            settings.reorder_s,
        )
        gaps = GapFilter(policy)
        stages.append(CountedStage(gaps, gaps.tally, counters))
    if settings.is_resampled:
        ticks = model_rate(model, rate_hz)
        alignment = Alignment(ticks, {name: rate_hz}, settings.silent_s)
        stage = _OneSensor(alignment, name)
        stages.append(CountedStage(stage, alignment.tally, counters, USED))
    return stages


def stages_behind(
    settings: TimeSettings,
    model: Artifact,
    mapping: Mapping[str, Sequence[str]],
    rate_hz: float | None,
    counters: Counters,
    say: Callable[[str], None],
) -> list[Stage]:
    """Behind the assignment, whose `mapping` says which columns feed which input."""
    signature, description = model.signature, model.description
    stages: list[Stage] = []
    if settings.scale:
        stages.append(ScaleInputs(settings.scale, mapping, signature))
    if description.inputs:
        stages.append(UnitWatch(signature, description, rate_hz, say))
    recipe = recipe_of_model(settings, model)
    if recipe is not None and recipe.range is not None and description.inputs:
        guard = RangeGuard(recipe.range, description.inputs, rate_hz or 100.0)
        stages.append(CountedStage(guard, guard.tally, counters))
    return stages


def recipe_of_model(settings: TimeSettings, model: Artifact) -> Recipe | None:
    """How predictions are decoded: as asked for, else as the artifact says.

    Raises:
        RecordingError: the artifact's recipe is none.
    """
    if settings.decode is not None:
        return settings.decode
    own = model.description.decoding
    return None if own is None else recipe_from_json(own, model.name)


def model_rate(model: Artifact, otherwise: float) -> float:
    """The rate at which a model takes samples."""
    return model.signature.rate_hz or model.description.rate_hz or otherwise


class BeginBehind:
    """A stage that moves the numbers of ticks behind those of an earlier run.

    Args:
        begin_at: the first number that is free.
    """

    def __init__(self, begin_at: int) -> None:
        self._begin_at = begin_at
        self._offset: int | None = None

    def feed(self, block: Block) -> list[Block]:
        """The same samples under other numbers; those that were made keep none."""
        numbers = block.sequence
        real = numbers[numbers >= 0]
        if self._offset is None and len(real):
            self._offset = max(self._begin_at - int(real[0]), 0)
        if not self._offset:
            return [block]
        moved = np.where(numbers < 0, numbers, numbers + self._offset)
        return [replace(block, sequence=moved)]

    def finish(self) -> list[Block]:
        """Nothing is held back."""
        return []


def cut_at_resets(block: Block) -> list[Block]:
    """The block cut in front of every sample at which the model begins anew."""
    if not block.flags.any():
        return [block]
    cuts = np.flatnonzero(block.flags & _RESET)
    if not len(cuts):
        return [block]
    edges = sorted({0, *cuts.tolist(), len(block)})
    return [block.part(slice(a, b)) for a, b in pairwise(edges)]
