"""A session's state as a value: taken, stored, restored in another session of the same model."""

from __future__ import annotations

import hashlib
import struct
import zlib
from dataclasses import dataclass, field

from edgelstm.container import canonical_json
from edgelstm.errors import StreamError
from edgelstm.signature import Signature

_MAGIC = b"\x89ELSS1\x1a\n"
_HEAD = struct.Struct("<8sI32sQ")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state block between two steps.

    It fits every artifact that was compiled from the same model with the same states, whatever the
    instruction set or engine.

    Args:
        model_id: which model, see `model_id`.
        state: the state block.
    """

    model_id: str
    state: bytes = field(repr=False)

    def __bytes__(self) -> bytes:
        body = bytes.fromhex(self.model_id)
        checksum = zlib.crc32(self.state, zlib.crc32(body))
        return _HEAD.pack(_MAGIC, checksum, body, len(self.state)) + self.state

    @classmethod
    def from_bytes(cls, data: bytes | bytearray | memoryview) -> Snapshot:
        """Read what `bytes(snapshot)` made.

        Raises:
            StreamError: it is no snapshot, or a damaged one.
        """
        data = bytes(data)
        if data[: len(_MAGIC)] != _MAGIC or len(data) < _HEAD.size:
            raise StreamError(f"these {len(data)} bytes are no snapshot of a session")
        _, checksum, model, size = _HEAD.unpack_from(data)
        state = data[_HEAD.size :]
        if len(state) != size or zlib.crc32(state, zlib.crc32(model)) != checksum:
            raise StreamError("the snapshot is damaged: its bytes differ from their checksum")
        return cls(model.hex(), state)


def model_id(signature: Signature, source_sha256: str, weights: bytes | memoryview) -> str:
    """What tells models apart: the source file (or, without one, the weights) and the signature."""
    content = source_sha256 or hashlib.sha256(weights).hexdigest()
    identity = {"content": content, "signature": signature.without_limits().to_json()}
    return hashlib.sha256(canonical_json(identity)).hexdigest()
