"""Sinks: what each one delivers is what was predicted, and reads with its own library."""

from __future__ import annotations

import csv
import errno
import json
import socket
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgelstm.artifact import Artifact
from edgelstm.description import Description
from edgelstm.errors import OutputError
from tests.live.harness import Live, Wire, csv_lines, free_port, samples, wait_until
from tests.unit.runtime.toy_models import leaky_expected, leaky_native, needs_cc

pytestmark = needs_cc


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """200 samples at 100 Hz; one of them has a missing value."""
    path = tmp_path / "walk.csv"
    rows = [f"{i / 100},{a},{b}" for i, (a, b) in enumerate(samples(200))]
    rows[50] = "0.5,,1"
    path.write_text("t,x[0],x[1]\n" + "\n".join(rows) + "\n")
    return path


def _expected() -> np.ndarray:
    values = samples(200)
    values[50] = values[49]
    return leaky_expected(values)


def _labelled() -> Artifact:
    description = Description(outputs={"y": ("sit", "walk")})
    return leaky_native(description=description)


def _replay(recording: Path, *outputs: str) -> Live:
    with Live(_labelled(), [f"file:{recording}"], outputs, rate_hz=100.0) as live:
        live.finish()
    return live


def test_ndjson_and_csv_hold_key_time_worth_and_outputs(recording: Path, tmp_path: Path) -> None:
    """Numbers read back exactly, also of the sample that was not measured."""
    _replay(recording, f"file:{tmp_path}/out.ndjson", f"{tmp_path}/out.csv")
    lines = [json.loads(line) for line in (tmp_path / "out.ndjson").read_text().splitlines()]
    rows = [line for line in lines if "event" not in line]
    with (tmp_path / "out.csv").open() as file:
        table = list(csv.DictReader(file))
    for found in (rows, table):
        got = np.array([[row["sit"], row["walk"]] for row in found]).astype(np.float32)
        np.testing.assert_array_equal(got, _expected())
        assert [int(row["sample"]) for row in found] == list(range(200))
        assert found[50]["artifact"] == "leaky"
        np.testing.assert_allclose([float(row["stamp"]) for row in found], np.arange(200) / 100)
    assert [row["valid"] for row in rows].count(False) == 1
    assert rows[50]["flags"] == ["held"]
    assert rows[50]["quality"] == pytest.approx(50 / 51)
    assert table[50]["flags"] == "held"
    assert {row["label"] for row in rows} == {"sit", "walk"}


def test_lines_of_a_live_run_are_appended(tmp_path: Path) -> None:
    """A run that is started again keeps what it wrote, also behind a line that was cut."""
    pytest.importorskip("serial", reason="needs pyserial: pip install -e '.[serial]'")
    path = tmp_path / "out.csv"
    for turn in range(2):
        wire = Wire()
        with Live(leaky_native(), [f"serial:{wire.path}?start=keep&name=imu"], [str(path)]) as live:
            live.wait_for_event("connected")
            wire.write(csv_lines(samples(3)))
            live.wait_for(3)
        wire.close()
        if not turn:
            with path.open("ab") as file:
                file.write(b"imu,99,17")
    lines = path.read_text().splitlines()
    assert len(lines) == 1 + 3 + 1 + 3
    assert lines[4] == "imu,99,17"
    assert lines[5].startswith("imu,0,")


def test_a_file_with_other_columns_is_not_appended_to(tmp_path: Path) -> None:
    """It is somebody else's."""
    pytest.importorskip("serial", reason="needs pyserial: pip install -e '.[serial]'")
    path = tmp_path / "out.csv"
    path.write_text("a,b\n1,2\n")
    wire = Wire()
    with (
        pytest.raises(OutputError, match="other columns than this run writes"),
        Live(leaky_native(), [f"serial:{wire.path}"], [str(path)]) as live,
    ):
        live.finish()
    wire.close()
    assert path.read_text() == "a,b\n1,2\n"


