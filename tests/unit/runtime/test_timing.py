"""What a timed step is: one of a native loop, whole; on a device one call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import count
from time import perf_counter_ns
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgelstm.commands.bench import measure
from edgelstm.dtypes import DType
from edgelstm.signature import CLOCK, Signature, StateSpec
from edgelstm.timing import StepTimer, random_frames
from edgelstm_compiler import compile_model
from tests.models import lstm_model
from tests.unit.runtime.toy_models import leaky_reference

STEP_NS = 2_000


def _busy(ns: float) -> int:
    end = perf_counter_ns() + ns
    while perf_counter_ns() < end:
        pass
    return 0


class _DeviceStep:
    """A step whose state stays elsewhere; it takes longer than one of a block."""

    def __call__(self) -> int:
        return _busy(10 * STEP_NS)

    def settle(self, fetch: bool = True) -> None:
        del fetch


class _Kernel:
    """Steps of a known length; a call of any function costs as much again."""

    def __init__(self, step: Callable[[], int]) -> None:
        self.facts = {"engine": "toy", "isa": "toy"}
        self.step = step
        self.lengths: list[int] = []

    def bind(self, blocks: Any) -> Callable[[], int]:
        del blocks
        return self.step

    def bind_run(self, blocks: Any, inputs: Any, outputs: Any, n_steps: int) -> Callable[[], int]:
        assert inputs.size == n_steps * 8
        assert outputs.size == n_steps * 8
        del blocks

        def run() -> int:
            self.lengths.append(n_steps)
            return _busy((1 + n_steps) * STEP_NS)

        return run

    def read_weights(self, repeats: int) -> int | None:
        _busy(repeats * STEP_NS)
        return repeats


def timer(
    step: Callable[[], int], signature: Signature | None = None, isas: Any = ()
) -> tuple[StepTimer, _Kernel]:
    """A timer of such steps."""
    artifact, kernel = leaky_reference(), _Kernel(step)
    target = {**artifact.manifest["target"], "facts": {"isas": list(isas)}}
    fake: Any = SimpleNamespace(
        signature=signature or artifact.signature,
        session=artifact.session,
        manifest={**artifact.manifest, "target": target},
        container=artifact.container,
        kernel=kernel,
    )
    return StepTimer(fake, random_frames(artifact.signature, 3)), kernel


def test_nothing_is_taken_off_a_native_step() -> None:
    """The fastest sample is no shorter than the step; long loops leave little of the one call."""
    timed, kernel = timer(lambda: _busy(STEP_NS))
    found = timed.time_step(0.01)
    assert STEP_NS <= found.minimum <= found.median <= found.p99
    assert found.minimum < 1.1 * STEP_NS
    # More steps than there are frames: they come again.
    assert kernel.lengths[-1] * STEP_NS >= 100_000


def test_a_step_on_a_device_is_a_call() -> None:
    """A block of frames there is no row of steps."""
    timed, _ = timer(_DeviceStep())
    assert timed.time_step(0.01).minimum >= 10 * STEP_NS
    assert timed.time_run(0.01) == pytest.approx(STEP_NS, rel=0.5)


def test_a_run_that_shares_work_among_its_frames_says_nothing_of_a_step() -> None:
    """Steps are then called one by one, too."""
    timed, _ = timer(lambda: _busy(10 * STEP_NS), isas=[{"section": "code/toy", "ahead": 6}])
    assert timed.time_step(0.01).minimum >= 10 * STEP_NS
    assert timed.time_run(0.01) == pytest.approx(STEP_NS, rel=0.5)
    other, _ = timer(lambda: _busy(10 * STEP_NS), isas=[{"section": "code/else", "ahead": 6}])
    assert other.time_step(0.01).minimum < 2 * STEP_NS


def test_phases_between_two_outputs_are_timed_apart() -> None:
    """Of a model with an output every three frames the slow one of three steps is found."""
    plain = leaky_reference().signature
    (spec,) = plain.outputs
    clock = StateSpec(CLOCK, DType.I32, (1,), 0)
    slow = replace(
        plain, outputs=(replace(spec, stride=3, time_axis=0),), states=(*plain.states, clock)
    )
    counted = count()
    timed, _ = timer(lambda: _busy(STEP_NS * (8 if next(counted) % 3 == 1 else 1)), slow)
    phases = timed.time_phases(0.05)
    assert phases is not None
    # Finding out how long blocks are to be takes no single step.
    assert int(phases.argmax()) == 1
    assert phases.max() >= 8 * STEP_NS > 2 * np.delete(phases, 1).max()
    assert timer(lambda: 0)[0].time_phases(0.01) is None


def test_chunks_are_timed_by_the_frame() -> None:
    """A step of four frames takes them all; what is told is for one of them."""
    model = lstm_model(steps=None)
    artifact = compile_model(model, target="reference", check=False, mode="stream", chunk=4)
    timed = StepTimer(artifact, random_frames(artifact.signature, 10))
    whole, single = timed.time_python_step(0.05), timed.time_step(0.05).median
    assert whole == pytest.approx(single, rel=1.0)
    report = measure(artifact, timed, [], 1, 0.01)
    assert report["chunk"] == 4
    assert report["worst_phase"] is None


def test_reading_is_timed_in_many_short_samples() -> None:
    """One of them may be stretched by another process; their median is not."""
    timed, _ = timer(lambda: 0)
    assert timed.time_read() == pytest.approx(STEP_NS, rel=0.5)
