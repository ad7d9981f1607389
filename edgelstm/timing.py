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
from edgelstm.engines.native import CODE_PREFIX
from edgelstm.errors import TargetUnavailableError
from edgelstm.memory import Block, allocate_block
from edgelstm.sessions import Session, mode_of
from edgelstm.signature import Signature

PEER_GROUP = "edgelstm.peers"
"""Entry points of other engines: `NAME = factory(model_path, signature) -> Peer`."""

_MOST_ROWS = 256
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
        # A step of a look-ahead model answers for several frames.
        plan = signature.lookahead
        self._answered = 1 if plan is None else plan.chunk
        self._run, self._steps, self._single = self._prepare_native()

    def time_step(self, duration_s: float = 0.3) -> Distribution:
        """One step (call mode: one call) of a native loop.

        A device's loop is no sequence of steps as callers make them, nor is one that shares work
        among its frames; their steps are called one by one, and what calling costs counts.
        """
        steps, run = self._steps, self._run
        if self._single is not None:
            steps, run = 1, self._single
        times = _repeat(run, duration_s) / (steps * self._answered)
        return Distribution(
            minimum=float(times.min()),
            median=float(np.median(times)),
            p99=float(np.percentile(times, 99)),
            steps=len(times) * steps * self._answered,
        )

    def time_phases(self, duration_s: float = 0.3) -> NDArray[np.float64] | None:
        """Median of each of the steps after which all outputs have come as often as they do.

        Single native calls from Python, whose cost counts; None where outputs come in every step.
        """
        strides = [s.stride for s in self._signature.outputs if s.time_axis is not None]
        period = math.lcm(*strides)
        if period == 1 or not self._signature.is_late:
            return None
        kernel = self._artifact.kernel
        rows = self._packed(min(self._n_frames, _MOST_ROWS))
        inputs = allocate_block(self._signature.of_kernel.input_bytes)
        blocks = self._blocks(inputs, self._signature.of_kernel.output_bytes)
        step = _Holding(kernel.bind(blocks), blocks, tells_news=tells_news(kernel))
        times: list[list[int]] = [[] for _ in range(period)]
        end = perf_counter_ns() + int(duration_s * 1e9)
        count = 0
        while perf_counter_ns() < end or count < 5 * period:
            inputs[...] = rows[count % len(rows)]
            start = perf_counter_ns()
            step()
            times[count % period].append(perf_counter_ns() - start)
            count += 1
        return np.array([np.median(each) for each in times])

    def time_run(self, duration_s: float = 0.3) -> float:
        """Median of a step within a block of frames, in one native call."""
        return float(np.median(_repeat(self._run, duration_s))) / (self._steps * self._answered)

    def time_python_step(self, duration_s: float = 0.3) -> float:
        """Median of `session.step(frame)` (call mode: `session.call`), in loops in Python.

        Where a step takes a chunk, of each of its frames.

        Loops are as long as native ones: longer ones would all of them meet other processes.
        """
        samples, chunk = self._samples(), self._signature.chunk
        call = getattr(self._session, self._mode.entry)
        once = _time_once(partial(call, samples[0]))
        size = min(len(samples), math.ceil(_BLOCK_NS / max(once, 1)))
        if self._answered <= len(samples):
            # Whole chunks: most steps of one only keep their frame.
            size = -(-size // self._answered) * self._answered
            size = min(size, len(samples) // self._answered * self._answered)
        parts = cycle([samples[i : i + size] for i in range(0, len(samples) - size + 1, size)])

        def feed() -> None:
            for sample in next(parts):
                call(sample)

        return float(np.median(_repeat(feed, duration_s))) / (size * chunk)

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
        names, chunk = list(self._frames), self._signature.chunk
        if chunk > 1:
            return self._chunks()
        if len(names) == 1:
            return list(self._frames[names[0]])
        return [
            {name: np.asarray(self._frames[name][i]) for name in names}
            for i in range(min(self._n_frames, 256))
        ]

    def _chunks(self) -> list[Any]:
        """All frames in turn, in chunks."""
        signature = self._signature
        count = signature.chunk
        chunks = []
        for start in range(0, max(self._n_frames - count, 0) + 1, count):
            turn = (start + np.arange(count)) % self._n_frames
            values = {
                spec.name: self._frames[spec.name][start]
                if spec.time_axis is None
                else self._frames[spec.name][turn]
                for spec in signature.inputs
            }
            chunks.append(values if len(values) > 1 else next(iter(values.values())))
        return chunks

    def _packed(self, count: int) -> Block:
        """So many input blocks, of all frames in turn: (count, bytes)."""
        signature = self._signature.of_kernel
        rows = allocate_block(count * signature.input_bytes).reshape(count, signature.input_bytes)
        frames, n_frames = self._frames, self._n_frames
        if any(frames[spec.name].shape[1:] != spec.shape for spec in signature.inputs):
            frames, n_frames = random_frames(signature, count), count  # chunks of a look-ahead
        turn = np.arange(count) % n_frames
        for spec in signature.inputs:
            data = np.ascontiguousarray(frames[spec.name]).reshape(n_frames, -1)
            raw = data.view(np.uint8).reshape(n_frames, spec.nbytes)
            rows[:, spec.offset_bytes : spec.offset_bytes + spec.nbytes] = raw[turn]
        return rows

    def _blocks(self, inputs: Block, output_bytes: int) -> Blocks:
        """Memory with the state before the first step."""
        memory = self._artifact.manifest["memory"]
        blocks = Blocks(
            state=allocate_block(memory["state_bytes"]),
            scratch=allocate_block(memory["scratch_bytes"]),
            inputs=inputs,
            outputs=allocate_block(output_bytes),
        )
        blocks.state[...] = np.frombuffer(self._artifact.container.section("state_init"), np.uint8)
        return blocks

    def _computes_ahead(self) -> bool:
        """Whether a run shares work among its frames, so that they say nothing of a step."""
        isa = self._artifact.kernel.facts.get("isa")
        facts = self._artifact.manifest["target"].get("facts", {}).get("isas") or []
        return any(each.get("ahead") for each in facts if each["section"] == f"{CODE_PREFIX}{isa}")

    def _prepare_native(self) -> tuple[StepFunction, int, StepFunction | None]:
        """The native loop, its length, and one step where the loop is none of steps."""
        signature = self._signature.of_kernel
        size = signature.input_bytes + signature.output_bytes
        most = max(1, _BLOCK_BYTES // max(size, 1))
        packed = self._packed(most).reshape(-1)
        blocks = self._blocks(packed, most * signature.output_bytes)
        room = blocks.outputs
        kernel = self._artifact.kernel

        def bind(steps: int) -> StepFunction:
            size_in, size_out = steps * signature.input_bytes, steps * signature.output_bytes
            run = kernel.bind_run(blocks, packed[:size_in], room[:size_out], steps)
            # Whoever holds the function holds the memory that it works on.
            return _Holding(run, blocks, tells_news=tells_news(kernel))

        steps = 1
        while steps < most and _time_once(bind(steps)) < _BLOCK_NS:
            steps = min(2 * steps, most)
        step = kernel.bind(blocks)
        single = (
            _Holding(step, blocks, tells_news=tells_news(kernel))
            if isinstance(step, StateKeeper) or self._computes_ahead()
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
