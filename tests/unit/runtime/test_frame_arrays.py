"""Arrays as frames: the layouts that mean one thing only, and those that do not."""

from __future__ import annotations

import numpy as np
import pytest

from edgelstm.dtypes import DType
from edgelstm.errors import RecordingError
from edgelstm.io.frame_arrays import as_frames
from edgelstm.signature import TensorSpec

F32 = DType.F32
TIME_FIRST = TensorSpec("x", F32, (3,), 0, (1, 1, 3), 0)
BATCH_FIRST = TensorSpec("x", F32, (3,), 0, (1, 1, 3), 1)
FOUR_STREAMS = TensorSpec("x", F32, (4, 3), 0, (4, 1, 3), 1)
ONE_CHANNEL = TensorSpec("x", F32, (1,), 0, (1, 1, 1), 0)
CHANNELS_FIRST = TensorSpec("x", F32, (3,), 0, (1, 3, 1), 2)


def numbered(*shape: int) -> np.ndarray:
    return np.arange(np.prod(shape, dtype=int), dtype=np.float32).reshape(shape)


@pytest.mark.parametrize(
    ("spec", "shape"),
    [
        (TIME_FIRST, (7, 3)),
        (TIME_FIRST, (7, 1, 3)),
        (TIME_FIRST, (1, 7, 3)),
        (TIME_FIRST, (1, 1, 3)),
        (BATCH_FIRST, (1, 7, 3)),
        (BATCH_FIRST, (7, 1, 3)),
        (FOUR_STREAMS, (7, 4, 3)),
        (ONE_CHANNEL, (7,)),
        (ONE_CHANNEL, (7, 1)),
        (ONE_CHANNEL, (7, 1, 1)),
        (ONE_CHANNEL, (1, 7, 1)),
    ],
)
def test_layouts_with_the_numbers_in_the_order_of_frames(
    spec: TensorSpec, shape: tuple[int, ...]
) -> None:
    """Axes of extent 1 change nothing."""
    array = numbered(*shape)
    frames = as_frames(array, spec, "in.npy")
    assert frames.shape[1:] == spec.shape
    np.testing.assert_array_equal(frames.reshape(-1), array.reshape(-1))


@pytest.mark.parametrize(
    ("spec", "shape"), [(FOUR_STREAMS, (4, 7, 3)), (CHANNELS_FIRST, (1, 3, 7))]
)
def test_time_stands_where_the_model_has_it(spec: TensorSpec, shape: tuple[int, ...]) -> None:
    """The model's own shape, with several streams or with channels before time."""
    array = numbered(*shape)
    frames = as_frames(array, spec, "in.npy")
    axis = spec.time_axis
    assert axis is not None
    for i in range(7):
        np.testing.assert_array_equal(frames[i].reshape(-1), np.take(array, i, axis).reshape(-1))


@pytest.mark.parametrize(
    ("spec", "shape"),
    [
        (TIME_FIRST, ()),
        (TIME_FIRST, (3,)),
        (TIME_FIRST, (3, 1)),
        (TIME_FIRST, (3, 1, 1)),
        (TIME_FIRST, (7, 4)),
        (TIME_FIRST, (3, 7)),
        (TIME_FIRST, (2, 7, 3)),
        (FOUR_STREAMS, (7, 3, 4)),
        (ONE_CHANNEL, (7, 2)),
    ],
)
def test_other_shapes_are_refused(spec: TensorSpec, shape: tuple[int, ...]) -> None:
    """One frame without a time axis, other features, several recordings."""
    with pytest.raises(RecordingError, match=r"in\.npy: input 'x' needs an array of shape \(n, "):
        as_frames(numbered(*shape), spec, "in.npy")
