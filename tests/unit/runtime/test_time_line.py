"""When an output comes and what it sees, drawn."""

from __future__ import annotations

from typing import Any

import pytest

from edgelstm.commands.time_line import WIDTH, draw
from edgelstm.dtypes import DType
from edgelstm.signature import TensorSpec


def spec(**time: int | None) -> TensorSpec:
    """An output with these properties."""
    told: dict[str, Any] = {"time_axis": 1} | time
    return TensorSpec("y", DType.F32, (2,), 0, (1, 1, 2), **told)


@pytest.mark.parametrize(
    ("time", "drawn"),
    [
        ({"reach": 1}, "|  sees its frame, every frame, at once"),
        (
            {"reach": 5, "delay": 2, "warm_up": 2},
            "==o=|  sees 5 frames, every frame, 2 frames late",
        ),
        ({"reach": 2, "delay": 3, "warm_up": 3}, "o.=|  sees 2 frames, every frame, 3 frames"),
        ({"reach": 3, "stride": 4}, "==|  sees 3 frames, every 4 frames, at once"),
        ({"delay": 1, "warm_up": 1}, "<==============o|  sees all frames so far, every frame, 1"),
        (
            {"reach": 3, "time_axis": None, "warm_up": 2},
            "==|  sees 3 frames, at any time, at once, ",
        ),
    ],
)
def test_a_line_shows_receptive_field_delay_and_rate(time: dict[str, int], drawn: str) -> None:
    """One character a frame, the newest last."""
    assert draw(spec(**time)).startswith(drawn)


def test_rates_and_delays_are_told_in_seconds_where_the_rate_is_known() -> None:
    """And long fields are cut."""
    line = draw(spec(reach=400, stride=4, delay=10, warm_up=10), 200.0)
    assert "every 4 frames (50 Hz), 10 frames late (50 ms)" in line
    assert line.startswith("<")
    assert len(line.split()[0]) == WIDTH + 1
