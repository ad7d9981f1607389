"""Charts of histories as SVG: trends with the detectable change, phases of several trials."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape

from edgelstm.monitor.history import PatientHistory
from edgelstm.monitor.measures import TimedPhase, kind_of

_WIDTH, _HEIGHT = 400, 200
_WIDE = 900
_DEEP = ("#0072b2", "#009e73", "#d55e00")
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 14, 14, 34
_DAY_WIDTH = 46

PHASE_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8a8a8a")
"""Okabe and Ito: told apart without red and green; charts name them besides."""


def trend_chart(history: PatientHistory, measure: str) -> str:
    """Trials and means by visit; the band is what scatter alone explains around the first visit."""
    sides = history.sides if len(history.sides) > 1 else [None]
    points = [
        (k, visit.values(measure, side), i)
        for i, side in enumerate(sides)
        for k, visit in enumerate(history.visits)
    ]
    shown = [value for _, values, _ in points for value in values]
    if not shown:
        return ""
    kind = kind_of(measure)
    verdict = history.verdict(measure)
    low, high = min(shown), max(shown)
    if verdict is not None and verdict.error.is_enough:
        low = min(low, verdict.before - verdict.mdc95)
        high = max(high, verdict.before + verdict.mdc95)
    margin = (high - low) * 0.08 or abs(high) * 0.1 or 1.0
    low, high = low - margin, high + margin
    count = len(history.visits)

    def x(k: float) -> float:
        inner = _WIDTH - _LEFT - _RIGHT
        return _LEFT + inner * ((k + 0.5) / count)

    def y(value: float) -> float:
        return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (high - value) / (high - low)

    parts: list[str] = []
    if verdict is not None and verdict.error.is_enough:
        top, bottom = y(verdict.before + verdict.mdc95), y(verdict.before - verdict.mdc95)
        parts.append(
            f'<rect class="band" x="{_LEFT}" y="{top:.1f}" width="{_WIDTH - _LEFT - _RIGHT}" '
            f'height="{bottom - top:.1f}"/>'
            f'<text class="small" x="{_WIDTH - _RIGHT - 4}" y="{top + 12:.1f}" '
            'text-anchor="end">within MDC95 of the first visit</text>'
        )
    parts += [
        f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(value):.1f}" '
        f'y2="{y(value):.1f}"/><text x="{_LEFT - 6}" y="{y(value) + 4:.1f}" '
        f'text-anchor="end">{value:g}</text>'
        for value in _ticks(low, high)
    ]
    every = -(-count * _DAY_WIDTH // (_WIDTH - _LEFT - _RIGHT))
    for k, visit in list(enumerate(history.visits))[::every]:
        day = datetime.fromtimestamp(visit.started, UTC).strftime("%d %b")
        parts.append(f'<text x="{x(k):.1f}" y="{_HEIGHT - 14}" text-anchor="middle">{day}</text>')
    for i in range(len(sides)):
        own = [(k, values) for k, values, side in points if side == i and values]
        line = " ".join(f"{x(k):.1f},{y(sum(v) / len(v)):.1f}" for k, v in own)
        parts.append(f'<polyline class="line s{i}" points="{line}"/>')
        for k, values in own:
            parts += [
                f'<circle class="trial s{i}" cx="{x(k):.1f}" cy="{y(value):.1f}" r="2.6"/>'
                for value in values
            ]
            parts.append(
                f'<circle class="mean s{i}" cx="{x(k):.1f}" cy="{y(sum(values) / len(values)):.1f}"'
                ' r="4.5"/>'
            )
    if sides != [None]:
        for i, side in enumerate(sides):
            parts.append(
                f'<text class="s{i} key" x="{_LEFT + 6 + 110 * i}" y="{_TOP + 10}">'
                f"\u25cf {escape(side or 'no side')}</text>"
            )
    unit = f" ({kind.unit})" if kind.unit != "1" else ""
    label = f"{kind.title}{unit} by visit: " + ", ".join(
        f"{sum(values) / len(values):.3g}" for _, values, _ in points if values
    )
    return _svg(_WIDTH, _HEIGHT, label, parts)


def phase_bars(rows: Sequence[tuple[str, Sequence[TimedPhase]]]) -> str:
    """Trials under each other, each from its first phase on; every bar bears its label.

    Args:
        rows: a title and phases of each trial.
    """
    kept = [(title, phases) for title, phases in rows if phases]
    if not kept:
        return ""
    longest = max(phases[-1].end - phases[0].start for _, phases in kept) or 1.0
    labels = list(dict.fromkeys(phase.label for _, phases in kept for phase in phases))
    left, row_height = 120, 26
    scale = (_WIDE - left - _RIGHT) / longest
    parts: list[str] = []
    for i, (title, phases) in enumerate(kept):
        top = 4 + i * row_height
        parts.append(
            f'<text x="{left - 6}" y="{top + 15}" text-anchor="end">{escape(title)}</text>'
        )
        for phase in phases:
            at = left + (phase.start - phases[0].start) * scale
            width = max(phase.duration_s * scale, 0.5)
            colour = PHASE_COLOURS[labels.index(phase.label) % len(PHASE_COLOURS)]
            name = escape(f"{phase.label} {phase.duration_s:.2f} s")
            parts.append(
                f'<rect x="{at:.1f}" y="{top}" width="{width:.1f}" height="20" fill="{colour}">'
                f"<title>{name}</title></rect>"
            )
            light = " light" if colour in _DEEP else ""
            if width > 34:
                parts.append(
                    f'<text class="inbar{light}" x="{at + width / 2:.1f}" y="{top + 14}" '
                    f'text-anchor="middle">{phase.duration_s:.1f}</text>'
                )
    height = 8 + len(kept) * row_height + 22
    at = float(left)
    for label, colour in zip(labels, _repeated(len(labels)), strict=True):
        parts.append(
            f'<rect x="{at:.0f}" y="{height - 18}" width="10" height="10" fill="{colour}"/>'
            f'<text x="{at + 14:.0f}" y="{height - 9}">{escape(label.replace("_", " "))}</text>'
        )
        at += 30 + 8.2 * len(label)
    return _svg(_WIDE, height, "phases of trials, seconds", parts)


def _repeated(count: int) -> list[str]:
    return [PHASE_COLOURS[i % len(PHASE_COLOURS)] for i in range(count)]


def _ticks(low: float, high: float) -> list[float]:
    """Some three to six round numbers."""
    span = high - low
    step = 10.0 ** _floor_log10(span / 3)
    for factor in (1.0, 2.0, 5.0, 10.0):
        if span / (step * factor) <= 5:
            step *= factor
            break
    first = int(low // step) + 1
    return [round(k * step, 9) for k in range(first, int(high // step) + 1)]


def _floor_log10(value: float) -> int:
    return int(f"{value:e}".partition("e")[2])


def _svg(width: int, height: int, label: str, parts: Sequence[str]) -> str:
    return (
        f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape(label, quote=True)}">{"".join(parts)}</svg>'
    )
