"""The states of some layers begin anew while all others go on."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.utils import Extractor

from edgelstm.artifact import Artifact
from edgelstm.batcher import Batcher
from edgelstm.errors import StreamError
from edgelstm_compiler import compile_model
from tests.late_models import PADDED, late_model
from tests.models import lstm_model, stacked_model
from tests.oracle import assert_close, run_onnxruntime

MODEL = stacked_model(ops=("LSTM", "GRU"), steps=None, hidden=4)
X = np.random.default_rng(2).standard_normal((12, 1, 3)).astype(np.float32)
CUT = 7


@pytest.fixture(scope="module", params=["reference", pytest.param("host", marks=pytest.mark.tvm)])
def artifact(request: pytest.FixtureRequest) -> Artifact:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGELSTM_STREAMS", "yes")  # code of its own for many streams
        return compile_model(MODEL, target=request.param)


def part(inputs: list[str], outputs: list[str]) -> onnx.ModelProto:
    """A part of the model, for ONNX Runtime."""
    return Extractor(onnx.shape_inference.infer_shapes(MODEL)).extract_model(inputs, outputs)


def expected(layer: str) -> np.ndarray[Any, Any]:
    """The rows where this layer begins anew behind frame CUT and the other one does not."""
    (shown,) = (item.name for item in MODEL.graph.output)
    first, second = part(["X"], ["frames_1"]), part(["frames_1"], [shown])
    stretches = [slice(0, CUT), slice(CUT, None)]

    def rows(model: onnx.ModelProto, name: str, x: Any, result: str, is_cut: bool) -> Any:
        parts = stretches if is_cut else [slice(None)]
        return np.concatenate([run_onnxruntime(model, {name: x[p]})[result] for p in parts])

    middle = rows(first, "X", X, "frames_1", layer == "layer_1")
    return np.asarray(rows(second, "frames_1", middle, shown, layer == "layer_2"))


def frames(artifact: Artifact) -> np.ndarray[Any, Any]:
    return X.reshape(len(X), *artifact.signature.inputs[0].shape)


@pytest.mark.parametrize("layer", ["layer_1", "layer_2"])
def test_one_layer_begins_anew(artifact: Artifact, layer: str) -> None:
    """What ONNX Runtime gives where that layer alone is run in two parts."""
    x = frames(artifact)
    with artifact.session() as session:
        before = session.run(x[:CUT])
        session.reset(layers=[layer])
        found = np.concatenate([before, session.run(x[CUT:])])
        assert_close(found.reshape(expected(layer).shape), expected(layer))
        session.reset()
        session.run(x[:CUT])
        session.reset(layers=layer)  # one name is a layer, too
        np.testing.assert_array_equal(session.run(x[CUT:]), found[CUT:])


def test_a_layer_of_one_stream_of_many(artifact: Artifact) -> None:
    """The other streams go on; without a number all of them get it."""
    x = np.repeat(frames(artifact)[:, None], 3, axis=1)
    wanted = expected("layer_1")
    with artifact.session(streams=3) as streams, artifact.session() as session:
        streams.run(x[:CUT])
        streams.reset(1, layers=["layer_1"])
        rows = streams.run(x[CUT:])
        whole = session.run(frames(artifact))[CUT:]
        for stream in (0, 2):
            assert_close(rows[:, stream], whole)
        assert_close(rows[:, 1].reshape(wanted[CUT:].shape), wanted[CUT:])
        streams.reset()
        streams.run(x[:CUT])
        streams.reset(layers=["layer_1"])
        rows = streams.run(x[CUT:])
        for stream in range(3):
            assert_close(rows[:, stream].reshape(wanted[CUT:].shape), wanted[CUT:])


def test_a_single_state_can_be_named(artifact: Artifact) -> None:
    """As `signature.states` has it."""
    x = frames(artifact)
    with artifact.session() as session:
        session.run(x[:CUT])
        kept = session.get_state("layer_1.h")
        session.reset(layers=["layer_1.c"])
        assert not session.get_state("layer_1.c").any()
        np.testing.assert_array_equal(session.get_state("layer_1.h"), kept)


def test_what_has_no_state_is_refused(artifact: Artifact) -> None:
    """With the layers that have one; nothing is reset."""
    with artifact.session() as session, artifact.session(streams=2) as streams:
        session.run(frames(artifact))
        before = bytes(session.snapshot())
        for reset in (session.reset, lambda layers: streams.reset(0, layers)):
            with pytest.raises(StreamError, match=r"no layer 'dense' .*: 'layer_1', 'layer_2'"):
                reset(layers=["layer_1", "dense"])
        assert bytes(session.snapshot()) == before


def test_the_clock_of_a_late_model_is_no_layer() -> None:
    """Its frames are counted on; what a layer looks back at is as it was at the beginning."""
    model = late_model(PADDED)
    with model.session() as session:
        session.run(np.ones((5, 2), np.float32))
        (history,) = (s.name for s in model.signature.states if s.name.endswith(".history"))
        session.reset(layers=[history.removesuffix(".history")])
        assert not session.get_state(history).any()
        assert session.step(np.ones(2, np.float32)) is not None, "frame 5 has the row of frame 4"
        with pytest.raises(StreamError, match=r"counts the frames.*reset\(\) begins a new one"):
            session.reset(layers=["clock"])


def test_windows_have_states_of_their_own() -> None:
    """Each begins from fresh state, and no layer is asked for."""
    model = lstm_model(steps=6, outputs=("Y_h",))
    artifact = compile_model(model, target="reference", window=6, hop=3, check=False)
    with artifact.session() as session:
        with pytest.raises(StreamError, match="runs on windows, each of which"):
            session.reset(layers=["lstm"])
        session.reset()


def test_a_batcher_passes_it_on(artifact: Artifact) -> None:
    """Once the frames that came before are through."""

    async def feed() -> None:
        async with Batcher(streams, wait_ms=0.1) as batcher:
            await batcher.step(0, frames(artifact)[0])
            await batcher.reset(0, ["layer_1"])

    with artifact.session(streams=2) as streams, artifact.session() as session:
        asyncio.run(feed())
        session.restore(streams.snapshot(0))
        assert not session.get_state("layer_1.h").any()
        assert session.get_state("layer_2.h").any()
