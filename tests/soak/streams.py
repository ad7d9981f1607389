"""Five million steps on real IMU recordings, with everything that happens to a stream: `make soak`.

A model that looks ahead, is slower in one output and has an any-time one is fed real walks in
random chunks, by `step` and by `run`. Meanwhile streams end and begin anew, samples are NaN and are
refused, samples are missing, and sessions are replaced by others that go on from a snapshot. Every
stretch between two beginnings is compared row by row with ONNX Runtime on the samples that were
taken: none is lost, none counts twice. One stretch in each round has no beginning in it, so that
drift would show.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgelstm.artifact import Artifact
from edgelstm.errors import NonFiniteSampleError
from edgelstm.sessions import Session
from edgelstm_compiler.demo.recordings import load_recordings
from edgelstm_compiler.driver import compile_model

Array = NDArray[Any]

STEPS = 5_000_000
LONG = 200_000
"""Steps of the stretch of a round that nothing ends."""

LIMIT = 2e-5
"""Of the error of any row of any output."""

MEMORY_SLACK = 24 << 20
HIDDEN = 16
_CORPUS = Path(__file__).parents[3] / "shared" / "corpus" / "data" / "imu_sp_sw_har"


def soak_model(channels: int) -> onnx.ModelProto:
    """A centred convolution, an LSTM behind it; a row a frame, one in three, and the last."""
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> Array:
        scale = 1 / np.sqrt(np.prod(shape[1:])) if len(shape) > 1 else 0.1
        return (scale * rng.standard_normal(shape)).astype(np.float32)

    node = helper.make_node
    stored = {
        "w": normal(8, channels, 5),
        "W": normal(1, 4 * HIDDEN, 8),
        "R": normal(1, 4 * HIDDEN, HIDDEN),
        "B": normal(1, 8 * HIDDEN),
        "v": normal(4, HIDDEN, 4),
        "one": np.array([1]),
    }
    nodes = [
        node("Conv", ["x", "w"], ["c"], "conv", pads=[2, 2]),
        node("Tanh", ["c"], ["t"], "tanh"),
        node("Transpose", ["t"], ["s"], "frames", perm=[2, 0, 1]),
        node("LSTM", ["s", "W", "R", "B"], ["Y", "last"], "lstm", hidden_size=HIDDEN),
        node("Squeeze", ["Y", "one"], ["y3"], "squeeze"),
        node("Transpose", ["y3"], ["y"], "channels", perm=[1, 2, 0]),
        node("Conv", ["y", "v"], ["slow"], "slow", pads=[3, 0], strides=[3]),
    ]
    graph = helper.make_graph(
        nodes,
        "soak",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, channels, "T"])],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ("y", "slow", "last")],
        [numpy_helper.from_array(data, name) for name, data in stored.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    made.ir_version = 10
    return made


@dataclass
class Soak:
    """A session, what it was fed since its stream began, and what it said.

    Args:
        artifact: of `soak_model`.
        oracle: ONNX Runtime on the same model.
        rng: what happens next.
    """

    artifact: Artifact
    oracle: onnxruntime.InferenceSession
    rng: np.random.Generator
    session: Session = field(init=False)
    fed: list[Array] = field(default_factory=list)
    rows: dict[str, list[Array]] = field(default_factory=dict)
    steps: int = 0
    worst: float = 0.0
    did: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.session = self.artifact.session()
        self._begin()

    def _begin(self) -> None:
        self.fed = []
        self.rows = {spec.name: [] for spec in self.artifact.signature.outputs}

    def feed(self, frames: Array) -> None:
        """Frames in chunks, some of them one by one."""
        at = 0
        while at < len(frames):
            count = int(self.rng.choice((1, 1, 7, 64, 500, 3000)))
            block = frames[at : at + count]
            if count == 1:
                self._keep(
                    {k: v[None] for k, v in self.session.step(block[0]).items() if v is not None}
                )
            else:
                self._keep(self.session.run(block))
            at += len(block)
        self.fed.append(frames)
        self.steps += len(frames)

    def _keep(self, result: Any) -> None:
        for name, rows in result.items():
            self.rows[name].append(np.array(rows))

    def offer_bad(self, frame: Array) -> None:
        """A sample that is not finite, alone and at the end of a block: nothing of it is fed."""
        bad = np.stack([frame, frame])
        bad[1, self.rng.integers(bad.shape[1])] = self.rng.choice((np.nan, np.inf))
        before = bytes(self.session.snapshot())
        for feed in (lambda: self.session.step(bad[1]), lambda: self.session.run(bad)):
            try:
                feed()
            except NonFiniteSampleError:
                self.did["refused samples"] += 1
            else:
                raise AssertionError("a sample that is not finite was taken")
        assert bytes(self.session.snapshot()) == before, "a refused sample changed the state"

    def move(self) -> None:
        """Another session goes on from a snapshot, after it has been elsewhere."""
        saved = bytes(self.session.snapshot())
        other = self.artifact.session()
        other.run(self.fed[-1][:50] if self.fed else np.zeros((5, self.channels), np.float32))
        other.restore(saved)
        self.session.close()
        self.session = other
        self.did["snapshots"] += 1

    @property
    def channels(self) -> int:
        """Of a sample."""
        return int(self.artifact.signature.inputs[0].shape[0])

    def end(self) -> None:
        """The recording is over: all rows are what ONNX Runtime says of the samples taken."""
        self._keep(self.session.finish())
        x = np.concatenate(self.fed)
        wanted = self.oracle.run(None, {"x": np.ascontiguousarray(x.T[None])})
        for spec, whole in zip(self.artifact.signature.outputs, wanted, strict=True):
            found = np.concatenate(self.rows[spec.name])
            if spec.time_axis is None:
                assert len(found) == len(x) + spec.tail - spec.warm_up, "rows lost or said twice"
                found, expected = found[-1], whole.reshape(spec.shape)
            else:
                expected = np.moveaxis(whole, spec.time_axis, 0).reshape(-1, *spec.shape)
                assert found.shape == expected.shape, "rows lost or said twice"
            error = float(np.abs(found - expected).max())
            self.worst = max(self.worst, error)
            assert error <= LIMIT, f"{spec.name}: {error:.3g} behind {len(x)} samples"
        self.session.reset()
        self.did["stretches"] += 1
        self._begin()


def walks(recordings: list[Array], rng: np.random.Generator, count: int) -> Iterator[Array]:
    """So many samples, recording after recording; some are missing."""
    left = count
    while left:
        frames = recordings[rng.integers(len(recordings))]
        if rng.random() < 0.3:  # a gap: samples that never came
            start = int(rng.integers(len(frames) // 2))
            frames = np.delete(frames, slice(start, start + int(rng.integers(1, 60))), axis=0)
        frames = frames[:left]
        left -= len(frames)
        yield frames


def resident_bytes() -> int:
    """Memory of this process."""
    text = Path("/proc/self/statm").read_text(encoding="ascii")
    return int(text.split()[1]) * 4096


def soak(
    steps: int, recordings: list[Array], *, target: str = "host", long: int = LONG, seed: int = 1
) -> Soak:
    """See the module.

    Returns:
        What was done.
    """
    made = soak_model(recordings[0].shape[1])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    oracle = onnxruntime.InferenceSession(
        made.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    found = Soak(compile_model(made, target=target), oracle, np.random.default_rng(seed))
    rng, memory = found.rng, []
    while found.steps < steps:
        for frames in walks(recordings, rng, min(long, steps - found.steps)):
            found.feed(frames)
        found.end()
        until = min(found.steps + long, steps)
        while found.steps < until:
            for frames in walks(
                recordings, rng, min(int(rng.integers(1, 9000)), until - found.steps)
            ):
                found.feed(frames)
                if rng.random() < 0.5:
                    found.offer_bad(frames[0])
                if rng.random() < 0.5:
                    found.move()
            found.end()
        memory.append(resident_bytes())
    found.session.close()
    half = max(len(memory) // 2, 1)
    if len(memory) > 4:
        grown = max(memory[half:]) - max(memory[1:half])
        assert grown < MEMORY_SLACK, f"memory grew by {grown >> 20} MB"
    found.did["memory MB first half"] = max(memory[:half]) >> 20
    found.did["memory MB second half"] = max(memory[half:] or memory) >> 20
    return found


def main() -> None:
    """On the recordings of the corpus."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--target", default="host")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if not _CORPUS.is_dir():
        sys.exit(f"no recordings: {_CORPUS}")
    recordings = [each.samples for each in load_recordings(_CORPUS)]
    started = time.monotonic()
    done = soak(options.steps, recordings, target=options.target, seed=options.seed)
    print(
        f"{done.steps:,} steps in {time.monotonic() - started:.0f} s on {len(recordings)} "
        f"recordings: largest error {done.worst:.2g}; "
        + ", ".join(f"{count:,} {what}" for what, count in done.did.items())
    )


if __name__ == "__main__":
    main()
