"""Runs lowered programs beside the step graph that they come from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from edgelstm_compiler.ir.evaluate import evaluate
from edgelstm_compiler.ir.graph import StepGraph
from edgelstm_compiler.ir.kernels import CopyKernel
from edgelstm_compiler.ir.program import Program, Space
from edgelstm_compiler.lowering.execute import ProgramRunner
from edgelstm_compiler.lowering.lower import lower

Step = Callable[[dict[str, Any]], dict[str, Any]]
STEPS = 4


def assert_program_runs(graph: StepGraph, unit_block: int | None) -> Program:
    """The program gives what the step graph gives, over several steps; it is handed back."""
    program = lower(graph, unit_block)
    assert_places_are_sound(program)
    assert_steps_agree(graph, ProgramRunner(program).step)
    return program


def assert_steps_agree(graph: StepGraph, step: Step, steps: int = STEPS) -> None:
    """Feed random frames to both, and compare the outputs after every one."""
    rng = np.random.default_rng(5)
    states: dict[str, Any] = {}
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


def assert_places_are_sound(program: Program) -> None:
    """Every buffer lies within its block, aligned as its space promises."""
    sizes = {
        Space.INPUT: program.signature.input_bytes,
        Space.OUTPUT: program.signature.output_bytes,
        Space.WEIGHTS: len(program.weights),
        Space.STATE: len(program.state_init),
        Space.SCRATCH: program.scratch_bytes,
    }
    for call in program.calls:
        for buffer in (*call.inputs, *call.outputs, call.workspace):
            if buffer is None:
                continue
            assert buffer.offset_bytes + buffer.type.nbytes <= sizes[buffer.space], buffer
            own = buffer.space in (Space.WEIGHTS, Space.STATE, Space.SCRATCH)
            assert buffer.offset_bytes % (64 if own else buffer.type.dtype.itemsize) == 0, buffer
        for buffer in call.outputs:
            assert buffer is None or buffer.space not in (Space.INPUT, Space.WEIGHTS)


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
