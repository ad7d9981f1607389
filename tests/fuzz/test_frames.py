"""The agent under bad frames; `python -m tests.fuzz.frames` tries more."""

from __future__ import annotations

import pytest

from tests.fuzz.frames import try_garbled_line, try_whole_frames


@pytest.mark.parametrize("start", [0, 50, 100, 150])
def test_every_whole_frame_is_answered(start: int) -> None:
    """Whatever its kind and payload, and the frames after it as if nothing had been."""
    complaints = {seed: try_whole_frames(seed) for seed in range(start, start + 50)}
    assert {seed: text for seed, text in complaints.items() if text} == {}


@pytest.mark.parametrize("start", [0, 50, 100, 150])
def test_a_garbled_line_ends_no_agent(start: int) -> None:
    """It reads on until the stream ends."""
    complaints = {seed: try_garbled_line(seed) for seed in range(start, start + 50)}
    assert {seed: text for seed, text in complaints.items() if text} == {}
