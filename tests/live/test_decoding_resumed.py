"""Phases and alarms of a live stream go on when the program does."""

from __future__ import annotations

import contextlib
import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from edgelstm.errors import RecordingError
from edgelstm.io.decoding.events import ALARM, ALARM_ENDS, PHASE_BEGINS, PHASE_ENDS, REPETITION
from edgelstm.io.decoding.recipe import Recipe, recipe_of
from edgelstm.io.sinks.store.schema import open_store
from edgelstm.io.time_settings import TimeSettings
from edgelstm.io.toml_table import parse_toml
from tests.live.harness import Live, Wire, csv_lines, wait_until
from tests.live.test_store import _rows, _start
from tests.unit.runtime.toy_models import WEIGHTS, leaky_reference

pytest.importorskip("serial", reason="needs pyserial: pip install -e '.[serial]'")

RECIPE = """
labels = ["quiet", "active"]
[hysteresis]
enter = 0.6
leave = 0.5
[phases]
minimum_s = 0.05
[[repetitions]]
name = "lift"
cycle = ["active"]
[[alarms]]
name = "high"
column = "y[1]"
above = 0.7
clear = 0.3
acknowledge = true
"""
QUIET, ACTIVE = (1.0, 0.0), (0.0, 1.0)


def recipe(text: str = RECIPE) -> Recipe:
    return recipe_of(parse_toml(text, "decode.toml"))


def scores(*stretches: tuple[tuple[float, float], int]) -> np.ndarray:
    """Samples that make the leaky sum settle at these outputs."""
    rows = [np.array(pair) * 0.5 / WEIGHTS for pair, count in stretches for _ in range(count)]
    return np.array(rows, np.float32)


def serial_run(store: Path, values: np.ndarray, text: str = RECIPE) -> Live:
    wire = Wire()
    address = f"serial:{wire.path}?name=imu&start=keep"
    settings = TimeSettings(decode=recipe(text))
    options = {"rate_hz": 100.0, "time": settings}
    with Live(leaky_reference(), [address], [f"store:{store}?every=20ms"], **options) as live:
        live.wait_for_event("connected")
        wire.write(csv_lines(values))
        live.wait_for(len(values))
    wire.close()
    return live


def _has_rows(store: Path, rows: int) -> bool:
    return _rows(store) == rows


def told(store: Path, *kinds: str) -> list[tuple[str, str]]:
    """Kinds and names of the stored events, as they were told."""
    with contextlib.closing(open_store(store)) as connection:
        rows = connection.execute("SELECT kind, data FROM events ORDER BY id").fetchall()
    return [(kind, json.loads(data)["name"]) for kind, data in rows if kind in kinds]


def test_what_kill_9_interrupts_goes_on(tmp_path: Path) -> None:
    """One phase across both runs, one alarm, and the count behind the count before."""
    model, store, decode = tmp_path / "leaky.edgelstm", tmp_path / "ward.db", tmp_path / "d.toml"
    leaky_reference().save(model)
    decode.write_text(RECIPE, encoding="utf-8")
    first = scores((QUIET, 30), (ACTIVE, 30), (QUIET, 30), (ACTIVE, 30))
    second = scores((ACTIVE, 30), (QUIET, 40))
    source = ["-i", "stdin:?name=imu", "-o", f"store:{store}?every=20ms"]
    for values, before in ((first, 0), (second, len(first))):
        process = _start(model, *source, "--decode", str(decode), "--rate", "100")
        assert process.stdin is not None
        process.stdin.write(csv_lines(values).decode())
        process.stdin.flush()
        wait_until(partial(_has_rows, store, before + len(values)), "rows")
        if not before:
            process.kill()
        process.communicate(timeout=20)
    assert told(store, PHASE_BEGINS, PHASE_ENDS, REPETITION) == [
        (PHASE_BEGINS, "quiet"),
        (PHASE_ENDS, "quiet"),
        (PHASE_BEGINS, "active"),
        (PHASE_ENDS, "active"),
        (PHASE_BEGINS, "quiet"),
        (REPETITION, "lift"),
        (PHASE_ENDS, "quiet"),
        (PHASE_BEGINS, "active"),
        (PHASE_ENDS, "active"),
        (PHASE_BEGINS, "quiet"),
        (REPETITION, "lift"),
        (PHASE_ENDS, "quiet"),
    ]
    assert told(store, ALARM, ALARM_ENDS) == [(ALARM, "high"), (ALARM_ENDS, "high")] * 2
    with contextlib.closing(open_store(store)) as connection:
        (last,) = connection.execute(
            "SELECT data FROM events WHERE kind = ? ORDER BY id DESC LIMIT 1", (REPETITION,)
        ).fetchone()
    assert json.loads(last)["count"] == 2


def test_after_too_long_a_phase_ends_and_an_alarm_stays(tmp_path: Path) -> None:
    """The phase ends where it was last seen; who has to see the alarm still has to."""
    store = tmp_path / "ward.db"
    serial_run(store, scores((QUIET, 30), (ACTIVE, 30)))
    with contextlib.closing(open_store(store)) as connection:
        connection.execute("UPDATE checkpoints SET time = time - 3600")
    live = serial_run(store, scores((ACTIVE, 30), (QUIET, 30)))
    assert told(store, ALARM, ALARM_ENDS) == [(ALARM, "high"), (ALARM_ENDS, "high")]
    names = [event.data["name"] for event in live.events if event.kind == PHASE_BEGINS]
    assert names == ["active", "quiet"]
    assert live.run.pump is not None
    (lane,) = live.run.pump.lanes.values()
    assert lane.decoder is not None
    assert lane.decoder.decoder.alarms["high"].is_shown


def test_by_another_recipe_it_begins_anew_and_says_so(tmp_path: Path) -> None:
    """What the old one remembered means nothing to it."""
    store = tmp_path / "ward.db"
    serial_run(store, scores((QUIET, 30), (ACTIVE, 30)))
    live = serial_run(store, scores((ACTIVE, 30)), RECIPE.replace("0.7", "0.8"))
    (event,) = [event for event in live.events if event.kind == "resumed"]
    assert "it decodes by another recipe" in event.text
    assert told(store, ALARM) == [(ALARM, "high")] * 2


def test_a_store_of_before_is_gone_on_with(tmp_path: Path) -> None:
    """Its checkpoints say nothing of decoding; what is no checkpoint at all is refused."""
    store = tmp_path / "ward.db"
    serial_run(store, scores((QUIET, 30), (ACTIVE, 30)))
    with contextlib.closing(open_store(store)) as connection:
        (text,) = connection.execute("SELECT policy FROM checkpoints").fetchone()
        data = json.loads(text)
        del data["decoding"]
        connection.execute("UPDATE checkpoints SET policy = ?", (json.dumps(data),))
    serial_run(store, scores((ACTIVE, 30)))
    assert told(store, ALARM) == [(ALARM, "high")] * 2
    with contextlib.closing(open_store(store)) as connection:
        data["decoding"] = {"recipe": "x"}
        connection.execute("UPDATE checkpoints SET policy = ?", (json.dumps(data),))
    serial_run(store, scores((ACTIVE, 30)))
    with contextlib.closing(open_store(store)) as connection:
        connection.execute("UPDATE checkpoints SET policy = ?", ('{"since_reset": 0, "las',))
    with pytest.raises(RecordingError, match="damaged checkpoint"):
        serial_run(store, scores((ACTIVE, 30)))
