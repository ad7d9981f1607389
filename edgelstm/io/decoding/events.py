"""What happens in a stream: phases, repetitions, whole exercises, values beyond a limit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edgelstm.io.decoding.score_course import ScoreCourse

PHASE_BEGINS = "phase begins"
PHASE_ENDS = "phase ends"
REPETITION = "repetition"
SPAN = "span"
ALARM = "alarm"
ALARM_ENDS = "alarm ends"
ALARM_ACKNOWLEDGED = "alarm acknowledged"


@dataclass(frozen=True, slots=True)
class Decoded:
    """Something that happened at one moment.

    Units:
        time: seconds, by the clock of the times that were fed.

    Args:
        kind: one of the constants above.
        name: of the phase, the repetition, the span or the alarm.
        time: when it happened, which is before it is known.
        sample: number of the sample it happened at.
        data: what else there is to say, for machines.
        text: the same, for people.
    """

    kind: str
    name: str
    time: float
    sample: int
    data: Mapping[str, Any] = field(default_factory=dict)
    text: str = ""


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of one label.

    Units:
        start, end: seconds.
    """

    label: str
    start: float
    end: float
    first_sample: int

    @property
    def duration_s(self) -> float:
        """How long it lasted."""
        return self.end - self.start


class PhaseLog:
    """Turns labels of samples into phases.

    Args:
        offsets_s: by label, what is added to the time at which it begins.
    """

    STATE = ("_label", "_start", "_sample", "_last")

    def __init__(self, offsets_s: Mapping[str, float]) -> None:
        self._offsets = offsets_s
        self._label = ""
        self._start = math.nan
        self._sample = -1
        self._last = (math.nan, -1)

    @property
    def label(self) -> str:
        """The present phase, "" where there is none."""
        return self._label

    @property
    def start(self) -> float:
        """When the present phase began; NaN where there was none."""
        return self._start

    def see(self, label: str, time: float, sample: int) -> tuple[list[Decoded], Phase | None]:
        """One sample in its order; events, and the phase that ended."""
        previous, self._last = self._last, (time, sample)
        if label == self._label:
            return [], None
        begin = time + self._offsets.get(label, 0.0)
        if self._label:
            # A correction turns no phase around.
            begin = max(begin, self._start)
            if not label:
                begin = max(previous[0], self._start)
        events, ended = self._end(begin, sample)
        self._label, self._start, self._sample = label, begin, sample
        if label:
            events.append(Decoded(PHASE_BEGINS, label, begin, sample, {}, f"{label} begins"))
        return events, ended

    def finish(self) -> tuple[list[Decoded], Phase | None]:
        """The stream ended, and the present phase with it."""
        return self._end(max(self._last[0], self._start), self._last[1])

    def _end(self, time: float, sample: int) -> tuple[list[Decoded], Phase | None]:
        if not self._label:
            return [], None
        phase = Phase(self._label, self._start, time, self._sample)
        self._label = ""
        data = {"start": phase.start, "duration_s": phase.duration_s}
        text = f"{phase.label} took {phase.duration_s:.2f} s"
        return [Decoded(PHASE_ENDS, phase.label, time, sample, data, text)], phase


class Repetitions:
    """Counts how often labels came in an order; other labels in between are rests.

    Args:
        name: of the exercise.
        cycle: labels of one repetition.
        course: of the column that scores it; None for none.
    """

    STATE = ("count", "_done")

    def __init__(self, name: str, cycle: Sequence[str], course: ScoreCourse | None = None) -> None:
        self.name = name
        self.count = 0
        self._course = course
        self._cycle = tuple(cycle)
        self._done: list[Phase] = []

    def see(self, phase: Phase, sample: int) -> list[Decoded]:
        """A phase that ended."""
        if phase.label not in self._cycle:
            return []
        if phase.label != self._cycle[len(self._done)]:
            self._done = []
        if phase.label == self._cycle[len(self._done)]:
            self._done.append(phase)
        if len(self._done) < len(self._cycle):
            return []
        start, self._done = self._done[0].start, []
        self.count += 1
        data = {"count": self.count, "start": start, "duration_s": phase.end - start}
        text = f"{self.name}: repetition {self.count}, {phase.end - start:.2f} s"
        if self._course is not None:
            score = self._course.mean(phase.start, phase.end)
            if math.isfinite(score):
                data["score"] = score
                text += f", score {score:.3f}"
        return [Decoded(REPETITION, self.name, phase.end, sample, data, text)]


class Spans:
    """Measures from the beginning of one phase to the end of another, with what is in between.

    Args:
        name: of what is measured.
        first, last: labels.
        longest_s: what takes longer is none.
    """

    STATE = ("count", "_phases")

    def __init__(self, name: str, first: str, last: str, longest_s: float = math.inf) -> None:
        self.name = name
        self.count = 0
        self._first, self._last, self._longest = first, last, longest_s
        self._phases: list[Phase] = []

    def see(self, phase: Phase, sample: int) -> list[Decoded]:
        """A phase that ended."""
        if phase.label == self._first:
            self._phases = []
        elif not self._phases:
            return []
        self._phases.append(phase)
        start = self._phases[0].start
        if phase.end - start > self._longest:
            self._phases = []
            return []
        if phase.label != self._last:
            return []
        phases, self._phases = self._phases, []
        self.count += 1
        data = {
            "count": self.count,
            "start": start,
            "duration_s": phase.end - start,
            "phases": [[each.label, each.start, each.duration_s] for each in phases],
        }
        text = f"{self.name} {self.count}: {phase.end - start:.2f} s"
        return [Decoded(SPAN, self.name, phase.end, sample, data, text)]
