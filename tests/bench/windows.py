"""Windows from Python beside computing each of them anew, and beside ONNX Runtime, in one run.

Run by hand: `python -m tests.bench.windows [--rounds N] [--json FILE]`. Everything in a row is
timed in turn in every round, in processor time, minima over the rounds; ONNX Runtime has one
thread. The same is compiled once more without shared input products (`apart`).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import onnxruntime

from edgelstm.artifact import Artifact
from edgelstm_compiler import compile_model
from edgelstm_compiler.streaming.modes.window import Window
from tests.models import lstm_model

FRAMES, FEATURES, HIDDEN = 4000, 9, 64

ROWS: tuple[tuple[int, int, float, float], ...] = ((200, 10, 1.4, 3.0), (50, 1, 1.6, 3.5))
"""Window, hop, and how many times less `run` is to take than native calls and ONNX Runtime."""


def minima(runs: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The shortest processor time of each, in us a frame; one after another in every round."""
    best = dict.fromkeys(runs, float("inf"))
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.process_time()
            run()
            best[name] = min(best[name], (time.process_time() - start) / FRAMES * 1e6)
    return best


def time_row(row: tuple[int, int, float, float], rounds: int) -> dict[str, Any]:
    """One window and hop."""
    frames, hop, call_goal, peer_goal = row
    model = lstm_model(features=FEATURES, hidden=HIDDEN, steps=frames, outputs=("Y_h",))
    chosen = {"streams": "yes"}

    def windows() -> Artifact:
        return compile_model(model, hop=hop, check=False, target_options=chosen)

    shared = windows().session()
    with patch.object(Window, "shares_frames", lambda *_: False):
        apart = windows().session()
    call = compile_model(model, mode="call", check=False).session()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    peer = onnxruntime.InferenceSession(model.SerializeToString(), options)
    x = np.random.default_rng(0).standard_normal((FRAMES, FEATURES)).astype(np.float32)
    blocks = [x[start : start + frames, None] for start in range(0, FRAMES - frames + 1, hop)]
    wanted = np.stack([peer.run(None, {"X": block})[0] for block in blocks])
    found = shared.run(x).reshape(wanted.shape)
    np.testing.assert_allclose(found, wanted, atol=2e-6)

    def run(session: Any) -> None:
        session.reset()
        session.run(x)

    def step(session: Any) -> None:
        session.reset()
        for frame in x:
            session.step(frame)

    runs: dict[str, Callable[[], object]] = {
        "run": lambda: run(shared),
        "run_apart": lambda: run(apart),
        "steps": lambda: step(shared),
        "steps_apart": lambda: step(apart),
        "calls": lambda: [call.call(block) for block in blocks],
        "onnxruntime": lambda: [peer.run(None, {"X": block}) for block in blocks],
    }
    best = minima(runs, rounds)
    return {
        "window": frames,
        "hop": hop,
        **{name: round(us, 2) for name, us in best.items()},
        "calls_over_run": round(best["calls"] / best["run"], 3),
        "calls_goal": call_goal,
        "onnxruntime_over_run": round(best["onnxruntime"] / best["run"], 3),
        "onnxruntime_goal": peer_goal,
        "gain_by_sharing": round(best["run_apart"] / best["run"], 3),
    }


def main() -> None:
    """All rows, one JSON object each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    rows = [time_row(row, given.rounds) for row in ROWS]
    for row in rows:
        print(json.dumps(row))
    if given.json is not None:
        given.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
