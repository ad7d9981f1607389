"""Pages that the server writes: the list of patients, and a patient's history."""

from __future__ import annotations

from datetime import UTC, datetime
from html import escape
from urllib.parse import quote

from edgelstm.monitor.history import History
from edgelstm.monitor.patient_page import patient_body
from edgelstm.monitor.report import DISCLAIMER

_HEAD = (
    '<!doctype html><html lang="en" data-theme="auto"><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width,initial-scale=1">'
    "<title>{title}</title>"
    '<link rel="icon" href="/static/icon.svg"><link rel="stylesheet" href="/static/report.css">'
    '<link rel="stylesheet" href="/static/page.css">'
    '<script type="module" src="/static/history.js"></script></head><body class="history">'
    '<header class="bar"><a class="brand" href="/">edgelstm monitor</a>'
    '<nav aria-label="pages"><a href="/">Live</a><a href="/why">Why</a>'
    '<a href="/history" aria-current="page">History</a></nav><span class="grow"></span>'
    '<button id="theme" type="button">Theme</button></header>'
    '<main class="paper">'
)


def history_page(history: History, patient: str) -> str:
    """A patient's history, or the list of patients.

    Args:
        history: of the store.
        patient: a pseudonym; "" for the list.

    Raises:
        RecordingError: the store knows no such patient.
    """
    if not patient:
        return _list(history)
    key = quote(patient, safe="")
    actions = "".join(
        f'<a class="button" href="/export?patient={key}&amp;format={kind}" download>{title}</a>'
        for kind, title in (("csv", "CSV"), ("json", "JSON"), ("fhir", "FHIR"))
    )
    return (
        _HEAD.format(title=f"History of {escape(patient)}")
        + f'<div class="actions"><a class="button" href="/history">All patients</a>'
        f'<span>Export</span>{actions}<button id="print" type="button">Print</button></div>'
        + patient_body(history, patient)
        + "</main></body></html>"
    )


def _list(history: History) -> str:
    rows = []
    for name in history.patients():
        found = history.of_patient(name)
        trials = sum(len(visit.trials) for visit in found.visits)
        day = datetime.fromtimestamp(found.visits[-1].started, UTC) if trials else None
        last = "-" if day is None else f"{day:%Y-%m-%d}"
        rows.append(
            f'<tr><th scope="row"><a href="/history?patient={quote(name, safe="")}">'
            f"{escape(name)}</a></th><td class=n>{len(found.visits)}</td>"
            f"<td class=n>{trials}</td><td class=n>{last}</td></tr>"
        )
    heads = "".join(
        f'<th scope="col" class="n">{x}</th>' for x in ("Visits", "Trials", "Last visit")
    )
    table = (
        f'<table class="patients"><thead><tr><th scope="col">Patient</th>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
        if rows
        else "<p>No patient yet: <code>edgelstm monitor ... --patient PSEUDONYM</code>.</p>"
    )
    return (
        _HEAD.format(title="Patients")
        + f'<h1>Patients</h1><p class="warn">{DISCLAIMER}</p>{table}</main></body></html>'
    )
