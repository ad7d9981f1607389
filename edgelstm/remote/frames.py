"""Frames over any stream of bytes: serial lines, pipes through ssh.

```
sync      2 bytes   0xE5 0x1C
kind      u8        see `Kind`
serial    u8        chosen by the host; the answer bears the same
length    u32       of the payload
payload
crc       u32       CRC-32 (zlib's) of kind, serial, length and payload
```
Integers are little-endian. Whatever stands between frames is skipped: greetings of a login, the
messages of a boot loader. A small agent needs no more memory than one input and one output block.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

from edgelstm.errors import LinkError

VERSION = 1
SYNC = b"\xe5\x1c"
LARGEST_PAYLOAD = 1 << 30

_HEAD = struct.Struct("<BBI")
_CRC = struct.Struct("<I")
_INFO = struct.Struct("<BBHIIIIIQ")
_RESULT = struct.Struct("<iQ")

Receive = Callable[[int], bytes]
"""Exactly so many bytes; fewer only where the stream has ended."""


class DamagedFrameError(LinkError):
    """A frame that did not arrive as it was sent."""


class Kind(IntEnum):
    """What a frame says; answers have the highest bit set."""

    HELLO = 1  # payload: u8, the version of this protocol
    LOAD = 2  # an artifact; agents in C hold their model and refuse it
    RESET = 3  # a new stream
    STEP = 4  # an input block
    BYE = 5  # the agent ends
    INFO = 0x81  # answers HELLO and LOAD
    DONE = 0x83  # answers RESET and BYE
    RESULT = 0x84  # answers STEP
    ERROR = 0xFF  # u8 code, then text


class Fault(IntEnum):
    """The code of an ERROR frame."""

    GARBLED = 1
    UNKNOWN = 2
    LENGTH = 3
    NOTHING_LOADED = 4
    NOT_LOADABLE = 5
    REFUSED = 6
    FAILED = 7  # the agent itself: its next answers are to be trusted no less


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame."""

    kind: int
    serial: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Info:
    """What an agent says of itself and of its model.

    Args:
        version: of the protocol.
        takes_artifacts: LOAD gives it a model; else it has one of its own.
        input_bytes, output_bytes, state_bytes, weights_bytes: sizes of the model, 0 without one.
        weights_crc32: of the weights as they stand in its memory.
        ticks_hz: ticks of its clock in a second; 0: it has none.
        name: of the model.
        system: what it runs on, for people.
    """

    version: int
    takes_artifacts: bool
    input_bytes: int = 0
    output_bytes: int = 0
    state_bytes: int = 0
    weights_bytes: int = 0
    weights_crc32: int = 0
    ticks_hz: int = 0
    name: str = ""
    system: str = ""


def encode(kind: int, serial: int, payload: bytes = b"") -> bytes:
    """The bytes of a frame."""
    body = _HEAD.pack(kind, serial, len(payload)) + payload
    return SYNC + body + _CRC.pack(zlib.crc32(body))


def read_frame(receive: Receive) -> Frame | None:
    """The next frame; None where the stream has ended between frames.

    Raises:
        DamagedFrameError: it is damaged.
        LinkError: the stream ended within it.
    """
    last = b""
    while True:
        byte = receive(1)
        if not byte:
            return None
        if last + byte == SYNC:
            break
        last = byte
    head = _whole(receive, _HEAD.size)
    kind, serial, length = _HEAD.unpack(head)
    if length > LARGEST_PAYLOAD:
        raise DamagedFrameError(f"a frame claims {length} bytes: the connection garbles data")
    payload = _whole(receive, length)
    (crc,) = _CRC.unpack(_whole(receive, _CRC.size))
    if crc != zlib.crc32(head + payload):
        raise DamagedFrameError(
            f"a frame of {length} bytes arrived damaged (its checksum does not match): the "
            "connection garbles data; check cable, baud rate and flow control"
        )
    return Frame(kind, serial, payload)


def encode_info(info: Info) -> bytes:
    """The payload of an INFO frame."""
    numbers = _INFO.pack(
        info.version,
        int(info.takes_artifacts),
        0,
        info.input_bytes,
        info.output_bytes,
        info.state_bytes,
        info.weights_bytes,
        info.weights_crc32,
        info.ticks_hz,
    )
    return numbers + info.name.encode() + b"\0" + info.system.encode()


def decode_info(payload: bytes) -> Info:
    """Read what `encode_info`, or an agent in C, wrote.

    Raises:
        LinkError: it is too short.
    """
    if len(payload) < _INFO.size:
        raise LinkError(f"the device introduced itself with {len(payload)} bytes: no agent of ours")
    version, features, _, inputs, outputs, state, weights, crc, ticks = _INFO.unpack_from(payload)
    name, _, system = payload[_INFO.size :].partition(b"\0")
    return Info(
        version=version,
        takes_artifacts=bool(features & 1),
        input_bytes=inputs,
        output_bytes=outputs,
        state_bytes=state,
        weights_bytes=weights,
        weights_crc32=crc,
        ticks_hz=ticks,
        name=name.decode(errors="replace"),
        system=system.decode(errors="replace"),
    )


def encode_result(code: int, ticks: int, block: bytes) -> bytes:
    """The payload of a RESULT frame: what the step returned, its time, the output block."""
    return _RESULT.pack(code, ticks) + block


def decode_result(payload: bytes) -> tuple[int, int, bytes]:
    """Code, ticks and output block.

    Raises:
        LinkError: it is too short.
    """
    if len(payload) < _RESULT.size:
        raise LinkError(f"the device answered a step with {len(payload)} bytes: no agent of ours")
    code, ticks = _RESULT.unpack_from(payload)
    return code, ticks, payload[_RESULT.size :]


def _whole(receive: Receive, size: int) -> bytes:
    data = receive(size)
    if len(data) != size:
        raise LinkError("the connection ended within a frame")
    return data