def test_parquet_of_a_replay_is_one_table(recording: Path, tmp_path: Path) -> None:
    """As pyarrow reads it."""
    parquet = pytest.importorskip("pyarrow.parquet")
    _replay(recording, f"parquet:{tmp_path}/out.parquet")
    table = parquet.ParquetFile(tmp_path / "out.parquet").read()
    got = np.stack([table["sit"].to_numpy(), table["walk"].to_numpy()], axis=1)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, _expected())
    assert table["sample"].to_pylist() == list(range(200))
    assert set(table["label"].to_pylist()) == {"sit", "walk"}
    assert [path.name for path in tmp_path.iterdir() if "part" in path.name] == []


def test_parquet_waits_for_room_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the disk is full rows wait, and that is told; no half of a table stays."""
    parquet = pytest.importorskip("pyarrow.parquet")
    pytest.importorskip("serial", reason="needs pyserial: pip install -e '.[serial]'")
    monkeypatch.setattr("edgelstm.io.sinks.parquet._RETRY_S", 0.02)
    real, is_full = parquet.write_table, threading.Event()

    def write_table(table: Any, path: Path) -> None:
        real(table, path)
        if is_full.is_set():
            raise OSError(errno.ENOSPC, "no room")

    monkeypatch.setattr(parquet, "write_table", write_table)
    is_full.set()
    wire, folder = Wire(), tmp_path / "out.parquet"
    sink = f"parquet:{folder}?every=20ms"
    with Live(leaky_native(), [f"serial:{wire.path}?start=keep"], [sink]) as live:
        live.wait_for_event("connected")
        wire.write(csv_lines(samples(5)))
        live.wait_for_event("output stuck")
        wire.write(csv_lines(samples(5)))
        live.wait_for(10)
        is_full.clear()
        live.wait_for_event("output again")
    wire.close()
    assert parquet.read_table(folder)["sample"].to_pylist() == list(range(10))
    assert not list(folder.glob(".*"))
    assert not (live.run.summary() or {})["not_delivered"]


def test_parquet_of_a_live_run_is_a_folder_of_whole_tables(tmp_path: Path) -> None:
    """What was written is there to be read while the run goes on."""
    parquet = pytest.importorskip("pyarrow.parquet")
    pytest.importorskip("serial", reason="needs pyserial: pip install -e '.[serial]'")
    wire, folder = Wire(), tmp_path / "out.parquet"
    address = f"serial:{wire.path}?start=keep"
    with Live(leaky_native(), [address], [f"parquet:{folder}?every=50ms"]) as live:
        live.wait_for_event("connected")
        wire.write(csv_lines(samples(5)))
        wait_until(lambda: any(folder.glob("*.parquet")))
        assert parquet.read_table(folder).num_rows == 5
        wire.write(csv_lines(samples(5)))
        live.wait_for(10)
    wire.close()
    assert parquet.read_table(folder)["sample"].to_pylist() == list(range(10))


def test_udp_sends_a_datagram_for_each_prediction(recording: Path) -> None:
    """JSON with the same keys as NDJSON."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(5)
        live = _replay(recording, f"udp://127.0.0.1:{receiver.getsockname()[1]}")
        rows = [json.loads(receiver.recv(65536)) for _ in range(200)]
    got = np.array([[row["sit"], row["walk"]] for row in rows], np.float32)
    np.testing.assert_array_equal(got, _expected())
    assert live.rows() == 200


def test_prometheus_fetches_counters_and_newest_outputs() -> None:
    """By the parser of its own client library."""
    pytest.importorskip("serial", reason="needs pyserial: pip install -e '.[serial]'")
    parser = pytest.importorskip("prometheus_client.parser")
    port, wire = free_port(), Wire()
    address = f"serial:{wire.path}?start=keep&name=imu"
    with Live(leaky_native(), [address], [f"prometheus://127.0.0.1:{port}"]) as live:
        live.wait_for_event("connected")
        wire.write(csv_lines(samples(20)) + b"x,y\n1,nope\n")
        live.wait_for(22)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as reply:
            text = reply.read().decode()
    wire.close()
    found = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in parser.text_string_to_metric_families(text)
        for sample in family.samples
    }
    stream = ("stream", "imu")
    assert found["edgelstm_samples_total", stream] == 22
    assert found["edgelstm_dropped_total", ("reason", "not a number"), stream] == 2
    assert found["edgelstm_predictions_total", stream] == 22
    assert found["edgelstm_valid", stream] == 0
    assert found["edgelstm_events_total", ("kind", "connected"), stream] == 1
    assert found["edgelstm_delay_seconds_count", stream] == 22
    assert ("edgelstm_output", ("output", "y[1]"), stream) in found


