"""MQTT by mosquitto: samples in JSON, CSV and structs, topics as streams, a broker that leaves."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgelstm.io.replay import BadSamplePolicy
from tests.live.brokers import Broker, needs_mosquitto
from tests.live.harness import Live, Wire, csv_lines, free_port, samples, wait_until
from tests.unit.runtime.toy_models import leaky_expected, leaky_native, needs_cc

pytest.importorskip("aiomqtt", reason="needs aiomqtt: pip install -e '.[mqtt]'")
paho = pytest.importorskip("paho.mqtt.client")
pytestmark = [needs_cc, needs_mosquitto]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """A broker."""
    found = Broker(tmp_path)
    yield found
    found.stop()


class Peer:
    """Another program that talks to the broker.

    Args:
        port: of the broker.
        topic: that it listens to.
    """

    def __init__(self, port: int, topic: str = "") -> None:
        self.got: list[tuple[str, Any]] = []
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        self.client.on_message = lambda client, data, message: self.got.append(
            (message.topic, json.loads(message.payload))
        )
        self.is_listening = not topic
        self.client.on_subscribe = lambda *arguments: setattr(self, "is_listening", True)
        self.client.connect("127.0.0.1", port)
        if topic:
            self.client.subscribe(topic, qos=1)
        self.client.loop_start()
        wait_until(lambda: self.is_listening)

    def publish(self, topic: str, payload: bytes | str, retain: bool = False) -> None:
        """Say something, and wait until the broker has it."""
        self.client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(10)

    def close(self) -> None:
        """End."""
        self.client.disconnect()
        self.client.loop_stop()


def _json_messages(values: np.ndarray) -> list[bytes]:
    rows = [{"x": x.tolist(), "t": i / 100} for i, x in enumerate(values)]
    return [json.dumps(rows[:5]).encode(), *(json.dumps(row).encode() for row in rows[5:])]


def _struct_messages(values: np.ndarray) -> list[bytes]:
    rows = [struct.pack("<2f", *map(float, x)) for x in values]
    return [b"".join(rows[:7]), *rows[7:]]


@pytest.mark.parametrize(
    ("options", "messages"),
    [
        ("format=json", _json_messages),
        ("format=struct:<2f", _struct_messages),
        ("format=csv", lambda values: [csv_lines(part) for part in np.split(values, 4)]),
    ],
)
def test_samples_in_messages(broker: Broker, options: str, messages: Any) -> None:
    """One or several samples a message, in every format, are the recording's predictions."""
    values = samples(20)
    with Live(leaky_native(), [f"mqtt://127.0.0.1:{broker.port}/ward/imu?{options}"]) as live:
        live.wait_for_event("connected")
        peer = Peer(broker.port)
        for message in messages(values):
            peer.publish("ward/imu", message)
        live.wait_for(20)
        peer.close()
    np.testing.assert_array_equal(live.column("y"), leaky_expected(values))
    assert live.counters().is_balanced


def test_topics_are_streams(broker: Broker) -> None:
    """A topic with + feeds each patient's stream to a session of its own."""
    values = {name: samples(10, seed) for seed, name in enumerate("abc")}
    address = f"mqtt://127.0.0.1:{broker.port}/ward/+/imu?format=struct:<2f"
    with Live(leaky_native(), [address]) as live:
        live.wait_for_event("connected")
        peer = Peer(broker.port)
        for i in range(10):
            for name, rows in values.items():
                peer.publish(f"ward/{name}/imu", struct.pack("<2f", *map(float, rows[i])))
        live.wait_for(30)
        peer.close()
    assert live.kept is not None
    for name, rows in values.items():
        parts = [part for part in live.kept.parts if part.stream == f"ward/{name}/imu"]
        got = np.concatenate([part.outputs["y"] for part in parts])
        np.testing.assert_array_equal(got, leaky_expected(rows))


def test_a_broker_that_leaves_and_comes_back(broker: Broker) -> None:
    """The connection is made anew, and the gap flagged."""
    values = samples(6)
    messages = [struct.pack("<2f", *map(float, x)) for x in values]
    with Live(leaky_native(), [f"mqtt://127.0.0.1:{broker.port}/imu?format=struct:<2f"]) as live:
        live.wait_for_event("connected")
        peer = Peer(broker.port)
        for message in messages[:3]:
            peer.publish("imu", message)
        live.wait_for(3)
        peer.close()
        broker.stop()
        live.wait_for_event("disconnected")
        broker.start()
        live.wait_for_event("connected again")
        peer = Peer(broker.port)
        for message in messages[3:]:
            peer.publish("imu", message)
        live.wait_for(6)
        peer.close()
    np.testing.assert_array_equal(live.column("y"), leaky_expected(values))
    assert live.column("flags").tolist() == [0, 0, 0, 8, 0, 0]
    assert live.counters().noted["reconnects"] == 1


