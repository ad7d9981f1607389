"""Predictions and events as Observations of FHIR R4."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np

from edgelstm.io.address import Options
from edgelstm.io.columns import names_of
from edgelstm.io.live import SinkContext
from edgelstm.io.predictions import NO_PREDICTION, Event, Predictions

EVERY_S = 1.0
SYSTEM = "urn:edgelstm"
_ABSENT = "http://terminology.hl7.org/CodeSystem/data-absent-reason"
CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"
NAMESPACE = uuid.UUID("6f0f8b3a-2f36-5c7a-9a39-6b5f1c5a7d10")


class Observations:
    """An Observation for each stretch of a stream, and one for each event.

    Its id comes out of stream, samples and model: what is made again has the same one.

    Args:
        options: takes `every`, `patient`.
        context: of the run.
    """

    def __init__(self, options: Options, context: SinkContext) -> None:
        self._every = options.seconds("every", EVERY_S)
        self._patient = options.text("patient", "")
        self._patients = context.patients
        self._rate = context.rate_hz
        self._model = context.model
        self._parts: dict[str, list[Predictions]] = {}

    def of_rows(self, predictions: Predictions) -> Iterator[dict[str, Any]]:
        """Take rows; the stretch that is long enough with them, if one is."""
        parts = self._parts.setdefault(predictions.stream, [])
        parts.append(predictions)
        if predictions.time[-1] - parts[0].time[0] >= self._every:
            yield self._stretch(predictions.stream)

    def rest(self) -> Iterator[dict[str, Any]]:
        """The stretches that were not long enough yet."""
        for stream in list(self._parts):
            yield self._stretch(stream)

    def of_event(self, event: Event) -> dict[str, Any]:
        """An event."""
        observation = self._observation(event.stream, f"{event.time} {event.kind} {event.text}")
        observation["effectiveDateTime"] = moment(event.time)
        observation["code"] = _code(event.kind.replace(" ", "-"), event.kind)
        if event.kind == NO_PREDICTION:
            coding = {"system": _ABSENT, "code": "not-performed"}
            observation["dataAbsentReason"] = {"coding": [coding], "text": event.text}
        else:
            observation["valueString"] = event.text or event.kind
        return observation

    def _stretch(self, stream: str) -> dict[str, Any]:
        parts = self._parts.pop(stream)
        first, last = parts[0], parts[-1]
        key = f"{self._model.model_id} {first.sequence[0]} {last.sequence[-1]}"
        observation = self._observation(stream, key)
        observation["code"] = _code(self._model.name, f"output of {self._model.name}")
        observation["effectivePeriod"] = {
            "start": moment(float(first.time[0])),
            "end": moment(float(last.time[-1])),
        }
        components = [
            _component(name, {"valueString": list(texts)[-1] or "unknown"})
            for name, texts in last.labels.items()
        ]
        times = np.concatenate([part.time for part in parts])
        period_ms = 1000.0 * self._period(times)
        for name, shape, _ in self._model.outputs:
            table = np.concatenate(
                [part.outputs[name].reshape(len(part), -1).astype(np.float64) for part in parts]
            )
            for k, element in enumerate(names_of(name, shape)):
                sampled = {
                    "origin": {"value": 0},
                    "period": round(period_ms, 6),
                    "dimensions": 1,
                    "data": " ".join(map(_number, table[:, k].tolist())),
                }
                components.append(_component(element, {"valueSampledData": sampled}))
        valid = np.concatenate([part.valid for part in parts])
        quality = np.concatenate([part.quality for part in parts])
        components.append(_component("valid", {"valueBoolean": bool(valid.all())}))
        components.append(
            _component("quality", {"valueQuantity": {"value": round(float(quality.mean()), 4)}})
        )
        observation["component"] = components
        if not valid.all():
            observation["note"] = [
                {"text": f"{int((~valid).sum())} of {len(valid)} samples were not measured"}
            ]
        return observation

    def _period(self, times: np.ndarray[Any, Any]) -> float:
        """Seconds between two samples."""
        if self._rate:
            return 1.0 / self._rate
        steps = np.diff(times)
        return float(np.median(steps)) if len(steps) and np.median(steps) > 0 else 1.0

    def _observation(self, stream: str, key: str) -> dict[str, Any]:
        patient = self._patients.get(stream, self._patient)
        observation: dict[str, Any] = {
            "resourceType": "Observation",
            "id": str(uuid.uuid5(NAMESPACE, f"{stream} {key}")),
            "status": "preliminary",
            "category": [{"coding": [{"system": CATEGORY, "code": "activity"}]}],
            "code": {},
            "device": {
                "identifier": {"system": f"{SYSTEM}:model", "value": self._model.model_id},
                "display": f"{self._model.name} on {stream}" if stream else self._model.name,
            },
        }
        if patient:
            observation["subject"] = {
                "identifier": {"system": f"{SYSTEM}:pseudonym", "value": patient}
            }
        return observation


def _code(code: str, text: str) -> dict[str, Any]:
    return {"coding": [{"system": f"{SYSTEM}:code", "code": code}], "text": text}


def _component(name: str, value: Mapping[str, Any]) -> dict[str, Any]:
    return {"code": _code(name, name), **value}


def _number(value: float) -> str:
    """As SampledData has it: E is an error, U and L are beyond the limits."""
    if value != value:
        return "E"
    if value in (float("inf"), -float("inf")):
        return "U" if value > 0 else "L"
    return f"{value:.7g}"


def moment(seconds: float) -> str:
    """ISO 8601, UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
