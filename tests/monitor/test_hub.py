"""What browsers are sent, and when: samples at once, each of them once; predictions joined."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np

from edgelstm.description import Description
from edgelstm.io.live import SinkContext
from edgelstm.io.predictions import ModelIdentity, Predictions, joined
from edgelstm.monitor.server.hub import FLUSH_S, Client, Hub
from edgelstm.monitor.server.wire_frames import BACKLOG, SAMPLES

_MODEL = ModelIdentity(
    "toy", "id", (("y", (2,), "<f4"),), inputs=(("x", (3,), "<f4"), ("z", (), "<i4"))
)


def _predictions(first: int, n: int = 1, inputs: int = 2) -> Predictions:
    numbers = np.arange(first, first + n)
    values = {
        "x": np.repeat(numbers[:, None], 3, axis=1).astype(np.float32),
        "z": numbers.astype(np.int32),
    }
    return Predictions(
        "s",
        _MODEL,
        numbers,
        numbers / 100,
        np.full(n, np.nan),
        numbers / 100,
        np.zeros(n, np.uint8),
        np.ones(n, np.bool_),
        np.ones(n, np.float32),
        {"y": np.ones((n, 2), np.float32)},
        {"label": [str(number) for number in numbers.tolist()]},
        dict(list(values.items())[:inputs]),
    )


def _with_hub(what: Callable[[Hub], Awaitable[None]]) -> None:
    async def run() -> None:
        hub = Hub(SinkContext(_MODEL, Description()))
        await hub.open()
        await what(hub)
        await hub.close()

    asyncio.run(run())


def _frames(client: Client) -> list[tuple[int, list[float], list[float]]]:
    """Kind, times and first channel of each message with samples that waits for it."""
    found = []
    for message in [each for each in client._queue if isinstance(each, bytes)]:
        rows = int.from_bytes(message[4:8], "little")
        times = np.frombuffer(message, "<f8", rows, 16)
        channel = np.frombuffer(message, "<f4", rows, 16 + 8 * rows)
        found.append((message[0], (100 * times).round().tolist(), channel.tolist()))
    return found


def test_a_sample_behind_a_pause_is_sent_at_once() -> None:
    """No timer lies in its way; those that follow it too fast go together."""

    async def what(hub: Hub) -> None:
        client = hub.join("view")
        await asyncio.sleep(2 * FLUSH_S)
        hub.write(_predictions(1))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert _frames(client) == [(SAMPLES, [1], [1])]
        hub.write(_predictions(2, 2))
        hub.write(_predictions(4))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(_frames(client)) == 1
        await asyncio.sleep(2 * FLUSH_S)
        assert _frames(client)[1:] == [(SAMPLES, [2, 3, 4], [2, 3, 4])]

    _with_hub(what)


def test_who_joins_gets_every_row_once() -> None:
    """What came before is its backlog, and does not come again; nobody else misses any of it."""

    async def what(hub: Hub) -> None:
        for number in range(200):  # nobody looks
            hub.write(_predictions(number))
        first = hub.join("view")
        hub.write(_predictions(200, 5))
        second = hub.join("view")
        hub.write(_predictions(205))
        await asyncio.sleep(2 * FLUSH_S)
        for client in (first, second):
            kinds = [kind for kind, _, _ in _frames(client)]
            assert kinds == [BACKLOG] + [SAMPLES] * (len(kinds) - 1)
            assert [t for _, times, _ in _frames(client) for t in times] == list(range(206))

    _with_hub(what)


def test_inputs_that_are_missing_are_no_numbers() -> None:
    """Predictions of models whose inputs are not all kept beside those that have them."""

    async def what(hub: Hub) -> None:
        client = hub.join("view")
        hub.write(_predictions(1, 2))
        hub.write(_predictions(3, 1, inputs=1))
        await asyncio.sleep(2 * FLUSH_S)
        described = json.loads(client._queue[0])["streams"]
        message = [each for each in client._queue if isinstance(each, bytes)][-1]
        table = np.frombuffer(message, "<f4", 3 * 4, 16 + 8 * 3).reshape(4, 3)
        assert described == []
        np.testing.assert_array_equal(table[:3], [[1, 2, 3]] * 3)
        np.testing.assert_array_equal(table[3], [1, 2, np.nan])

    _with_hub(what)


def test_joined_predictions_hold_the_same_rows() -> None:
    """Of a stream whose columns stay the same; others stay parts of their own."""
    parts: list[Any] = [_predictions(0, 3), _predictions(3), _predictions(4, 2, inputs=1)]
    one, other = joined(parts)
    assert one.sequence.tolist() == [0, 1, 2, 3]
    assert list(one.labels["label"]) == ["0", "1", "2", "3"]
    np.testing.assert_array_equal(one.inputs["x"][:, 2], [0, 1, 2, 3])
    assert other is parts[2]
