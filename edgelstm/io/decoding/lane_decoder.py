"""Predictions of one stream to the events that sinks are told."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.artifact import Artifact
from edgelstm.io.block import Array
from edgelstm.io.decoding.decoder import Decoder
from edgelstm.io.decoding.events import Decoded
from edgelstm.io.decoding.model_decoder import make_decoder, output_table
from edgelstm.io.decoding.recipe import Recipe
from edgelstm.io.predictions import Event


class LaneDecoder:
    """A decoder that begins anew where the model does.

    Args:
        recipe: what is asked for.
        model: whose outputs are decoded.
        stream: name of the stream.
        rate_hz: of the predictions; None: the model's.

    Raises:
        RecordingError: the recipe does not fit the model.
    """

    def __init__(self, recipe: Recipe, model: Artifact, stream: str, rate_hz: float | None) -> None:
        self._recipe = recipe
        self._model = model
        self._stream = stream
        self._rate = rate_hz
        self.decoder = self._make()

    def feed(
        self,
        outputs: Mapping[str, Array],
        times: NDArray[np.float64],
        numbers: NDArray[np.int64],
        valid: NDArray[np.bool_],
    ) -> list[Event]:
        """Rows that the model said."""
        table = output_table(outputs, self._model.signature)
        return self._events(self.decoder.feed(table, times, numbers, valid).events)

    def begin_anew(self) -> list[Event]:
        """The stream has a gap: what was going on ends in front of it."""
        events = self._events(self.decoder.finish().events)
        before, self.decoder = self.decoder, self._make()
        self.decoder.take_alarms(before)
        return events

    def finish(self) -> list[Event]:
        """The stream ended."""
        return self._events(self.decoder.finish().events)

    def acknowledge(self, alarm: str, time: float, by: str = "") -> list[Event]:
        """Somebody has seen an alarm.

        Raises:
            KeyError: there is no alarm of that name.
        """
        return self._events(self.decoder.acknowledge(alarm, time, by))

    def state(self) -> dict[str, Any]:
        """What it remembers, with what tells whether another decoder may go on from there."""
        return {"recipe": self._fingerprint(), "decoder": self.decoder.state()}

    def restore(self, state: Mapping[str, Any]) -> bool:
        """Go on where another run stopped; false where that one decoded by another recipe.

        Raises:
            KeyError, TypeError, ValueError: it is something else.
        """
        if state["recipe"] != self._fingerprint():
            return False
        self.decoder.restore(state["decoder"])
        return True

    def _fingerprint(self) -> str:
        text = repr((self._recipe, self._rate, self._model.model_id, self.decoder.labels))
        return hashlib.sha256(text.encode()).hexdigest()

    def _make(self) -> Decoder:
        model = self._model
        return make_decoder(self._recipe, model.signature, model.description, self._rate)

    def _events(self, found: tuple[Decoded, ...]) -> list[Event]:
        return [
            Event(
                self._stream,
                event.time,
                event.kind,
                event.text,
                event.sample if event.sample >= 0 else None,
                {"name": event.name, **event.data},
                self._model.name,
                self._model.model_id,
            )
            for event in found
        ]
