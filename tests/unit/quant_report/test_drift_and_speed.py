"""Growth of an error is noticed and only growth; the verdict on speed is plain."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from edgelstm_compiler.quant_report import speed
from edgelstm_compiler.quant_report.drift import (
    Drift,
    affordable_steps,
    measure_drift,
    repeat_recordings,
)
from edgelstm_compiler.quant_report.speed import describe_speed, predict
from edgelstm_compiler.quant_report.trials import TRIALS, trial_graph
from edgelstm_targets.processors.cortex_a import CORTEX_A
from edgelstm_targets.processors.x86 import HOST


class _Fixed:
    """Gives the same rows for any recording."""

    def __init__(self, rows: NDArray[Any]) -> None:
        self._rows = rows

    def run(self, recording: object) -> dict[str, NDArray[Any]]:
        del recording
        return {"y": self._rows}


def _drift(errors: NDArray[Any], period: int = 0, chunk: int = 1) -> Drift:
    exact, quantized = _Fixed(np.zeros((len(errors), 1))), _Fixed(errors[:, None])
    return measure_drift(exact, quantized, {}, "noise", period, chunk)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(5))
def test_noise_does_not_grow(seed: int) -> None:
    """An error of constant strength has no slope."""
    drift = _drift(0.01 * np.random.default_rng(seed).standard_normal(50_000))
    assert not drift.grows
    assert "does not grow" in drift.verdict
    assert drift.mean == pytest.approx(0.01, rel=0.02)


def test_a_leak_grows() -> None:
    """An error that becomes half as large again over the run is told with its size."""
    noise = np.random.default_rng(0).standard_normal(50_000)
    drift = _drift(0.01 * noise * np.linspace(1, 1.5, 50_000))
    assert drift.grows
    assert drift.slope == pytest.approx(0.01, rel=0.15)
    assert "grows: by" in drift.verdict


def test_steps_are_frames_where_a_step_takes_several() -> None:
    """A look-ahead model answers for a chunk of them at once."""
    errors = 0.01 * np.linspace(1, 1.5, 50_000)
    single, chunks = _drift(errors), _drift(errors, chunk=4)
    assert (chunks.steps, chunks.block) == (200_000, 2000)
    assert chunks.slope == pytest.approx(single.slope / 4)


def test_a_long_run_ends_within_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames of fast programs are all taken, of slow ones what a minute allows."""
    times = iter((0.0, 0.001, 100.0, 100.0 + 50 * 0.005))
    monkeypatch.setattr("time.perf_counter", lambda: next(times))
    runner, used = _Fixed(np.zeros((1, 1))), [{"x": np.zeros((3, 1))}]
    steps = [
        affordable_steps(runner, runner, used, {"x"}, chunk)  # type: ignore[arg-type]
        for chunk in (3, 3)
    ]
    assert steps == [33_334, 12_000]


def test_blocks_are_whole_periods() -> None:
    """A repeated recording is compared with itself: its own ups and downs are no slope."""
    period = np.abs(np.sin(np.arange(700) / 60.0)) + 0.1
    drift = _drift(np.tile(period, 40), 700)
    assert drift.block == 700
    assert drift.slope == pytest.approx(0.0, abs=1e-9)


def test_repeat_recordings() -> None:
    """Timed inputs follow one another, again and again; others are given once."""
    recordings = [{"x": np.full((2, 1), k), "mode": np.array([7])} for k in range(2)]
    long = repeat_recordings(recordings, {"x"}, 5)
    assert long["x"].ravel().tolist() == [0, 0, 1, 1, 0]
    assert long["mode"].tolist() == [7]


def _row(scheme: str, macs: int, after: int) -> dict[str, Any]:
    return {
        "kind": "LSTM",
        "scheme": scheme,
        "bytes_before": 4 * macs,
        "bytes_after": after,
        "macs": macs,
    }


def test_prediction() -> None:
    """Integers are faster where products count; stored weights are not where they fit the cache."""
    avx2, neon = HOST.speed[-1], CORTEX_A[0].speed[0]
    assert predict([_row("int8", 100_000, 100_000)], avx2) > 1.3
    assert predict([_row("int8-full", 100_000, 100_000)], neon) > 2
    assert predict([_row("w4", 1000, 500)], avx2) < 1


@pytest.mark.parametrize(
    ("target", "flags", "name"),
    [
        ("host", {"avx2", "avx_vnni"}, "x86-64 with VNNI"),
        ("host", {"avx512f", "avx512_vnni"}, "x86-64 with VNNI"),
        ("host", {"avx2"}, "x86-64 with AVX2"),
        ("jetson-orin", {"avx2"}, "Cortex-A with NEON"),
        ("cortex-m3", set(), "Cortex-M without FPU"),
        ("cortex-m55", set(), "Cortex-M with FPU and DSP"),
    ],
)
def test_the_rule_is_the_processors(
    target: str, flags: set[str], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For the host that of this machine; others do not depend on where the report is made."""
    monkeypatch.setattr(speed, "cpu_flags", lambda: frozenset(flags))
    rule = speed.rule_of(target)
    assert rule is not None
    assert rule.name == name


def test_no_rule_for_what_is_no_processor() -> None:
    """The reference target has none."""
    assert speed.rule_of("reference") is None


@pytest.mark.parametrize(
    ("ratio", "words"),
    [
        (2.0, "Quantizing pays: a step is 2.00 times faster"),
        (1.0, "does not pay in time: a step takes as long"),
        (0.5, "does not pay in time: a step takes 2.00 times as long"),
    ],
)
def test_verdict(ratio: float, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Faster, as fast, slower: each is said."""

    class Compiled:
        manifest: ClassVar[dict[str, Any]] = {"target": {"name": "host", "engine": "native"}}

    measured = {"fp32_ns": 100.0, "quantized_ns": 100.0 / ratio, "ratio": ratio, "engine": ""}
    where = "edgelstm_compiler.quant_report.speed"
    monkeypatch.setattr(f"{where}.runs_native", lambda artifact: True)
    monkeypatch.setattr(f"{where}._measure", lambda *arguments: measured)
    compiled: Any = Compiled()
    speed = describe_speed(compiled, compiled, [_row("int8", 1000, 1100)], 0.1)
    assert words in speed["verdict"]
    assert "2,900 bytes" in speed["verdict"]


@pytest.mark.parametrize("op", TRIALS.values(), ids=lambda op: op.kind)
def test_trial_graphs_are_valid(op: Any) -> None:
    """The layers that targets are tried with keep the law of step graphs."""
    from edgelstm_compiler.ir.verify import verify

    verify(trial_graph(op))
