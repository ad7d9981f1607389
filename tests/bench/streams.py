"""Many streams at once: what `artifact.session(streams=N)` and batches of a call gain, in one run.

Run by hand: `python -m tests.bench.streams [--rounds N] [--seconds S] [--json FILE]`. Everything
in a row is timed in turn in every round, minima over the rounds; ONNX Runtime has one thread. On a
shared machine believe the ratios, and those of threads and of the batcher only when it is idle.

Batches are compared with what the processor does at most (`peak.py`), too. A goal against ONNX
Runtime that is beyond it cannot be reached by anybody on this processor: it is dropped, and 85 % of
the limit is to be reached instead.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from edgelstm.artifact import Artifact
from edgelstm.batcher import Batcher
from edgelstm.errors import OverrunError
from edgelstm_compiler import compile_model
from tests.bench.peak import least_seconds, registers_per_second
from tests.models import stacked_model

STEPS = 50

BATCHES: tuple[tuple[str, str, int, int, int, float], ...] = (
    ("LSTM (9,64)", "LSTM", 9, 64, 64, 1.4),
    ("LSTM (9,128)", "LSTM", 9, 128, 64, 1.4),
    ("LSTM (64,256)", "LSTM", 64, 256, 32, 1.15),
    ("GRU (9,64)", "GRU", 9, 64, 64, 1.3),
)
"""Name, operator, inputs, units, batch, and how many times as fast as ONNX Runtime."""

OF_LIMIT_GOAL = 0.85
INT8_GOAL, SESSIONS_GOAL, THREADS_GOAL = 2.0, 3.5, 1.8
STREAMS, RATE_HZ, P99_GOAL_S = 1000, 100, 0.010

Runs = Mapping[str, Callable[[], object]]


def minima(
    runs: Runs, rounds: int, clock: Callable[[], float] = time.process_time
) -> dict[str, float]:
    """The shortest time of each, in seconds; one after another in every round.

    Processor time, which other work disturbs less, where one thread does everything.
    """
    best = dict.fromkeys(runs, float("inf"))
    for _ in range(rounds):
        for name, run in runs.items():
            start = clock()
            run()
            best[name] = min(best[name], clock() - start)
    return best


def noise(*shape: int) -> NDArray[np.float32]:
    """Seeded frames."""
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def compiled(op: str, features: int, hidden: int, folder: Path, **options: Any) -> Artifact:
    """A layer of one stream, with code for many."""
    path = folder / "stream.onnx"
    onnx.save(stacked_model(ops=(op,), features=features, hidden=hidden, steps=None), path)
    wanted = {"streams": "yes"}
    return compile_model(path, target_options=wanted, check=False, **options)


def time_batch(
    row: tuple[str, str, int, int, int, float], rounds: int, folder: Path, peak: tuple[float, int]
) -> Any:
    """A call with a batch, and as many streams, beside ONNX Runtime; us a cell step."""
    name, op, features, hidden, batch, goal = row
    path = folder / "batch.onnx"
    fields = {"ops": (op,), "features": features, "hidden": hidden, "steps": STEPS}
    onnx.save(stacked_model(batch=batch, **fields), path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    peer = onnxruntime.InferenceSession(path.read_bytes(), options)
    call = compile_model(path, mode="call", check=False).session()
    streams = compiled(op, features, hidden, folder).session(streams=batch)
    x = noise(STEPS, batch, features)
    (given,) = peer.get_inputs()
    best = minima(
        {
            "peer": lambda: peer.run(None, {given.name: x}),
            "call": lambda: call.call(x),
            "streams": lambda: streams.run(x),
        },
        rounds,
    )
    cell = {key: 1e6 * value / STEPS / batch for key, value in best.items()}
    ratios = {key: cell["peer"] / cell[key] for key in ("call", "streams")}
    least = 1e6 * least_seconds(op, features, hidden, peak)
    limit, share = cell["peer"] / least, least / cell["call"]
    aim = f"goal {goal}"
    if goal > limit:
        aim = f"goal {goal} dropped: beyond the limit; {OF_LIMIT_GOAL} of that"
    print(
        f"{name:14} batch {batch}: call {cell['call']:.3f}, streams {cell['streams']:.3f}, ONNX "
        f"Runtime {cell['peer']:.3f}, limit {least:.3f} us: x {ratios['call']:.2f}, "
        f"{ratios['streams']:.2f}, limit {limit:.2f} ({aim}); {share:.2f} of the limit"
    )
    reached = {"ratio": ratios["call"], "goal": goal}
    if goal > limit:
        reached = {"ratio": share, "goal": OF_LIMIT_GOAL}
    return {"row": name, "us": cell, "least_us": least, "of_limit": share, **reached}


def time_schemes(features: int, hidden: int, rounds: int, folder: Path) -> Any:
    """64 streams in fp32, int8 and int8-full; us a cell step."""
    recording = noise(200, features)
    artifacts = {"fp32": compiled("LSTM", features, hidden, folder)}
    for scheme in ("int8", "int8-full"):
        artifacts[scheme] = compiled(
            "LSTM", features, hidden, folder, quantize=scheme, calibration=[recording]
        )
    x = noise(STEPS, 64, features)
    sets = {key: artifact.session(streams=64) for key, artifact in artifacts.items()}
    runs: Runs = {key: lambda streams=streams: streams.run(x) for key, streams in sets.items()}
    best = minima(runs, rounds)
    isa = artifacts["int8"].runs_as["isa"]
    cell = {key: 1e6 * value / STEPS / 64 for key, value in best.items()}
    ratios = {key: cell["fp32"] / cell[key] for key in ("int8", "int8-full")}
    shown = ", ".join(f"{key} {value:.3f}" for key, value in cell.items())
    print(
        f"LSTM ({features},{hidden}) 64 streams on {isa}: {shown} us: int8 x {ratios['int8']:.2f}, "
        f"int8-full x {ratios['int8-full']:.2f} (goal {INT8_GOAL})"
    )
    return {"row": f"int8 ({features},{hidden})", "ratio": ratios["int8"], "goal": INT8_GOAL}


def time_sessions(rounds: int, folder: Path) -> Any:
    """64 streams stepped from Python, as one set and as 64 sessions."""
    artifact = compiled("LSTM", 9, 64, folder)
    streams, singles = artifact.session(streams=64), [artifact.session() for _ in range(64)]
    x = noise(64, 9)
    rows = [x[i].copy() for i in range(64)]

    def one_by_one() -> None:
        for single, frame in zip(singles, rows, strict=True):
            single.step(frame)

    best = minima({"set": lambda: streams.step(x), "sessions": one_by_one}, 40 * rounds)
    ratio = best["sessions"] / best["set"]
    print(
        f"64 streams from Python: a set {1e6 * best['set']:.1f}, 64 sessions "
        f"{1e6 * best['sessions']:.1f} us a frame of all: x {ratio:.2f} (goal {SESSIONS_GOAL})"
    )
    return {"row": "64 sessions", "ratio": ratio, "goal": SESSIONS_GOAL}


def time_threads(rounds: int, folder: Path) -> Any:
    """Two threads beside one, at (64,256)."""
    artifact = compiled("LSTM", 64, 256, folder)
    x = noise(STEPS, 64, 64)
    one, two = (artifact.session(streams=64, threads=threads) for threads in (1, 2))
    runs: Runs = {"one": lambda: one.run(x), "two": lambda: two.run(x)}
    best = minima(runs, rounds, time.perf_counter)
    ratio = best["one"] / best["two"]
    print(f"two threads at (64,256), 64 streams: x {ratio:.2f} (goal {THREADS_GOAL}, when idle)")
    return {"row": "threads", "ratio": ratio, "goal": THREADS_GOAL}


async def serve(artifact: Artifact, seconds: float, threads: int) -> Any:
    """1,000 sensors of 100 Hz, whose frames come evenly spread and in any order."""
    rng = np.random.default_rng(0)
    frames = noise(64, 9)
    per_tick, ticks = STREAMS * RATE_HZ // 1000, int(seconds * 1000)
    order = np.concatenate(
        [rng.permutation(STREAMS) for _ in range(-(-ticks * per_tick // STREAMS))]
    ).tolist()
    async with Batcher(
        artifact.session(streams=STREAMS, threads=threads), wait_ms=2, queue=16
    ) as batcher:
        received = 0

        async def read() -> None:
            nonlocal received
            async for batch in batcher.batches():
                received += len(batch.streams) - len(batch.refused)

        reader = asyncio.create_task(read())
        start = time.perf_counter()
        for tick in range(ticks):
            for at in range(tick * per_tick, (tick + 1) * per_tick):
                with suppress(OverrunError):  # counted
                    batcher.feed(order[at], frames[at % 64])
            await asyncio.sleep(max(0.0, start + (tick + 1) / 1000 - time.perf_counter()))
        taken = time.perf_counter() - start
        await batcher.aclose()
        await reader
    return batcher.counts, received, ticks * per_tick, taken


def time_batcher(seconds: float, folder: Path) -> Any:
    """Latency from frame to result."""
    artifact = compiled("LSTM", 9, 64, folder)
    counts, received, given, taken = asyncio.run(serve(artifact, seconds, 1))
    print(
        f"batcher: {STREAMS} streams at {RATE_HZ} Hz for {taken:.1f} s: {given} frames given, "
        f"{received} results, {counts.overrun} overrun; {counts.batches} steps, fill "
        f"{counts.fill:.2f}; p50 {1e3 * counts.p50_s:.2f}, p99 {1e3 * counts.p99_s:.2f}, largest "
        f"{1e3 * counts.largest_s:.2f} ms (goal: p99 {1e3 * P99_GOAL_S:.0f} ms, nothing lost)"
    )
    lost = given - received
    ratio = P99_GOAL_S / counts.p99_s if lost == 0 else 0.0
    return {"row": "batcher", "ratio": ratio, "goal": 1.0, "lost": lost, "p99_s": counts.p99_s}


def main() -> None:
    """Time everything, print a table, and say which goals are missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, rounds = Path(name), arguments.rounds
        peak = registers_per_second()
        rows = [time_batch(row, rounds, folder, peak) for row in BATCHES]
        rows += [
            time_schemes(features, hidden, rounds, folder)
            for features, hidden in ((9, 64), (9, 128), (64, 256))
        ]
        rows.append(time_sessions(rounds, folder))
        rows.append(time_threads(rounds, folder))
        rows.append(time_batcher(arguments.seconds, folder))
    missed = [row["row"] for row in rows if row["ratio"] < row["goal"]]
    print("all goals reached" if not missed else f"missed: {', '.join(missed)}")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
