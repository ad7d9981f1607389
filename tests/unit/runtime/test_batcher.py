"""The batcher: frames of many streams in any order, gathered into native steps."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgelstm.artifact import Artifact
from edgelstm.batcher import Batcher
from edgelstm.errors import NonFiniteSampleError, OverrunError, SampleShapeError, StreamError
from edgelstm.latency import LatencyHistogram
from edgelstm_compiler import compile_model
from tests import models

STREAMS, FEATURES = 5, 3


@pytest.fixture(scope="module")
def artifact() -> Artifact:
    """A small model on the reference engine: any engine has streams."""
    model = models.stacked_model(steps=None, ops=("GRU",), hidden=4, features=FEATURES)
    return compile_model(model, target="reference")


def follow(
    artifact: Artifact, body: Callable[[Batcher], Awaitable[Any]], **options: Any
) -> tuple[Any, Batcher]:
    """Run something with a batcher, and close it."""

    async def run() -> tuple[Any, Batcher]:
        async with Batcher(artifact.session(streams=STREAMS), **options) as batcher:
            result = await asyncio.wait_for(body(batcher), 60)
        return result, batcher

    return asyncio.run(run())


def frame(seed: int) -> np.ndarray:
    """One frame."""
    return np.random.default_rng(seed).normal(size=FEATURES).astype(np.float32)


@given(order=st.lists(st.integers(0, STREAMS - 1), min_size=1, max_size=30))
@settings(max_examples=20)
def test_any_order_gives_what_sessions_give(artifact: Artifact, order: list[int]) -> None:
    """Each stream's frames go through in the order in which they came, and none is lost."""

    async def body(batcher: Batcher) -> list[Any]:
        steps = [batcher.step(stream, frame(i)) for i, stream in enumerate(order)]
        return await asyncio.gather(*steps)

    found, batcher = follow(artifact, body, wait_ms=0.2, queue=len(order))
    singles = [artifact.session() for _ in range(STREAMS)]
    for i, stream in enumerate(order):
        np.testing.assert_allclose(found[i], singles[stream].step(frame(i)), 0, 1e-6)
    counts = batcher.counts
    assert (counts.frames, counts.results, counts.overrun) == (len(order), len(order), 0)
    most = max(order.count(stream) for stream in range(STREAMS))
    assert most <= counts.batches <= len(order)
    assert 0 < counts.p50_s <= counts.p99_s <= counts.largest_s


def test_a_full_step_does_not_wait(artifact: Artifact) -> None:
    """Once every active stream has a frame there is nothing to wait for."""

    async def body(batcher: Batcher) -> None:
        await batcher.leave(4)
        await asyncio.gather(*(batcher.step(i, frame(i)) for i in range(4)))

    _, batcher = follow(artifact, body, wait_ms=3_600_000)
    assert (batcher.counts.batches, batcher.counts.fill) == (1, 1.0)


def test_a_step_waits_no_longer_than_told(artifact: Artifact) -> None:
    """A single frame is fed when the time is up, alone."""

    async def body(batcher: Batcher) -> None:
        await batcher.step(2, frame(0))

    _, batcher = follow(artifact, body, wait_ms=20)
    assert batcher.counts.batches == 1
    assert batcher.counts.fill == pytest.approx(1 / STREAMS)
    assert batcher.counts.largest_s >= 0.019


def test_a_refused_frame_refuses_its_stream_only(artifact: Artifact) -> None:
    """The others of the same step get their results."""

    async def body(batcher: Batcher) -> list[Any]:
        bad = np.full(FEATURES, np.nan, np.float32)
        frames = [bad if i == 1 else frame(i) for i in range(STREAMS)]
        steps = (batcher.step(i, each) for i, each in enumerate(frames))
        return await asyncio.gather(*steps, return_exceptions=True)

    found, batcher = follow(artifact, body)
    assert isinstance(found[1], NonFiniteSampleError)
    np.testing.assert_allclose(found[2], artifact.session().step(frame(2)), 0, 1e-6)
    counts = batcher.counts
    assert (counts.batches, counts.results, counts.refused) == (1, STREAMS - 1, 1)


def test_what_is_no_frame_is_refused_at_once(artifact: Artifact) -> None:
    """Wrong shapes and unknown streams never reach a step."""

    async def body(batcher: Batcher) -> None:
        with pytest.raises(SampleShapeError):
            batcher.feed(0, np.zeros(FEATURES + 1, np.float32))
        with pytest.raises(StreamError, match="stream 9 is not active"):
            batcher.feed(9, frame(0))
        await batcher.leave(3)
        with pytest.raises(StreamError, match="stream 3 is not active"):
            batcher.feed(3, frame(0))
        assert await batcher.join() == 3

    follow(artifact, body)


