"""Real recordings through live sources; units; decoding that is resumed."""

from __future__ import annotations

import contextlib
import csv
import os
import time
from pathlib import Path

import numpy as np
import pytest

from edgelstm import Artifact
from edgelstm.description import Column, Description
from edgelstm.io.decoding.recipe import read_recipe
from edgelstm.io.sinks.store.schema import open_store
from edgelstm.io.time_settings import TimeSettings
from edgelstm_compiler import compile_model
from edgelstm_compiler.demo import MODEL_PATH
from tests.live.brokers import Broker, needs_mosquitto
from tests.live.harness import (
    Live,
    Wire,
    csv_lines,
    samples,
    wait_until,
)
from tests.unit.runtime.toy_models import leaky_expected, leaky_native, needs_cc

pytestmark = needs_cc

RATE_HZ = 100.0
by_hand = pytest.mark.skipif(
    "EDGELSTM_REALTIME" not in os.environ, reason="by hand: EDGELSTM_REALTIME=1"
)


class Sender:
    """A sensor that sends lines of CSV.

    Args:
        door: `serial` or `mqtt`.
        folder: for the broker.
    """

    def __init__(self, door: str, folder: Path) -> None:
        self._stack = contextlib.ExitStack()
        if door == "serial":
            wire = self._stack.enter_context(contextlib.closing(Wire()))
            self.address = f"serial:{wire.path}?start=keep"
            self.send = lambda line: wire.write(line + b"\n")
            return
        paho = pytest.importorskip("paho.mqtt.client")
        broker = Broker(folder)
        self._stack.callback(broker.stop)
        client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        client.connect("127.0.0.1", broker.port)
        client.loop_start()
        self._stack.callback(client.loop_stop)
        self.address = f"mqtt://127.0.0.1:{broker.port}/watch?format=csv"
        self.send = lambda line: client.publish("watch", line, qos=1)

    def __enter__(self) -> Sender:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()


def _recording(path: Path, times: np.ndarray, values: np.ndarray, names: str = "x[0],x[1]") -> Path:
    rows = [
        ",".join(map(repr, [float(t), *map(float, x)])) for t, x in zip(times, values, strict=True)
    ]
    path.write_text(f"time_s,{names}\n" + "\n".join(rows) + "\n")
    return path


def test_columns_are_scaled_and_a_wrong_unit_is_noticed(tmp_path: Path) -> None:
    """G instead of m/s^2 is said, and a factor mends it."""
    acc = Description(
        inputs={
            "x": (Column("ax", "m/s^2", -20.0, 20.0), Column("ay", "m/s^2", -20.0, 20.0)),
        }
    )
    model = leaky_native(description=acc)
    rng = np.random.default_rng(0)
    values = rng.uniform(-20, 20, (8000, 2)).astype(np.float32)
    path = _recording(tmp_path / "walk.csv", np.arange(8000) / RATE_HZ, values / 9.80665, "ax,ay")
    with Live(model, [f"file:{path}"], rate_hz=RATE_HZ) as live:
        live.finish()
    (note,) = [event for event in live.events if event.kind == "warning"]
    assert "g instead of m/s^2?" in note.text
    scale = {"ax": 9.80665, "ay": 9.80665}
    with Live(model, [f"file:{path}"], rate_hz=RATE_HZ, time=TimeSettings(scale=scale)) as live:
        live.finish()
    assert "warning" not in live.kinds()
    np.testing.assert_allclose(live.column("y"), leaky_expected(values), rtol=1e-4, atol=1e-4)


def test_decoding_tells_phases_as_events(tmp_path: Path) -> None:
    """Begin and end of each phase, once, also where a run is resumed."""
    model = leaky_native(description=Description(outputs={"y": ("rest", "move")}))
    values = np.full((600, 2), 2.0, np.float32)
    for start in (100, 300):
        values[start : start + 100] = -2.0
    recipe = tmp_path / "phases.toml"
    recipe.write_text(
        '[phases]\nminimum_s = 0.2\n[[repetitions]]\nname = "lift"\ncycle = ["move"]\n'
    )
    settings = {"rate_hz": RATE_HZ, "time": TimeSettings(decode=read_recipe(recipe))}
    store = tmp_path / "ward.db"
    for count in (350, 600):
        path = _recording(tmp_path / "walk.csv", np.arange(count) / RATE_HZ, values[:count])
        with Live(model, [f"file:{path}"], [f"store:{store}"], **settings) as live:
            live.finish()
    whole = _recording(tmp_path / "other.csv", np.arange(600) / RATE_HZ, values)
    with Live(model, [f"file:{whole}"], **settings) as live:
        live.finish()
    expected = [event.sample for event in live.events if event.kind == "phase begins"]
    assert expected == [0, 100, 200, 300, 400]
    assert live.kinds().count("repetition") == 2
    with contextlib.closing(open_store(store)) as connection:
        found = connection.execute(
            "SELECT sample FROM events WHERE kind = 'phase begins' ORDER BY sample"
        ).fetchall()
    assert [sample for (sample,) in found] == expected