def test_hostile_messages_are_counted(broker: Broker) -> None:
    """10 MB, bad UTF-8, nested without end, a retained message of yesterday."""
    values = samples(2)
    peer = Peer(broker.port)
    peer.publish("imu", b'{"x": [7, 7]}', retain=True)
    address = f"mqtt://127.0.0.1:{broker.port}/imu"
    with Live(leaky_native(), [address], policy=BadSamplePolicy.SKIP) as live:
        live.wait_for_event("connected")
        peer.publish("imu", json.dumps({"x": values[0].tolist()}))
        for payload in (b"7" * 10_000_000, b"\xff\xfe\xfd", b"[" * 100_000, b"{}", b"null"):
            peer.publish("imu", payload)
        peer.publish("imu", json.dumps({"x": values[1].tolist()}))
        live.wait_for(2)
    peer.close()
    np.testing.assert_array_equal(live.column("y"), leaky_expected(values))
    assert live.counters().seen == 7
    assert live.counters().dropped.total() == 5
    assert live.counters().is_balanced


def test_the_sink_publishes_events_and_a_summary_a_second(broker: Broker) -> None:
    """With the key of the last sample, what it is worth, and how many there were."""
    pytest.importorskip("serial", reason="needs pyserial: pip install -e '.[serial]'")
    peer = Peer(broker.port, "ward/out/#")
    wire, values = Wire(), samples(10)
    sink = f"mqtt://127.0.0.1:{broker.port}/ward/out?every=100ms"
    address = f"serial:{wire.path}?name=imu&start=keep"
    with Live(leaky_native(), [address], [sink], silence_s=0.5) as live:
        live.wait_for_event("connected")
        wire.write(csv_lines(values))
        live.wait_for(10)
        live.wait_for_event("no prediction")
        wait_until(lambda: any(topic == "ward/out/summary" for topic, _ in peer.got))
    wait_until(lambda: any(item.get("event") == "no prediction" for _, item in peer.got))
    peer.close()
    wire.close()
    summaries = [item for topic, item in peer.got if topic == "ward/out/summary"]
    assert sum(item["samples"] for item in summaries) == 10
    last = summaries[-1]
    assert (last["stream"], last["sample"], last["artifact"]) == ("imu", 9, "leaky")
    np.testing.assert_allclose(last["y"], leaky_expected(values)[-1])
    kinds = [item["event"] for topic, item in peer.got if topic == "ward/out/events"]
    assert kinds[0] == "connected"


def test_the_sink_waits_for_its_broker(broker: Broker) -> None:
    """Events before the broker is there arrive when it is; the run does not wait."""
    pytest.importorskip("serial", reason="needs pyserial: pip install -e '.[serial]'")
    broker.stop()
    wire = Wire()
    sink = f"mqtt://127.0.0.1:{broker.port}/out"
    with Live(leaky_native(), [f"serial:{wire.path}?start=keep"], [sink]) as live:
        live.wait_for_event("connected")
        wire.write(csv_lines(samples(5)))
        live.wait_for(5)
        live.wait_for_event("output stuck")
        broker.start()
        peer = Peer(broker.port, "out/#")
        wait_until(lambda: any(item.get("event") == "connected" for _, item in peer.got))
        live.wait_for_event("output again")
        peer.close()
    wire.close()


def test_a_password_is_taken_from_a_file(tmp_path: Path) -> None:
    """A broker that asks for one lets the source in with it, and says why not without."""
    (tmp_path / "secret").write_text("s3cret\n")
    passwords = tmp_path / "passwords"
    passwords.write_text("me:s3cret\n")
    passwords.chmod(0o600)
    hashed = _hashed(passwords)
    if not hashed:
        pytest.skip("needs mosquitto_passwd")
    broker = Broker(tmp_path, f"allow_anonymous false\npassword_file {passwords}\nuser root\n")
    address = f"mqtt://me@127.0.0.1:{broker.port}/imu?password_file={tmp_path}/secret"
    with Live(leaky_native(), [address]) as live:
        live.wait_for_event("connected")
    with Live(leaky_native(), [f"mqtt://127.0.0.1:{broker.port}/imu"]) as live:
        live.wait_for_event("disconnected")
        assert "uthori" in live.events[0].text
    broker.stop()


def _hashed(path: Path) -> bool:
    program = shutil.which("mosquitto_passwd")
    if program is None:
        return False
    return subprocess.run([program, "-U", str(path)], check=False).returncode == 0


def test_a_message_is_predicted_at_once(broker: Broker) -> None:
    """No queue or clock holds it back: half of the delays are under 20 ms on any machine."""
    delays = []
    with Live(leaky_native(), [f"mqtt://127.0.0.1:{broker.port}/imu?format=struct:<2f"]) as live:
        live.wait_for_event("connected")
        peer = Peer(broker.port)
        for i, x in enumerate(samples(30)):
            start = time.monotonic()
            peer.client.publish("imu", struct.pack("<2f", *map(float, x)))
            live.wait_for(i + 1)
            delays.append(time.monotonic() - start)
        peer.close()
    assert np.median(delays) < 0.02


def test_a_broker_that_is_not_there_is_told_once(tmp_path: Path) -> None:
    """However often it is tried, and once more when one that was there goes away."""
    port = free_port()
    with Live(leaky_native(), [f"mqtt://127.0.0.1:{port}/imu"]) as live:
        live.wait_for_event("disconnected")
        time.sleep(1.0)  # three more attempts
        assert live.kinds() == ["disconnected"]
