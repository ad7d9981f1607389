"""Real models with recordings to calibrate them and others to measure them on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm_compiler.binding import bind_call, bind_stream
from edgelstm_compiler.demo import MODEL_PATH
from edgelstm_compiler.demo.recordings import load_recordings
from edgelstm_compiler.driver import CompileOptions, bind, to_step_graph
from edgelstm_compiler.ir.graph import StepGraph
from edgelstm_compiler.onnx_import.read import read_model
from edgelstm_compiler.passes.context import PassContext
from edgelstm_compiler.quant.replay import Replay

Array = NDArray[Any]


@dataclass(frozen=True)
class RealModel:
    """A model and its data.

    Args:
        path: of the ONNX file.
        graph: its float step graph.
        columns: values of the output per decision.
        decide: the decisions of outputs (n, columns).
        seen: recordings to calibrate with.
        unseen: others to measure on.
    """

    path: Path
    graph: StepGraph
    columns: int
    decide: Callable[[Array], Array]
    seen: list[dict[str, Array]]
    unseen: list[dict[str, Array]]

    def outputs(self, graph: StepGraph) -> Array:
        """Outputs of the unseen recordings through a graph of this model, (n, columns)."""
        replay, name = Replay(graph), self.graph.outputs[0].name
        rows = [replay.run(recording)[name].reshape(-1, self.columns) for recording in self.unseen]
        return np.concatenate(rows)


def demo(corpus: Path, stride: int = 1) -> RealModel:
    """The phases of a timed-up-and-go test: six people seen, two unseen."""
    recordings = load_recordings(corpus / "data" / "imu_sp_sw_har")
    held_out = ("s02", "s09")
    seen = [{"imu": r.samples} for r in recordings if r.subject not in held_out]
    unseen = [{"imu": r.samples} for r in recordings if r.subject in held_out]
    graph = _graph(MODEL_PATH, "stream", {})
    return RealModel(MODEL_PATH, graph, 5, _largest, seen[:: 2 * stride], unseen[::stride])


def pose(corpus: Path) -> RealModel:
    """Body poses: one half of the real sequences each."""
    path = corpus / "models" / "pose_gru" / "model.onnx"
    folder = corpus / "data" / "pose_keypoints_yhc" / "output" / "data"
    sequences = np.load(folder / "keypoints_sequences.npy")
    order = np.random.default_rng(0).permutation(len(sequences))
    halves = [[{"input": sequences[i]} for i in half] for half in (order[:46], order[46:])]
    return RealModel(path, _graph(path, "stream", {}), 3, _largest, halves[0], halves[1])


def turbofan(corpus: Path) -> RealModel:
    """Remaining life of engines, five real windows: variations of three seen, of two unseen."""
    folder = corpus / "models" / "turbofan_lstm"
    reference = np.load(folder / "ref.npz")
    windows = [*reference["in_input_layer"], *reference["b4_in_input_layer"]]
    rng = np.random.default_rng(0)

    def varied(window: Array) -> Array:
        gain, offset = rng.normal(1, 0.1, (1, 17)), rng.normal(0, 0.05, (1, 17))
        noise = rng.normal(0, 0.02, window.shape)
        return np.asarray(np.clip(window * gain + offset + noise, 0, 1), np.float32)

    seen, unseen = (
        [{"input_layer": x} for w in part for x in [w, *(varied(w) for _ in range(8))]]
        for part in (windows[:3], windows[3:])
    )
    path = folder / "model.onnx"
    return RealModel(path, _graph(path, "stream", {}), 1, np.rint, seen, unseen)


def watch(corpus: Path) -> RealModel:
    """Heart beats in an ECG, two bidirectional layers in call mode: one call seen, two unseen."""
    folder = corpus / "models" / "apple_watch_lstm"
    path, name = folder / "model.onnx", "bidirectional_input"
    reference = np.load(folder / "ref.npz")
    pair = reference[f"b2_in_{name}"]
    graph = _graph(path, "call", {name: (1, 1000, 1)})
    unseen = [{name: reference[f"in_{name}"]}, {name: pair[1:]}]
    return RealModel(path, graph, 1, lambda y: y > 0.5, [{name: pair[:1]}], unseen)


def stepped(corpus: Path, name: str) -> RealModel:
    """A model with states as inputs and outputs, on its recorded steps: seen and unseen alike."""
    folder = corpus / "models" / name
    with np.load(folder / "ref.npz") as data:
        frames = {
            key.removeprefix("step_in_"): data[key] for key in data.files if "step_in_" in key
        }
    path = folder / "model.onnx"
    options = CompileOptions(shapes={key: x.shape[1:] for key, x in frames.items()})
    graph = to_step_graph(bind(read_model(path), options), options, PassContext())
    columns = graph.outputs[0].value.type.shape[-1]
    return RealModel(path, graph, columns, lambda y: y > 0.5, [frames], [frames])


def _largest(outputs: Array) -> Array:
    return np.asarray(outputs.argmax(axis=-1))


def _graph(path: Path, mode: str, shapes: Mapping[str, Sequence[int]]) -> StepGraph:
    model = read_model(path)
    binding = (bind_stream if mode == "stream" else bind_call)(model, shapes)
    options = CompileOptions(mode=mode)  # type: ignore[arg-type]
    return to_step_graph(binding, options, PassContext())
