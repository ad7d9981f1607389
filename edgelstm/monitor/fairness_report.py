"""The report on groups: a page with plots, and the data behind it."""

from __future__ import annotations

import csv
import io
import math
from html import escape
from typing import Any

from edgelstm.monitor.fairness import FEWEST_PEOPLE, Audit, Estimate, GroupResult
from edgelstm.monitor.report import DISCLAIMER, STYLE
from edgelstm.monitor.trend import finite

_WIDTH, _LEFT, _ROW = 640, 190, 24


def to_json(audit: Audit, name: str) -> dict[str, Any]:
    """Everything that the page shows."""
    smallest = audit.smallest
    return {
        "model": name,
        "labels": list(audit.labels),
        "smallest_group": None if smallest is None else _group(smallest),
        "groups": [_group(result) for result in audit.results],
        "recordings": [
            {
                "recording": each.recording,
                "person": each.person,
                "groups": dict(each.groups),
                "samples": each.samples,
                "errors": each.errors,
                "phases": each.phases,
                "missed": each.missed,
                "delays_s": list(each.delays_s),
            }
            for each in audit.judged
        ],
    }


def to_csv(audit: Audit) -> str:
    """A row for each group."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    figures = ("accuracy", "missed_phases", "median_delay_s")
    writer.writerow(
        [
            *("attribute", "group", "people", "recordings", "samples"),
            *(f"{figure}{end}" for figure in figures for end in ("", "_low", "_high")),
        ]
    )
    for each in audit.results:
        row: list[object] = [each.attribute, each.group, each.people, each.recordings, each.samples]
        for figure in (each.accuracy, each.missed, each.delay_s):
            row += [
                "" if math.isnan(x) else f"{x:.6g}" for x in (figure.value, figure.low, figure.high)
            ]
        writer.writerow(row)
    return text.getvalue()


def to_html(audit: Audit, name: str) -> str:
    """The page; it needs nothing else."""
    smallest = audit.smallest
    said = ""
    if smallest is not None:
        said = (
            f"<p><b>Smallest group: {escape(smallest.attribute)} = {escape(smallest.group)}</b>, "
            f"{smallest.people} people, {smallest.recordings} recordings."
        )
        if smallest.people < FEWEST_PEOPLE:
            said += " Too few for an interval: nothing can be said about such people."
        said += "</p>"
    gaps = "".join(
        f"<li>{escape(attribute)}: {escape(low.group)} {low.accuracy.value:.1%}, "
        f"{escape(high.group)} {high.accuracy.value:.1%}; the intervals "
        f"{'overlap' if _overlap(low.accuracy, high.accuracy) else 'do not overlap'}</li>"
        for attribute, low, high in audit.gaps()
    )
    rows = "".join(
        f"<tr><td>{escape(r.attribute)}</td><th scope=row>{escape(r.group)}</th>"
        f"<td class=n>{r.people}</td><td class=n>{r.recordings}</td><td class=n>{r.samples}</td>"
        f"<td>{_text(r.accuracy, True)}</td><td>{_text(r.missed, True)}</td>"
        f"<td>{_text(r.delay_s, False)}</td></tr>"
        for r in audit.results
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f"<title>Groups: {escape(name)}</title><style>{STYLE}</style></head><body><main>"
        f"<h1>{escape(name)} by groups of people</h1>"
        f'<p class="warn">{DISCLAIMER}</p>{said}'
        "<p>Intervals: 95 %, people drawn anew (bootstrap). Accuracy counts samples; a phase is "
        "missed where the model never names it while it lasts; the delay is the median time from "
        "its beginning until the model names it.</p>"
        f"<h2>Lowest and highest accuracy</h2><ul>{gaps or '<li>one group only</li>'}</ul>"
        f"<h2>Accuracy</h2><figure>{_chart(audit)}</figure>"
        "<h2>All figures</h2><table><thead><tr><th>Attribute</th><th>Group</th><th>People</th>"
        "<th>Recordings</th><th>Samples</th><th>Accuracy</th><th>Missed phases</th>"
        f"<th>Median delay</th></tr></thead><tbody>{rows}</tbody></table></main></body></html>"
    )


def _chart(audit: Audit) -> str:
    values = [
        x
        for r in audit.results
        for x in (r.accuracy.value, r.accuracy.low, r.accuracy.high)
        if math.isfinite(x)
    ]
    low = math.floor(20 * min(values, default=0.0)) / 20
    span = (1.0 - low) or 1.0
    parts = []
    bottom = _ROW * len(audit.results)
    for k in range(5):
        value = low + span * k / 4
        x = _x(value, low, span)
        parts.append(
            f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{bottom}"/>'
            f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">'
            f"{value:.0%}</text>"
        )
    for i, r in enumerate(audit.results):
        y = _ROW * i + _ROW / 2
        title = f"{r.attribute} = {r.group}" if r.attribute else r.group
        parts.append(
            f'<text x="{_LEFT - 10}" y="{y + 4}" text-anchor="end">{escape(title)} '
            f"(n = {r.people})</text>"
        )
        if math.isfinite(r.accuracy.low):
            parts.append(
                f'<line class="line s0" x1="{_x(r.accuracy.low, low, span):.1f}" '
                f'x2="{_x(r.accuracy.high, low, span):.1f}" y1="{y}" y2="{y}"/>'
            )
        if math.isfinite(r.accuracy.value):
            x = _x(r.accuracy.value, low, span)
            parts.append(f'<circle class="s0" cx="{x:.1f}" cy="{y}" r="4.5"/>')
    height = _ROW * len(audit.results) + 24
    return (
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'aria-label="accuracy by group">{"".join(parts)}</svg>'
    )


def _x(value: float, low: float, span: float) -> float:
    return _LEFT + (_WIDTH - _LEFT - 20) * (value - low) / span


def _overlap(one: Estimate, other: Estimate) -> bool:
    if not all(map(math.isfinite, (one.low, one.high, other.low, other.high))):
        return True
    return one.high >= other.low and other.high >= one.low


def _text(estimate: Estimate, is_share: bool) -> str:
    if math.isnan(estimate.value):
        return "-"

    def one(value: float) -> str:
        return f"{value:.1%}" if is_share else f"{value:.2f} s"

    if math.isnan(estimate.low):
        return f"{one(estimate.value)} (too few people)"
    return f"{one(estimate.value)} ({one(estimate.low)} to {one(estimate.high)})"


def _group(result: GroupResult) -> dict[str, Any]:
    def figure(estimate: Estimate) -> dict[str, Any]:
        return {
            "value": finite(estimate.value),
            "low": finite(estimate.low),
            "high": finite(estimate.high),
        }

    return {
        "attribute": result.attribute,
        "group": result.group,
        "people": result.people,
        "recordings": result.recordings,
        "samples": result.samples,
        "accuracy": figure(result.accuracy),
        "missed_phases": figure(result.missed),
        "median_delay_s": figure(result.delay_s),
    }
