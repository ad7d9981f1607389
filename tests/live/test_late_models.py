"""Live runs of models whose outputs come later than their samples, or slower."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgelstm.artifact import Artifact
from edgelstm.errors import RecordingError
from edgelstm.io.block import SampleFlag
from edgelstm.io.decoding.events import PHASE_BEGINS
from edgelstm.io.decoding.model_decoder import make_decoder
from edgelstm.io.decoding.recipe import recipe_of
from edgelstm.io.lane import RESERVED
from edgelstm.io.replay import BadSamplePolicy
from edgelstm.io.sinks.store.read import read_predictions
from edgelstm.io.sinks.store.schema import open_store
from edgelstm.io.toml_table import parse_toml
from tests.late_models import PADDED, SLOW, TWO, VALID, late_model, rows_by_frame
from tests.live.harness import Live, Wire, csv_lines, samples, wait_until

MODELS = {"padded": PADDED, "slow": SLOW, "two": TWO, "valid": VALID}
FRAMES = 40


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest) -> Artifact:
    return late_model(MODELS[request.param])


def _recording(path: Path, values: np.ndarray) -> str:
    path.write_bytes(b"x[0],x[1]\n" + csv_lines(values))
    return f"file:{path}"


def _lines(model: Artifact, sequence: np.ndarray, outputs: Any) -> dict[int, np.ndarray]:
    names = [spec.name for spec in model.signature.outputs]
    stacked = np.stack([np.asarray(outputs[name]).reshape(-1, 2) for name in names], axis=1)
    assert len(set(sequence.tolist())) == len(sequence), "a key that stands twice"
    return dict(zip(sequence.tolist(), stacked, strict=True))


def _said(model: Artifact, live: Live) -> dict[int, np.ndarray]:
    names = [spec.name for spec in model.signature.outputs]
    return _lines(model, live.column("sequence"), {name: live.column(name) for name in names})


def _stored(model: Artifact, path: Path, stream: str) -> dict[int, np.ndarray]:
    with contextlib.closing(open_store(path, is_new_allowed=False)) as connection:
        found = read_predictions(connection, stream)
    return _lines(model, found.sample, found.outputs)


def _expect_equal(found: dict[int, np.ndarray], expected: dict[int, np.ndarray]) -> None:
    assert list(found) == list(expected)
    for number, line in expected.items():
        np.testing.assert_array_equal(found[number], line, err_msg=str(number))


def test_a_recording_gives_every_row_under_its_sample(model: Artifact, tmp_path: Path) -> None:
    """Those of its end too; beside them what was measured, and when."""
    values = samples(FRAMES)
    store = tmp_path / "ward.db"
    given = [_recording(tmp_path / "walk.csv", values)]
    with Live(model, given, [f"store:{store}?inputs=yes"], rate_hz=100.0) as live:
        live.finish()
    expected = rows_by_frame(model, values)
    # A row that stands for a frame behind the last has no sample to stand under.
    behind = [number for number in expected if number >= FRAMES]
    assert live.counters().noted["outputs behind the last sample"] == len(behind)
    inside = {number: line for number, line in expected.items() if number < FRAMES}
    _expect_equal(_said(model, live), inside)
    _expect_equal(_stored(model, store, "walk.csv"), inside)
    with contextlib.closing(open_store(store)) as connection:
        found = read_predictions(connection, "walk.csv")
    np.testing.assert_array_equal(found.inputs["x"], values[found.sample])
    moments = live.column("time")
    np.testing.assert_allclose(moments - moments[0], live.column("sequence") / 100.0, atol=1e-6)
    counters = live.counters()
    assert counters.is_balanced
    assert counters.fed == FRAMES


def test_a_sensor_gets_its_rows_as_soon_as_they_are_known(model: Artifact) -> None:
    """In the step that feeds the last sample they depend on; the rest when the run ends."""
    pytest.importorskip("serial", reason="needs pyserial: pip install -e '.[serial]'")
    values, wire = samples(FRAMES), Wire()
    begun = rows_by_frame(model, values, is_ended=False)
    known = [number for number in begun if _is_complete(model, number, FRAMES)]
    with Live(model, [f"serial:{wire.path}?start=keep&name=imu&columns=x[0],x[1]"]) as live:
        wire.write(csv_lines(values))
        live.wait_for(len(known))
        early = _said(model, live)
        _expect_equal(early, {number: begun[number] for number in known})
    wire.close()
    whole = rows_by_frame(model, values)
    _expect_equal(_said(model, live), {n: line for n, line in whole.items() if n < FRAMES})


def _is_complete(model: Artifact, number: int, fed: int) -> bool:
    """Whether all that is said of a frame, and of those before it, is known."""
    return all(
        place % spec.stride or place + spec.delay < fed
        for spec in model.signature.outputs
        for place in range(number + 1)
    )


def _serial_run(model: Artifact, store: Path, values: np.ndarray) -> Live:
    wire = Wire()
    address = f"serial:{wire.path}?start=keep&name=imu&columns=x[0],x[1]"
    with Live(model, [address], [f"store:{store}?inputs=yes"]) as live:
        wire.write(csv_lines(values))
        wait_until(lambda: _fed(live) == len(values), f"{len(values)} samples")
    wire.close()
    return live


def _fed(live: Live) -> int:
    tables = {} if live.run.pump is None else live.run.pump.tables
    return sum(table.fed for table in tables.values())


def test_a_sensor_goes_on_with_rows_that_were_waiting(model: Artifact, tmp_path: Path) -> None:
    """Two runs with a store say what one says: what looks ahead sees the samples of the second."""
    pytest.importorskip("serial", reason="needs pyserial: pip install -e '.[serial]'")
    store, values = tmp_path / "ward.db", samples(FRAMES)
    _serial_run(model, store, values[:17])
    live = _serial_run(model, store, values[17:])
    begun = rows_by_frame(model, values, is_ended=False)
    known = {n: line for n, line in begun.items() if _is_complete(model, n, FRAMES)}
    _expect_equal(_stored(model, store, "imu"), known)
    with contextlib.closing(open_store(store)) as connection:
        found = read_predictions(connection, "imu")
    np.testing.assert_array_equal(found.inputs["x"], values[found.sample])
    assert np.isfinite(found.time).all()
    assert max(np.diff(found.time)) < 60
    assert live.counters().noted["gaps by restarts"] == 1


def test_a_recording_that_was_cut_off_is_gone_on_with(model: Artifact, tmp_path: Path) -> None:
    """Interrupted anywhere and resumed, the store is that of one run, end included."""
    values, store = samples(FRAMES), tmp_path / "ward.db"
    given = _recording(tmp_path / "walk.csv", values)
    with Live(model, [given], [f"store:{store}"], is_realtime=True, rate_hz=100.0) as live:
        live.wait_for(3)
    early = _stored(model, store, "walk.csv")
    assert 0 < len(early) < FRAMES - 3
    for _ in range(2):  # the second time there is nothing left to do
        with Live(model, [given], [f"store:{store}"]) as live:
            live.finish()
        whole = rows_by_frame(model, values)
        inside = {n: line for n, line in whole.items() if n < FRAMES}
        _expect_equal(_stored(model, store, "walk.csv"), inside)


def test_a_recording_that_grew_behind_its_end(tmp_path: Path) -> None:
    """Refused where its last rows were those of an end; gone on with where it had none."""
    values = samples(FRAMES)
    for layers, is_refused in ((PADDED, True), (VALID, False)):
        model, store = late_model(layers), tmp_path / f"{is_refused}.db"
        path = tmp_path / "walk.csv"
        with Live(model, [_recording(path, values[:20])], [f"store:{store}"]) as live:
            live.finish()
        grown = _recording(path, values)
        if is_refused:
            with (
                pytest.raises(RecordingError, match="had ended here"),
                Live(model, [grown], [f"store:{store}"]) as live,
            ):
                live.finish()
            continue
        with Live(model, [grown], [f"store:{store}"]) as live:
            live.finish()
        _expect_equal(_stored(model, store, "walk.csv"), rows_by_frame(model, values))


def test_a_bad_sample_is_held_or_ends_the_stream(model: Artifact, tmp_path: Path) -> None:
    """The row that stands for it has its flag, however late it comes; a reset tells an end."""
    values = samples(FRAMES)
    bad = 18  # a frame that every output stands for
    lines = csv_lines(values).splitlines(keepends=True)
    lines[bad] = b",1\n"
    path = tmp_path / "walk.csv"
    path.write_bytes(b"x[0],x[1]\n" + b"".join(lines))
    with Live(model, [f"file:{path}"], policy=BadSamplePolicy.HOLD) as live:
        live.finish()
    held = values.copy()
    held[bad] = values[bad - 1]
    whole = rows_by_frame(model, held)
    _expect_equal(_said(model, live), {n: line for n, line in whole.items() if n < FRAMES})
    flags = dict(zip(live.column("sequence").tolist(), live.column("flags").tolist(), strict=True))
    assert {number for number, flag in flags.items() if flag & SampleFlag.HELD} == {bad}
    assert live.counters().is_balanced
    with Live(model, [f"file:{path}"], policy=BadSamplePolicy.RESET) as live:
        live.finish()
    first, second = values[:bad], values[bad + 1 :]
    expected = {n: line for n, line in rows_by_frame(model, first).items() if n < bad}
    behind = rows_by_frame(model, second)
    expected |= {n + bad + 1: line for n, line in behind.items() if n + bad + 1 < FRAMES}
    _expect_equal(_said(model, live), expected)
    assert live.counters().is_balanced


def test_numbers_of_a_crashed_run_are_left_out(tmp_path: Path) -> None:
    """Rows that wait keep the numbers of their samples; new samples get others."""
    pytest.importorskip("serial", reason="needs pyserial: pip install -e '.[serial]'")
    model, store, values = late_model(PADDED), tmp_path / "ward.db", samples(30)
    _serial_run(model, store, values[:10])
    with contextlib.closing(open_store(store)) as connection:
        connection.execute("UPDATE checkpoints SET is_clean = 0")
    _serial_run(model, store, values[10:])
    lines = _stored(model, store, "imu")
    expected = list(rows_by_frame(model, values, is_ended=False).values())
    assert list(lines)[9:11] == [9, 9 + RESERVED + 1]
    np.testing.assert_array_equal(np.array(list(lines.values())), np.array(expected))


@pytest.mark.parametrize(("layers", "stride"), [(VALID, 1), (SLOW, 2)])
def test_decoding_counts_the_rows_that_come(
    layers: tuple[tuple[str, str, list[int], int], ...], stride: int
) -> None:
    """A phase of half a second is one, also where an output has a row for every second sample."""
    text = 'labels = ["rest", "lift"]\n[phases]\nminimum_s = 0.4\n'
    recipe, model = recipe_of(parse_toml(text, "decode.toml")), late_model(layers)
    decoder = make_decoder(recipe, model.signature, model.description, 100.0)
    times = np.arange(0, 3, stride / 100)
    is_lift = (times > 1.0) & (times <= 1.5)
    rows = np.stack([~is_lift, is_lift], 1).astype(np.float32)
    events = [*decoder.feed(rows, times, np.arange(len(rows)), np.ones(len(rows), bool)).events]
    events += decoder.finish().events
    begun = [event.name for event in events if event.kind == PHASE_BEGINS]
    assert begun == ["rest", "lift", "rest"]