def _columns(path: Path) -> tuple[list[str], list[list[str]]]:
    with path.open() as file:
        rows = list(csv.reader(file))
    return rows[0], rows[1:]


@pytest.fixture(scope="module")
def tug() -> Artifact:
    """The demo's phase model."""
    return compile_model(MODEL_PATH, rate_hz=RATE_HZ)


def _frames(rows: list[list[str]]) -> np.ndarray:
    return np.array([row[:6] for row in rows]).astype(np.float32)


@pytest.mark.tvm
def test_a_real_recording_by_serial_is_the_files(corpus: Path, tug: Artifact) -> None:
    """Line by line as the dataset has it, with its labels and stamps: the file's predictions."""
    pytest.importorskip("serial", reason="needs pyserial: pip install -e '.[serial]'")
    path = next((corpus / "data" / "imu_sp_sw_har").rglob("s02_01_sp.csv"))
    _, rows = _columns(path)
    wire = Wire()
    with Live(tug, [f"serial:{wire.path}?start=keep"]) as live:
        live.wait_for_event("connected")
        for line in path.read_bytes().splitlines(keepends=True):
            wire.write(line)
        live.wait_for(len(rows))
    wire.close()
    (name,) = [spec.name for spec in tug.signature.outputs]
    with tug.session() as session:
        np.testing.assert_array_equal(live.column(name), session.run(_frames(rows)))
    counters = live.counters()
    assert counters.seen == counters.fed == len(rows)
    assert live.column("stamps")[0] == pytest.approx(int(rows[0][6]) / 1000)


@pytest.mark.tvm
@needs_mosquitto
def test_a_real_recording_by_mqtt_is_the_files(corpus: Path, tug: Artifact, tmp_path: Path) -> None:
    """Ten samples a message."""
    pytest.importorskip("aiomqtt", reason="needs aiomqtt: pip install -e '.[mqtt]'")
    publish = pytest.importorskip("paho.mqtt.publish")
    path = next((corpus / "data" / "imu_sp_sw_har").rglob("s02_01_sw.csv"))
    _, rows = _columns(path)
    frames = _frames(rows)
    broker = Broker(tmp_path)
    address = f"mqtt://127.0.0.1:{broker.port}/watch?format=struct:<6f"
    with Live(tug, [address]) as live:
        live.wait_for_event("connected")
        payloads = [frames[i : i + 10].tobytes() for i in range(0, len(frames), 10)]
        messages = [("watch", payload, 1, False) for payload in payloads]
        publish.multiple(messages, hostname="127.0.0.1", port=broker.port)
        live.wait_for(len(frames))
    broker.stop()
    (name,) = [spec.name for spec in tug.signature.outputs]
    with tug.session() as session:
        np.testing.assert_array_equal(live.column(name), session.run(frames))
    assert live.counters().seen == live.counters().fed == len(frames)


def test_an_emg_recording_of_integers(corpus: Path) -> None:
    """Eight channels at 200 Hz without names, of which a model takes two by number."""
    pytest.importorskip("serial", reason="needs pyserial: pip install -e '.[serial]'")
    path = next((corpus / "data" / "emg_myo").rglob("0.txt"))
    lines = path.read_bytes().splitlines(keepends=True)[:2000]
    wire = Wire()
    settings = {"columns": ("1", "3"), "rate_hz": 200.0}
    with Live(leaky_native(), [f"serial:{wire.path}?start=keep"], **settings) as live:
        live.wait_for_event("connected")
        wire.write(b"".join(lines))
        live.wait_for(2000)
    wire.close()
    table = np.array([line.split(b",") for line in lines]).astype(np.float32)
    np.testing.assert_array_equal(live.column("y"), leaky_expected(table[:, [1, 3]]))


