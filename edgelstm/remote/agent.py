"""The agent on a device with Python: takes an artifact, steps it, answers frame by frame.

`python -m edgelstm.agent` speaks on stdin and stdout.
"""

from __future__ import annotations

import platform
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path

from edgelstm.artifact import WEIGHTS_SECTION, Artifact
from edgelstm.blocks import outputs_by_name, pack_outputs, unpack_inputs
from edgelstm.errors import EdgeLSTMError, LinkError
from edgelstm.remote.frames import (
    VERSION,
    Fault,
    Frame,
    Info,
    Kind,
    Receive,
    encode,
    encode_info,
    encode_result,
    read_frame,
)
from edgelstm.sessions import Session
from edgelstm.version import VERSION as EDGELSTM

Send = Callable[[bytes], None]

_NANOSECONDS = 1_000_000_000
_LONGEST_TEXT = 4000


class _Model:
    """A loaded artifact and its session."""

    def __init__(self, artifact: Artifact) -> None:
        self.artifact = artifact
        self.session: Session = artifact.session()
        self.signature = artifact.signature

    def reset(self) -> None:
        """A new stream."""
        self.session.reset()

    def step(self, block: bytes) -> tuple[int, bytes]:
        """Nanoseconds, and the output block."""
        values = unpack_inputs(self.signature, block)
        start = time.perf_counter_ns()
        result = self.session.advance(values)
        taken = time.perf_counter_ns() - start
        return taken, pack_outputs(self.signature, outputs_by_name(self.signature, result))


def serve(receive: Receive, send: Send) -> None:
    """Answer until BYE, or until the stream ends."""
    model: _Model | None = None
    while True:
        try:
            frame = read_frame(receive)
        except LinkError as error:
            send(_error(0, Fault.GARBLED, str(error)))
            continue
        if frame is None:
            return
        try:
            if frame.kind == Kind.LOAD:
                model, answer = _load(frame)
            else:
                answer = _answer(frame, model)
        except Exception as error:  # whatever a frame led to, the next one is to be answered
            answer = _error(
                frame.serial, Fault.FAILED, f"the agent failed: {type(error).__name__}: {error}"
            )
        send(answer)
        if frame.kind == Kind.BYE:
            return


def _answer(frame: Frame, model: _Model | None) -> bytes:
    serial = frame.serial
    if frame.kind == Kind.HELLO:
        return encode(Kind.INFO, serial, encode_info(_info(model)))
    if frame.kind == Kind.BYE:
        return encode(Kind.DONE, serial)
    if frame.kind not in (Kind.RESET, Kind.STEP):
        return _error(serial, Fault.UNKNOWN, f"this agent does not know frames of {frame.kind}")
    if model is None:
        return _error(serial, Fault.NOTHING_LOADED, "no artifact was loaded")
    if frame.kind == Kind.RESET:
        model.reset()
        return encode(Kind.DONE, serial)
    wanted = model.signature.input_bytes
    if len(frame.payload) != wanted:
        text = f"an input block has {wanted} bytes, this one has {len(frame.payload)}"
        return _error(serial, Fault.LENGTH, text)
    try:
        ticks, block = model.step(frame.payload)
    except EdgeLSTMError as error:
        return _error(serial, Fault.REFUSED, str(error))
    return encode(Kind.RESULT, serial, encode_result(0, ticks, block))


def _load(frame: Frame) -> tuple[_Model | None, bytes]:
    try:
        with tempfile.TemporaryDirectory(prefix="edgelstm-") as folder:
            path = Path(folder, "sent.edgelstm")
            path.write_bytes(frame.payload)
            model = _Model(Artifact.load(path))
    except (EdgeLSTMError, OSError) as error:
        return None, _error(frame.serial, Fault.NOT_LOADABLE, str(error))
    return model, encode(Kind.INFO, frame.serial, encode_info(_info(model)))


def _info(model: _Model | None) -> Info:
    here = f"edgelstm {EDGELSTM}, Python {platform.python_version()}, {platform.machine()}"
    if model is None:
        return Info(VERSION, takes_artifacts=True, ticks_hz=_NANOSECONDS, system=here)
    memory = model.artifact.manifest["memory"]
    engine = " ".join(model.session.kernel.facts.values())
    return Info(
        VERSION,
        takes_artifacts=True,
        input_bytes=model.signature.input_bytes,
        output_bytes=model.signature.output_bytes,
        state_bytes=memory["state_bytes"],
        weights_bytes=memory["weights_bytes"],
        weights_crc32=zlib.crc32(model.artifact.container.section(WEIGHTS_SECTION)),
        ticks_hz=_NANOSECONDS,
        name=model.artifact.name,
        system=f"{here}, {engine}",
    )


def _error(serial: int, fault: Fault, text: str) -> bytes:
    return encode(
        Kind.ERROR, serial, bytes([fault]) + text[:_LONGEST_TEXT].encode(errors="replace")
    )
