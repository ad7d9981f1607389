"""What a trial measures: timed-up-and-go by its phases, and any model's phases and repetitions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgelstm.io.decoding.events import PHASE_ENDS, REPETITION
from edgelstm.monitor.trend import Better


@dataclass(frozen=True, slots=True)
class Measure:
    """A number of one trial.

    Args:
        name: for machines.
        value: in `unit`.
        unit: UCUM, as FHIR has it; "1" of counts and shares.
    """

    name: str
    value: float
    unit: str


@dataclass(frozen=True, slots=True)
class MeasureKind:
    """What a measure is called and which way it improves."""

    title: str
    better: Better
    unit: str = "s"


KINDS: Mapping[str, MeasureKind] = {
    "total": MeasureKind("Total time", "lower"),
    "sit_to_stand": MeasureKind("Sit to stand", "lower"),
    "walk": MeasureKind("Walking", "lower"),
    "turn": MeasureKind("Turning", "lower"),
    "sit_down": MeasureKind("Sitting down", "lower"),
    "turns": MeasureKind("Turns", "", "1"),
    "repetitions": MeasureKind("Repetitions", "higher", "1"),
    "repetition_time": MeasureKind("Time of a repetition", "lower"),
    "quality": MeasureKind("Quality of movement", "higher", "1"),
}

_ROLES: Mapping[str, str] = {
    **dict.fromkeys(("standing_up", "sit_to_stand", "stand_up", "rising"), "sit_to_stand"),
    **dict.fromkeys(("walking", "walk", "gait", "walk_forward", "walk_back"), "walk"),
    **dict.fromkeys(("turning", "turn", "turn_1", "turn_2"), "turn"),
    **dict.fromkeys(("sitting_down", "stand_to_sit", "sit_down"), "sit_down"),
}


@dataclass(frozen=True, slots=True)
class TimedPhase:
    """A stretch of one label.

    Units:
        start, duration_s: seconds.
    """

    label: str
    start: float
    duration_s: float

    @property
    def end(self) -> float:
        """When it ended."""
        return self.start + self.duration_s


def kind_of(name: str) -> MeasureKind:
    """Title, unit and direction of a measure; of one that nobody knows, by its name."""
    known = KINDS.get(name)
    if known is not None:
        return known
    return MeasureKind(name.replace("_", " ").capitalize(), "")


def role_of(label: str) -> str:
    """What a label is in a timed-up-and-go trial; "" where it is nothing there."""
    return _ROLES.get("_".join(label.lower().replace("-", " ").replace("_", " ").split()), "")


def timed_up_and_go(phases: Sequence[TimedPhase]) -> list[Measure]:
    """Measures of the last whole trial: from standing up to the end of sitting down.

    Empty where there is none. A person who stands up and sits down without walking did another
    test.
    """
    begin: int | None = None
    found: Sequence[TimedPhase] = ()
    for i, phase in enumerate(phases):
        role = role_of(phase.label)
        if role == "sit_to_stand" and (begin is None or not _has_walk(phases[begin:i])):
            begin = i
        elif role == "sit_down" and begin is not None:
            if _has_walk(phases[begin:i]):
                found = phases[begin : i + 1]
            begin = None
    if not found:
        return []
    by_role: dict[str, list[float]] = defaultdict(list)
    for phase in found:
        by_role[role_of(phase.label)].append(phase.duration_s)
    measures = [Measure("total", found[-1].end - found[0].start, "s")]
    measures += [
        Measure(role, sum(by_role[role]), "s")
        for role in ("sit_to_stand", "walk", "turn", "sit_down")
        if by_role[role]
    ]
    return [*measures, Measure("turns", float(len(by_role["turn"])), "1")]


def _has_walk(phases: Iterable[TimedPhase]) -> bool:
    return any(role_of(phase.label) == "walk" for phase in phases)


def measures_of(events: Iterable[tuple[str, float, Mapping[str, Any]]]) -> list[Measure]:
    """Measures of a trial from what was decoded in it.

    Args:
        events: kind, time and data of each, in their order.
    """
    phases: list[TimedPhase] = []
    repetitions: list[float] = []
    scores: list[float] = []
    for kind, _, data in events:
        if kind == PHASE_ENDS:
            phases.append(
                TimedPhase(str(data["name"]), float(data["start"]), float(data["duration_s"]))
            )
        elif kind == REPETITION:
            repetitions.append(float(data["duration_s"]))
            if "score" in data:
                scores.append(float(data["score"]))
    phases.sort(key=lambda phase: phase.start)
    measures = timed_up_and_go(phases)
    if not measures:
        by_label: dict[str, float] = defaultdict(float)
        for phase in phases:
            by_label[phase.label] += phase.duration_s
        measures = [Measure(f"time_{label}", value, "s") for label, value in by_label.items()]
    if repetitions:
        measures.append(Measure("repetitions", float(len(repetitions)), "1"))
        measures.append(Measure("repetition_time", sum(repetitions) / len(repetitions), "s"))
    if scores:
        measures.append(Measure("quality", sum(scores) / len(scores), "1"))
    return measures
