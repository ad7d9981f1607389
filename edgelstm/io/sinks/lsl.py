"""`lsl:name=phase`: outputs as channels of a stream of the lab streaming layer."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import parse_qsl

import numpy as np

from edgelstm.dtypes import DType
from edgelstm.errors import OutputError
from edgelstm.extras import load_extra
from edgelstm.io.address import Address, Options
from edgelstm.io.columns import element_names
from edgelstm.io.live import SinkContext
from edgelstm.io.predictions import Event, Predictions
from edgelstm.io.sinks.destination import Destination
from edgelstm.signature import TensorSpec


def open_sink(address: Address, context: SinkContext) -> LslSink:
    """The sink of an address.

    Raises:
        TargetUnavailableError: pylsl, or the library behind it, is not installed.
    """
    return LslSink(address, context)


class LslSink(Destination):
    """An outlet for each stream: outputs in their order, then `valid` and `quality`.

    Args:
        address: `lsl:name=NAME`.
        context: of the run.
    """

    def __init__(self, address: Address, context: SinkContext) -> None:
        options = Options(address)
        options.finish()
        wanted = dict(parse_qsl(address.path, keep_blank_values=True))
        self._label = wanted.pop("name", context.model.name)
        self._kind = wanted.pop("type", "Predictions")
        if wanted:
            raise OutputError(f"{address.text}: write lsl:name=NAME or lsl:name=NAME&type=TYPE")
        self.name = address.shown
        self._pylsl: Any = load_extra("pylsl", "lsl", "LSL streams")
        self._rate = context.rate_hz
        self._channels = [
            name
            for output, shape, _ in context.model.outputs
            for name in element_names(TensorSpec(output, DType.F32, shape, 0, shape))
        ]
        self._model = context.model
        self._outlets: dict[str, Any] = {}
        self._shift = self._pylsl.local_clock() - time.monotonic()

    async def open(self) -> None:
        """Outlets are made with the first prediction of their stream."""

    def write(self, predictions: Predictions) -> int:
        """Push rows, with the time at which their samples came."""
        outlet = self._outlets.get(predictions.stream)
        if outlet is None:
            outlet = self._outlets[predictions.stream] = self._make(predictions.stream)
        n = len(predictions)
        parts = [np.asarray(x, np.float32).reshape(n, -1) for x in predictions.outputs.values()]
        parts.append(predictions.valid.astype(np.float32)[:, None])
        parts.append(predictions.quality[:, None])
        table = np.concatenate(parts, axis=1)
        outlet.push_chunk(table.tolist(), float(predictions.arrival[-1]) + self._shift)
        return -1

    def tell(self, event: Event) -> None:
        """A stream of numbers has no place for it."""

    async def close(self) -> None:
        """End the outlets."""
        self._outlets.clear()

    def _make(self, stream: str) -> Any:
        lsl = self._pylsl
        names = [*self._channels, "valid", "quality"]
        info = lsl.StreamInfo(
            self._label if not self._outlets else f"{self._label} {stream}",
            self._kind,
            len(names),
            self._rate or lsl.IRREGULAR_RATE,
            lsl.cf_float32,
            f"edgelstm {self._model.model_id[:12]} {stream}",
        )
        info.desc().append_child_value("artifact", self._model.name)
        info.desc().append_child_value("model", self._model.model_id)
        info.desc().append_child_value("stream", stream)
        channels = info.desc().append_child("channels")
        for name in names:
            channels.append_child("channel").append_child_value("label", name)
        return lsl.StreamOutlet(info)
