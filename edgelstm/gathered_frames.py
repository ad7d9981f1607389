"""Frames of many streams on their way into one step: at most one of each stream."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.samples import Frame, Result, by_name, convert_sample
from edgelstm.signature import TensorSpec

Array = NDArray[Any]


@dataclass(slots=True)
class Waiting:
    """A frame in a queue: what was given, when, and who waits for the result."""

    frame: list[Array]
    since_s: float
    future: asyncio.Future[Result] | None


class Gathered:
    """Frames that are fed together, at most one of each stream, where they are fed from.

    Args:
        specs: of the inputs.
        streams: how many places there are.
    """

    __slots__ = ("_dtype", "_only", "_shape", "_specs", "futures", "rooms", "since_s")

    def __init__(self, specs: Sequence[TensorSpec], streams: int) -> None:
        self._specs = specs
        self.rooms = [np.zeros((streams, *spec.shape), spec.dtype.numpy) for spec in specs]
        self.futures: dict[int, asyncio.Future[Result] | None] = {}
        self.since_s = [0.0] * streams
        # One input takes the short way; no array passes its check else.
        self._only = self.rooms[0] if len(specs) == 1 else None
        self._dtype = self.rooms[0].dtype
        self._shape = self.rooms[0].shape[1:]

    def take(
        self, stream: int, frame: Frame, since_s: float, future: asyncio.Future[Result] | None
    ) -> None:
        """Take the frame of a stream that has none here yet."""
        only = self._only
        if (
            only is not None
            and type(frame) is np.ndarray
            and frame.dtype is self._dtype
            and frame.shape == self._shape
        ):
            only[stream] = frame
        else:
            for room, array in zip(self.rooms, converted(frame, self._specs), strict=True):
                room[stream] = array
        self.since_s[stream] = since_s
        self.futures[stream] = future


def converted(frame: Frame, specs: Sequence[TensorSpec]) -> list[Array]:
    """One frame as arrays of the inputs' types and shapes.

    Raises:
        StreamError: it is none.
    """
    return [
        convert_sample(data, spec) for data, spec in zip(by_name(frame, specs), specs, strict=True)
    ]
