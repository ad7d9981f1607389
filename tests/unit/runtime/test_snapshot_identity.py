"""Snapshots fit one set of weights and scales, and hold nothing that no stream leads to."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgelstm.artifact import Artifact
from edgelstm.dtypes import DType
from edgelstm.errors import ArtifactFormatError, StreamError
from edgelstm.signature import Signature, StateSpec
from edgelstm.snapshot import Snapshot, model_id, state_to_restore
from edgelstm.state_conversion import convert_snapshot
from tests.unit.runtime.toy_models import LEAKY, WEIGHTS, leaky_native, leaky_reference, needs_cc

FRAMES = np.ones((5, 2), np.float32)


def with_state(artifact: Artifact, values: list[float]) -> bytes:
    """A snapshot with these values, its checksum right."""
    return bytes(Snapshot(artifact.model_id, np.array(values, np.float32).tobytes()))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_state_that_is_not_finite_is_refused(value: float) -> None:
    """The state stays as it was, and the place is named."""
    session = leaky_reference().session()
    session.run(FRAMES)
    before = bytes(session.snapshot())
    with pytest.raises(StreamError, match=r"state 's' holds NaN or infinity at \[1\]"):
        session.restore(with_state(leaky_reference(), [1.0, value]))
    assert bytes(session.snapshot()) == before


def test_what_a_stream_begins_with_may_be_restored() -> None:
    """A running maximum begins with minus infinity."""
    artifact = leaky_reference(state_init=np.array([-np.inf, 0], np.float32).tobytes())
    session = artifact.session()
    session.restore(session.snapshot())
    session.restore(with_state(artifact, [1.0, 2.0]))
    for values in ([np.inf, 0], [np.nan, 0], [-np.inf, -np.inf]):
        with pytest.raises(StreamError, match="NaN or infinity"):
            session.restore(with_state(artifact, values))


def test_truth_values_are_0_or_1() -> None:
    """NumPy would take any byte, and compare it to nothing."""
    signature = Signature("m", "stream", (), (), (StateSpec("b", DType.BOOL, (2,), 0),), 0, 0)
    first = np.zeros(2, np.uint8)
    state_to_restore(Snapshot("ab" * 32, b"\0\1"), "ab" * 32, signature, first)
    with pytest.raises(StreamError, match="no truth value"):
        state_to_restore(Snapshot("ab" * 32, b"\0\2"), "ab" * 32, signature, first)


@needs_cc
def test_an_identity_decides_across_engines() -> None:
    """Equal ones fit whatever packs the weights; different ones never do."""
    first = leaky_native(identity="1" * 64)
    second = leaky_reference(identity="1" * 64)
    other = leaky_reference(identity="2" * 64)
    session = first.session()
    session.run(FRAMES)
    saved = session.snapshot()
    second.session().restore(saved)
    with pytest.raises(StreamError, match=r"another calibration.*snapshot convert"):
        other.session().restore(saved)


def test_artifacts_without_an_identity_keep_their_model_id() -> None:
    """Streams of older artifacts go on."""
    artifact = leaky_reference()
    assert "identity" not in artifact.manifest
    weights = artifact.container.section("weights")
    assert artifact.model_id == model_id(LEAKY, "ab" * 32, weights)


def scaled(dtype: DType, scale: float | None, **changes: Any) -> Artifact:
    """The leaky sum as if its state were kept in integers; it is not stepped."""
    signature = Signature(
        **{
            **{name: getattr(LEAKY, name) for name in LEAKY.__slots__},
            "states": (StateSpec("s", dtype, (2,), 0),),
        }
    )
    record: dict[str, Any] = {
        **{"scheme": "int8-full", "options": {}, "calibration": None, "layers": []},
        **{"borders": [], "search": [], "max_error": None, "outputs": {}},
    }
    if scale is not None:
        record["states"] = [{"name": "s", "scale": scale}]
    settings: dict[str, Any] = {
        "signature": signature,
        "state_init": bytes(2 * dtype.itemsize),
        "quantization": record,
        "weights": WEIGHTS.tobytes() + np.float32(0.5).tobytes(),
    }
    return leaky_reference(**{**settings, **changes})


def state_of(snapshot: Snapshot, dtype: DType) -> list[float]:
    """Its values as they are stored."""
    return [float(value) for value in np.frombuffer(snapshot.state, dtype.numpy)]


@pytest.mark.parametrize(
    ("old", "new", "given", "expected", "saturated"),
    [
        ((DType.I16, 0.5), (DType.I16, 0.25), [3, -4], [6, -8], 0),
        ((DType.I16, 0.5), (DType.I16, 1.0), [3, -5], [2, -2], 0),
        ((DType.I8, 1.0), (DType.I8, 0.5), [100, -100], [127, -127], 2),
        ((DType.I16, 0.5), (DType.I8, 0.5), [200, -3], [127, -3], 1),
        ((DType.I16, 0.5), (DType.F32, None), [3, -4], [1.5, -2.0], 0),
        ((DType.F32, None), (DType.I8, 0.5), [1.5, -2.0], [3, -4], 0),
        ((DType.F32, None), (DType.F32, None), [0.1, -2.0], [np.float32(0.1), -2.0], 0),
    ],
)
def test_states_are_converted_to_the_new_scale(
    old: tuple[DType, float | None],
    new: tuple[DType, float | None],
    given: list[float],
    expected: list[float],
    saturated: int,
) -> None:
    """Half to even, symmetric at the ends; what does not fit is counted."""
    before = scaled(*old, identity="1" * 64)
    after = scaled(*new, identity="2" * 64)
    snapshot = Snapshot(before.model_id, np.array(given, old[0].numpy).tobytes())
    result, (change,) = convert_snapshot(snapshot, before, after)
    assert state_of(result, new[0]) == expected
    assert result.model_id == after.model_id
    assert change.saturated == saturated


def test_scales_that_nobody_wrote_down_are_not_guessed() -> None:
    """Artifacts from before scales were recorded."""
    before, after = scaled(DType.I16, None), scaled(DType.I16, 0.5, identity="2" * 64)
    snapshot = Snapshot(before.model_id, bytes(4))
    with pytest.raises(ArtifactFormatError, match="does not say at which scale its state 's'"):
        convert_snapshot(snapshot, before, after)


def test_models_that_differ_are_not_converted_between() -> None:
    """Other names, other shapes, another source."""
    before = leaky_reference(identity="1" * 64)
    snapshot = Snapshot(before.model_id, bytes(8))
    source = leaky_reference(identity="2" * 64, source={"sha256": "cd" * 32})
    with pytest.raises(StreamError, match="compiled from different models"):
        convert_snapshot(snapshot, before, source)
    convert_snapshot(snapshot, before, source, any_source=True)
    for states, message in (
        ((StateSpec("t", DType.F32, (2,), 0),), "has a state 's'"),
        ((StateSpec("s", DType.F32, (1, 2), 0),), r"has shape \(2,\) in the old"),
    ):
        signature = Signature(
            **{**{name: getattr(LEAKY, name) for name in LEAKY.__slots__}, "states": states}
        )
        other = leaky_reference(identity="2" * 64, signature=signature)
        with pytest.raises(StreamError, match=message):
            convert_snapshot(snapshot, before, other)
