"""Attention over the newest frames: ONNX Runtime on the whole sequence, with the band as a mask.

Every model is made twice with the same weights: as it is compiled, and with the band put into its
graph. Frames of the second are what steps of the first have to give.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from edgelstm.artifact import Artifact
from edgelstm.errors import CapabilityError, ModelError
from edgelstm.sessions import Session
from edgelstm_compiler import compile_model
from edgelstm_compiler.onnx_import.read import read_model
from edgelstm_compiler.selfcheck import Oracle
from edgelstm_compiler.streaming.refusal import StreamabilityError
from tests.attention_models import (
    FEATURES,
    HEADS,
    Attend,
    Maker,
    added,
    attention_model,
    band,
    compared,
    contributed,
    masked,
    operator,
    packed,
    triangle,
    where,
)

Array = NDArray[np.float32]

FRAMES = 17
FLOORS = 4.0
CAUSAL = band(FRAMES, FRAMES)
BAND = band(FRAMES, 5)
SLOPE = np.array([-0.5, 0.3]).reshape(1, HEADS, 1, 1)
PLACES = np.arange(FRAMES)[:, None]
DISTANCE = np.arange(FRAMES)[:, None] - np.arange(FRAMES)[None, :]
WINDOWS = {"causal": CAUSAL, "band": BAND}


def recording(frames: int = FRAMES, seed: int = 0) -> Array:
    """Frames (n, F) as sensors give them."""
    rng = np.random.default_rng(seed)
    return np.asarray(np.tanh(np.cumsum(rng.normal(size=(frames, FEATURES)), axis=0)), np.float32)


def fed(session: Session, x: Array, cuts: Sequence[int] = ()) -> Array:
    """All rows of a recording, given in pieces."""
    parts = [session.run(part) for part in np.split(x, cuts)]
    return np.concatenate([*parts, session.finish()])


def expect_oracle(artifact: Artifact, model: onnx.ModelProto, x: Array) -> None:
    """Rows within four times the floor of float32 from ONNX Runtime on the whole sequence."""
    oracle = Oracle(read_model(model.SerializeToString()))
    expected = oracle.run({"x": x[None]})
    assert expected.against.startswith("onnxruntime")
    wanted = expected.outputs["y"]
    rows = fed(artifact.session(), x, sorted({1, 2, len(x) // 2} & set(range(len(x)))))
    floor = oracle.noise({"x": x[None]})["y"] * max(1.0, float(np.abs(wanted).max()))
    assert np.abs(rows.reshape(wanted.shape) - wanted).max() <= FLOORS * floor
    session = artifact.session()
    stepped = [np.array(row) for frame in x if (row := session.step(frame)) is not None]
    whole = np.concatenate([*(row[None] for row in stepped), session.finish()])
    assert np.abs(whole - rows).max() <= FLOORS * floor


def compiled(model: onnx.ModelProto, **options: Any) -> Artifact:
    """An artifact that nobody checked yet."""
    settings = {"target": "reference", "mode": "stream", "check": False, **options}
    return compile_model(model.SerializeToString(), **settings)


OWN: dict[str, Attend] = {
    "where": where(BAND),
    "added minus infinity": added(np.where(BAND, 0, -np.inf)),
    "added finite": added(np.where(BAND, 0, -1e4)),
    "distances of a head": added(np.where(BAND, SLOPE * DISTANCE, -1e9)),
    "operator": operator(BAND),
    "operator, causal and a mask": operator(band(FRAMES, 5, 9), is_causal=1),
    "MultiHeadAttention": contributed(BAND),
    "MultiHeadAttention, unidirectional": contributed(band(FRAMES, 5, 9), unidirectional=1),
    "packed": packed(BAND),
}


@pytest.mark.parametrize("name", OWN)
def test_a_band_of_the_model_streams_as_it_is(name: str) -> None:
    """Without being asked, and as exact as the operators are."""
    model = attention_model([OWN[name]], FRAMES)
    artifact = compiled(model)
    assert "attention" not in artifact.manifest
    (spec,) = artifact.signature.outputs
    assert (spec.stride, spec.delay, spec.warm_up, spec.reach) == (1, 0, 0, 0)
    expect_oracle(artifact, model, recording())


@pytest.mark.parametrize("context", [1, 5])
def test_masks_of_any_length(context: int) -> None:
    """A band that the graph computes from the number of frames is the same at all of them."""
    model = attention_model([masked(compared(context))])
    artifact = compiled(model, attention_context=7)
    assert artifact.manifest["attention"]["is_exact"]
    for frames in (1, 4, 31):
        expect_oracle(artifact, model, recording(frames))


ASKED: dict[str, tuple[Attend, Attend]] = {
    "no mask": (masked(None), where(BAND)),
    "causal": (where(CAUSAL), where(BAND)),
    "operator": (operator(), operator(BAND)),
    "operator, causal": (operator(is_causal=1), operator(BAND)),
    "operator, truth values": (operator(CAUSAL), operator(BAND)),
    "operator, added": (
        operator(np.where(CAUSAL, 0, -1e9).astype(np.float32)),
        operator(np.where(BAND, 0, -1e9).astype(np.float32)),
    ),
    "MultiHeadAttention": (contributed(), contributed(BAND)),
    "MultiHeadAttention, causal": (contributed(unidirectional=1), contributed(BAND)),
    "packed": (packed(), packed(BAND)),
    "packed, causal": (packed(CAUSAL), packed(BAND)),
}


@pytest.mark.parametrize("name", ASKED)
def test_a_context_is_the_band_put_into_the_graph(name: str) -> None:
    """What is asked for is another function, and exactly that of the mask."""
    attend, with_band = ASKED[name]
    artifact = compiled(attention_model([attend], FRAMES), attention_context=5)
    told = artifact.manifest["attention"]
    assert (told["context"], told["is_exact"], told["frames"]) == (5, False, FRAMES)
    assert told["exact_for"] == (5 if "causal" in name or name.endswith(("values", "added")) else 0)
    assert told["distance_to_whole"]["y"]["max_error"] > 1e-3
    expect_oracle(artifact, attention_model([with_band], FRAMES), recording())


@pytest.mark.parametrize("mask", [None, triangle])
def test_a_context_where_time_is_free(mask: Callable[[Maker, str], str] | None) -> None:
    """At every number of frames; two layers, whose contexts add up."""
    artifact = compiled(attention_model([masked(mask)] * 2), attention_context=4)
    for frames in (1, 3, 29):
        wanted = attention_model([where(band(frames, 4))] * 2, frames)
        expect_oracle(artifact, wanted, recording(frames))


def test_layers_without_a_cell() -> None:
    """What attention relates to itself is time; a frame sees two contexts less one."""
    artifact = compiled(
        attention_model([masked(triangle)] * 2, has_cell=False), attention_context=4
    )
    (spec,) = artifact.signature.outputs
    assert spec.reach == 7
    wanted = attention_model([where(band(23, 4))] * 2, 23, has_cell=False)
    expect_oracle(artifact, wanted, recording(23))


def conv(pads: Sequence[int], stride: int = 1) -> Callable[[Maker, str], str]:
    """A convolution in front."""

    def front(make: Maker, x: str) -> str:
        w = make.normal(FEATURES, FEATURES, 3)
        return make.add("Conv", x, w, kernel_shape=[3], pads=list(pads), strides=[stride])

    return front


@pytest.mark.parametrize("pads", [(1, 1), (0, 2), (4, 3)])
def test_attention_behind_what_is_late(pads: Sequence[int]) -> None:
    """Rings begin and end with their elements; `finish` gives the last rows."""
    front = conv(pads)
    for has_cell in (True, False):
        asked = attention_model([masked(triangle)], front=front, has_cell=has_cell)
        artifact = compiled(asked, attention_context=4)
        for frames in (6, 21):
            seen = where(band(frames + sum(pads) - 2, 4))
            wanted = attention_model([seen], frames, front=front, has_cell=has_cell)
            expect_oracle(artifact, wanted, recording(frames))


def test_attention_behind_what_is_slow() -> None:
    """Of a fixed number of frames: what it becomes behind a stride is no straight line."""
    front, count = conv((1, 2), 2), (FRAMES + 3 - 3) // 2 + 1
    model = attention_model([where(band(count, 4))], FRAMES, front=front)
    artifact = compiled(model)
    (spec,) = artifact.signature.outputs
    assert (spec.stride, spec.tail) == (2, 2)
    expect_oracle(artifact, model, recording())
    with pytest.raises(StreamabilityError, match="depends on the number of frames"):
        compiled(attention_model([masked(triangle)], front=front), attention_context=4)


def test_all_frames_that_the_model_takes() -> None:
    """A causal mask of fixed length: exact for as many frames as the model takes."""
    model = attention_model([where(CAUSAL)], FRAMES)
    artifact = compiled(model, attention_context=FRAMES)
    told = artifact.manifest["attention"]
    assert told["is_exact"]
    assert told["distance_to_whole"] == {}
    expect_oracle(artifact, model, recording())


def test_a_session_goes_on_from_its_snapshot_and_begins_anew() -> None:
    """Keys and values are states as all others."""
    artifact = compiled(attention_model([masked(triangle)]), attention_context=4)
    x, session = recording(20), artifact.session()
    wanted = session.run(x)
    session.reset()
    head = session.run(x[:7])
    kept = session.snapshot()
    session.run(x[:5])
    session.restore(kept)
    assert np.array_equal(np.concatenate([head, session.run(x[7:])]), wanted)
    with artifact.session(streams=2) as streams:
        for frame in range(20):
            rows = np.array(streams.step(np.stack([x[frame], x[19 - frame]])))
            assert np.allclose(rows[0], wanted[frame], atol=1e-6)


@pytest.mark.tvm
def test_native_code_is_the_oracle() -> None:
    """Checked by the compiler, too: on the model with the band."""
    artifact = compiled(
        attention_model([masked(triangle)] * 2), attention_context=4, target="host", check=True
    )
    assert artifact.manifest["check"]["against"].startswith("onnxruntime")
    expect_oracle(artifact, attention_model([where(band(19, 4))] * 2, 19), recording(19))


REFUSED: dict[str, tuple[onnx.ModelProto, dict[str, Any], str]] = {
    "frames that come later": (
        attention_model([where(band(FRAMES, 5, 1))], FRAMES),
        {},
        "sees frames that come later",
    ),
    "all frames before": (
        attention_model([masked(triangle)]),
        {},
        "sees all frames before it",
    ),
    "places in the sequence": (
        attention_model(
            [added(np.where(BAND, np.arange(FRAMES)[:, None] / 9 + SLOPE, -1e9))], FRAMES
        ),
        {},
        "differs from frame to frame",
    ),
    "more frames than the model takes": (
        attention_model([where(CAUSAL)], FRAMES),
        {"attention_context": FRAMES + 1},
        f"give at most {FRAMES}",
    ),
    "nothing to bound": (
        attention_model([]),
        {"attention_context": 4},
        "no attention over its frames",
    ),
    "another mode": (
        attention_model([where(CAUSAL)], FRAMES),
        {"attention_context": 4, "mode": "call"},
        "is for --mode stream, not for call",
    ),
    "too many": (
        attention_model([masked(None)]),
        {"attention_context": 5000},
        "at most 4096",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(name: str) -> None:
    """Named, with what to do."""
    model, options, reason = REFUSED[name]
    with pytest.raises(ModelError, match=reason):
        compiled(model, **options)


def test_the_way_out_is_told() -> None:
    """With the frames that the model takes, or some; what comes of it is said."""
    for model, frames, what in (
        (attention_model([where(CAUSAL)], FRAMES), FRAMES, "exact for the first"),
        (attention_model([masked(None)]), 100, "another function"),
    ):
        with pytest.raises(StreamabilityError) as caught:
            compiled(model)
        (way,) = [way for way in caught.value.ways if way.mode == "stream"]
        assert way.words == ("--attention-context", str(frames))
        assert what in way.what


def test_schemes_keep_attention_in_float() -> None:
    """Layers are quantized; what relates frames is no layer."""
    model = attention_model([masked(triangle)])
    found = compiled(model, attention_context=4, quantize="int8", calibration=[recording(200)])
    x = recording(40, 1)
    wanted = compiled(model, attention_context=4).session().run(x)
    assert np.abs(found.session().run(x) - wanted).max() < 0.1 * np.abs(wanted).max()


def test_cuda_refuses_by_name() -> None:
    """It keeps what it has."""
    pytest.importorskip("numba")
    model = attention_model([masked(triangle)])
    with pytest.raises(CapabilityError, match="cuda"):
        compiled(model, attention_context=4, target="cuda")