def overload(artifact: Artifact, policy: str) -> tuple[list[Any], Batcher]:
    """Five frames of one stream where one may be fed and two may wait."""

    async def body(batcher: Batcher) -> list[Any]:
        tasks = [asyncio.ensure_future(batcher.step(0, frame(i))) for i in range(5)]
        return await asyncio.gather(*tasks, return_exceptions=True)

    return follow(artifact, body, wait_ms=20, queue=2, overload=policy)


def test_overload_refuses_the_newest(artifact: Artifact) -> None:
    """Policy refuse: counted, and told to who gave them."""
    found, batcher = overload(artifact, "refuse")
    assert [isinstance(each, OverrunError) for each in found] == [False] * 3 + [True] * 2
    assert (batcher.counts.overrun, batcher.counts.results) == (2, 3)


def test_overload_gives_up_the_oldest(artifact: Artifact) -> None:
    """Policy drop-oldest: what is fed next is as new as can be."""
    found, batcher = overload(artifact, "drop-oldest")
    assert [isinstance(each, OverrunError) for each in found] == [False, True, True, False, False]
    assert (batcher.counts.overrun, batcher.counts.results) == (2, 3)


def test_overload_waits_for_room(artifact: Artifact) -> None:
    """Policy wait: all frames go through, in order."""
    found, batcher = overload(artifact, "wait")
    single = artifact.session()
    for i, each in enumerate(found):
        np.testing.assert_allclose(each, single.step(frame(i)), 0, 1e-6)
    assert batcher.counts.overrun == 0


def test_batches_show_all_results(artifact: Artifact) -> None:
    """Frames that are fed without waiting come back step by step, each with its stream."""

    async def body(batcher: Batcher) -> list[Any]:
        async def read() -> list[Any]:
            return [batch async for batch in batcher.batches()]

        reader = asyncio.create_task(read())
        await asyncio.sleep(0)
        for stream in (3, 0, 3):
            batcher.feed(stream, frame(stream))
        await batcher.aclose()
        return await reader

    seen, _ = follow(artifact, body, wait_ms=1)
    assert [batch.streams.tolist() for batch in seen] == [[3, 0], [3]]
    single = artifact.session()
    for batch in seen:
        wanted = single.step(frame(3))
        np.testing.assert_allclose(batch.outputs[0], wanted, 0, 1e-6)
        assert (batch.latencies_s > 0).all()


def test_streams_leave_and_go_on_elsewhere(artifact: Artifact) -> None:
    """Reset, snapshot and restore come behind the frames given before; leaving gives them up."""

    async def body(batcher: Batcher) -> None:
        batcher.feed(0, frame(0))
        kept = await batcher.snapshot(0)
        await batcher.restore(1, kept)
        both = await asyncio.gather(batcher.step(0, frame(1)), batcher.step(1, frame(1)))
        np.testing.assert_array_equal(*both)
        await batcher.reset(1)
        fresh = await batcher.step(1, frame(0))
        np.testing.assert_allclose(fresh, artifact.session().step(frame(0)), 0, 1e-6)
        waiting = asyncio.ensure_future(batcher.step(2, frame(0)))
        await asyncio.sleep(0)
        await batcher.leave(2)
        with pytest.raises(StreamError, match="left"):
            await waiting

    _, batcher = follow(artifact, body, wait_ms=30)
    assert batcher.counts.left == 1


def test_closing_feeds_what_waits(artifact: Artifact) -> None:
    """Nothing is lost at the end; afterwards frames are refused."""

    async def run() -> None:
        batcher = Batcher(artifact.session(streams=STREAMS), wait_ms=10)
        waiting = asyncio.ensure_future(batcher.step(0, frame(0)))
        await asyncio.sleep(0)
        await batcher.aclose()
        np.testing.assert_allclose(await waiting, artifact.session().step(frame(0)), 0, 1e-6)
        with pytest.raises(StreamError, match="closed"):
            batcher.feed(0, frame(0))
        await batcher.aclose()

    asyncio.run(run())


@pytest.mark.parametrize(
    "options", [{"wait_ms": -1}, {"queue": -1}, {"overload": "panic"}], ids=str
)
def test_options_that_make_no_sense(artifact: Artifact, options: dict[str, Any]) -> None:
    """A ValueError that shows them."""
    with pytest.raises(ValueError, match=next(iter(options))):
        Batcher(artifact.session(streams=1), **options)


@given(st.lists(st.floats(2e-6, 100.0), min_size=1, max_size=200), st.floats(0.01, 1.0))
def test_quantiles_are_close(latencies: list[float], part: float) -> None:
    """At most 4.5 % above the true ones, and never below."""
    histogram = LatencyHistogram()
    for at in range(0, len(latencies), 7):
        histogram.add(np.array(latencies[at : at + 7]))
    true = sorted(latencies)[max(0, int(np.ceil(part * len(latencies))) - 1)]
    found = histogram.quantile_s(part)
    assert histogram.total == len(latencies)
    assert true * (1 - 1e-9) <= found <= true * 1.045
