"""Many streams on a CPU: their states side by side, stepped by `NAME_batch` or one after another.

```
int64_t NAME_batch(const void *weights, void *states, void *scratch, const void *in, void *out,
                   const int32_t *places, int32_t *codes, int64_t n_places, int64_t n_frames,
                   const int64_t strides[5]);
const int64_t NAME_batch_sizes[7];     version, bytes of scratch, most streams at once; bytes of
                                       weights, one state, one input, one output
```
What the arguments mean stands in `edgelstm_targets/tvm_cpu/batch/entry.py`, and those of
`NAME_shared`, of windows that overlap: their streams read the same frames. They stand in a shared
object of their own, section `streams/ISA`. Artifacts without it step the streams one by one.
"""

from __future__ import annotations

import _ctypes
import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.engines.code_sizes import expect_sizes
from edgelstm.engines.many_streams import Codes
from edgelstm.engines.shared_object import Library
from edgelstm.engines.stream_threads import Part, StreamThreads
from edgelstm.memory import ALIGNMENT, Block, address_of, allocate_block
from edgelstm.signature import Signature

_VERSION = 1
_NUMBERS = 7
_WORD = 4


@dataclass(frozen=True, slots=True)
class BatchCode:
    """The entry point for many streams of a loaded library.

    Args:
        function: `NAME_batch`, as a ctypes function.
        scratch_bytes: of each thread.
        most: streams that go through the model together.
        sums_bytes: of what is computed once of a frame, of `NAME_shared`; 0: it is `NAME_batch`.
    """

    function: Callable[..., int]
    scratch_bytes: int
    most: int
    sums_bytes: int = 0


def find_batch_code(library: Library, name: str, sizes: Sequence[int]) -> BatchCode | None:
    """The entry point, if the code has one that this version knows.

    Args:
        library: the code.
        name: of the model.
        sizes: bytes of weights, state, scratch, input and output as the manifest has them.

    Raises:
        ArtifactFormatError: the code is made for other sizes.
    """
    for entry, count in ((f"{name}_shared", _NUMBERS + 1), (f"{name}_batch", _NUMBERS)):
        address, table = library.address(entry), library.address(f"{entry}_sizes")
        if address is not None and table is not None:
            numbers = list((ctypes.c_int64 * count).from_address(table))
            break
    else:
        return None
    version, scratch, most, *own = numbers[:_NUMBERS]
    if version != _VERSION:
        return None
    weights, state, *frames = own
    expect_sizes((weights, state, sizes[2], *frames), sizes, "many streams")
    function = _BatchFunction(address)
    function.library = library
    return BatchCode(function, scratch, most, sum(numbers[_NUMBERS:]))


class _BatchFunction(_ctypes.CFuncPtr):
    """A C function that returns int64_t, and keeps its code."""

    _flags_ = _ctypes.FUNCFLAG_CDECL
    _restype_ = ctypes.c_int64
    library: Library