@pytest.mark.parametrize("door", ["serial", pytest.param("mqtt", marks=needs_mosquitto)])
@pytest.mark.parametrize("speed", [20.0, pytest.param(1.0, marks=by_hand)])
def test_an_emg_recording_at_its_own_pace(
    corpus: Path, door: str, speed: float, tmp_path: Path
) -> None:
    """As fast as it was and 20 times faster: the file's predictions, and no sample is missing."""
    pytest.importorskip("serial", reason="needs pyserial: pip install -e '.[serial]'")
    pytest.importorskip("aiomqtt", reason="needs aiomqtt: pip install -e '.[mqtt]'")
    path = next((corpus / "data" / "emg_myo").rglob("0.txt"))
    lines = path.read_bytes().splitlines()[:6000]
    with Sender(door, tmp_path) as sender:
        settings = {"columns": ("1", "3"), "rate_hz": 200.0}
        with Live(leaky_native(), [sender.address], **settings) as live:
            live.wait_for_event("connected")
            start = time.monotonic()
            # An amplifier packs the samples of 50 ms in a message.
            together = 1 if door == "serial" else 10
            for k in range(0, len(lines), together):
                time.sleep(max(start + k / 200.0 / speed - time.monotonic(), 0))
                sender.send(b"\n".join(lines[k : k + together]))
            live.wait_for(len(lines))
    table = np.array([line.split(b",") for line in lines]).astype(np.float32)
    np.testing.assert_array_equal(live.column("y"), leaky_expected(table[:, [1, 3]]))
    counters = live.counters()
    assert counters.seen == counters.fed + counters.dropped.total() == len(lines)


def test_a_csv_with_a_text_column_is_read(tmp_path: Path) -> None:
    """The first row shows that a column is no number; the model does not take it."""
    del tmp_path
    pytest.importorskip("serial", reason="needs pyserial: pip install -e '.[serial]'")
    values = samples(10)
    rows = b"".join(b"%s,walk\n" % line for line in csv_lines(values).splitlines())
    wire = Wire()
    with Live(leaky_native(), [f"serial:{wire.path}?start=keep"]) as live:
        live.wait_for_event("connected")
        wire.write(b"x[0],x[1],activity\n" + rows)
        live.wait_for(10)
    wire.close()
    np.testing.assert_array_equal(live.column("y"), leaky_expected(values))


@pytest.mark.tvm
@needs_mosquitto
@by_hand
@pytest.mark.parametrize("speed", [20.0, 1.0])
def test_phone_and_watch_at_their_own_pace(
    corpus: Path, tug: Artifact, tmp_path: Path, speed: float
) -> None:
    """The phone by serial and the watch by MQTT, together, as fast as they were and 20 times."""
    pytest.importorskip("paho.mqtt.client")
    pytest.importorskip("serial", reason="needs pyserial: pip install -e '.[serial]'")
    folder = corpus / "data" / "imu_sp_sw_har"
    tables = [_columns(next(folder.rglob(f"s02_01_{kind}.csv")))[1] for kind in ("sp", "sw")]
    names = ",".join(f"c{k}" for k in range(6))
    due = []
    for k, rows in enumerate(tables):
        stamps = np.maximum.accumulate([int(row[6]) for row in rows])
        due += [
            (int(at), k, ",".join(row[:7]).encode()) for at, row in zip(stamps, rows, strict=True)
        ]
    due.sort(key=lambda item: item[0])
    with Sender("serial", tmp_path) as phone, Sender("mqtt", tmp_path) as watch:
        inputs = [
            f"{phone.address}&name=phone&time=t&columns={names},t",
            f"{watch.address}&name=watch&time=t&columns={names},t",
        ]
        with Live(tug, inputs, rate_hz=RATE_HZ) as live:
            wait_until(lambda: live.kinds().count("connected") == 2)
            start = time.monotonic()
            for stamp, k, line in due:
                time.sleep(max(start + (stamp - due[0][0]) / 1000 / speed - time.monotonic(), 0))
                (phone, watch)[k].send(line)
            live.wait_for(len(due))
    assert live.kept is not None
    (name,) = [spec.name for spec in tug.signature.outputs]
    for stream, rows in zip(("phone", "watch"), tables, strict=True):
        own = [part for part in live.kept.parts if part.stream == stream]
        with tug.session() as session:
            expected = session.run(_frames(rows))
        np.testing.assert_array_equal(np.concatenate([p.outputs[name] for p in own]), expected)
        counters = live.counters(stream)
        assert counters.seen == counters.fed + counters.dropped.total() == len(rows)
