"""Reading a recording costs little more than taking its text apart."""

from __future__ import annotations

from pathlib import Path

from tests.bench.recordings import BOUND, ratio, write_recording


def test_frames_cost_little_more_than_csv_and_float(tmp_path: Path) -> None:
    """Within the bound of the benchmark, with room for a busy machine."""
    path = tmp_path / "in.csv"
    write_recording(path, 60_000)
    _, times = ratio(path)
    assert times < 1.5 * BOUND
