"""The reference target: its artifact, run by its engine, gives what the step graph gives."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from edgelstm.artifact import Artifact
from edgelstm.errors import CapabilityError, InternalError
from edgelstm_compiler.ir.cells import GRU, LSTM
from edgelstm_compiler.ir.graph import StepGraph
from edgelstm_compiler.ir.ops import Reshape
from edgelstm_compiler.lowering.lower import lower
from edgelstm_compiler.reference import ReferenceTarget, emit_program
from edgelstm_compiler.streaming.convert import to_steps
from edgelstm_compiler.streaming.refusal import StreamabilityError
from edgelstm_compiler.streaming.whole_call import whole_call
from tests.graphs import GraphBuilder, random_graph
from tests.unit.lowering.programs import Step, assert_steps_agree
from tests.unit.lowering.test_states import StepBuilder

SEEDS = st.integers(0, 2**32 - 1)


def artifact_of(graph: StepGraph) -> Artifact:
    """What the reference target makes of a step graph."""
    program = lower(graph, None)
    emission = emit_program(program)
    return Artifact.create(
        signature=program.signature,
        engine=emission.engine,
        target="reference",
        weights=program.weights,
        state_init=program.state_init,
        scratch_bytes=program.scratch_bytes,
        sections=emission.sections,
    )


def stepper(artifact: Artifact) -> Step:
    """Steps a fresh session on inputs in the model's shapes."""
    session, signature = artifact.session(), artifact.signature

    def step(inputs: dict[str, Any]) -> dict[str, Any]:
        given = {spec.name: inputs[spec.name].reshape(spec.shape) for spec in signature.inputs}
        result = session.call(given) if signature.mode == "call" else session.step(given)
        if not isinstance(result, dict):
            result = {signature.outputs[0].name: result}
        return {
            spec.name: np.array(result[spec.name]).reshape(spec.model_shape)
            for spec in signature.outputs
        }

    return step


def two_layers() -> StepGraph:
    """An LSTM and a GRU."""
    b = GraphBuilder()
    y, h, c = b.cell(LSTM, b.input("x", 5, 1, 3), 4, peepholes=True)
    (frames,) = b.node(Reshape((5, 1, 4)), y)
    z, g = b.cell(GRU, frames, 2)
    return to_steps(b.graph(z=z, h=h, c=c, g=g))


def test_a_stream_runs() -> None:
    """Step by step, with states."""
    graph = two_layers()
    assert_steps_agree(graph, stepper(artifact_of(graph)), 10)


@given(SEEDS, st.integers(0, 14))
def test_random_streams_run(seed: int, size: int) -> None:
    """Whatever can be stepped."""
    try:
        graph = to_steps(random_graph(seed, size))
    except StreamabilityError:
        assume(False)
    assert_steps_agree(graph, stepper(artifact_of(graph)))


@given(SEEDS, st.integers(0, 14))
def test_random_calls_run(seed: int, size: int) -> None:
    """Any graph as a whole."""
    graph = whole_call(random_graph(seed, size))
    assert_steps_agree(graph, stepper(artifact_of(graph)), 2)


def test_states_may_be_swapped() -> None:
    """Both are read before either is written."""
    b = StepBuilder()
    x, s, t = b.input("x", 2), b.state("s", 2), b.state("t", 2)
    graph = b.step({"s": t, "t": s}, x=x, s=s, t=t)
    assert_steps_agree(graph, stepper(artifact_of(graph)))


def test_a_delay_line_runs() -> None:
    """Input into one state, that into the next."""
    b = StepBuilder()
    x, s, t = b.input("x", 2), b.state("s", 2), b.state("t", 2)
    graph = b.step({"s": x, "t": s}, old=t)
    assert_steps_agree(graph, stepper(artifact_of(graph)))


def test_the_program_is_the_same_every_time() -> None:
    """Byte for byte."""
    first, second = (emit_program(lower(two_layers(), None)) for _ in range(2))
    assert first.sections == second.sections


def test_the_program_is_json() -> None:
    """Every node with its operator; the data of constants stays in the weights."""
    document = json.loads(emit_program(lower(two_layers(), None)).sections["program"])
    assert [node["op"] for node in document["nodes"]] == ["Recurrent", "Reshape", "Recurrent"]
    cells = [node["fields"]["cell"]["name"] for node in document["nodes"][::2]]
    assert cells == ["LSTM", "GRU"]
    assert all("offset_bytes" in item for item in document["constants"])


def test_packed_kernels_are_not_for_this_target() -> None:
    """Programs are lowered for a target; this one takes operators."""
    with pytest.raises(InternalError, match="cannot run RecurrentKernel"):
        emit_program(lower(two_layers(), 16))


def test_the_target_has_no_options() -> None:
    """Any is refused by name."""
    target = ReferenceTarget()
    assert target.probe().can_build
    assert target.probe().can_run
    assert target.capabilities().unit_block is None
    assert target.options({}).to_json() == {}
    with pytest.raises(CapabilityError, match="no option 'cpu'"):
        target.options({"cpu": "native"})


def test_the_last_stage_shows_its_text() -> None:
    """For --dump."""
    target = ReferenceTarget()
    (stage,) = target.stages(target.options({}))
    assert stage.text is not None
    assert json.loads(stage.text(stage.run(lower(two_layers(), None))))
