"""The printable report of a patient: one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape

from edgelstm.monitor.charts import phase_bars, trend_chart
from edgelstm.monitor.history import PatientHistory, Trial, Visit
from edgelstm.monitor.measures import KINDS, TimedPhase, kind_of
from edgelstm.monitor.trend import Change, Verdict
from edgelstm.version import VERSION

DISCLAIMER = (
    "edgelstm is a development tool, not a medical device. "
    "What is shown here supports no diagnosis and no decision about treatment."
)

SIGNS = {
    Change.IMPROVED: "\u25b2",
    Change.NONE: "\u25cb",
    Change.SETBACK: "\u25bc",
    Change.CHANGED: "\u25c7",
    Change.UNKNOWN: "?",
}
"""A sign beside each verdict, for those who do not see its colour."""

STYLE = """
:root{color-scheme:light}
body{font:15px/1.45 system-ui,sans-serif;color:#1c2430;background:#fff;max-width:62rem;
margin:1.5rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin:0}h2{font-size:1.15rem;margin:1.6rem 0 .4rem}
h3{font-size:1rem;margin:0 0 .3rem}
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.3rem .6rem;
border-bottom:1px solid #d5dbe3;font-variant-numeric:tabular-nums}
th{font-weight:600;color:#46536a}td.n{text-align:right}td.t{white-space:nowrap}
.warn{border:1px solid #b9c3d0;border-radius:6px;padding:.5rem .8rem;margin:.8rem 0;color:#46536a}
.grid2{display:grid;grid-template-columns:repeat(auto-fit,minmax(24rem,1fr));gap:1rem}
figure{margin:0;border:1px solid #d5dbe3;border-radius:8px;padding:.7rem;break-inside:avoid}
.verdict{font-weight:600}.improved{color:#00614a}.setback{color:#a33c00}
.chart{width:100%;height:auto;font:11px system-ui,sans-serif}.chart text{fill:#46536a}
.chart .grid{stroke:#e3e8ee}.chart .band{fill:#0072b2;opacity:.1}.chart .line{fill:none;
stroke-width:2}.chart .small{font-size:10px}.chart .inbar{fill:#10161d;font-weight:600}
.chart .inbar.light{fill:#fff}
.chart .s0{stroke:#0072b2;fill:#0072b2}.chart .s1{stroke:#b35c00;fill:#b35c00}
.chart .s2{stroke:#00785a;fill:#00785a}.chart .s3{stroke:#8d3f6e;fill:#8d3f6e}
.chart .line.s0,.chart .line.s1,.chart .line.s2,.chart .line.s3{fill:none}
.chart .trial{fill-opacity:.25;stroke-opacity:.6}.chart .key{stroke:none}
@media print{body{margin:0;max-width:none}h2{break-after:avoid}tr{break-inside:avoid}}
"""


def report_page(
    history: PatientHistory,
    notes: Sequence[tuple[float, str, str]] = (),
    phases: Sequence[tuple[str, Sequence[TimedPhase]]] = (),
) -> str:
    """The whole report.

    Args:
        history: of the patient.
        notes: time, text and role.
        phases: rows of `charts.phase_bars`.
    """
    body = history_body(history, notes, phases)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "style-src 'unsafe-inline'\">"
        f"<title>Report {escape(history.pseudonym)}</title><style>{STYLE}</style></head>"
        f"<body><main>{body}<p><small>edgelstm {escape(VERSION)}. Times are UTC.</small></p></main>"
        "</body></html>"
    )


def history_body(
    history: PatientHistory,
    notes: Sequence[tuple[float, str, str]] = (),
    phases: Sequence[tuple[str, Sequence[TimedPhase]]] = (),
) -> str:
    """What stands in the report, and on the page of a patient."""
    trials = [trial for visit in history.visits for trial in visit.trials]
    counted = sum(trial.counts for trial in trials)
    when = (
        f"{_day(history.visits[0].started)} to {_day(history.visits[-1].started)}"
        if history.visits
        else "no visit yet"
    )
    parts = [
        f"<h1>Patient {escape(history.pseudonym)}</h1>",
        f"<p>{len(history.visits)} visits, {counted} trials that count, "
        f"{len(trials) - counted} that do not; {when}.</p>",
        f'<p class="warn">{DISCLAIMER}</p>',
        _trends(history),
        _sides(history),
    ]
    if bars := phase_bars(phases):
        parts.append(f"<h2>First and last visit on top of each other</h2><figure>{bars}</figure>")
    parts += [_trials(history.visits), _notes(notes)]
    return "".join(parts)


def overlay(
    visits: Sequence[Visit], phases_of: Sequence[Sequence[TimedPhase]]
) -> list[tuple[str, Sequence[TimedPhase]]]:
    """Rows of `charts.phase_bars` for trials of several visits."""
    return [
        (f"{_day(visit.started)}", phases) for visit, phases in zip(visits, phases_of, strict=True)
    ]


def verdict_cell(verdict: Verdict | None, unit: str) -> str:
    """A verdict with its numbers."""
    if verdict is None:
        return "one visit"
    kind = verdict.change.name.lower()
    unit = "" if unit == "1" else unit
    name, _, numbers = verdict.text(unit).partition(": ")
    return (
        f'<span class="verdict {kind}">{SIGNS[verdict.change]} {escape(name)}</span><br>'
        f"<small>{escape(numbers)}</small>"
    )


def _trends(history: PatientHistory) -> str:
    rows, charts = [], []
    for name in history.measures:
        kind, error = kind_of(name), history.error(name)
        unit = "" if kind.unit == "1" else f" {kind.unit}"
        sem = f"{error.sem:.3g}{unit}" if error.is_enough else "unknown"
        rows.append(
            f"<tr><th scope=row>{escape(kind.title)}</th>"
            f"<td>{verdict_cell(history.verdict(name), kind.unit)}</td>"
            f"<td>{verdict_cell(history.verdict(name, before=-2), kind.unit)}</td>"
            f"<td>{sem}<br><small>{escape(error.source)}"
            f"{'' if error.is_given else f', {error.freedom:g} degrees of freedom'}</small></td>"
            "</tr>"
        )
        if chart := trend_chart(history, name):
            suffix = f" ({kind.unit})" if kind.unit != "1" else ""
            charts.append(f"<figure><h3>{escape(kind.title)}{escape(suffix)}</h3>{chart}</figure>")
    if not rows:
        return "<h2>Trends</h2><p>No measured trial yet.</p>"
    return (
        "<h2>Trends</h2><table><thead><tr><th scope=col>Measure</th>"
        "<th scope=col>Since the first visit</th><th scope=col>Since the visit before</th>"
        "<th scope=col>Standard error of measurement</th></tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table><p><small>MDC95: a change of the means that the "
        "scatter of repeated trials alone exceeds in 5 % of comparisons; each comparison has that "
        "chance of its own.</small></p>"
        f'<div class="grid2">{"".join(charts)}</div>'
    )


def _sides(history: PatientHistory) -> str:
    if not history.visits:
        return ""
    visit = history.visits[-1]
    rows = []
    for name in history.measures:
        verdict = history.between_sides(name, visit)
        if verdict is None:
            continue
        ratio = verdict.before / verdict.after if verdict.after else float("nan")
        beyond = {Change.CHANGED: "beyond measurement error", Change.NONE: "within it"}
        rows.append(
            f"<tr><th scope=row>{escape(kind_of(name).title)}</th><td class=n>"
            f"{verdict.before:.3g}</td><td class=n>{verdict.after:.3g}</td><td class=n>{ratio:.2f}"
            f"</td><td>{beyond.get(verdict.change, 'not enough repeated trials')}</td></tr>"
        )
    if not rows:
        return ""
    first, second = ("Affected", "Unaffected") if "affected" in history.sides else ("Left", "Right")
    return (
        "<h2>Side against side, last visit</h2><table><thead><tr><th scope=col>Measure</th>"
        f"<th scope=col>{first}</th><th scope=col>{second}</th><th scope=col>Ratio</th>"
        f"<th scope=col>Difference</th></tr></thead><tbody>{''.join(rows)}</tbody></table>"
    )


def _trials(visits: Sequence[Visit]) -> str:
    found = dict.fromkeys(m for v in visits for t in v.trials for m in t.measures)
    names = sorted(found, key=[*KINDS, *found].index)
    head = "".join(f"<th scope=col>{escape(kind_of(name).title)}</th>" for name in names)
    rows = [_trial_row(k, trial, names) for k, v in enumerate(visits, 1) for trial in v.trials]
    if not rows:
        return ""
    return (
        "<h2>Trials</h2><table><thead><tr><th scope=col>Visit</th><th scope=col>Time</th>"
        f"<th scope=col>Trial</th><th scope=col>Side</th>{head}<th scope=col>Counts</th></tr>"
        f"</thead><tbody>{''.join(rows)}</tbody></table>"
    )


def _trial_row(number: int, trial: Trial, names: Sequence[str]) -> str:
    cells = "".join(
        f"<td class=n>{trial.measures[name].value:.2f}</td>"
        if name in trial.measures
        else "<td class=n>-</td>"
        for name in names
    )
    counts = "yes"
    if trial.discarded is not None:
        counts = f"no: {escape(trial.discarded)}"
    elif trial.ended is None:
        counts = "goes on"
    clock = datetime.fromtimestamp(trial.started, UTC).strftime("%Y-%m-%d %H:%M")
    return (
        f"<tr><td>{number}</td><td class=t>{clock}</td><td>{escape(trial.name)}</td>"
        f"<td>{escape(trial.side)}</td>{cells}<td>{counts}</td></tr>"
    )


def _notes(notes: Sequence[tuple[float, str, str]]) -> str:
    if not notes:
        return ""
    rows = "".join(
        f"<tr><td>{datetime.fromtimestamp(when, UTC):%Y-%m-%d %H:%M}</td><td>{escape(text)}</td>"
        f"<td>{escape(by)}</td></tr>"
        for when, text, by in notes
    )
    return (
        "<h2>Notes</h2><table><thead><tr><th scope=col>Time</th><th scope=col>Note</th>"
        f"<th scope=col>By</th></tr></thead><tbody>{rows}</tbody></table>"
    )


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")
