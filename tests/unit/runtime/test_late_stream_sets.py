"""Many streams of models whose outputs come later than their frames, or slower."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from edgelstm.artifact import Artifact
from edgelstm.batcher import Batcher
from edgelstm.errors import RefusedStreamsError, StreamError
from edgelstm_compiler.driver import compile_model
from tests.fuzz.stream_networks import random_network
from tests.late_models import PADDED, SLOW, TWO, VALID, late_model

Array = NDArray[Any]
STREAMS = 4
MODELS = {"padded": PADDED, "slow": SLOW, "two": TWO, "valid": VALID}


@pytest.fixture(
    scope="module",
    params=[
        *(pytest.param((name, "reference"), id=f"{name}-reference") for name in MODELS),
        *(pytest.param((n, "host"), id=f"{n}-host", marks=pytest.mark.tvm) for n in MODELS),
    ],
)
def model(request: pytest.FixtureRequest) -> Artifact:
    name, target = request.param
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGELSTM_STREAMS", "yes")  # code of its own for many streams
        return late_model(MODELS[name], target=target)


def _new(streams: Any, result: Any, names: list[str]) -> list[dict[str, list[Array]]]:
    """The new rows of each stream, of a step or a run."""
    arrays = result if isinstance(result, dict) else {names[0]: result}
    found: list[dict[str, list[Array]]] = [{name: [] for name in names} for _ in range(STREAMS)]
    for name, rows in arrays.items():
        news = streams.news[name]
        rows, news = (rows[None], news[None]) if news.ndim == 1 else (rows, news)
        assert not rows[~news].any(), "rows that are not new are zeros"
        for stream in range(STREAMS):
            found[stream][name] += list(rows[news[:, stream], stream])
    return found


def _rows(result: Any, names: list[str]) -> dict[str, list[Array]]:
    arrays = result if isinstance(result, dict) else {names[0]: result}
    return {name: list(rows) for name, rows in arrays.items()}


def _expect_rows(found: dict[str, list[Array]], expected: dict[str, list[Array]]) -> None:
    for name, rows in expected.items():
        # Code for many streams may add up in another order.
        np.testing.assert_allclose(
            np.array(found[name]), np.array(rows), 1e-6, 1e-6, err_msg=name, strict=True
        )


def test_every_stream_is_a_session_of_its_own(model: Artifact) -> None:
    """With joins, ends, resets, snapshots and refused frames, in any order."""
    rng, names = np.random.default_rng(7), [spec.name for spec in model.signature.outputs]
    single = [model.session() for _ in range(STREAMS)]
    with model.session(streams=STREAMS) as streams:
        for _ in range(150):
            stream = int(rng.integers(STREAMS))
            match int(rng.integers(8)):
                case 0:
                    streams.reset(stream)
                    single[stream].reset()
                case 1 if streams.active[stream]:
                    _expect_rows(
                        _rows(streams.finish(stream), names), _rows(single[stream].finish(), names)
                    )
                    single[stream].reset()
                case 2:
                    other = int(rng.integers(STREAMS))
                    streams.restore(stream, single[other].snapshot())
                    single[stream].restore(single[other].snapshot())
                case 3 if streams.active.sum() > 1 and streams.active[stream]:
                    streams.leave(stream)
                case 4 if not streams.active.all():
                    single[streams.join()].reset()
                case 5:
                    _compare_step(rng, streams, single, names)
                case _:
                    _compare_run(rng, streams, single, names)
    for session in single:
        session.close()


def _compare_step(rng: Any, streams: Any, single: list[Any], names: list[str]) -> None:
    x = rng.standard_normal((STREAMS, 2)).astype(np.float32)
    only = rng.random(STREAMS) < 0.7
    found = _new(streams, streams.step(x, only=only), names)
    for stream in np.flatnonzero(only & streams.active):
        rows = single[stream].step(x[stream])
        rows = rows if isinstance(rows, dict) else {names[0]: rows}
        _expect_rows(
            found[stream],
            {name: [] if row is None else [np.array(row)] for name, row in rows.items()},
        )
    for stream in np.flatnonzero(~(only & streams.active)):
        assert not any(found[stream].values())


def _compare_run(rng: Any, streams: Any, single: list[Any], names: list[str]) -> None:
    x = rng.standard_normal((int(rng.integers(1, 9)), STREAMS, 2)).astype(np.float32)
    bad = np.zeros(STREAMS, np.bool_)
    if rng.random() < 0.3:
        bad[rng.integers(STREAMS)] = True
        x[-1, bad, 0] = np.nan
    try:
        result = streams.run(x)
    except RefusedStreamsError as error:
        result = error.outputs
    found = _new(streams, result, names)
    for stream in range(STREAMS):
        is_fed = streams.active[stream] and not bad[stream]
        expected = {name: [] for name in names}
        if is_fed:
            expected = _rows(single[stream].run(x[:, stream]), names)
        _expect_rows(found[stream], expected)


def test_the_snapshot_of_a_stream_that_ended_is_refused() -> None:
    """A place goes on; a stream that has ended does not."""
    model = late_model(PADDED)
    with model.session() as session, model.session(streams=2) as streams:
        session.run(np.zeros((5, 2), np.float32))
        session.finish()
        with pytest.raises(StreamError, match=r"has ended: restore one from before finish\(\)"):
            streams.restore(1, session.snapshot())


def test_streams_end_where_their_table_ends() -> None:
    """Each at its own frame; none is fed where one has no room."""
    made = random_network(0, frames=6)
    table = np.ones((1, made.graph.input[0].type.tensor_type.shape.dim[1].dim_value, 6), "f4")
    table[..., 3] = 2.0
    made = onnx.helper.make_model(
        onnx.helper.make_graph(
            [
                onnx.helper.make_node("Add", ["x", "p"], ["a"], "position"),
                onnx.helper.make_node("CumSum", ["a", "axis"], ["y"], "sum"),
            ],
            "table",
            list(made.graph.input),
            [onnx.helper.make_tensor_value_info("y", 1, None)],
            [
                onnx.numpy_helper.from_array(table, "p"),
                onnx.numpy_helper.from_array(np.array(2), "axis"),
            ],
        ),
        opset_imports=[onnx.helper.make_opsetid("", 18)],
    )
    artifact = compile_model(made, target="reference", check=False)
    assert artifact.signature.most_frames == 6
    shape = artifact.signature.inputs[0].shape
    with artifact.session(streams=2) as streams:
        streams.run(np.zeros((4, 2, *shape), np.float32))
        streams.reset(1)
        before = streams.snapshot(1)
        with pytest.raises(StreamError, match=r"frame 6 of stream 0: .* 6 frames.*none was fed"):
            streams.run(np.zeros((3, 2, *shape), np.float32))
        assert bytes(streams.snapshot(1)) == bytes(before)
        streams.leave(0)
        streams.run(np.zeros((6, 2, *shape), np.float32))
        with pytest.raises(StreamError, match="frame 6 of stream 1"):
            streams.step(np.zeros((2, *shape), np.float32))


def test_a_batcher_gives_none_where_nothing_is_new() -> None:
    """As a session does, stream by stream; and what is left at the end of one."""
    model = late_model(TWO)
    x = np.random.default_rng(0).standard_normal((9, 2)).astype(np.float32)

    async def feed() -> tuple[list[Any], Any, list[Any]]:
        async with Batcher(streams, wait_ms=0.1) as batcher:
            reader = asyncio.create_task(_collect(batcher))
            found = [await batcher.step(1, frame) for frame in x]
            rest = await batcher.finish(1)
        return found, rest, await reader

    with model.session() as session, model.session(streams=2) as streams:
        found, rest, batches = asyncio.run(feed())
        for row, frame, batch in zip(found, x, batches, strict=True):
            expected = session.step(frame)
            for name, value in expected.items():
                assert (row[name] is None) == (value is None)
                assert batch.news[name].tolist() == [value is not None]
                if value is not None:
                    np.testing.assert_array_equal(row[name], value)
        for name, rows in session.finish().items():
            np.testing.assert_array_equal(rest[name], rows)


async def _collect(batcher: Batcher) -> list[Any]:
    return [batch async for batch in batcher.batches()]
