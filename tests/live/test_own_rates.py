"""Sensors of one model, each at a rate of its own: `?rate=HZ`."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from edgelstm.description import Description
from edgelstm.errors import RecordingError
from edgelstm.io.address import split_rate
from edgelstm.io.time_settings import TimeSettings
from edgelstm.io.toml_settings import read_settings
from tests.live.harness import Live, free_port
from tests.unit.runtime.toy_models import leaky_reference


def recording(path: Path, column: str, values: np.ndarray, stamps: np.ndarray | None = None) -> str:
    """A CSV of one column, with or without stamps; its address."""
    head = column if stamps is None else f"time_s,{column}"
    rows = [f"{x!r}" for x in values.tolist()]
    if stamps is not None:
        rows = [f"{t:.6f},{x}" for t, x in zip(stamps.tolist(), rows, strict=True)]
    path.write_text("\n".join([head, *rows]) + "\n", encoding="utf-8")
    return f"file:{path}?columns={column}"


def fused(sources: list[str], **settings: object) -> tuple[Live, np.ndarray, np.ndarray]:
    """A run to its end: stamps of the ticks, and what the model was fed at them."""
    model = leaky_reference(description=Description(rate_hz=100.0))
    with Live(model, sources, is_fused=True, keeps_inputs=True, **settings) as live:
        live.finish()
    assert live.kept is not None
    parts = [part for part in live.kept.parts]
    stamps = np.concatenate([part.stamps[part.valid] for part in parts])
    inputs = np.concatenate([part.inputs["x"][part.valid] for part in parts])
    assert live.counters().is_balanced
    return live, stamps, inputs


def test_each_is_brought_to_the_models_rate_and_what_folds_is_taken_out(tmp_path: Path) -> None:
    """A ramp at 25 Hz, and at 400 Hz another with a tone of 90 Hz, which would fold to 10 Hz."""
    pytest.importorskip("scipy")
    slow, fast = np.arange(250) / 25, np.arange(4000) / 400
    one = recording(tmp_path / "slow.csv", "x[0]", slow, slow)
    tone = np.sin(2 * np.pi * 90.0 * fast)
    other = recording(tmp_path / "fast.csv", "x[1]", 1 - fast + tone, fast)
    live, stamps, inputs = fused([f"{one}&rate=25", f"{other}&rate=400"])
    inner = (stamps > 0.5) & (stamps < 9.0)
    assert inner.sum() > 800
    np.testing.assert_allclose(inputs[inner, 0], stamps[inner], atol=1e-4)
    np.testing.assert_allclose(inputs[inner, 1], 1 - stamps[inner], atol=0.01)
    assert "warning" not in live.kinds()


def test_without_stamps_samples_are_counted_at_the_own_rate(tmp_path: Path) -> None:
    """Recordings that begin together; 50 Hz and 100 Hz of the model."""
    one = recording(tmp_path / "one.csv", "x[0]", np.arange(200) / 50)
    other = recording(tmp_path / "other.csv", "x[1]", np.arange(400) / 100)
    _, stamps, inputs = fused([f"{one}&rate=50", other])
    assert len(stamps) > 390
    np.testing.assert_allclose(inputs, np.stack([stamps, stamps], axis=1), atol=1e-5)


def test_gaps_are_judged_by_the_own_rate(tmp_path: Path) -> None:
    """At 50 Hz a step of 20 ms is none, though the model takes 100 Hz; 60 ms are."""
    stamps = np.delete(np.arange(400) / 50, [100, 101])
    one = recording(tmp_path / "one.csv", "x[0]", stamps, stamps)
    fast = np.arange(800) / 100
    other = recording(tmp_path / "other.csv", "x[1]", fast, fast)
    live, _, inputs = fused([f"{one}&rate=50", other], time=TimeSettings(on_gap="interpolate"))
    assert live.counters().noted["gaps"] == 1
    assert len(inputs) > 790


def test_a_rate_that_the_stamps_contradict_is_said(tmp_path: Path) -> None:
    """With the option that says it."""
    fast = np.arange(6000) / 200
    one = recording(tmp_path / "one.csv", "x[0]", fast, fast)
    other = recording(tmp_path / "other.csv", "x[1]", fast[::2], fast[::2])
    live, _, _ = fused([one, f"{other}&rate=100"])
    (text,) = [event.text for event in live.events if event.kind == "warning"]
    assert "one.csv" in text
    assert "?rate=200" in text


def test_live_sensors_without_stamps_have_own_rates() -> None:
    """Counted at 50 and 100 Hz, their values, which are times, meet at the same ticks."""
    ports = [free_port(socket.SOCK_DGRAM) for _ in range(2)]
    sources = [
        f"udp://127.0.0.1:{port}?format=ndjson&name=s{k}&rate={rate}"
        for k, (port, rate) in enumerate(zip(ports, (50, 100), strict=True))
    ]
    over, base = threading.Event(), time.monotonic()

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
            k = 0
            while not over.wait(max(base + 0.01 * k - time.monotonic(), 0.0)):
                for which, port in enumerate(ports):
                    if which or k % 2 == 0:
                        text = b'{"x[%d]": %.6f}' % (which, 0.01 * k)
                        link.sendto(text, ("127.0.0.1", port))
                k += 1

    sender = threading.Thread(target=send)
    sender.start()
    model = leaky_reference(description=Description(rate_hz=100.0))
    try:
        with Live(model, sources, is_fused=True, keeps_inputs=True) as live:
            live.wait_for(100)
    finally:
        over.set()
        sender.join()
    assert live.kept is not None
    stamps = np.concatenate([part.stamps[part.valid] for part in live.kept.parts])
    inputs = np.concatenate([part.inputs["x"][part.valid] for part in live.kept.parts])
    assert len(stamps) > 80
    error = inputs - (stamps - base)[:, None]
    assert np.median(np.abs(error)) < 0.02


def test_a_sensor_that_is_alone_may_have_one_too(tmp_path: Path) -> None:
    """As `--rate` says it for all; `--resample` goes by it."""
    ramp = np.arange(256) / 64
    path = tmp_path / "walk.csv"
    rows = "".join(f"{t:.6f},{t},{-t}\n" for t in ramp)
    path.write_text("time_s,x[0],x[1]\n" + rows, encoding="utf-8")
    model = leaky_reference(description=Description(rate_hz=100.0))
    settings = TimeSettings(is_resampled=True)
    with Live(model, [f"file:{path}?rate=64"], keeps_inputs=True, time=settings) as live:
        live.finish()
    assert live.kept is not None
    stamps = np.concatenate([part.stamps for part in live.kept.parts])
    inputs = np.concatenate([part.inputs["x"] for part in live.kept.parts])
    assert len(stamps) == 399
    np.testing.assert_allclose(inputs[:, 0], stamps, atol=1e-5)


def test_a_file_of_settings_says_it_as_an_option(tmp_path: Path) -> None:
    """It is part of the address."""
    path = tmp_path / "ward.toml"
    path.write_text('inputs = [{uri = "udp://:9000", rate = 52, format = "ndjson"}]\n')
    (stream,) = read_settings(path).streams
    text, rate_hz = split_rate(stream.inputs[0])
    assert rate_hz == pytest.approx(52.0)
    assert text == "udp://:9000?format=ndjson"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("udp://:9000?rate=fast", "the option rate is 'fast', expected a number"),
        ("udp://:9000?rate=0", "the rate is 0 Hz"),
        ("udp://:9000?rate=1&rate=2", "the option 'rate' stands twice"),
        ("mqtt://h/ward/+?rate=50", "brings several streams.*--rate 50"),
    ],
)
def test_a_rate_that_means_nothing_is_refused(source: str, message: str) -> None:
    """By name."""
    with (
        pytest.raises(RecordingError, match=message),
        Live(leaky_reference(), [source]) as live,
    ):
        live.finish()
