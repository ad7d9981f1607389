"""A patient's history for other programs: CSV, JSON, a FHIR R4 bundle."""

from __future__ import annotations

import csv
import io
import json
import math
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from edgelstm.io.sinks.fhir_observations import CATEGORY, NAMESPACE, SYSTEM, moment
from edgelstm.monitor.history import PatientHistory, Trial, Visit
from edgelstm.monitor.measures import kind_of

_UCUM = "http://unitsofmeasure.org"

COLUMNS = (
    *("patient", "visit", "trial", "name", "side", "started", "ended", "discarded"),
    *("measure", "value", "unit"),
)


def to_csv(history: PatientHistory) -> str:
    """A row for each measure of each trial; trials without any have a row too."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for number, _, trial in _numbered(history):
        start = [
            *(_cell(history.pseudonym), number, trial.id, _cell(trial.name), trial.side),
            *(moment(trial.started), "" if trial.ended is None else moment(trial.ended)),
            _cell(trial.discarded or ""),
        ]
        for measure in trial.measures.values():
            writer.writerow([*start, _cell(measure.name), f"{measure.value:.6g}", measure.unit])
        if not trial.measures:
            writer.writerow([*start, "", "", ""])
    return text.getvalue()


def to_json(history: PatientHistory) -> dict[str, Any]:
    """Visits with their trials, and the verdict of each measure with its numbers."""
    return {
        "patient": history.pseudonym,
        "note": "a development tool, not a medical device",
        "visits": [
            {
                "started": moment(visit.started),
                "trials": [_trial(trial) for trial in visit.trials],
                "sides": {
                    name: verdict.to_json()
                    for name in history.measures
                    if (verdict := history.between_sides(name, visit)) is not None
                },
            }
            for visit in history.visits
        ],
        "trends": {
            name: {
                "unit": kind_of(name).unit,
                "better": kind_of(name).better,
                "since_first": since_first.to_json(),
                "since_previous": since_previous.to_json(),
            }
            for name in history.measures
            if (since_first := history.verdict(name)) is not None
            and (since_previous := history.verdict(name, before=-2)) is not None
        },
    }


def to_fhir(history: PatientHistory) -> dict[str, Any]:
    """A collection of Observations, one a trial that counts, its measures as components."""
    return {
        "resourceType": "Bundle",
        "type": "collection",
        "timestamp": moment(max((v.trials[-1].started for v in history.visits), default=0.0)),
        "entry": [
            {"fullUrl": f"urn:uuid:{observation['id']}", "resource": observation}
            for _, _, trial in _numbered(history)
            if trial.counts and trial.measures
            for observation in [_observation(history.pseudonym, trial)]
        ],
    }


def _numbered(history: PatientHistory) -> Iterator[tuple[int, Visit, Trial]]:
    for number, visit in enumerate(history.visits, 1):
        for trial in visit.trials:
            yield number, visit, trial


def _cell(text: str) -> str:
    """Text that no spreadsheet takes for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def _trial(trial: Trial) -> dict[str, Any]:
    return {
        "id": trial.id,
        "name": trial.name,
        "side": trial.side,
        "started": moment(trial.started),
        "ended": None if trial.ended is None else moment(trial.ended),
        "discarded": trial.discarded,
        "measures": {
            measure.name: {"value": measure.value, "unit": measure.unit}
            for measure in trial.measures.values()
        },
    }


def _observation(pseudonym: str, trial: Trial) -> dict[str, Any]:
    coding = {"system": CATEGORY, "code": "activity"}
    observation: dict[str, Any] = {
        "resourceType": "Observation",
        "id": str(uuid.uuid5(NAMESPACE, f"{pseudonym} {trial.id} {trial.started}")),
        "status": "preliminary",
        "category": [{"coding": [coding]}],
        "code": _code("trial", trial.name or "trial"),
        "subject": {"identifier": {"system": f"{SYSTEM}:pseudonym", "value": pseudonym}},
        "effectivePeriod": {"start": moment(trial.started), "end": moment(trial.ended or 0.0)},
        "component": [
            {
                "code": _code(measure.name, kind_of(measure.name).title),
                "valueQuantity": {
                    "value": round(measure.value, 6),
                    "unit": measure.unit,
                    "system": _UCUM,
                    "code": measure.unit,
                },
            }
            for measure in trial.measures.values()
            if math.isfinite(measure.value)
        ],
    }
    if trial.side:
        observation["bodySite"] = {"text": trial.side}
    return observation


def _code(code: str, text: str) -> Mapping[str, Any]:
    return {"coding": [{"system": f"{SYSTEM}:measure", "code": code}], "text": text}


def dump(data: Mapping[str, Any]) -> str:
    """JSON for people and programs."""
    return json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
