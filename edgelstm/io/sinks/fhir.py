"""`fhir:out.ndjson`: Observations of FHIR R4, a JSON document a line (bulk data)."""

from __future__ import annotations

import asyncio
import json
import os
import time
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np

from edgelstm.dtypes import DType
from edgelstm.errors import OutputError
from edgelstm.io.address import Address, Options
from edgelstm.io.columns import element_names
from edgelstm.io.live import SinkContext
from edgelstm.io.predictions import NO_PREDICTION, Event, Predictions
from edgelstm.io.sinks.pending_bytes import PendingBytes
from edgelstm.signature import TensorSpec

EVERY_S = 1.0
SYSTEM = "urn:edgelstm"
_ABSENT = "http://terminology.hl7.org/CodeSystem/data-absent-reason"
CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"
_LAST_WAIT_S = 5.0
NAMESPACE = uuid.UUID("6f0f8b3a-2f36-5c7a-9a39-6b5f1c5a7d10")


def open_sink(address: Address, context: SinkContext) -> FhirSink:
    """The sink of an address.

    Raises:
        OutputError: no file is named.
    """
    return FhirSink(address, context)


class FhirSink:
    """An Observation for each stretch of a stream, and one for each event.

    Args:
        address: `fhir:FILE.ndjson`.
        context: of the run.
    """

    def __init__(self, address: Address, context: SinkContext) -> None:
        options = Options(address)
        self._every = options.seconds("every", EVERY_S)
        self._patient = options.text("patient", "")
        options.finish()
        self.name = address.shown
        self._path = address.path
        self._patients = context.patients
        self._rate = context.rate_hz
        self._model = context.model
        self._appends = context.appends
        self._parts: dict[str, list[Predictions]] = {}
        self._pending: PendingBytes | None = None
        self._descriptor = -1
        if not self._path:
            raise OutputError(f"{address.text}: name a file, as in fhir:observations.ndjson")

    @property
    def waiting(self) -> int:
        """Rows, or as good as."""
        return 0 if self._pending is None else len(self._pending) // 64

    @property
    def lost(self) -> Mapping[str, int]:
        """Nothing: it waits."""
        return {}

    async def open(self) -> None:
        """Open the file.

        Raises:
            OutputError: it cannot be.
        """
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0)
        try:
            self._descriptor = os.open(
                self._path, flags | (0 if self._appends else os.O_TRUNC), 0o666
            )
        except OSError as exc:
            raise OutputError(f"cannot write {self._path}: {exc.strerror or exc}") from exc
        self._pending = PendingBytes(self._descriptor, self.name)

    def write(self, predictions: Predictions) -> int:
        """Take rows; a stretch is written when it is long enough."""
        parts = self._parts.setdefault(predictions.stream, [])
        parts.append(predictions)
        if predictions.time[-1] - parts[0].time[0] >= self._every:
            self._write_stretch(predictions.stream)
        return -1

    def tell(self, event: Event) -> None:
        """Take an event."""
        observation = self._observation(event.stream, f"{event.time} {event.kind} {event.text}")
        observation["effectiveDateTime"] = moment(event.time)
        observation["code"] = _code(event.kind.replace(" ", "-"), event.kind)
        if event.kind == NO_PREDICTION:
            coding = {"system": _ABSENT, "code": "not-performed"}
            observation["dataAbsentReason"] = {"coding": [coding], "text": event.text}
        else:
            observation["valueString"] = event.text or event.kind
        self._put(observation)

    def poll(self) -> None:
        """Write what had no room before."""
        if self._pending is not None and len(self._pending):
            self._pending.push()

    async def close(self) -> None:
        """Write what is left.

        Raises:
            OutputError: there is no room for it.
        """
        if self._pending is None:
            return
        for stream in list(self._parts):
            self._write_stretch(stream)
        try:
            end = time.monotonic() + _LAST_WAIT_S
            while len(self._pending) and time.monotonic() < end:
                await asyncio.sleep(0.02)
                self._pending.push()
            if len(self._pending):
                raise OutputError(
                    f"{self.name}: {len(self._pending)} bytes could not be written: make room"
                )
        finally:
            os.close(self._descriptor)
            self._pending = None

    def _write_stretch(self, stream: str) -> None:
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
            names = element_names(TensorSpec(name, DType.F32, shape, 0, shape))
            for k, element in enumerate(names):
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
        self._put(observation)

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

    def _put(self, observation: Mapping[str, Any]) -> None:
        assert self._pending is not None
        self._pending.add((json.dumps(observation, ensure_ascii=False) + "\n").encode())


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
