"""How outputs are decoded, as people write it: a TOML file, or a part of an artifact.

```toml
output = "phase"                   # whose elements are classes; not needed where there is one
labels = ["rest", "lift"]          # names of the classes, where the artifact has none

[smoothing]
kind = "mean"                      # mean, median, vote, exponential
seconds = 0.2

[phases]
minimum_s = 0.4                    # or by label: minimum_s = {rest = 1.0, lift = 0.3}
order = ["rest", "lift"]           # what follows what; a label may stand several times
cyclic = true                      # the first follows the last
lag_s = 1.5                        # how far decisions look ahead
offset_s = {lift = -0.15}          # what is added to the time at which a label begins

[hysteresis]                       # instead of `order`: a label stays until another is sure
enter = 0.6
leave = 0.4

[[repetitions]]
name = "squat"
cycle = ["down", "up"]
score = "quality"                  # a column; its mean while the last label of the cycle lasts

[[spans]]
name = "timed up and go"
first = "STANDING_UP"
last = "SITTING_DOWN"

[[alarms]]
name = "fall"
column = "FALL"
above = 0.8
clear = 0.5
for_s = 0.3
acknowledge = true

[range]                            # samples that are outside what the model was calibrated on
slack = 0.05
saturated_s = 0.1
stuck_s = 2.0
```
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from edgelstm.errors import RecordingError
from edgelstm.io.decoding.alarms import AlarmRule
from edgelstm.io.decoding.smoothing import SMOOTHING_KINDS, SmoothingKind
from edgelstm.io.toml_table import TomlTable, is_number, read_toml

_KEYS = (
    "output",
    "labels",
    "smoothing",
    "phases",
    "hysteresis",
    "repetitions",
    "spans",
    "alarms",
    "range",
)


@dataclass(frozen=True, slots=True)
class Smoothing:
    """See the module."""

    kind: SmoothingKind = "mean"
    seconds: float = 0.2


@dataclass(frozen=True, slots=True)
class Phases:
    """See the module; `minimum_s` of a label that is not named is `shortest_s`."""

    shortest_s: float = 0.0
    minimum_s: Mapping[str, float] = field(default_factory=dict)
    order: tuple[str, ...] = ()
    is_cyclic: bool = True
    lag_s: float = 1.5
    switch_cost: float = 4.0
    floor: float = 0.01
    offset_s: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HysteresisLimits:
    """See the module."""

    enter: float
    leave: float


@dataclass(frozen=True, slots=True)
class RepetitionRule:
    """See the module."""

    name: str
    cycle: tuple[str, ...]
    score: str | None = None


@dataclass(frozen=True, slots=True)
class SpanRule:
    """See the module."""

    name: str
    first: str
    last: str
    longest_s: float = math.inf


@dataclass(frozen=True, slots=True)
class RangeRule:
    """See the module.

    Args:
        slack: share of the known range by which a value may leave it.
        saturated_s: how long a channel is at the same extreme value before it is clipped.
        stuck_s: how long a channel is constant before it is stuck; 0 asks nothing.
    """

    slack: float = 0.05
    saturated_s: float = 0.1
    stuck_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Recipe:
    """All of it; see the module."""

    output: str | None = None
    labels: tuple[str, ...] = ()
    smoothing: Smoothing | None = None
    phases: Phases | None = None
    hysteresis: HysteresisLimits | None = None
    repetitions: tuple[RepetitionRule, ...] = ()
    spans: tuple[SpanRule, ...] = ()
    alarms: tuple[AlarmRule, ...] = ()
    range: RangeRule | None = None

    @property
    def has_phases(self) -> bool:
        """Whether there is something to decide between classes."""
        return bool(self.phases or self.hysteresis or self.repetitions or self.spans)

    def labels_used(self) -> dict[str, str]:
        """Every label that is named, and where."""
        used: dict[str, str] = {}
        if self.phases is not None:
            used.update(dict.fromkeys(self.phases.minimum_s, "phases.minimum_s"))
            used.update(dict.fromkeys(self.phases.offset_s, "phases.offset_s"))
            used.update(dict.fromkeys(self.phases.order, "phases.order"))
        for repetition in self.repetitions:
            used.update(dict.fromkeys(repetition.cycle, f"repetitions {repetition.name!r}"))
        for span in self.spans:
            used.update(dict.fromkeys((span.first, span.last), f"spans {span.name!r}"))
        return used


def read_recipe(path: Path) -> Recipe:
    """A recipe from its file.

    Raises:
        RecordingError: it is none; names the line.
    """
    return recipe_of(read_toml(path))


def recipe_from_json(data: Any, name: str) -> Recipe:
    """A recipe that an artifact carries, as the TOML file reads in JSON.

    Raises:
        RecordingError: it is none.
    """
    if not isinstance(data, dict):
        raise RecordingError(f"{name}: the decoding is no table: {json.dumps(data)[:80]}")
    return recipe_of(TomlTable(data, name, {}))


def recipe_of(table: TomlTable) -> Recipe:
    """A recipe from a table, as a part of a configuration too.

    Raises:
        RecordingError: something in it means nothing; names the line.
    """
    table.expect_keys(*_KEYS)
    recipe = Recipe(
        table.text("output"),
        table.texts("labels"),
        _smoothing(table.table("smoothing")),
        _phases(table.table("phases")),
        _hysteresis(table.table("hysteresis")),
        tuple(_repetition(each) for each in table.tables("repetitions")),
        tuple(_span(each) for each in table.tables("spans")),
        tuple(_alarm(each) for each in table.tables("alarms")),
        _range(table.table("range")),
    )
    if recipe.hysteresis is not None and recipe.phases is not None and recipe.phases.order:
        raise table.fault(
            "does not go with phases.order: give one of the two; the likeliest course in an order "
            "needs no hysteresis",
            "hysteresis",
        )
    for key, names in (
        ("repetitions", [rule.name for rule in recipe.repetitions]),
        ("spans", [rule.name for rule in recipe.spans]),
        ("alarms", [rule.name for rule in recipe.alarms]),
    ):
        for i, name in enumerate(names):
            if name in names[:i]:
                raise table.fault(f"{name!r} is there already", key, i, "name")
    return recipe


def _smoothing(table: TomlTable | None) -> Smoothing | None:
    if table is None:
        return None
    table.expect_keys("kind", "seconds")
    kind = table.text("kind", "mean", SMOOTHING_KINDS)
    chosen = next(each for each in SMOOTHING_KINDS if each == kind)
    return Smoothing(chosen, table.number("seconds", 0.2, 0.0, 60.0) or 0.0)


def _phases(table: TomlTable | None) -> Phases | None:
    if table is None:
        return None
    table.expect_keys("minimum_s", "order", "cyclic", "lag_s", "switch_cost", "floor", "offset_s")
    shortest, minimum = 0.0, {}
    if isinstance(table.values.get("minimum_s"), dict):
        minimum = _seconds_by_label(table, "minimum_s", 0.0, 10.0)
    else:
        shortest = table.number("minimum_s", 0.0, 0.0, 10.0) or 0.0
    order = table.texts("order")
    if "order" in table.values and len(set(order)) < 2:
        raise table.fault("has less than two labels", "order")
    if any(one == other for one, other in pairwise(order)):
        raise table.fault("has a label twice in a row", "order")
    is_cyclic = table.flag("cyclic", True)
    if is_cyclic and order and order[0] == order[-1]:
        raise table.fault(
            "ends with the label that it begins with: the first follows the last by itself, unless "
            "cyclic = false",
            "order",
        )
    return Phases(
        shortest,
        minimum,
        order,
        is_cyclic,
        table.number("lag_s", 1.5, 0.0, 60.0) or 0.0,
        table.number("switch_cost", 4.0, 0.0, 100.0) or 0.0,
        table.number("floor", 0.01, 1e-9, 0.5) or 0.01,
        _seconds_by_label(table, "offset_s", -10.0, 10.0),
    )


def _seconds_by_label(table: TomlTable, key: str, low: float, high: float) -> dict[str, float]:
    found = table.values.get(key, {})
    if not isinstance(found, dict):
        raise table.fault(f"is {found!r}, not seconds by label: {key} = {{LABEL = 0.1}}", key)
    for label, value in found.items():
        if not is_number(value) or not low <= value <= high:
            message = f"is {value!r}, not seconds from {low:g} to {high:g}"
            raise table.fault(message, key, label)
    return {label: float(value) for label, value in found.items()}


def _hysteresis(table: TomlTable | None) -> HysteresisLimits | None:
    if table is None:
        return None
    table.expect_keys("enter", "leave")
    enter = table.number("enter", 0.6)
    leave = table.number("leave", 0.4)
    assert enter is not None
    assert leave is not None
    if leave > enter:
        raise table.fault(f"is {leave:g}, above enter ({enter:g})", "leave")
    return HysteresisLimits(enter, leave)


def _name(table: TomlTable, key: str = "name") -> str:
    found = table.text(key)
    if found is None:
        raise table.fault(f"has no {key}")
    return found


def _repetition(table: TomlTable) -> RepetitionRule:
    table.expect_keys("name", "cycle", "score")
    cycle = table.texts("cycle")
    if not cycle:
        raise table.fault('has no cycle, as cycle = ["down", "up"]')
    return RepetitionRule(_name(table), cycle, table.text("score"))


def _span(table: TomlTable) -> SpanRule:
    table.expect_keys("name", "first", "last", "longest_s")
    longest = table.number("longest_s", math.inf, 0.0)
    first, last = _name(table, "first"), _name(table, "last")
    return SpanRule(_name(table), first, last, math.inf if longest is None else longest)


def _alarm(table: TomlTable) -> AlarmRule:
    table.expect_keys("name", "column", "above", "below", "clear", "for_s", "acknowledge")
    above, below = table.number("above"), table.number("below")
    clear = table.number("clear")
    if (above is None) == (below is None):
        raise table.fault("has one limit: above, or below")
    if clear is not None and (
        (above is not None and clear > above) or (below is not None and clear < below)
    ):
        raise table.fault(f"is {clear:g}, which is beyond the limit", "clear")
    return AlarmRule(
        _name(table),
        _name(table, "column"),
        above,
        below,
        clear,
        table.number("for_s", 0.0, 0.0, 86_400.0) or 0.0,
        table.flag("acknowledge", False),
    )


def _range(table: TomlTable | None) -> RangeRule | None:
    if table is None:
        return None
    table.expect_keys("slack", "saturated_s", "stuck_s")
    slack = table.number("slack", 0.05, 0.0, 100.0)
    saturated = table.number("saturated_s", 0.1, 0.0, 3600.0)
    stuck = table.number("stuck_s", 0.0, 0.0, 3600.0)
    return RangeRule(slack or 0.0, saturated or 0.0, stuck or 0.0)
