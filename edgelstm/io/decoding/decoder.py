"""Outputs of a model, row by row, to the label of each sample and to what happened."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.errors import RecordingError
from edgelstm.io.decoding.alarms import Alarm
from edgelstm.io.decoding.events import Decoded, Phase, PhaseLog, Repetitions, Spans
from edgelstm.io.decoding.hysteresis import UNKNOWN, Debounce, Hysteresis
from edgelstm.io.decoding.phase_path import PhasePath, free_positions, ordered_positions
from edgelstm.io.decoding.recipe import Phases, Recipe, RepetitionRule
from edgelstm.io.decoding.score_course import ScoreCourse
from edgelstm.io.decoding.smoothing import Smoother
from edgelstm.io.decoding.state import Stateful, restore_state, state_of

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class DecodedRows:
    """Samples whose label is decided, and what happened up to there.

    Shapes:
        times, numbers, labels: `(n,)`.

    Args:
        times, numbers: as they were fed.
        labels: index into the decoder's `labels`; -1 where nothing is known.
        events: in the order in which they became known.
    """

    times: NDArray[np.float64]
    numbers: NDArray[np.int64]
    labels: NDArray[np.intp]
    events: tuple[Decoded, ...]


class Decoder:
    """Applies a recipe to the outputs of one stream.

    Args:
        recipe: what is asked for.
        outputs: names of the columns of every output, in the order in which they are fed.
        rate_hz: of the rows.
        class_outputs: outputs whose elements are classes, as the model's description says; the
            only one is decoded if the recipe names none.

    Raises:
        RecordingError: the recipe names an output, a column or a label that the model has not.
    """

    STATE = ("_times", "_numbers", "_alarm_times", "_alarm_numbers", "_last")

    def __init__(
        self,
        recipe: Recipe,
        outputs: Mapping[str, Sequence[str]],
        rate_hz: float,
        class_outputs: Sequence[str] = (),
    ) -> None:
        self._recipe = recipe
        self._columns = [name for names in outputs.values() for name in names]
        self.labels, self._classes = self._choose_classes(outputs, class_outputs)
        self._alarms = {rule.name: Alarm(rule) for rule in recipe.alarms}
        for rule in recipe.alarms:
            if rule.column not in self._columns:
                raise RecordingError(
                    f"decoding: alarm {rule.name!r} looks at {rule.column!r}; the model's outputs "
                    f"are {', '.join(self._columns)}"
                )
        self._alarm_columns = [self._columns.index(rule.column) for rule in recipe.alarms]
        phases = recipe.phases or Phases()
        shortest: tuple[int, ...] = tuple(
            max(round(phases.minimum_s.get(label, phases.shortest_s) * rate_hz), 1)
            for label in self.labels
        )
        self._smoother = (
            Smoother(recipe.smoothing.kind, recipe.smoothing.seconds * rate_hz)
            if recipe.smoothing is not None
            else None
        )
        self._hysteresis: Hysteresis | None = None
        self._debounce: Debounce | None = None
        self._path: PhasePath | None = None
        if recipe.hysteresis is not None:
            self._hysteresis = Hysteresis(recipe.hysteresis.enter, recipe.hysteresis.leave)
            self._debounce = Debounce(shortest)
        elif recipe.has_phases:
            positions = (
                ordered_positions(
                    [self.labels.index(label) for label in phases.order], shortest, phases.is_cyclic
                )
                if phases.order
                else free_positions(shortest)
            )
            lag = round(phases.lag_s * rate_hz)
            self._path = PhasePath(positions, lag, phases.switch_cost, phases.floor)
        self._log = PhaseLog(phases.offset_s)
        self._courses: list[ScoreCourse] = []
        self._repetitions = [
            Repetitions(rule.name, rule.cycle, self._course(rule)) for rule in recipe.repetitions
        ]
        self._spans = [
            Spans(rule.name, rule.first, rule.last, rule.longest_s) for rule in recipe.spans
        ]
        self._times: Array = np.empty(0)
        self._numbers: Array = np.empty(0, np.int64)
        self._alarm_times: Array = np.empty(0)
        self._alarm_numbers: Array = np.empty(0, np.int64)
        self._last = (0.0, -1)
        self.delay_s = self._delay() / rate_hz

    @property
    def phase(self) -> str:
        """The present phase, as far as it is decided."""
        return self._log.label

    @property
    def counts(self) -> Counter[str]:
        """How often each repetition and span came."""
        counts = {each.name: each.count for each in self._repetitions}
        return Counter({**counts, **{each.name: each.count for each in self._spans}})

    @property
    def alarms(self) -> Mapping[str, Alarm]:
        """Alarms by name."""
        return self._alarms

    def state(self) -> dict[str, Any]:
        """What it remembers of the rows so far, for `json.dumps`."""
        return {"own": state_of(self), "parts": [state_of(part) for part in self._parts()]}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where another decoder of the same recipe stopped.

        Raises:
            KeyError, TypeError, ValueError: it is something else.
        """
        for part, own in zip(self._parts(), state["parts"], strict=True):
            restore_state(part, own)
        restore_state(self, state["own"])

    def take_alarms(self, other: Decoder) -> None:
        """Go on with the alarms of another decoder of the same recipe, behind a gap."""
        self._alarms = other._alarms
        for alarm in self._alarms.values():
            alarm.begin_anew()

    def _parts(self) -> list[Stateful]:
        one = (self._smoother, self._hysteresis, self._debounce, self._path, self._log)
        parts: list[Stateful] = [part for part in one if part is not None]
        parts += [*self._repetitions, *self._spans, *self._alarms.values()]
        return [*parts, *self._courses]

    def feed(
        self,
        outputs: Array,
        times: NDArray[np.float64],
        numbers: NDArray[np.int64],
        valid: NDArray[np.bool_],
    ) -> DecodedRows:
        """Rows `(n, columns)` in their order; a row that is not valid says nothing."""
        rows = np.where(np.asarray(valid)[:, None], outputs, np.nan).astype(np.float64)
        if len(times):
            self._last = (float(times[-1]), int(numbers[-1]))
        for course in self._courses:
            course.feed(times, rows)
        self._alarm_times = np.concatenate([self._alarm_times, times])
        self._alarm_numbers = np.concatenate([self._alarm_numbers, numbers])
        if len(self.labels):
            self._times = np.concatenate([self._times, times])
            self._numbers = np.concatenate([self._numbers, numbers])
        smooth = rows if self._smoother is None else self._smoother.feed(rows)
        events = self._see_alarms(smooth)
        if not len(self.labels):
            return DecodedRows(np.empty(0), np.empty(0, np.int64), np.empty(0, np.intp), events)
        return self._rows(self._decide(smooth[:, self._classes]), events)

    def finish(self) -> DecodedRows:
        """What waited for more; the present phase ends."""
        smooth = None if self._smoother is None else self._smoother.finish()
        events: tuple[Decoded, ...] = ()
        decided = [np.empty(0, np.intp)]
        if smooth is not None:
            events = self._see_alarms(smooth)
            if len(self.labels):
                decided.append(self._decide(smooth[:, self._classes]))
        if self._path is not None:
            decided.append(self._path.label(self._path.finish()))
        if self._debounce is not None:
            decided.append(self._debounce.finish())
        rows = self._rows(np.concatenate(decided), events)
        ended, phase = self._log.finish()
        more = [*ended, *self._of_phase(phase, self._last[1])]
        return DecodedRows(rows.times, rows.numbers, rows.labels, (*rows.events, *more))

    def acknowledge(self, name: str, time: float, by: str = "") -> tuple[Decoded, ...]:
        """Somebody has seen an alarm.

        Raises:
            KeyError: there is no alarm of that name.
        """
        return tuple(self._alarms[name].acknowledge(time, self._last[1], by))

    def _course(self, rule: RepetitionRule) -> ScoreCourse | None:
        if rule.score is None:
            return None
        if rule.score not in self._columns:
            raise RecordingError(
                f"decoding: repetitions {rule.name!r} are scored by {rule.score!r}; the model's "
                f"outputs are {', '.join(self._columns)}"
            )
        offsets = self._recipe.phases.offset_s.values() if self._recipe.phases else ()
        margin = max((-offset for offset in offsets), default=0.0)
        column = self._columns.index(rule.score)
        self._courses.append(ScoreCourse(column, rule.cycle[-1], max(margin, 0.0)))
        return self._courses[-1]

    def _choose_classes(
        self, outputs: Mapping[str, Sequence[str]], class_outputs: Sequence[str]
    ) -> tuple[tuple[str, ...], Array]:
        """Labels, and the columns that are their scores; none where nothing asks for phases."""
        recipe = self._recipe
        if not recipe.has_phases:
            return (), np.arange(0)
        candidates = [name for name in outputs if name in class_outputs] or list(outputs)
        name = recipe.output or (candidates[0] if len(candidates) == 1 else None)
        if name is None or name not in outputs:
            found = "names no output" if name is None else f"names output {name!r}"
            raise RecordingError(
                f"decoding {found}; the model has {', '.join(map(repr, outputs))}: give output = "
                f'"{next(iter(outputs))}"'
            )
        columns = list(outputs[name])
        labels = recipe.labels or tuple(columns)
        if len(labels) != len(columns) or len(columns) < 2:
            raise RecordingError(
                f"decoding: {len(labels)} labels for output {name!r}, which has "
                f"{len(columns)} elements; phases need at least two, one for each label"
            )
        start = [column for each in outputs for column in outputs[each]].index(columns[0])
        for label, place in recipe.labels_used().items():
            if label not in labels:
                raise RecordingError(
                    f"decoding: {place} names {label!r}; the labels are {', '.join(labels)}"
                )
        return labels, np.arange(start, start + len(columns))

    def _delay(self) -> int:
        delay = 0 if self._smoother is None else self._smoother.delay
        if self._path is not None:
            return delay + self._path.lag
        return delay + (0 if self._debounce is None else self._debounce.delay)

    def _decide(self, scores: Array) -> Array:
        if self._hysteresis is not None and self._debounce is not None:
            return self._debounce.feed(self._hysteresis.feed(scores))
        assert self._path is not None
        return self._path.label(self._path.feed(scores))

    def _see_alarms(self, smooth: Array) -> tuple[Decoded, ...]:
        n = len(smooth)
        events: list[Decoded] = []
        if self._alarms:
            times, numbers = self._alarm_times[:n].tolist(), self._alarm_numbers[:n].tolist()
            values = smooth[:, self._alarm_columns].tolist()
            for row, time, number in zip(values, times, numbers, strict=True):
                for alarm, value in zip(self._alarms.values(), row, strict=True):
                    events += alarm.see(value, time, number)
        self._alarm_times, self._alarm_numbers = self._alarm_times[n:], self._alarm_numbers[n:]
        return tuple(events)

    def _rows(self, labels: Array, events: tuple[Decoded, ...]) -> DecodedRows:
        n = len(labels)
        times, self._times = self._times[:n], self._times[n:]
        numbers, self._numbers = self._numbers[:n], self._numbers[n:]
        more: list[Decoded] = []
        # Only where the label changes there is something to see, and at the end of the stretch.
        previous = self.labels.index(self._log.label) if self._log.label else UNKNOWN
        changes = np.flatnonzero(np.diff(np.concatenate([[previous], labels])))
        for k in sorted({*changes.tolist(), *(changes[changes > 0] - 1).tolist(), n - 1} - {-1}):
            label = int(labels[k])
            name = "" if label == UNKNOWN else self.labels[label]
            found, phase = self._log.see(name, float(times[k]), int(numbers[k]))
            more += [*found, *self._of_phase(phase, int(numbers[k]))]
        for course in self._courses if n else ():
            is_on = self._log.label == course.label
            course.forget(self._log.start if is_on else float(times[-1]))
        return DecodedRows(times, numbers, labels, (*events, *more))

    def _of_phase(self, phase: Phase | None, sample: int) -> list[Decoded]:
        if phase is None:
            return []
        events = [event for each in self._repetitions for event in each.see(phase, sample)]
        return events + [event for each in self._spans for event in each.see(phase, sample)]
