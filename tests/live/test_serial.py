"""Serial ports, by a pseudo terminal: half lines, garbage, structs, a cable pulled and back."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgelstm.errors import RecordingError
from tests.live.harness import Live, Wire, csv_lines, samples, wait_until
from tests.unit.runtime.toy_models import leaky_expected, leaky_native, needs_cc

pytest.importorskip("serial", reason="needs pyserial: pip install -e '.[serial]'")
pytestmark = needs_cc


@pytest.fixture
def line() -> Iterator[Wire]:
    """A serial line."""
    wire = Wire()
    yield wire
    wire.close()


def test_lines_cut_anywhere_are_the_recordings_predictions(line: Wire) -> None:
    """Bytes come in pieces of any length; predictions are those of the samples."""
    values = samples(200)
    data = csv_lines(values)
    with Live(leaky_native(), [f"serial:{line.path}"]) as live:
        live.wait_for_event("connected")
        time.sleep(0.05)
        for i in range(0, len(data), 7):
            line.write(data[i : i + 7])
        live.wait_for(200)
    np.testing.assert_array_equal(live.column("y"), leaky_expected(values))
    assert live.counters().seen == live.counters().fed == 200


def test_what_arrived_before_the_port_was_opened_is_read(line: Wire) -> None:
    """Opening drops nothing; only the first line, which may be the end of one, is left out."""
    values = samples(20)
    line.write(csv_lines(values))
    with Live(leaky_native(), [f"serial:{line.path}"]) as live:
        live.wait_for(19)
    np.testing.assert_array_equal(live.column("y"), leaky_expected(values[1:]))
    counters = live.counters()
    assert dict(counters.dropped) == {"joined in the middle": 1}
    assert counters.is_balanced


def test_a_first_line_that_is_half_a_number_is_no_sample(line: Wire) -> None:
    """`2.5,1` may be the end of `12.5,1`: a wrong number that looks right is left out."""
    line.write(b"2.5,1\n" + csv_lines(samples(5)))
    with Live(leaky_native(), [f"serial:{line.path}"]) as live:
        live.wait_for(5)
    np.testing.assert_array_equal(live.column("y"), leaky_expected(samples(5)))


def test_start_keep_trusts_the_first_line(line: Wire) -> None:
    """A sender that begins when it is opened can say so."""
    values = samples(5)
    line.write(csv_lines(values))
    with Live(leaky_native(), [f"serial:{line.path}?start=keep"]) as live:
        live.wait_for(5)
    np.testing.assert_array_equal(live.column("y"), leaky_expected(values))


def test_garbage_at_the_start_is_counted_and_left_out(line: Wire) -> None:
    """Bytes of a wrong speed, half a line, then samples."""
    values = samples(10)
    line.write(b"\xff\x00\xfe garbage\x80\n17,\n" + csv_lines(values))
    with Live(leaky_native(), [f"serial:{line.path}"]) as live:
        live.wait_for(10)
    np.testing.assert_array_equal(live.column("y")[-10:], leaky_expected(values))
    counters = live.counters()
    assert counters.seen == 12
    assert counters.dropped.total() == 2
    assert counters.is_balanced


def test_names_in_the_first_line_say_which_column_is_which(line: Wire) -> None:
    """A line of names, columns in another order, a time stamp and a counter."""
    values = samples(30)
    rows = "".join(f"{i / 100},{i + 5},{b},{a}\n" for i, (a, b) in enumerate(values))
    with Live(leaky_native(), [f"serial:{line.path}"]) as live:
        live.wait_for_event("connected")
        time.sleep(0.05)
        line.write(b"time_s,seq,x[1],x[0]\n" + rows.encode())
        live.wait_for(30)
    np.testing.assert_array_equal(live.column("y"), leaky_expected(values))
    np.testing.assert_array_equal(live.column("sequence"), np.arange(5, 35))
    np.testing.assert_allclose(live.column("stamps"), np.arange(30) / 100)


@pytest.mark.parametrize("layout", ["struct:<2f", "struct:>2f", "struct:<2d"])
def test_structs(line: Wire, layout: str) -> None:
    """Packed numbers, cut anywhere."""
    values = samples(50)
    data = b"".join(struct.pack(layout.removeprefix("struct:"), *map(float, x)) for x in values)
    with Live(leaky_native(), [f"serial:{line.path}?format={layout}&idle=5"]) as live:
        live.wait_for_event("connected")
        time.sleep(0.05)
        for i in range(0, len(data), 5):
            line.write(data[i : i + 5])
        live.wait_for(50)
    np.testing.assert_array_equal(live.column("y"), leaky_expected(values))


def test_a_mark_finds_structs_behind_garbage_and_losses(line: Wire) -> None:
    """Bytes are missing in the middle: the record is lost, those behind it are not."""
    values = samples(20)
    records = [b"\xaa\x55" + struct.pack("<2f", *map(float, x)) for x in values]
    records[7] = records[7][:4]
    with Live(leaky_native(), [f"serial:{line.path}?format=struct:<2f&sync=AA55"]) as live:
        live.wait_for_event("connected")
        time.sleep(0.05)
        line.write(b"\x01\x02\x03" + b"".join(records))
        live.wait_for(19)
    np.testing.assert_array_equal(live.column("y"), leaky_expected(np.delete(values, 7, axis=0)))
    assert dict(live.counters().dropped) == {"cut record": 2}


def test_without_a_mark_a_silence_shows_where_records_begin(line: Wire) -> None:
    """Half a record, a pause, whole records: the half is counted, the others are right."""
    values = samples(5)
    with Live(leaky_native(), [f"serial:{line.path}?format=struct:<2f&idle=50ms"]) as live:
        live.wait_for_event("connected")
        time.sleep(0.05)
        line.write(b"\x01\x02\x03")
        time.sleep(0.3)
        for x in values:
            line.write(struct.pack("<2f", *map(float, x)))
        live.wait_for(5)
    np.testing.assert_array_equal(live.column("y"), leaky_expected(values))
    assert dict(live.counters().dropped) == {"cut record": 1}


def test_a_cable_that_is_pulled_and_plugged_in_again(tmp_path: Path) -> None:
    """The port goes away and comes back under its name: the stream goes on, the gap is flagged."""
    first, second = Wire(), Wire()
    name = tmp_path / "ttyUSB0"
    os.symlink(first.path, name)
    values = samples(40)
    with Live(leaky_native(), [f"serial:{name}"]) as live:
        live.wait_for_event("connected")
        time.sleep(0.05)
        line = csv_lines(values[:20]) + b"3.5,"
        first.write(line)
        live.wait_for(20)
        name.unlink()
        first.pull()
        live.wait_for_event("disconnected")
        os.symlink(second.path, name)
        live.wait_for_event("connected again")
        time.sleep(0.05)
        second.write(csv_lines(values[20:]))
        live.wait_for(40)
    second.close()
    np.testing.assert_array_equal(live.column("y"), leaky_expected(values))
    flags = live.column("flags")
    assert flags[20] == 8
    assert not flags[:20].any()
    assert not flags[21:].any()
    counters = live.counters()
    assert dict(counters.dropped) == {"cut line": 1}
    assert counters.noted["reconnects"] == 1
    assert counters.is_balanced


def test_a_port_that_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    """The program may be started before the sensor."""
    wire = Wire()
    name = tmp_path / "ttyACM0"
    values = samples(5)
    with Live(leaky_native(), [f"serial:{name}"]) as live:
        live.wait_for_event("disconnected")
        os.symlink(wire.path, name)
        live.wait_for_event("connected")
        time.sleep(0.05)
        wire.write(csv_lines(values))
        live.wait_for(5)
    wire.close()
    np.testing.assert_array_equal(live.column("y"), leaky_expected(values))


def test_silence_is_said_and_ended(line: Wire) -> None:
    """No sample for the given time is an explicit "no prediction"; then it goes on."""
    with Live(leaky_native(), [f"serial:{line.path}"], silence_s=0.3) as live:
        live.wait_for_event("connected")
        time.sleep(0.05)
        line.write(csv_lines(samples(3)))
        live.wait_for_event("no prediction")
        line.write(csv_lines(samples(1)))
        live.wait_for_event("prediction again")
        wait_until(lambda: live.rows() == 4)
    (event,) = [event for event in live.events if event.kind == "no prediction"]
    assert event.data == {"last_sample": 2}
    assert event.model == "leaky"


def test_what_is_no_serial_port_is_said_at_once() -> None:
    """It is there, so waiting for it to come would be in vain."""
    with (
        pytest.raises(RecordingError, match="is there, and is no serial port"),
        Live(leaky_native(), ["serial:/dev/null"]) as live,
    ):
        live.finish()