class BatchRunner:
    """Streams whose states stand side by side, moved on by one native call for each thread.

    Args:
        code: the entry point.
        weights: of the model.
        signature: of the model.
        streams: how many places there are.
        state_bytes: of one state block.
        threads: how many share the streams.
    """

    def __init__(
        self,
        code: BatchCode,
        weights: Block,
        signature: Signature,
        streams: int,
        state_bytes: int,
        threads: int,
    ) -> None:
        self._code, self._weights = code, weights
        stride = _odd_lines(state_bytes)
        self._states = allocate_block(streams * stride).reshape(streams, stride)[:, :state_bytes]
        self._streams = streams
        self._frame_bytes = (signature.input_bytes, signature.output_bytes)
        self._strides = np.array(
            [
                stride,
                signature.input_bytes,
                streams * signature.input_bytes,
                signature.output_bytes,
                streams * signature.output_bytes,
                0,
                0,
            ],
            np.int64,
        )
        self._sums = allocate_block(0)
        self._places = np.zeros(streams, np.int32)
        self._codes = np.zeros(streams, np.int32)
        self._all_codes = np.zeros(streams, np.int32)
        self._threads = StreamThreads(min(threads, streams))
        self._scratch = [allocate_block(code.scratch_bytes) for _ in range(len(self._threads))]
        self._shares: list[_Share] = []
        self._bound: Any = None
        self.set_active(np.ones(streams, np.bool_))

    checks_frames = True
    """Frames that the model does not take are found by the code."""

    def run(self, inputs: Block, outputs: Block, n_frames: int) -> Codes | None:
        """Feed frames `[frame][stream][input block]`.

        Returns:
            For each place what became of it; None where all were fed.
        """
        bound = self._bound
        if bound is None or bound[:3] != (id(inputs), id(outputs), n_frames):
            frames = (_pointer(inputs), _pointer(outputs), ctypes.c_int64(n_frames))
            sums = self._room_for_sums(inputs)
            calls = [share.bind(*frames, *sums) for share in self._shares]
            # Kept alive with their addresses: an id belongs to one array as long as it lives. The
            # outputs of a block are the caller's, who gets the same memory for the next one.
            bound = (id(inputs), id(outputs), n_frames, inputs, outputs, calls)
            self._bound = bound if n_frames == 1 else None
        calls = bound[-1]
        refused = calls[0]() if len(calls) == 1 else sum(self._threads.run(calls))
        if not refused:
            return None
        self._all_codes[:] = 0
        self._all_codes[self._places[: self._count]] = self._codes[: self._count]
        return self._all_codes

    def _room_for_sums(self, inputs: Block) -> tuple[Any, ...]:
        """The last argument of code for streams that read the same frames."""
        if not self._code.sums_bytes:
            return ()
        count = inputs.size // self._frame_bytes[0]
        self._strides[6] = count
        if self._sums.size < count * self._code.sums_bytes:
            self._sums = allocate_block(count * self._code.sums_bytes)
        return (_pointer(self._sums),)

    def share_frames(self, apart: int = 0, *, is_last_kept: bool = False) -> None:
        """From now on all streams read the same frames, `[frame][input block]`.

        Args:
            apart: how many frames each stream begins behind the one before it.
            is_last_kept: outputs are `[stream][output block]`, of the last frame alone.
        """
        size = self._frame_bytes[0]
        self._strides[1:3] = apart * size, size
        self._strides[5] = apart * self._code.sums_bytes // _WORD
        if is_last_kept:
            self._strides[4] = 0
        self._bound = None

    def write_state(self, stream: int, state: Block) -> None:
        """Set the state block of one stream, or of several from that one on."""
        size = self._states.shape[1]
        count = state.size // size if size else 0
        self._states[stream : stream + count] = state.reshape(count, size)

    def read_state(self, stream: int) -> Block:
        """The state block of one stream."""
        state: Block = self._states[stream].copy()
        return state

    def set_active(self, active: NDArray[np.bool_]) -> None:
        """Which streams are moved on; each thread gets a range of them."""
        chosen = np.flatnonzero(active)
        self._count = len(chosen)
        self._places[: self._count] = chosen
        used = min(len(self._scratch), self._count)
        ends = [self._count * i // max(used, 1) for i in range(used + 1)]
        fixed = (self._weights, self._states, self._strides)
        self._shares = [
            _Share(self._code, fixed, scratch, self._places[a:b], self._codes[a:b])
            for scratch, a, b in zip(self._scratch, ends, ends[1:], strict=False)
        ]
        self._bound = None

    def close(self) -> None:
        """End the threads."""
        self._threads.close()


class _Share:
    """The native call of one thread; its arguments are converted once."""

    __slots__ = ("_after", "_before", "_count", "_function", "_strides")

    def __init__(
        self,
        code: BatchCode,
        fixed: tuple[NDArray[Any], ...],
        scratch: Block,
        places: NDArray[np.int32],
        codes: Codes,
    ) -> None:
        weights, states, strides = fixed
        self._function = code.function
        self._before = tuple(map(_pointer, (weights, states, scratch)))
        self._after = tuple(map(_pointer, (places, codes)))
        self._count, self._strides = ctypes.c_int64(len(places)), _pointer(strides)

    def bind(self, inputs: Any, outputs: Any, n_frames: Any, *sums: Any) -> Part:
        """The call on these frames; it returns how many streams were refused."""
        return partial(
            self._function,
            *self._before,
            inputs,
            outputs,
            *self._after,
            self._count,
            n_frames,
            self._strides,
            *sums,
        )


def _odd_lines(size: int) -> int:
    """Rounded up to an odd number of lines, so that a cache takes the states of many streams."""
    lines = -(-max(size, 1) // ALIGNMENT)
    return (lines | 1) * ALIGNMENT


def _pointer(array: NDArray[Any]) -> Any:
    return ctypes.c_void_p.from_param(address_of(array))
