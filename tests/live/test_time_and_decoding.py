"""Live runs whose samples are late, missing, of several sensors, and decoded."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgelstm.description import Description
from edgelstm.errors import RecordingError
from edgelstm.io.counters import Counters
from edgelstm.io.decoding.events import PHASE_BEGINS, SPAN
from edgelstm.io.decoding.recipe import read_recipe
from edgelstm.io.time_settings import TimeSettings
from edgelstm_compiler import compile_model
from edgelstm_compiler.demo import CHANNELS, MODEL_PATH, PHASES, REPORT_PATH, UNITS
from edgelstm_compiler.demo.measure import RECIPE_PATH
from tests.live.harness import Live
from tests.unit.runtime.command_line import invoke
from tests.unit.runtime.toy_models import leaky_expected, leaky_reference

TRIAL = MODEL_PATH.parent / "tug_trial.csv"


def recording(path: Path, stamps: np.ndarray, values: np.ndarray, names: str = "x[0],x[1]") -> str:
    rows = [f"time_s,{names}"]
    rows += [
        f"{t:.6f},{','.join(map(repr, row))}"
        for t, row in zip(stamps, values.tolist(), strict=True)
    ]
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return f"file:{path}"


def counters(live: Live) -> Counters:
    assert live.run.pump is not None
    (found,) = live.run.pump.tables.values()
    assert found.is_balanced
    assert found.waiting == 0
    return found


def ramp(n: int) -> np.ndarray:
    return np.stack([np.arange(n) / 64, 1 - np.arange(n) / 64], axis=1).astype(np.float32)


def outputs(live: Live) -> np.ndarray:
    assert live.kept is not None
    return np.concatenate([part.outputs["y"] for part in live.kept.parts])


def test_a_gap_is_interpolated_and_the_model_goes_on_as_if_nothing_were_missing(
    tmp_path: Path,
) -> None:
    """Samples that were made move the state, and have no prediction of their own."""
    values, stamps = ramp(200), np.arange(200) / 100
    kept = np.r_[0:80, 90:200]
    source = recording(tmp_path / "walk.csv", stamps[kept], values[kept])
    settings = TimeSettings(on_gap="interpolate")
    with Live(leaky_reference(), [source], rate_hz=100.0, time=settings) as live:
        live.finish()
    np.testing.assert_allclose(outputs(live), leaky_expected(values)[kept], rtol=1e-5, atol=1e-6)
    found = counters(live)
    assert (found.seen, found.fed, found.filled) == (190, 200, 10)
    assert found.noted["gaps"] == 1


def test_behind_a_long_gap_the_model_begins_anew(tmp_path: Path) -> None:
    """The state of before the gap is gone."""
    values, stamps = ramp(200), np.arange(200) / 100
    stamps[120:] += 30.0
    source = recording(tmp_path / "walk.csv", stamps, values)
    settings = TimeSettings(on_gap="reset")
    with Live(leaky_reference(), [source], rate_hz=100.0, time=settings) as live:
        live.finish()
    expected = np.concatenate([leaky_expected(values[:120]), leaky_expected(values[120:])])
    np.testing.assert_array_equal(outputs(live), expected)
    assert counters(live).noted["resets"] == 1


def test_samples_at_another_rate_are_brought_to_the_models(tmp_path: Path) -> None:
    """A ramp at 64 Hz is the same ramp at the 100 Hz of the model."""
    source = recording(tmp_path / "walk.csv", np.arange(128) / 64, ramp(128))
    model = leaky_reference(description=Description(rate_hz=100.0))
    with Live(model, [source], rate_hz=64.0, time=TimeSettings(is_resampled=True)) as live:
        live.finish()
    ticks = np.arange(199) / 100
    expected = leaky_expected(np.stack([ticks, 1 - ticks], axis=1).astype(np.float32))
    np.testing.assert_allclose(outputs(live), expected, rtol=1e-5, atol=1e-6)
    found = counters(live)
    assert found.dropped["resampled"] == 128
    assert found.filled == found.fed == 199


def test_two_recordings_feed_one_model(tmp_path: Path) -> None:
    """Each has a column, at a rate and with a beginning of its own."""
    one, other = np.arange(500) / 50 + 0.003, np.arange(1300) / 130
    phone = recording(tmp_path / "phone.csv", one, one[:, None].astype(np.float32), "x[0]")
    watch = recording(tmp_path / "watch.csv", other, (1 - other)[:, None], "x[1]")
    sources = [f"{phone}?columns=x[0]", f"{watch}?columns=x[1]"]
    with Live(leaky_reference(), sources, is_fused=True, rate_hz=100.0) as live:
        live.finish()
    assert live.kept is not None
    stamps = np.concatenate([part.stamps for part in live.kept.parts])
    valid = np.concatenate([part.valid for part in live.kept.parts])
    assert stamps[0] == pytest.approx(0.01)
    expected = leaky_expected(np.stack([stamps, 1 - stamps], axis=1).astype(np.float32))
    np.testing.assert_allclose(outputs(live)[valid], expected[valid], rtol=1e-4, atol=1e-4)
    assert valid.sum() > 990
    counters(live)


@pytest.mark.parametrize("has_stamps", [True, False])
def test_two_live_sensors_feed_one_model_and_a_silent_one_is_not_held(has_stamps: bool) -> None:
    """Over UDP, with clocks of their own or none: ticks come, and are not valid when one stops."""
    ports = [free_port(), free_port()]
    sources = [f"udp://127.0.0.1:{port}?format=ndjson&name=s{k}" for k, port in enumerate(ports)]
    with (
        Live(leaky_reference(), sources, is_fused=True, rate_hz=100.0) as live,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link,
    ):
        send_until(link, ports, lambda: live.rows() > 100, has_stamps)
        send_until(link, ports[:1], lambda: invalid(live) > 20, has_stamps)
    found = counters(live)
    assert found.noted["silent: s1"] > 20


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        link.bind(("127.0.0.1", 0))
        return int(link.getsockname()[1])


def invalid(live: Live) -> int:
    assert live.kept is not None
    return sum(int((~part.valid).sum()) for part in live.kept.parts)


def send_until(
    link: socket.socket, ports: list[int], is_so: Callable[[], bool], has_stamps: bool
) -> None:
    end = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < end
        now = time.monotonic()
        for k, port in enumerate(ports):
            own = now * (1 + 1e-4 * k) + 1000 * k
            stamp = {"time_s": own} if has_stamps else {}
            message = json.dumps({**stamp, f"x[{k}]": 0.5})
            link.sendto(message.encode(), ("127.0.0.1", port))
        time.sleep(0.01)


def test_a_recording_and_a_live_sensor_have_no_clock_in_common(tmp_path: Path) -> None:
    """Refused by name."""
    source = recording(tmp_path / "walk.csv", np.arange(5) / 100, ramp(5))
    inputs = [f"{source}?columns=x[0]", f"udp://127.0.0.1:{free_port()}?format=ndjson"]
    with (
        pytest.raises(RecordingError, match="no clock that both have"),
        Live(leaky_reference(), inputs, is_fused=True, rate_hz=100.0) as live,
    ):
        live.finish()


def test_predictions_become_phases_and_the_time_of_a_trial(tmp_path: Path) -> None:
    """The demo's simulated trial through `run --decode`: its phases, and its time within 0.3 s."""
    artifact = tmp_path / "tug.edgelstm"
    compile_model(
        MODEL_PATH,
        target="reference",
        check=False,
        rate_hz=100,
        columns=list(CHANNELS),
        units=list(UNITS),
        labels=list(PHASES),
    ).save(artifact)
    out = tmp_path / "out.ndjson"
    result = invoke(
        "run", artifact, "-i", f"file:{TRIAL}", "-o", f"file:{out}", "--decode", RECIPE_PATH
    )
    assert result.exit_code == 0, result.stderr
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    events = [row for row in rows if "event" in row or "kind" in row]
    kinds = [row.get("kind") or row.get("event") for row in events]
    assert kinds.count(PHASE_BEGINS) == 8
    (span,) = [row for row, kind in zip(events, kinds, strict=True) if kind == SPAN]
    report = json.loads(REPORT_PATH.read_text(encoding="utf-8"))["simulated_trial"]["timeline"]
    expected = report[-2][2] - report[1][1]
    assert span["data"]["duration_s"] == pytest.approx(expected, abs=0.3)


def test_the_artifacts_own_recipe_is_used(tmp_path: Path) -> None:
    """Nothing needs to be said on the command line."""
    recipe = tmp_path / "tug.toml"
    text = RECIPE_PATH.read_text(encoding="utf-8").replace("[phases]", "[decoding.phases]")
    text = text.replace("[[spans]]", "[[decoding.spans]]").replace("output =", "decoding.output =")
    recipe.write_text(text, encoding="utf-8")
    model = compile_model(
        MODEL_PATH,
        target="reference",
        check=False,
        rate_hz=100,
        columns=list(CHANNELS),
        labels=list(PHASES),
        description=recipe,
    )
    with Live(model, [f"file:{TRIAL}"]) as live:
        live.finish()
    assert live.kinds().count(SPAN) == 1
    other = TimeSettings(decode=read_recipe(RECIPE_PATH))
    with Live(model, [f"file:{TRIAL}"], time=other) as again:
        again.finish()
    assert [event.data.get("duration_s") for event in again.events] == pytest.approx(
        [event.data.get("duration_s") for event in live.events], abs=1e-5
    )
