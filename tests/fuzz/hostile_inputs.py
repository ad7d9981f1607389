"""Hostile samples on every engine: all refuse the same ones, and leave the state alone.

`python -m tests.fuzz.hostile_inputs 1000` feeds that many frames and blocks to the reference
engine, every level of this processor and an emulated ARM.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from edgelstm.dtypes import DType
from edgelstm.errors import NonFiniteStateError, StreamError
from edgelstm.sessions import Session
from edgelstm.signature import Signature, TensorSpec
from edgelstm_compiler.ir.activations import RELU, SIGMOID, TANH, Activation, Fn
from edgelstm_compiler.ir.cells import GRU, LSTM, RNN
from edgelstm_compiler.ir.graph import StepGraph
from edgelstm_compiler.ir.ops import Cast, Direction, Gather
from edgelstm_compiler.streaming.convert import to_steps
from tests.fuzz.artifacts import on_every_engine
from tests.graphs import GraphBuilder

HIDDEN, FEATURES, FRAMES = 5, 3, 4
_CELLS: dict[str, Callable[..., Any]] = {
    "lstm": lambda **k: LSTM(activations=(SIGMOID, TANH, TANH), **k),
    "gru": lambda **k: GRU(activations=(SIGMOID, TANH), **k),
    "relu rnn": lambda **k: RNN(activations=(RELU,), **k),
    "relu lstm": lambda **k: LSTM(activations=(SIGMOID, RELU, RELU), **k),
    "softplus gru": lambda **k: GRU(activations=(SIGMOID, Activation(Fn.SOFTPLUS)), **k),
}


def models() -> Iterator[tuple[str, StepGraph]]:
    """Bounded cells, cells that overflow, and an embedding."""
    for name, make in _CELLS.items():
        b = GraphBuilder(seed=len(name))
        x = b.input("x", FRAMES, 1, FEATURES)
        yield name, to_steps(_layer(b, make, x))
    for dtype in (np.int64, np.int32, np.float32):
        b = GraphBuilder(seed=9)
        ids = b.input("ids", FRAMES, 1, dtype=dtype)
        table = b.random(7, FEATURES, scale=1.0)
        (index,) = b.node(Cast(DType.I64), ids)
        graph = _layer(b, _CELLS["lstm"], *b.node(Gather(0), table, index))
        yield f"embedding of {np.dtype(dtype).name}", to_steps(graph)


def _layer(b: GraphBuilder, make: Callable[..., Any], x: Any) -> Any:
    op = make(hidden=HIDDEN, direction=Direction.FORWARD, clip=None)
    w = b.random(1, op.gates * HIDDEN, FEATURES, scale=2.0)
    r = b.random(1, op.gates * HIDDEN, HIDDEN, scale=2.0)
    y, *_ = b.node(op, x, w, r)
    return b.graph(y=y)


def hostile(spec: TensorSpec, rng: np.random.Generator, count: int) -> np.ndarray:
    """Frames of which some hold the worst that the type has."""
    if spec.dtype.is_float:
        info = np.finfo(spec.dtype.numpy.name)
        limit = np.asarray(min(spec.limit, info.max), spec.dtype.numpy)
        with np.errstate(over="ignore"):
            beyond = np.nextafter(limit, np.asarray(np.inf, limit.dtype))
        bad = [np.nan, np.inf, -np.inf, info.max, info.min, info.tiny, limit, -limit, beyond]
        bad += [-beyond, 1e30, -1e30, 1e34, 1e20, -0.0]
        values = rng.standard_normal((count, *spec.shape))
        if spec.ranges:
            _, low, high = spec.ranges[0]
            ends = np.array([low, high], spec.dtype.numpy)
            bad += [*ends, np.nextafter(ends[0], -np.inf), np.nextafter(ends[1], np.inf), 6.5]
    else:
        info = np.iinfo(spec.dtype.numpy.name)
        bad = [info.min, info.max, -1, -7, -8, 6, 7]
        bad += [2**31, -(2**31) - 1] if spec.dtype is DType.I64 else []
        values = rng.integers(0, 7, (count, *spec.shape))
    frames = values.astype(spec.dtype.numpy)
    flat = frames.reshape(-1)
    for place in rng.choice(flat.size, min(flat.size, int(rng.integers(0, 3))), replace=False):
        flat[place] = bad[int(rng.integers(len(bad)))]
    return frames


def outcome(session: Session, frames: np.ndarray, *, singly: bool) -> tuple[str, int]:
    """What became of the frames: the error's name, and how many were fed."""
    before = bytes(session.snapshot())
    fed = 0
    try:
        if not singly:
            session.run(frames)
            return "", len(frames)
        for frame in frames:
            before = bytes(session.snapshot())
            session.step(frame)
            fed += 1
    except StreamError as error:
        done = error.frames_done if isinstance(error, NonFiniteStateError) else 0
        if singly or done == 0:
            assert bytes(session.snapshot()) == before, "a refused sample moved the state"
        return type(error).__name__, fed + done
    return "", fed


def check(count: int, seed: int = 0) -> Counter[str]:
    """Feed `count` inputs; how often each outcome came. Asserts that all engines agree."""
    rng = np.random.default_rng(seed)
    found: Counter[str] = Counter()
    chosen = list(models())
    each = -(-count // len(chosen))
    for name, graph in chosen:
        sessions = {engine: a.session() for engine, a in on_every_engine(graph)}
        signature: Signature = next(iter(sessions.values())).signature
        (spec,) = signature.inputs
        for number in range(each):
            frames = hostile(spec, rng, int(rng.integers(1, 5)))
            singly = bool(rng.integers(2))
            outcomes = {e: outcome(s, frames, singly=singly) for e, s in sessions.items()}
            assert len(set(outcomes.values())) == 1, f"{name} {number}: {outcomes}: {frames!r}"
            found[outcomes["reference"][0] or "taken"] += 1
            if rng.integers(4) == 0:
                for session in sessions.values():
                    session.reset()
    return found


def main(count: int) -> None:
    """Print what became of the inputs."""
    found = check(count)
    print(f"{found.total()} inputs, all engines agree: {dict(sorted(found.items()))}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
