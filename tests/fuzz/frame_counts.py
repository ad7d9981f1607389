"""Random models on the number of frames: right at every number of them, or refused for a reason.

    python -m tests.fuzz.frame_counts --count 2000 --native 100

A model that compiles has to compute what ONNX Runtime computes at each of `LENGTHS`. A refusal has
to be necessary: no step with the cells' states as its only memory could give the result. Shown by
ONNX Runtime at several numbers of frames, on the model with other weights in its cells:
with cells that remember nothing, the result is no function of the newest frame alone (so it
depends on older ones, or on how many there were); or with a cell that adds up all that it reads,
the oldest frame matters at some number of frames and not at all at a larger one; or at some number
of frames there is no model at all.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import numpy_helper

from edgelstm.errors import ModelError, ShapeError
from edgelstm_compiler import compile_model
from edgelstm_compiler.onnx_import import import_graph, read_model
from tests.fuzz.frame_graphs import GATES, FrameModel, draw

Array = NDArray[Any]

LENGTHS = (1, 2, 7, 40, 1000)
TOLERANCE = 1e-4
RESOLUTION = 3e-6
"""By what results of one model at two numbers of frames differ at least, if they do."""

EFFECT = 1e-5
"""What a frame does to a result at least, by its size, where it does anything."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a model.

    Args:
        kind: "compiled", "refused", or what is wrong: "wrong numbers", "needless refusal".
        detail: of what is wrong, or the refusal.
    """

    kind: str
    detail: str = ""

    @property
    def is_wrong(self) -> bool:
        """Whether this must not happen."""
        return self.kind not in ("compiled", "refused")


def judge(seed: int, target: str = "reference") -> Verdict:
    """Compile the model of a seed, without the self-check, and compare; or judge the refusal."""
    drawn = draw(seed)
    try:
        artifact = compile_model(drawn.model, target=target, check=False)
    except ModelError as error:
        if is_refusal_necessary(drawn):
            return Verdict("refused", str(error))
        return Verdict("needless refusal", str(error))
    session = _session(drawn.model)
    frames = np.random.default_rng(seed).standard_normal((max(LENGTHS), drawn.features))
    x = frames.astype(np.float32)
    rows = artifact.session().run(x.reshape(len(x), *artifact.signature.inputs[0].shape))
    found = rows if isinstance(rows, dict) else {artifact.signature.outputs[0].name: rows}
    for length in LENGTHS:
        is_empty = length == 1 and has_no_elements(drawn, length)
        expected = None if is_empty else _run(session, drawn.shaped(x[:length]))
        if expected is None:
            continue  # no model at this number of frames
        for spec in artifact.signature.outputs:
            y, wanted = found[spec.name], expected[spec.name]
            if spec.time_axis is None and length <= spec.warm_up:
                continue  # told: there is nothing yet
            actual = y[length - 1 - spec.warm_up] if spec.time_axis is None else y[:length]
            error = _error(actual, wanted)
            if error > TOLERANCE:
                return Verdict("wrong numbers", f"{spec.name} at {length} frames: {error:.3g}")
    return Verdict("compiled")


def is_refusal_necessary(drawn: FrameModel) -> bool:
    """Whether no step function with the cells' states could compute the model."""
    lengths = telling_lengths(drawn.constants)
    rng = np.random.default_rng(1)
    frames = rng.standard_normal((max(lengths), drawn.features)).astype(np.float32)
    if any(has_no_elements(drawn, length) for length in (1, 2, 7)):
        return True  # no model at this number of frames, which a stream passes through
    return needs_more_than_newest(drawn, frames, lengths) or any(
        forgets_a_frame(drawn, frames, lengths, cell) for cell in cells(drawn.model)
    )


