"""Runs lowered programs beside the step graph that they come from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from edgelstm.errors import CapabilityError
from edgelstm_compiler.ir.evaluate import evaluate
from edgelstm_compiler.ir.graph import StepGraph
from edgelstm_compiler.ir.kernels import CopyKernel
from edgelstm_compiler.ir.program import Program
from edgelstm_compiler.ir.verify_program import verify_program
from edgelstm_compiler.lowering.execute import ProgramRunner
from edgelstm_compiler.lowering.lower import lower
from edgelstm_compiler.streaming.whole_call import whole_call
from tests.graphs import random_graph

Step = Callable[[dict[str, Any]], dict[str, Any]]
STEPS = 4


def assert_program_runs(graph: StepGraph, unit_block: int | None) -> Program:
    """The program gives what the step graph gives, over several steps; it is handed back."""
    program = lower(graph, unit_block)
    verify_program(program)
    assert_steps_agree(graph, ProgramRunner(program).step)
    return program


def assert_steps_agree(graph: StepGraph, step: Step, steps: int = STEPS) -> None:
    """Feed random frames to both, and compare the outputs after every one."""
    rng = np.random.default_rng(5)
    states: dict[str, Any] = {}
    if graph.most_frames is not None:
        steps = min(steps, graph.most_frames)
    for number in range(steps):
        inputs = {
            item.value.name: rng.standard_normal(item.value.type.shape).astype(
                item.value.type.dtype.numpy
            )
            for item in graph.inputs
        }
        expected = evaluate(graph, inputs, states=states)
        states = expected.states
        found = step(inputs)
        assert set(found) == set(expected.outputs)
        for name, data in expected.outputs.items():
            assert found[name].dtype == data.dtype
            assert found[name].shape == data.shape
            scale = max(1.0, float(np.abs(data.astype(np.float64)).max()))
            np.testing.assert_allclose(
                found[name], data, 0, 1e-5 * scale, err_msg=f"step {number}: {name}"
            )


def random_programs(unit_block: int | None, count: int) -> Iterator[Program]:
    """Programs of random graphs, of those that can be packed."""
    found = 0
    for seed in range(4 * count):
        try:
            program = lower(whole_call(random_graph(seed)), unit_block, rate_hz=50.0)
        except CapabilityError:
            continue
        yield program
        found += 1
        if found == count:
            return
    raise AssertionError(f"only {found} of {4 * count} random graphs could be packed")


def copies(program: Program) -> list[tuple[str, str]]:
    """From where to where the copies at the end of a step go."""
    found = []
    for call in program.calls:
        if isinstance(call.kernel, CopyKernel):
            (source,), (target,) = call.inputs, call.outputs
            assert source is not None
            assert target is not None
            found.append((source.space.value, target.space.value))
    return found
