"""Frames over a stream of bytes, the agent in Python, and the host's side of the conversation."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgelstm.artifact import Artifact
from edgelstm.blocks import outputs_by_name, pack_inputs, unpack_outputs
from edgelstm.errors import LinkError, TargetUnavailableError
from edgelstm.remote.agent import serve
from edgelstm.remote.device import Device
from edgelstm.remote.frames import (
    SYNC,
    VERSION,
    DamagedFrameError,
    Fault,
    Info,
    Kind,
    decode_info,
    encode,
    encode_info,
    read_frame,
)
from edgelstm.remote.link import DescriptorLink
from tests.unit.runtime.toy_models import leaky_reference, pair_reference


def frames_of(data: bytes) -> list[tuple[int, int, bytes]]:
    stream = io.BytesIO(data)
    found = iter(lambda: read_frame(stream.read), None)
    return [(frame.kind, frame.serial, frame.payload) for frame in found]


def answers(*questions: bytes) -> list[tuple[int, int, bytes]]:
    """What the agent says to these bytes."""
    stream, said = io.BytesIO(b"".join(questions)), []
    serve(stream.read, said.append)
    return frames_of(b"".join(said))


def test_frames_among_other_bytes() -> None:
    """What stands between frames is skipped, also what begins like one."""
    noise = b"login: " + SYNC[:1]
    data = noise + encode(4, 7, b"payload") + b"\r\n" + SYNC[:1] + encode(5, 8)
    assert frames_of(data) == [(4, 7, b"payload"), (5, 8, b"")]


@pytest.mark.parametrize("place", [2, 3, 4, 8, 12, -1])
def test_every_damaged_byte_is_seen(place: int) -> None:
    """Kind, serial number, length, payload, checksum."""
    data = bytearray(encode(4, 7, b"payload"))
    data[place] ^= 1
    with pytest.raises(LinkError):
        read_frame(io.BytesIO(bytes(data)).read)


def test_an_end_within_a_frame() -> None:
    """Is told apart from an end between frames."""
    assert read_frame(io.BytesIO(b"nothing").read) is None
    with pytest.raises(LinkError, match="ended within a frame"):
        read_frame(io.BytesIO(encode(4, 7, b"payload")[:-3]).read)


def test_absurd_lengths_are_damage() -> None:
    """No waiting for a gigabyte that never comes."""
    with pytest.raises(DamagedFrameError, match="garbles"):
        read_frame(io.BytesIO(SYNC + bytes([4, 1]) + b"\xff\xff\xff\x7f").read)


def test_introductions() -> None:
    """Written and read back; too short ones are none of ours."""
    info = Info(VERSION, True, 1, 2, 3, 4, 5, 1 << 40, "näme", "a board")
    assert decode_info(encode_info(info)) == info
    with pytest.raises(LinkError, match="no agent of ours"):
        decode_info(b"hello")


def test_the_agent_tells_what_is_wrong() -> None:
    """Unknown questions, steps without a model, damage, files that are none; and it goes on."""
    damaged = bytearray(encode(Kind.STEP, 3, b"12345"))
    damaged[-1] ^= 1
    found = answers(
        encode(77, 1),
        encode(Kind.STEP, 2, b"1234"),
        bytes(damaged),
        encode(Kind.LOAD, 4, b"no artifact"),
        encode(Kind.HELLO, 5),
        encode(Kind.BYE, 6),
        encode(Kind.HELLO, 7),
    )
    faults = [(serial, payload[0]) for kind, serial, payload in found if kind == Kind.ERROR]
    wanted = [Fault.UNKNOWN, Fault.NOTHING_LOADED, Fault.GARBLED, Fault.NOT_LOADABLE]
    assert faults == list(zip([1, 2, 0, 4], wanted, strict=True))
    assert [(kind, serial) for kind, serial, _ in found[4:]] == [(Kind.INFO, 5), (Kind.DONE, 6)]


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    """A device whose agent is a thread of this process."""
    here, there = socket.socketpair()
    reader = there.makefile("rb")
    thread = threading.Thread(target=serve, args=(reader.read, there.sendall))
    thread.start()
    here.setblocking(False)
    link = DescriptorLink(here.fileno(), here.detach(), 5.0, "thread")
    with Device(link, 5.0, "thread") as found:
        yield found
    thread.join()
    reader.close()
    there.close()


@pytest.fixture(scope="module", params=[leaky_reference, pair_reference])
def artifact(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Artifact, bytes]:
    path = tmp_path_factory.mktemp("toy") / "toy.edgelstm"
    request.param().save(path)
    return Artifact.load(path), path.read_bytes()


def test_steps_and_resets(device: Device, artifact: tuple[Artifact, bytes]) -> None:
    """What the session gives, block by block; the state carries, and reset begins anew."""
    model, file = artifact
    assert device.greet().takes_artifacts
    info = device.load(file)
    assert info.name == model.name
    session, signature = model.session(), model.signature
    rng = np.random.default_rng(0)
    frames = [
        {s.name: np.asarray(9 * rng.random(s.shape), s.dtype.numpy) for s in signature.inputs}
        for _ in range(5)
    ]
    first = []
    for frame in frames:
        block, seconds = device.step(pack_inputs(signature, frame))
        wanted = session.step(next(iter(frame.values())) if len(frame) == 1 else frame)
        wanted = outputs_by_name(signature, wanted)
        for name, found in unpack_outputs(signature, block).items():
            np.testing.assert_array_equal(found, wanted[name])
        assert seconds is not None
        assert 0 < seconds < 5
        first.append(block)
    device.reset()
    assert [device.step(pack_inputs(signature, frame))[0] for frame in frames] == first


def test_refusals_come_back(device: Device, artifact: tuple[Artifact, bytes]) -> None:
    """In the device's own words, and the conversation goes on."""
    model, file = artifact
    device.greet()
    with pytest.raises(TargetUnavailableError, match="no artifact was loaded"):
        device.reset()
    device.load(file)
    with pytest.raises(TargetUnavailableError, match="an input block has"):
        device.step(b"")
    values = {
        s.name: np.full(s.shape, np.nan if s.dtype.is_float else 0, s.dtype.numpy)
        for s in model.signature.inputs
    }
    with pytest.raises(TargetUnavailableError, match="is nan"):
        device.step(pack_inputs(model.signature, values))
    device.reset()


def test_another_version_is_refused() -> None:
    """Both are named."""
    here, there = socket.socketpair()
    link = DescriptorLink(here.fileno(), here.detach(), 1.0, "board")
    there.sendall(encode(Kind.INFO, 1, encode_info(Info(VERSION + 1, True))))
    device = Device(link, 1.0, "board")
    with pytest.raises(TargetUnavailableError, match=f"version {VERSION + 1}"):
        device.greet()
    link.close()
    there.close()


def test_prints_do_not_disturb_the_agent() -> None:
    """Stdout belongs to the frames: whatever else is printed goes to stderr."""
    code = (
        "import edgelstm.remote.agent as agent, edgelstm.agent as program\n"
        "real = agent.serve\n"
        "def serve(*pipes):\n    print('a library says hello', flush=True)\n    real(*pipes)\n"
        "program.serve = serve\nprogram.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=encode(Kind.HELLO, 9) + encode(Kind.BYE, 10),
        capture_output=True,
        check=True,
        cwd=os.getcwd(),
        timeout=60,
    )
    assert done.stdout.startswith(SYNC)
    assert [frame[:2] for frame in frames_of(done.stdout)] == [(Kind.INFO, 9), (Kind.DONE, 10)]
    assert b"hello" in done.stderr
