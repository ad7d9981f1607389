"""Steps on buffers between guard pages and canaries: nothing is touched that is not given.

`python -m tests.fuzz.guarded_buffers 300` runs that many random models at every level of this
processor. A buffer stands once at the very start of its room and once at its very end; what is left
of the room holds canaries. Weights and inputs cannot be written at all. Code that goes astray ends
this process with SIGSEGV, so tests start it as another one.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from dataclasses import dataclass, field

import numpy as np

from edgelstm.artifact import Artifact
from edgelstm.engines.base import code_of
from edgelstm.engines.shared_object import load_shared_object
from edgelstm.memory import ALIGNMENT
from tests.fuzz.artifacts import LEVELS, random_artifacts

PAGE = mmap.PAGESIZE
CANARY = 0xA5
READ, WRITE = 1, 2
STEPS = 3


@dataclass
class Room:
    """A buffer, and pages without rights in front of it and behind it.

    Args:
        size: of the buffer.
        alignment: of its start.
        at_end: it ends where the guard begins (up to its alignment), else it begins there.
    """

    size: int
    alignment: int
    at_end: bool
    whole: np.ndarray = field(init=False)
    start: int = field(init=False)

    def __post_init__(self) -> None:
        pages = max(1, -(-self.size // PAGE)) * PAGE
        self._map = mmap.mmap(-1, pages + 2 * PAGE)
        everything = np.frombuffer(self._map, np.uint8)
        self._address = everything.ctypes.data + PAGE
        self._pages = pages
        self.whole = everything[PAGE : PAGE + pages]
        self.whole.fill(CANARY)
        padded = -(-self.size // self.alignment) * self.alignment
        self.start = pages - padded if self.at_end else 0
        _protect(everything.ctypes.data, PAGE, 0)
        _protect(self._address + pages, PAGE, 0)

    @property
    def data(self) -> np.ndarray:
        """The buffer."""
        return self.whole[self.start : self.start + self.size]

    @property
    def pointer(self) -> ctypes.c_void_p:
        """Its address."""
        return ctypes.c_void_p(self._address + self.start)

    def freeze(self) -> None:
        """Forbid writing."""
        _protect(self._address, self._pages, READ)

    def is_intact(self) -> bool:
        """Whether the canaries are alive."""
        before, behind = self.whole[: self.start], self.whole[self.start + self.size :]
        return bool((before == CANARY).all() and (behind == CANARY).all())


def run_model(artifact: Artifact, level: str, *, at_end: bool, seed: int) -> bytes:
    """Steps and a run; the outputs. Asserts that every canary lives."""
    signature, memory = artifact.signature, artifact.manifest["memory"]
    library = load_shared_object(artifact.container.section(f"code/{level}"), signature.name)
    sizes = {
        "weights": memory["weights_bytes"],
        "state": memory["state_bytes"],
        "scratch": memory["scratch_bytes"],
        "input": STEPS * signature.input_bytes,
        "output": STEPS * signature.output_bytes,
    }
    found = (ctypes.c_int64 * 5).from_address(library.address(f"{signature.name}_sizes"))
    assert list(found) == [*list(sizes.values())[:3], signature.input_bytes, signature.output_bytes]
    element = max((spec.dtype.itemsize for spec in signature.inputs), default=1)
    result = max((spec.dtype.itemsize for spec in signature.outputs), default=1)
    alignments = (ALIGNMENT, ALIGNMENT, ALIGNMENT, element, result)
    rooms = {
        key: Room(size, alignment, at_end)
        for (key, size), alignment in zip(sizes.items(), alignments, strict=True)
    }
    rooms["weights"].data[...] = np.frombuffer(artifact.container.section("weights"), np.uint8)
    first = np.frombuffer(artifact.container.section("state_init"), np.uint8)
    rng = np.random.default_rng(seed)
    frames = rooms["input"].data.reshape(STEPS, -1)
    for spec in signature.inputs:
        values = (rng.standard_normal((STEPS, *spec.shape)) * 2).astype(spec.dtype.numpy)
        if spec.ranges:
            values = np.clip(values, spec.ranges[0][1], spec.ranges[0][2])
        raw = np.ascontiguousarray(values).view(np.uint8).reshape(STEPS, -1)
        frames[:, spec.offset_bytes : spec.offset_bytes + spec.nbytes] = raw
    rooms["weights"].freeze()
    rooms["input"].freeze()
    pointers = [room.pointer for room in rooms.values()]
    step, run = (
        ctypes.CFUNCTYPE(ctypes.c_int32)(library.address(f"{signature.name}_{function}"))
        for function in ("step", "run")
    )
    outputs = []
    for function, more in ((step, ()), (run, (ctypes.c_int64(STEPS),))):
        rooms["state"].data[...] = first
        rooms["scratch"].data[...] = 0xFF
        code = code_of(function(*pointers, *more))
        assert code <= 0, f"{level}: input refused ({code})"
        outputs.append(rooms["output"].data.tobytes())
    dead = [key for key, room in rooms.items() if not room.is_intact()]
    assert not dead, f"{level}: wrote beyond {', '.join(dead)}"
    return b"".join(outputs)


def _protect(address: int, size: int, rights: int) -> None:
    libc = ctypes.CDLL(None)
    done = libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(size), ctypes.c_int(rights))
    assert done == 0


def main(count: int) -> None:
    """Print how many models ran; ends with an error at the first that goes astray."""
    runs = 0
    for name, artifact in random_artifacts(count, "host"):
        for level in LEVELS:
            # Printed first: the last line names what ended the process.
            print(name, level, file=sys.stderr, flush=True)
            ends = [run_model(artifact, level, at_end=at_end, seed=1) for at_end in (False, True)]
            assert ends[0] == ends[1], f"{name} {level}: the outputs depend on addresses"
            runs += 2
    print(f"{count} models, {runs} placements at {', '.join(LEVELS)}: nothing beyond its buffers")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 300)
