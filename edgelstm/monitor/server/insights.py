"""Insight as the page asks for it: of one stream, at one moment; one at a time, in a thread."""

from __future__ import annotations

import asyncio
import base64
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.errors import RecordingError
from edgelstm.monitor.insight import Explainer, HeatMap, Insight
from edgelstm.monitor.server.hub import Hub
from edgelstm.monitor.server.stream_view import MOST_CHANNELS, StreamView, scores_of
from edgelstm.monitor.server.wire_frames import Rows, thinned
from edgelstm.monitor.trend import finite

COURSE_S = 60.0
_COURSE_ROWS = 600


class Insights:
    """Answers "why".

    Args:
        hub: whose streams are asked about.
        explainer: of the model; None for models that cannot be explained.
    """

    def __init__(self, hub: Hub, explainer: Explainer | None) -> None:
        self._hub = hub
        self._explainer = explainer
        self._turn = asyncio.Lock()

    async def answer(self, query: Mapping[str, str]) -> dict[str, Any]:
        """What the page draws.

        Args:
            query: `stream`; `moment` in seconds since 1970, without it the newest; `output` by
                number, without it the one with the highest score.

        Raises:
            RecordingError: it cannot be told, or was asked wrongly.
        """
        explainer = self._explainer
        if explainer is None:
            raise RecordingError(
                f"{self._hub.context.model.name} has no insight: that is for models compiled with "
                "--mode stream whose outputs keep step with their samples"
            )
        if explainer.channels > MOST_CHANNELS or len(explainer.outputs) > MOST_CHANNELS:
            raise RecordingError(
                f"the page keeps {MOST_CHANNELS} values of a sample, and this model has "
                f"{explainer.channels} inputs and {len(explainer.outputs)} outputs: no insight"
            )
        view = self._hub.views.get(query.get("stream", ""))
        if view is None:
            raise RecordingError("there is no such stream")
        moment = _number(query, "moment")
        known = view.kept()
        rows = known if known is None or moment is None else known.until(moment)
        if known is None or rows is None or not len(rows):
            raise RecordingError("there are no samples before that moment: choose a later one")
        said = rows.scores[-1]
        output = _number(query, "output")
        chosen = int(np.argmax(said)) if output is None else int(output)
        async with self._turn:
            found = await asyncio.to_thread(
                explainer.explain, rows.times, rows.channels, said, chosen
            )
        return _document(view, known, rows, chosen, found) | {"gates": explainer.has_gates}


def _document(
    view: StreamView, known: Rows, rows: Rows, chosen: int, found: Insight
) -> dict[str, Any]:
    end = float(known.times[-1])
    first = int(np.searchsorted(known.times, end - COURSE_S))
    course = thinned(
        Rows(
            known.times[first:], known.channels[first:], known.scores[first:], known.quality[first:]
        ),
        _COURSE_ROWS,
    )
    return {
        "stream": view.name,
        "moment": float(rows.times[-1]),
        "outputs": list(scores_of(view.model)),
        "chosen": chosen,
        "course": {
            "end": end,
            "times": _rounded(course.times - end),
            "scores": [_rounded(column) for column in course.scores.T],
        },
        "score": found.score,
        "difference": finite(found.difference),
        "warm_up_s": found.warm_up_s,
        "channels": [channel.name for channel in view.channels],
        "times": _rounded(found.times),
        "maps": [_map(each) for each in found.maps],
        "edges": _rounded(found.edges),
        "by_stretch": [_rounded(row) for row in found.by_stretch],
        "by_channel": _rounded(found.by_channel),
    }


def _map(each: HeatMap) -> dict[str, Any]:
    """Values as bytes, from `low` to `high`."""
    values = each.values.astype(np.float64)
    largest = float(np.abs(values).max(initial=0.0)) or 1.0
    low, high = (-largest, largest) if each.is_signed else (0.0, max(1.0, largest))
    data = np.round(255 * (values - low) / (high - low)).clip(0, 255).astype(np.uint8)
    return {
        "layer": each.layer,
        "name": each.name,
        "rows": len(values),
        "columns": values.shape[1],
        "low": low,
        "high": high,
        "data": base64.b64encode(data.tobytes()).decode(),
    }


def _rounded(values: NDArray[Any]) -> list[float | None]:
    return [finite(round(float(value), 6)) for value in values]


def _number(query: Mapping[str, str], name: str) -> float | None:
    text = query.get(name, "")
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise RecordingError(f"{name} is no number")
    return value
