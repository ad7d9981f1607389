"""A session's state as a value: taken, stored, restored in another session of the same model."""

from __future__ import annotations

import hashlib
import struct
import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.container import canonical_json
from edgelstm.dtypes import DType
from edgelstm.errors import StreamError
from edgelstm.memory import Block
from edgelstm.signature import Signature, StateSpec

_MAGIC = b"\x89ELSS1\x1a\n"
_HEAD = struct.Struct("<8sI32sQ")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state block between two steps.

    It fits every artifact of the same identity (weights, scales, signature), whatever the
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


def state_to_restore(
    snapshot: Snapshot | bytes | bytearray | memoryview,
    model: str,
    signature: Signature,
    state_init: Block,
) -> Block:
    """The state block of a snapshot, once it is known to be one that the model may continue from.

    Args:
        snapshot: what is to be restored.
        model: identity of the model that is to continue.
        signature: of that model.
        state_init: its state before the first step.

    Raises:
        StreamError: it is damaged, of another model, or holds what no finite input leads to.
    """
    if not isinstance(snapshot, Snapshot):
        snapshot = Snapshot.from_bytes(snapshot)
    if snapshot.model_id != model:
        raise StreamError(
            f"the snapshot is of another model than {signature.name!r} "
            f"({snapshot.model_id[:12]}... instead of {model[:12]}...): of other weights, another "
            "calibration or another signature; where only the calibration changed, `edgelstm "
            "snapshot convert` makes it fit"
        )
    if len(snapshot.state) != state_init.size:
        raise StreamError(
            f"the snapshot holds {len(snapshot.state)} bytes, the state has {state_init.size}"
        )
    state = np.frombuffer(snapshot.state, np.uint8)
    for spec in signature.states:
        _expect_possible(spec, state, state_init)
    return state


def state_view(block: Block, spec: StateSpec) -> NDArray[Any]:
    """One state in its block."""
    return np.ndarray(spec.shape, spec.dtype.numpy, block, spec.offset_bytes)


def _expect_possible(spec: StateSpec, state: Block, first: Block) -> None:
    """Refuse NaN and infinity, unless the stream begins with just that (a running maximum does)."""
    if spec.dtype is DType.BOOL:
        numbers = np.ndarray(spec.shape, np.uint8, state, spec.offset_bytes)
        bad, what = numbers > 1, "no truth value"
    elif spec.dtype.is_float:
        found, initial = state_view(state, spec), state_view(first, spec)
        bad, what = ~(np.isfinite(found) | (found == initial)), "NaN or infinity"
    else:
        return
    if bad.any():
        place = ",".join(map(str, np.argwhere(bad)[0]))
        raise StreamError(
            f"the snapshot's state {spec.name!r} holds {what} at [{place}]: no stream can continue "
            "from it; restore an older snapshot, or begin anew with reset()"
        )


def model_id(signature: Signature, source_sha256: str, weights: bytes | memoryview) -> str:
    """What tells models apart: the source file (or, without one, the weights) and the signature."""
    content = source_sha256 or hashlib.sha256(weights).hexdigest()
    identity = {"content": content, "signature": signature.without_limits().to_json()}
    return hashlib.sha256(canonical_json(identity)).hexdigest()
