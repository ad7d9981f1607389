"""Recordings that are replayed again and again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgelstm.io.sources import replay_file
from tests.live.harness import Live
from tests.unit.runtime.toy_models import leaky_reference


def test_a_recording_that_repeats_is_open_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each time it is closed before it is opened anew: a demo runs for days."""
    path = tmp_path / "walk.csv"
    path.write_text("x[0],x[1]\n" + "0.5,0.25\n" * 5)
    opened: list[int] = []
    before = replay_file.open_recording

    def counting(*arguments: object, **options: object) -> object:
        folder = f"/proc/{os.getpid()}/fd"
        names = [os.path.join(folder, name) for name in os.listdir(folder)]
        opened.append(sum(os.path.exists(n) and os.readlink(n) == str(path) for n in names))
        return before(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(replay_file, "open_recording", counting)
    with Live(leaky_reference(), [f"file:{path}?repeat=20"]) as live:
        live.finish()
    assert len(opened) == 20
    assert max(opened) == 0
