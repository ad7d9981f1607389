"""Calls beside ONNX Runtime: the corpus' networks, convolutions, and cells written out in ONNX.

Run by hand: `python -m tests.bench.calls [--rounds N] [--only PART] [--json FILE]`. Everything is
timed in turn in every round, from Python, one thread each; minima over the rounds. On a shared
machine believe the ratios.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from edgelstm_compiler import compile_model
from tests.bench.streams import minima, noise
from tests.conftest import CORPUS
from tests.written_cells import CELLS, operator, written
from tests.written_convolutions import NETWORKS

OPERATOR_GOAL = 1.3
"""Most times the operator's time that an LSTM written out may take."""

FEATURES, HIDDEN, FRAMES = 9, 64, 50


def peer_of(model: bytes) -> onnxruntime.InferenceSession:
    """ONNX Runtime with one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options)


def time_call(
    name: str, model: bytes | Path, inputs: dict[str, NDArray[Any]], rounds: int
) -> dict[str, Any]:
    """One call, of ours and of ONNX Runtime; us."""
    data = model.read_bytes() if isinstance(model, Path) else model
    fixed = {key: x for key, x in inputs.items() if x.dtype.kind in "iu" and x.ndim == 0}
    shapes = {key: x.shape for key, x in inputs.items() if key not in fixed}
    artifact = compile_model(data, mode="call", shapes=shapes, constants=fixed, check=False)
    session, peer = artifact.session(), peer_of(data)
    names = [item.name for item in artifact.signature.inputs]
    given = {key: inputs[key] for key in names}
    best = minima(
        {"call": lambda: session.call(given), "peer": lambda: peer.run(None, inputs)}, rounds
    )
    ours, theirs = (1e6 * best[key] for key in ("call", "peer"))
    weights = artifact.manifest["memory"]["weights_bytes"]
    print(
        f"{name:34} {ours:10.1f} us, ONNX Runtime {theirs:10.1f} us: x {theirs / ours:6.2f}"
        f"   {weights / 1024:8.1f} KB",
        flush=True,
    )
    return {"row": name, "us": ours, "peer_us": theirs, "ratio": theirs / ours, "bytes": weights}


def corpus_calls() -> Iterator[tuple[str, Path, dict[str, NDArray[Any]]]]:
    """Every network with a call's inputs."""
    for folder in sorted((*CORPUS.glob("models/*"), *CORPUS.glob("exports/*"))):
        if not (folder / "ref.npz").is_file():
            continue
        with np.load(folder / "ref.npz") as data:
            arrays = {key: data[key] for key in data.files}
        inputs = {}
        # A call of a model with states is one step of it, with the first of the stored frames.
        for prefix in ("in_", "init_", "const_", "step_in_"):
            for key, x in arrays.items():
                if key.startswith(prefix):
                    inputs[key.removeprefix(prefix)] = x[0] if prefix == "step_in_" else x
        if inputs:
            yield folder.name, folder / "model.onnx", inputs


def time_cells(rounds: int) -> list[dict[str, Any]]:
    """LSTMs written out beside the operator, other cells beside ONNX Runtime alone."""
    x = {"X": noise(FRAMES, 1, FEATURES)}
    rows = []
    whole = compile_model(operator(FEATURES, HIDDEN, FRAMES), mode="call", check=False).session()
    for form in ("Scan", "Loop", "unrolled"):
        made = written(CELLS["LSTM"], form, FEATURES, HIDDEN, FRAMES)
        session = compile_model(made, mode="call", check=False).session()
        best = minima(
            {
                "operator": lambda: whole.call(x["X"]),
                "written": lambda session=session: session.call(x["X"]),
            },
            rounds,
        )
        share = best["written"] / best["operator"]
        print(f"LSTM as {form:8}: x {share:.2f} of the operator's time (goal {OPERATOR_GOAL})")
        rows.append({"row": f"LSTM as {form}", "share": share, "goal": OPERATOR_GOAL})
    for name in CELLS:
        made = written(CELLS[name], "Scan", FEATURES, HIDDEN, FRAMES)
        row = time_call(name, made.SerializeToString(), x, rounds)
        print(
            f"{'':34} {1e3 * row['us'] / FRAMES / row['bytes']:10.3f} ns a byte of weights a step"
        )
        rows.append(row)
    return rows


def time_convolutions(rounds: int, part: str) -> list[dict[str, Any]]:
    """Small convolutional networks."""
    rows = []
    for name, make in NETWORKS.items():
        if part in name:
            layers = make()
            x = {"X": noise(*layers.shape)}
            rows.append(time_call(name, layers.model().SerializeToString(), x, rounds))
    return rows


def main() -> int:
    """Print the table; the exit code is 1 if a promise is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--only", choices=("corpus", "cells", "convolutions"))
    parser.add_argument("--name", help="part of the names of networks")
    parser.add_argument("--json", type=Path, help="write all numbers here")
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    missed = []
    if arguments.only in (None, "convolutions"):
        rows += time_convolutions(arguments.rounds, arguments.name or "")
        missed += [row["row"] for row in rows if row["ratio"] < 1]
    if arguments.only in (None, "cells"):
        cells = time_cells(arguments.rounds)
        missed += [row["row"] for row in cells if row.get("share", 0) > OPERATOR_GOAL]
        rows += cells
    if arguments.only in (None, "corpus"):
        for name, path, inputs in corpus_calls():
            if (arguments.name or "") not in name:
                continue
            if not onnx.load(path, load_external_data=False).graph.node:
                continue
            try:
                row = time_call(name, path, inputs, arguments.rounds)
            except Exception as error:
                print(f"{name:34} {str(error).splitlines()[0][:90]}")
                continue
            rows.append(row)
            if row["ratio"] < 1:
                missed.append(name)
    print("slower than promised:", ", ".join(missed) or "none")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    return int(bool(missed))


if __name__ == "__main__":
    raise SystemExit(main())