def test_fhir_observations_are_valid_r4(tmp_path: Path) -> None:
    """By fhir.resources: stretches with all values, a pseudonym, absence with a reason."""
    observation = pytest.importorskip("fhir.resources.R4B.observation").Observation
    pytest.importorskip("serial", reason="needs pyserial: pip install -e '.[serial]'")
    wire, path = Wire(), tmp_path / "out.ndjson"
    address = f"serial:{wire.path}?start=keep&name=imu"
    sink = f"fhir:{path}?patient=P-017&every=200ms"
    with Live(_labelled(), [address], [sink], silence_s=0.5, rate_hz=100.0) as live:
        live.wait_for_event("connected")
        wire.write(csv_lines(samples(20)))
        live.wait_for(20)
        live.wait_for_event("no prediction")
    wire.close()
    documents = [json.loads(line) for line in path.read_text().splitlines()]
    read = [observation.model_validate(document) for document in documents]
    assert len({document["id"] for document in documents}) == len(documents)
    assert all(item.subject.identifier.value == "P-017" for item in read)
    (absent,) = [item for item in read if item.dataAbsentReason is not None]
    assert absent.dataAbsentReason.text == "no sample for 0.5 s"
    stretches = [document for document in documents if "component" in document]
    data = {
        component["code"]["text"]: component["valueSampledData"]
        for stretch in stretches
        for component in stretch["component"]
        if "valueSampledData" in component
    }
    got = np.array([data[name]["data"].split() for name in ("sit", "walk")]).astype(np.float64)
    np.testing.assert_allclose(got.T, leaky_expected(samples(20)), rtol=1e-6)
    assert data["sit"]["period"] == 10.0


def test_lsl_loopback(recording: Path) -> None:
    """Samples pushed into LSL are predicted, and predictions pulled from it are those."""
    lsl = pytest.importorskip("pylsl")
    del recording
    name = f"imu{time.time_ns()}"
    info = lsl.StreamInfo(name, "IMU", 2, 100, lsl.cf_float32, name)
    channels = info.desc().append_child("channels")
    for label in ("x[1]", "x[0]"):
        channels.append_child("channel").append_child_value("label", label)
    outlet = lsl.StreamOutlet(info)
    values = samples(50)
    with Live(leaky_native(), [f"lsl:name={name}"], [f"lsl:name=out{name}"]) as live:
        live.wait_for_event("connected")
        wait_until(outlet.have_consumers)
        outlet.push_sample(values[0][::-1].tolist())
        live.wait_for(1)
        (found,) = lsl.resolve_byprop("name", f"out{name}", 1, 10)
        inlet = lsl.StreamInlet(found)
        inlet.open_stream(5)
        time.sleep(0.2)
        for x in values[1:]:
            outlet.push_sample(x[::-1].tolist())
        live.wait_for(50)
        rows: list[list[float]] = []
        wait_until(lambda: rows.extend(inlet.pull_chunk(0.1)[0]) or len(rows) >= 49)
        inlet.close_stream()
    expected = leaky_expected(values)
    np.testing.assert_array_equal(live.column("y"), expected)
    np.testing.assert_allclose(np.array(rows)[:, :2], expected[1:], rtol=1e-6)
    stamps = live.column("stamps")
    assert (np.diff(stamps) >= 0).all()
    assert np.abs(stamps - live.column("arrival")).max() < 5.0


def test_a_parquet_sink_names_its_file() -> None:
    """Without one it says so, and what to write."""
    pytest.importorskip("pyarrow.parquet")
    with (
        pytest.raises(OutputError, match="name a file, as in parquet:out"),
        Live(leaky_native(), [f"udp://:{free_port()}"], ["parquet:"]) as live,
    ):
        live.finish()
