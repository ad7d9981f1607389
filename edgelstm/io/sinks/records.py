"""Predictions and events as records of names and values: what text formats and messages hold."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from typing import Any

import numpy as np

from edgelstm.dtypes import is_floating
from edgelstm.io.block import Array
from edgelstm.io.predictions import Event, Predictions, flag_names

_SHORT = 12
"""Digits of a model's identity that tell models apart in practice."""


to_json = json.JSONEncoder(ensure_ascii=False).encode
"""A record as text."""


def plain_values(values: Array) -> list[Any]:
    """Rows as JSON has them: the shortest digits that read back exactly, null for NaN."""
    flat = values.reshape(-1)
    if flat.dtype == np.float64:
        items: list[Any] = [value if isfinite(value) else None for value in flat.tolist()]
    elif is_floating(flat.dtype):
        texts = flat.astype(str).tolist()
        finite = np.isfinite(flat).tolist()
        items = [float(text) if good else None for text, good in zip(texts, finite, strict=True)]
    else:
        items = flat.tolist()
    for extent in reversed(values.shape[1:]):
        items = [items[i : i + extent] for i in range(0, len(items), extent)] if extent else items
    return items


def records(predictions: Predictions) -> Iterator[dict[str, Any]]:
    """A record for each row: its key, its time, what it is worth, and the outputs by name."""
    model = predictions.model
    outputs = {name: plain_values(values) for name, values in predictions.outputs.items()}
    stamps = plain_values(predictions.stamps)
    labels: Mapping[str, Sequence[str]] = predictions.labels
    flags = predictions.flags.tolist()
    sequence, valid = predictions.sequence.tolist(), predictions.valid.tolist()
    is_whole = bool((predictions.quality == 1.0).all())
    quality = [1.0] * len(predictions) if is_whole else plain_values(predictions.quality)
    times = [round(value, 6) for value in predictions.time.tolist()]
    short = model.model_id[:_SHORT]
    for i, sample in enumerate(sequence):
        record: dict[str, Any] = {
            "stream": predictions.stream,
            "sample": sample,
            "time": times[i],
            "stamp": stamps[i],
            "artifact": model.name,
            "model": short,
            "valid": valid[i],
            "quality": quality[i],
            "flags": flag_names(flags[i]) if flags[i] else [],
        }
        for name, texts in labels.items():
            record[name] = texts[i]
        for name, rows in outputs.items():
            record[name] = rows[i]
        yield record


def event_record(event: Event) -> dict[str, Any]:
    """A record of an event."""
    record: dict[str, Any] = {
        "event": event.kind,
        "stream": event.stream,
        "time": round(event.time, 6),
        "text": event.text,
    }
    if event.sample is not None:
        record["sample"] = event.sample
    if event.model:
        record |= {"artifact": event.model, "model": event.model_id[:_SHORT]}
    if event.data:
        record["data"] = dict(event.data)
    return record