def telling_lengths(constants: Sequence[int]) -> set[int]:
    """Numbers of frames around which a comparison with these constants may turn."""
    turns = {1, 2, 7, 40, *constants}
    for a, b in itertools.product(constants, repeat=2):
        turns |= {a * b, a * (b + 1), a + b, abs(a - b)}
    for number in constants:
        turns |= {2 * number, number // 2, number // 3}
    return {turn + by for turn in turns for by in (-1, 0, 1) if turn + by > 0}


def needs_more_than_newest(drawn: FrameModel, frames: Array, lengths: set[int]) -> bool:
    """Whether the model with cells that remember nothing is no function of the newest frame."""
    session = _session(with_memory(drawn.model, None))
    single = [
        _run(session, drawn.shaped(frames[place : place + 1])) for place in range(max(lengths))
    ]
    for length in sorted(lengths):
        whole = _run(session, drawn.shaped(frames[:length]))
        if whole is None:
            return True
        for name, y in whole.items():
            newest = single[length - 1]
            if newest is None or any(item is None for item in single[:length]):
                return True  # ONNX Runtime itself does not run it with one frame
            rows = [item[name].reshape(-1) for item in single[:length] if item is not None]
            is_timed = length > 1 and y.size == length * newest[name].size
            expected = np.concatenate(rows) if is_timed else newest[name]
            if _error(y, expected) > RESOLUTION:
                return True
    return False


def forgets_a_frame(drawn: FrameModel, frames: Array, lengths: set[int], cell: str) -> bool:
    """Whether the oldest frame stops to matter, although this cell adds up all that it reads."""
    session = _session(with_memory(drawn.model, cell))
    other = frames.copy()
    other[0] += 1
    effects: dict[str, list[tuple[float, float]]] = {}
    for length in sorted(lengths):
        a, b = (_run(session, drawn.shaped(x[:length])) for x in (frames, other))
        if a is None or b is None:
            return True
        for name in a:
            size = a[name].size // (length if a[name].size % length == 0 else 1) or 1
            newest = [y[name].reshape(-1)[-size:].astype(np.float64) for y in (a, b)]
            effect = float(np.max(np.abs(newest[0] - newest[1])))
            effects.setdefault(name, []).append((effect, float(np.max(np.abs(newest)))))
    # Zero while the result is no larger, so that rounding has not swallowed it.
    return any(
        effect > EFFECT * size and later == 0 and later_size <= 2 * size
        for found in effects.values()
        for (effect, size), (later, later_size) in itertools.combinations(found, 2)
    )


def cells(model: onnx.ModelProto) -> list[str]:
    """The names of the cells."""
    return [node.name for node in model.graph.node if node.op_type in GATES]


def with_memory(model: onnx.ModelProto, keeps: str | None) -> onnx.ModelProto:
    """The model with cells that see their newest input alone; the one of this name adds up all."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    stored = {tensor.name: tensor for tensor in changed.graph.initializer}
    for node in changed.graph.node:
        if node.op_type not in GATES:
            continue
        gates = GATES[node.op_type]
        w, r, b = (numpy_helper.to_array(stored[node.input[place]]) for place in (1, 2, 3))
        hidden = r.shape[2]
        # Any cell as tanh(W x + R h): R is zero, or one with weights too small to saturate.
        is_kept = node.name == keeps
        node.op_type = "RNN"
        w = w[:, -hidden:] * (1e-3 if is_kept else 1)
        r = np.eye(hidden, dtype=np.float32)[None] * is_kept
        b = np.concatenate([b[:, (gates - 1) * hidden : gates * hidden], b[:, -hidden:]], 1)
        for place, data in ((1, w), (2, r), (3, b * (not is_kept))):
            name = f"{node.name}.{place}"
            changed.graph.initializer.append(numpy_helper.from_array(data.astype(np.float32), name))
            node.input[place] = name
    return changed


def has_no_elements(drawn: FrameModel, length: int) -> bool:
    """Whether some tensor is empty: ONNX Runtime aborts the process where a cell reads one."""
    try:
        shape = drawn.shaped(np.zeros((length, drawn.features))).shape
        import_graph(read_model(drawn.model), {"x": shape})
    except ShapeError as error:
        return "no elements" in str(error) or "without elements" in str(error)
    except ModelError:
        return False
    return False


def _session(model: onnx.ModelProto) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def _run(session: Any, x: Array) -> dict[str, Array] | None:
    names = [output.name for output in session.get_outputs()]
    try:
        found = dict(zip(names, session.run(names, {"x": x}), strict=True))
    except Exception:
        return None
    return found if all(y.size for y in found.values()) else None


def _error(a: Array, b: Array) -> float:
    if a.size != b.size:
        return float("inf")
    first, second = a.reshape(-1).astype(np.float64), b.reshape(-1).astype(np.float64)
    return float(np.max(np.abs(first - second) / np.maximum(1, np.abs(second)), initial=0.0))


def main(arguments: Sequence[str] | None = None) -> int:
    """Judge so many models; 1 where one is wrong or fewer than 40 of 100 compile."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--native", type=int, default=100, help="so many for the host target")
    options = parser.parse_args(arguments)
    kinds: Counter[str] = Counter()
    for place, seed in enumerate(range(options.first, options.first + options.count)):
        verdict = judge(seed, "host" if place < options.native else "reference")
        kinds[verdict.kind] += 1
        if verdict.is_wrong:
            print(f"seed {seed}: {verdict.kind}: {verdict.detail}", flush=True)
    print(", ".join(f"{kinds[kind]} {kind}" for kind in sorted(kinds)))
    wrong = options.count - kinds["compiled"] - kinds["refused"]
    return int(wrong > 0 or kinds["compiled"] < 0.4 * options.count)


if __name__ == "__main__":
    sys.exit(main())
