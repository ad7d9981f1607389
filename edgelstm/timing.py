"""How long a step takes: natively, from Python, beside merely reading the weights, and a peer's.

Numbers are nanoseconds per step. Nothing is taken off: a step is timed within a native loop of
steps, each of which needs the state of the one before, so that the one call from Python hardly
counts and no number is better than what a caller in C sees.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from time import perf_counter_ns
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgelstm.admission import nearest_taken
from edgelstm.artifact import Artifact
from edgelstm.engines.base import Blocks, StateKeeper, StepFunction, tells_news
from edgelstm.errors import TargetUnavailableError
from edgelstm.memory import allocate_block
from edgelstm.sessions import Session, mode_of
from edgelstm.signature import Signature

PEER_GROUP = "edgelstm.peers"
"""Entry points of other engines: `NAME = factory(model_path, signature) -> Peer`."""

# One call of the native loop: as long as this, unless its frames would outgrow a near cache.
_BLOCK_NS, _BLOCK_BYTES = 200_000, 64 << 10


class Peer(Protocol):
    """Another engine that runs the same model, to be timed in turn with ours."""

    name: str
    version: str

    def prepare(self, frames: Mapping[str, NDArray[Any]]) -> None:
        """Take input frames `(n, *frame)` by name (call mode: n whole inputs) and warm up."""
        ...

    def time_step(self) -> float:
        """Median ns per step when it is called from Python once a step (call mode: once a call)."""
        ...

    def time_sequence(self) -> float | None:
        """Median ns per step when all prepared frames go in one call; None if it cannot."""
        ...


@dataclass(frozen=True, slots=True)
class Distribution:
    """Of the time per step, over blocks of steps."""

    minimum: float
    median: float
    p99: float
    steps: int

    def to_json(self) -> dict[str, float]:
        """A JSON object."""
        return {
            "min_ns": round(self.minimum, 2),
            "p50_ns": round(self.median, 2),
            "p99_ns": round(self.p99, 2),
            "steps": self.steps,
        }


def random_frames(signature: Signature, n_frames: int, seed: int = 0) -> dict[str, NDArray[Any]]:
    """Standard-normal frames by input, whole numbers zero, lengths the longest; all are taken."""
    generator = np.random.default_rng(seed)
    frames: dict[str, NDArray[Any]] = {}
    longest = max((spec.shape[0] for spec in signature.inputs if len(spec.shape) > 1), default=0)
    for spec in signature.inputs:
        shape = (n_frames, *spec.shape)
        if spec.dtype.is_float:
            frames[spec.name] = generator.standard_normal(shape).astype(spec.dtype.numpy)
        else:
            # Zero is a valid index everywhere; only sequence lengths would make the work vanish.
            value = longest if "len" in spec.name.lower() else 0
            frames[spec.name] = np.full(shape, value, spec.dtype.numpy)
        frames[spec.name] = nearest_taken(frames[spec.name], spec)
    return frames


class StepTimer:
    """Times one artifact; the same buffers and sessions serve all rounds.

    Args:
        artifact: what to time.
        frames: input frames by name, all of them are used in turn.

    Raises:
        TargetUnavailableError: this machine cannot run the artifact.
        StreamError: the frames do not fit.
    """

    def __init__(self, artifact: Artifact, frames: Mapping[str, NDArray[Any]]) -> None:
        self._artifact = artifact
        self._signature = signature = artifact.signature
        self._session: Session = artifact.session()
        self._mode = mode_of(signature.mode)
        self._n_frames = len(next(iter(frames.values())))
        self._frames = {name: frames[name] for name in (spec.name for spec in signature.inputs)}
        self._weights_bytes = int(artifact.manifest["memory"]["weights_bytes"])
        self._run, self._steps, self._single = self._prepare_native()

    def time_step(self, duration_s: float = 0.3) -> Distribution:
        """One step (call mode: one call) of a native loop.

        A device's loop is no sequence of steps as callers make them; its steps are called one by
        one, and what calling costs counts.
        """
        steps, run = self._steps, self._run
        if self._single is not None:
            steps, run = 1, self._single
        times = _repeat(run, duration_s) / steps
        return Distribution(
            minimum=float(times.min()),
            median=float(np.median(times)),
            p99=float(np.percentile(times, 99)),
            steps=len(times) * steps,
        )

    def time_run(self, duration_s: float = 0.3) -> float:
        """Median of a step within a block of frames, in one native call."""
        return float(np.median(_repeat(self._run, duration_s))) / self._steps

    def time_python_step(self, duration_s: float = 0.3) -> float:
        """Median of `session.step(frame)` (call mode: `session.call`), in loops in Python.

        Loops are as long as native ones: longer ones would all of them meet other processes.
        """
        samples = self._samples()
        call = getattr(self._session, self._mode.entry)
        once = _time_once(partial(call, samples[0]))
        size = min(len(samples), math.ceil(_BLOCK_NS / max(once, 1)))
        parts = cycle([samples[i : i + size] for i in range(0, len(samples) - size + 1, size)])

        def feed() -> None:
            for sample in next(parts):
                call(sample)

        return float(np.median(_repeat(feed, duration_s))) / size

    def time_python_run(self, duration_s: float = 0.3) -> float | None:
        """Median of `session.run(all frames)`; None where the mode has no blocks."""
        if not self._mode.has_blocks:
            return None
        data = self._frames
        times = _repeat(lambda: self._session.run(data), duration_s)
        return float(np.median(times)) / self._n_frames

    def time_read(self, duration_s: float = 0.01) -> float | None:
        """Median of reading all weights once; None where the code has no such function."""
        kernel, repeats = self._artifact.kernel, 1
        if not self._weights_bytes or kernel.read_weights(repeats) is None:
            return None
        while _time_once(partial(kernel.read_weights, repeats)) < _BLOCK_NS:
            repeats *= 2
        times = _repeat(partial(kernel.read_weights, repeats), duration_s)
        return float(np.median(times)) / repeats

    def _samples(self) -> list[Any]:
        names = list(self._frames)
        if len(names) == 1:
            return list(self._frames[names[0]])
        return [
            {name: np.asarray(self._frames[name][i]) for name in names}
            for i in range(min(self._n_frames, 256))
        ]

    def _prepare_native(self) -> tuple[StepFunction, int, StepFunction | None]:
        """The native loop, its length, and on a device one step."""
        signature = self._signature
        memory = self._artifact.manifest["memory"]
        size = signature.input_bytes + signature.output_bytes
        most = max(1, _BLOCK_BYTES // max(size, 1))
        packed = allocate_block(most * signature.input_bytes)
        rows = packed.reshape(most, signature.input_bytes)
        turn = np.arange(most) % self._n_frames
        for spec in signature.inputs:
            data = np.ascontiguousarray(self._frames[spec.name]).reshape(self._n_frames, -1)
            raw = data.view(np.uint8).reshape(self._n_frames, spec.nbytes)
            rows[:, spec.offset_bytes : spec.offset_bytes + spec.nbytes] = raw[turn]
        room = allocate_block(most * signature.output_bytes)
        blocks = Blocks(
            state=allocate_block(memory["state_bytes"]),
            scratch=allocate_block(memory["scratch_bytes"]),
            inputs=packed,
            outputs=room,
        )
        blocks.state[...] = np.frombuffer(self._artifact.container.section("state_init"), np.uint8)
        kernel = self._artifact.kernel

        def bind(steps: int) -> StepFunction:
            size_in, size_out = steps * signature.input_bytes, steps * signature.output_bytes
            run = kernel.bind_run(blocks, packed[:size_in], room[:size_out], steps)
            # Whoever holds the function holds the memory that it works on.
            return _Holding(run, (blocks, packed, room), tells_news=tells_news(kernel))

        steps = 1
        while steps < most and _time_once(bind(steps)) < _BLOCK_NS:
            steps = min(2 * steps, most)
        step = kernel.bind(blocks)
        held = (blocks, packed, room)
        single = (
            _Holding(step, held, tells_news=tells_news(kernel))
            if isinstance(step, StateKeeper)
            else None
        )
        return bind(steps), steps, single


class _Holding:
    """A bound run together with its memory."""

    __slots__ = ("_memory", "_run", "_tells_news")

    def __init__(self, run: StepFunction, memory: object, *, tells_news: bool) -> None:
        self._run = run
        self._memory = memory
        self._tells_news = tells_news

    def __call__(self) -> int:
        code = self._run()
        if code < 0 or (code and not self._tells_news):
            raise TargetUnavailableError(f"the timed step returned {code}: cannot time this model")
        return code


def _time_once(run: Callable[[], Any]) -> int:
    run()
    start = perf_counter_ns()
    run()
    return perf_counter_ns() - start


def _repeat(run: Callable[[], Any], duration_s: float) -> NDArray[np.float64]:
    """Nanoseconds of each of many runs, at least 5, after one to warm up."""
    run()
    times: list[int] = []
    end = perf_counter_ns() + int(duration_s * 1e9)
    while len(times) < 5 or (times and perf_counter_ns() < end):
        start = perf_counter_ns()
        run()
        times.append(perf_counter_ns() - start)
    return np.array(times, np.float64)
