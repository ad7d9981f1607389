"""Samples in another unit than the model's are noticed, and scaled where that is asked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgelstm.description import Column, Description
from edgelstm.dtypes import DType
from edgelstm.errors import RecordingError
from edgelstm.io.preparation import ScaleInputs, UnitWatch, parse_scale
from edgelstm.signature import Signature, TensorSpec
from tests.unit.io.simulated_sensors import make_block

NAMES = ("acc_x", "acc_y")


def signature(dtype: DType = DType.F32) -> Signature:
    """Two elements in, one out."""
    inputs = (TensorSpec("x", dtype, (2,), 0, (1, 2)),)
    return Signature(
        "toy", "stream", inputs, (TensorSpec("y", DType.F32, (1,), 0, (1, 1)),), (), 8, 4
    )


def watched(limit: float, scale: float, seconds: float = 1.0) -> list[str]:
    columns = tuple(Column(name, "m/s^2", -limit, limit) for name in NAMES)
    said: list[str] = []
    watch = UnitWatch(signature(), Description({"x": columns}), 100.0, said.append)
    times = np.arange(int(seconds * 100)) / 100
    wave = (scale * np.cos(times))[:, None] * np.ones(2)
    block = make_block(times, x=wave.astype(np.float32))
    for start in range(0, len(block), 50):
        part = block.part(slice(start, start + 50))
        assert watch.feed(part) == [part]
    return said


def test_a_larger_unit_is_noticed_at_once() -> None:
    """Ten times the known magnitude: the likely unit is named, once for each column."""
    said = watched(2.0, 19.6, 10.0)
    assert [name for name in NAMES if any(name in text for text in said)] == list(NAMES)
    assert len(said) == 2
    assert all("9.8 times" in text and "mixed up" in text for text in said)


def test_what_grew_beyond_the_first_remark_is_said_again_after_a_minute() -> None:
    """The first sample that is too large need not show the unit."""
    columns = (Column("a", "m/s^2", -1.0, 1.0), Column("b"))
    said: list[str] = []
    watch = UnitWatch(signature(), Description({"x": columns}), 100.0, said.append)
    values = np.ones((6100, 2), np.float32)
    values[100:200, 0] = 4.0
    values[200:300, 0] = 9.8
    block = make_block(np.arange(6100) / 100, x=values)
    for start in range(0, 6100, 100):
        watch.feed(block.part(slice(start, start + 100)))
    assert [text.split("times")[0] for text in said] == ["column 'a' is 4 ", "column 'a' is 9.8 "]


def test_a_smaller_unit_is_noticed_after_a_minute() -> None:
    """With g where m/s^2 is expected: nobody can tell from a sensor that rests for a moment."""
    assert watched(19.6, 2.0, 59.0) == []
    (said,) = watched(19.6, 2.0, 70.0)
    assert "g instead of m/s^2?" in said


@pytest.mark.parametrize(
    ("text", "factors"),
    [("9.81", {"": 9.81}), ("acc_x=2, acc_y = -1e3", {"acc_x": 2.0, "acc_y": -1000.0})],
)
def test_factors_are_written_for_all_columns_or_by_name(text: str, factors: Any) -> None:
    """The last equals sign divides name and number."""
    assert parse_scale(text) == factors


@pytest.mark.parametrize("text", ["", "x", "a=", "=2", "a=0", "a=nan", "1,a=2", "a=1,a=2", "1,2"])
def test_what_is_no_factor_is_refused(text: str) -> None:
    """With what would be one."""
    with pytest.raises(RecordingError, match="--scale"):
        parse_scale(text)


def test_columns_are_scaled_by_name() -> None:
    """The others stay as they are, and the type stays."""
    stage = ScaleInputs({"acc_y": 10.0}, {"x": NAMES}, signature())
    (out,) = stage.feed(make_block(np.arange(2.0), x=np.ones((2, 2), np.float32)))
    assert out.frames["x"].tolist() == [[1.0, 10.0]] * 2
    assert out.frames["x"].dtype == np.float32


def test_a_factor_for_nothing_is_refused() -> None:
    """Columns that do not feed the model, and integers."""
    with pytest.raises(RecordingError, match="no column 'z'"):
        ScaleInputs({"z": 2.0}, {"x": NAMES}, signature())
    with pytest.raises(RecordingError, match="integers"):
        ScaleInputs({"": 2.0}, {"x": NAMES}, signature(DType.I8))
