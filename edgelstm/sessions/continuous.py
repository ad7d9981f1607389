"""Continuous mode: frame by frame or in chunks of them, the state carried on."""

from __future__ import annotations

from math import prod

from edgelstm.sessions.base import SessionMode
from edgelstm.sessions.chunked import ChunkedSession
from edgelstm.sessions.stream import StreamSession

STREAM = SessionMode(
    name="stream",
    session=StreamSession,
    chunked=ChunkedSession,
    unit="step",
    units="frames",
    consumes="frame",
    entry="step",
    use=StreamSession._use,
    has_blocks=True,
    takes_many=True,
    runner="edgelstm.io.stream_run:StreamRun",
    described_size=prod,
)
