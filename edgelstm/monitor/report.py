"""The printable report of a patient: one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path

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

STYLE = Path(__file__).with_name("static").joinpath("report.css").read_text(encoding="utf-8")
"""Of reports, which carry it, and of the pages of the history."""


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


def _table(title: str, head: str, rows: Sequence[str]) -> str:
    """A table that scrolls by itself where it is wider than a tablet."""
    return (
        f'<h2>{title}</h2><div class="scroll" role="region" tabindex="0" aria-label="{title}">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _heads(*titles: str) -> str:
    return "".join(f"<th scope=col>{title}</th>" for title in titles)


def _trends(history: PatientHistory) -> str:
    rows, charts, once = [], [], []
    for name in history.measures:
        kind, error = kind_of(name), history.error(name)
        if sum(bool(visit.values(name)) for visit in history.visits) < 2:
            once.append(escape(kind.title.lower()))
            continue
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
    single = f"<p>Measured at one visit only: {', '.join(once)}.</p>" if once else ""
    if not rows:
        return f"<h2>Trends</h2>{single or '<p>No measured trial yet.</p>'}"
    head = _heads(
        "Measure",
        "Since the first visit",
        "Since the visit before",
        "Standard error of measurement",
    )
    return (
        f"{_table('Trends', head, rows)}{single}"
        "<p><small>MDC95: a change of the means that the "
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
    sides = ("Affected", "Unaffected") if "affected" in history.sides else ("Left", "Right")
    head = (
        _heads("Measure")
        + "".join(f"<th scope=col class=n>{title}</th>" for title in (*sides, "Ratio"))
        + _heads("Difference")
    )
    return _table("Side against side, last visit", head, rows)


def _trials(visits: Sequence[Visit]) -> str:
    trials = [trial for visit in visits for trial in visit.trials]
    found = {name for trial in trials for name in trial.measures}
    names = [name for name in KINDS if name in found]
    is_sided = any(trial.side for trial in trials)
    has_others = bool(found.difference(names))
    head = (
        _heads("Visit", "Time", "Trial", *(["Side"] if is_sided else []))
        + "".join(f"<th scope=col class=n>{escape(kind_of(name).title)}</th>" for name in names)
        + _heads(*(["Other"] if has_others else []), "Counts")
    )
    rows = [
        _trial_row(k if trial is visit.trials[0] else None, trial, names, is_sided, has_others)
        for k, visit in enumerate(visits, 1)
        for trial in visit.trials
    ]
    return _table("Trials", head, rows) if rows else ""


def _trial_row(
    number: int | None, trial: Trial, names: Sequence[str], is_sided: bool, has_others: bool
) -> str:
    def cell(name: str) -> str:
        if name not in trial.measures:
            return "<td class=n>-</td>"
        found = trial.measures[name]
        return f"<td class=n>{found.value:{'.3g' if found.unit == '1' else '.2f'}}</td>"

    others = ", ".join(
        f"{kind_of(name).title.lower()} {found.value:.2f} {'' if found.unit == '1' else found.unit}"
        for name, found in trial.measures.items()
        if name not in names
    )
    counts = "yes"
    if trial.discarded is not None:
        counts = f"no: {escape(trial.discarded)}"
    elif trial.ended is None:
        counts = "goes on"
    clock = datetime.fromtimestamp(trial.started, UTC).strftime("%Y-%m-%d %H:%M")
    return (
        f"<tr{'' if number is None else ' class=first'}><td>{number or ''}</td>"
        f"<td class=t>{clock}</td><td class=name>{escape(trial.name)}</td>"
        + (f"<td>{escape(trial.side)}</td>" if is_sided else "")
        + "".join(map(cell, names))
        + (f"<td><small>{escape(others)}</small></td>" if has_others else "")
        + f"<td>{counts}</td></tr>"
    )


def _notes(notes: Sequence[tuple[float, str, str]]) -> str:
    if not notes:
        return ""
    rows = [
        f"<tr><td class=t>{datetime.fromtimestamp(when, UTC):%Y-%m-%d %H:%M}</td>"
        f"<td>{escape(text)}</td><td>{escape(by)}</td></tr>"
        for when, text, by in notes
    ]
    return _table("Notes", _heads("Time", "Note", "By"), rows)


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")
