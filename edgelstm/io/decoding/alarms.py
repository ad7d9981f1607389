"""Values beyond a limit for some time, which somebody may have to acknowledge."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edgelstm.io.decoding.events import ALARM, ALARM_ACKNOWLEDGED, ALARM_ENDS, Decoded

_ROUNDING_S = 1e-6


@dataclass(frozen=True, slots=True)
class AlarmRule:
    """When an alarm is raised, and when it ends.

    Args:
        name: for people.
        column: of the outputs.
        above, below: the limit; one of them.
        clear: value at which it ends: lower than `above`, or higher than `below`.
        for_s: how long the limit is passed before it is raised.
        needs_acknowledgement: whether it stays until somebody acknowledged it.
    """

    name: str
    column: str
    above: float | None = None
    below: float | None = None
    clear: float | None = None
    for_s: float = 0.0
    needs_acknowledgement: bool = False

    def is_beyond(self, value: float) -> bool:
        """Whether the limit is passed; NaN passes none."""
        if self.above is not None:
            return value > self.above
        return self.below is not None and value < self.below

    def is_clear(self, value: float) -> bool:
        """Whether a raised alarm may end; NaN ends none."""
        if self.above is not None:
            return value <= (self.above if self.clear is None else self.clear)
        limit = self.below if self.clear is None else self.clear
        return limit is not None and value >= limit


class Alarm:
    """One alarm: quiet, raised, or over and still to be acknowledged."""

    STATE = ("is_raised", "is_acknowledged", "_since", "_raised_at")

    def __init__(self, rule: AlarmRule) -> None:
        self.rule = rule
        self.is_raised = False
        self.is_acknowledged = True
        self._since = math.nan
        self._raised_at = math.nan

    @property
    def is_shown(self) -> bool:
        """Whether it still wants attention."""
        return self.is_raised or not self.is_acknowledged

    def begin_anew(self) -> None:
        """The stream has a gap: what was going on goes on, what was about to be raised is not."""
        if not self.is_raised:
            self._since = math.nan

    def see(self, value: float, time: float, sample: int) -> list[Decoded]:
        """One sample in its order."""
        rule = self.rule
        if self.is_raised:
            return self._end(value, time, sample) if rule.is_clear(value) else []
        if not rule.is_beyond(value):
            if not math.isnan(value):
                self._since = math.nan
            return []
        if math.isnan(self._since):
            self._since = time
        if time - self._since < rule.for_s - _ROUNDING_S:
            return []
        self.is_raised = True
        self.is_acknowledged = not rule.needs_acknowledgement
        self._raised_at = time
        data = {"value": value, "since": self._since, "acknowledge": rule.needs_acknowledgement}
        text = f"{rule.name}: {rule.column} is {value:.4g}"
        return [Decoded(ALARM, rule.name, time, sample, data, text)]

    def acknowledge(self, time: float, sample: int, by: str = "") -> list[Decoded]:
        """Somebody has seen it; nothing where there is nothing to acknowledge."""
        if self.is_acknowledged:
            return []
        self.is_acknowledged = True
        data = {"by": by, "raised": self._raised_at, "is_over": not self.is_raised}
        text = f"{self.rule.name} acknowledged" + (f" by {by}" if by else "")
        return [Decoded(ALARM_ACKNOWLEDGED, self.rule.name, time, sample, data, text)]

    def _end(self, value: float, time: float, sample: int) -> list[Decoded]:
        self.is_raised = False
        self._since = math.nan
        data = {"value": value, "duration_s": time - self._raised_at}
        text = f"{self.rule.name} ends after {time - self._raised_at:.2f} s"
        return [Decoded(ALARM_ENDS, self.rule.name, time, sample, data, text)]
