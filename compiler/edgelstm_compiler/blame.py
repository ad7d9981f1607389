"""Finds the first stage, and the first node in it, that no longer computes what the model does."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from edgelstm.artifact import Artifact
from edgelstm.dtypes import DType
from edgelstm.errors import EdgeLSTMError
from edgelstm_compiler.binding import Binding
from edgelstm_compiler.comparison import relative_error
from edgelstm_compiler.ir.evaluate import evaluate
from edgelstm_compiler.ir.graph import StepGraph, StepOutput
from edgelstm_compiler.ir.program import Program
from edgelstm_compiler.ir.types import Array, Node, Value
from edgelstm_compiler.lowering.execute import ProgramRunner
from edgelstm_compiler.lowering.lower import lower
from edgelstm_compiler.onnx_import.importer import import_graph
from edgelstm_compiler.onnx_import.peer import OnnxRuntimePeer, PeerUnavailableError
from edgelstm_compiler.onnx_import.read import OnnxModel
from edgelstm_compiler.target import Target, find_target, run_stages


def first_divergence(
    model: OnnxModel,
    binding: Binding,
    graph: StepGraph,
    artifact: Artifact,
    inputs: Mapping[str, Array],
    tolerance: float,
) -> str:
    """A sentence that names the first stage and node whose values are wrong.

    Stages in order: import (against ONNX Runtime), steps (against the imported graph in float64),
    program (packing and memory), code (of the target, node by node with every value shown).
    """
    shapes = {name: x.shape for name, x in inputs.items()}
    imported = import_graph(model, shapes)
    oracle = evaluate(imported, _used(inputs, imported.inputs), dtype=DType.F64, keep=True)
    names = [value.name for node in imported.nodes for value in node.outputs]
    try:
        peer = OnnxRuntimePeer(model, extra_outputs=names).run(dict(inputs))
    except PeerUnavailableError:
        peer = {}
    for produced in imported.nodes:
        for value in produced.outputs:
            if value.name in peer and _differs(
                oracle.values[value.name], peer[value.name], tolerance
            ):
                return _blame("import", produced)
    for name, wanted in peer.items():
        if name in oracle.outputs and _differs(oracle.outputs[name], wanted, tolerance):
            return f"first to diverge: stage import, at output {name!r}"
    frame = _one_frame(graph, inputs)
    exact = evaluate(graph, frame, dtype=DType.F64, keep=True).values
    node = _first_wrong(graph, evaluate(graph, frame, keep=True).values, exact, tolerance)
    if node is not None:
        return _blame("steps", node)
    shown = _show_all(graph)
    target = find_target(str(artifact.manifest["target"]["name"]))
    program = lower(shown, target.capabilities().unit_block)
    node = _first_wrong(graph, ProgramRunner(program).step(frame), exact, tolerance)
    if node is not None:
        return _blame("program", node)
    node = _first_wrong(graph, _run_code(program, target, frame), exact, tolerance)
    if node is not None:
        return _blame("code", node)
    return (
        "no stage diverges over one chunk: the difference grows over time, or the streaming "
        "conversion is not what the whole sequence computes"
    )


def _blame(stage: str, node: Node) -> str:
    return f"first to diverge: stage {stage}, node {node.name!r} ({node.origin or node.op.kind})"


def _used(inputs: Mapping[str, Array], values: tuple[Value, ...]) -> dict[str, Array]:
    return {value.name: inputs[value.name] for value in values}


def _one_frame(graph: StepGraph, inputs: Mapping[str, Array]) -> dict[str, Array]:
    frame = {}
    for item in graph.inputs:
        x = inputs[item.value.name]
        frame[item.value.name] = x if item.time_axis is None else np.take(x, [0], item.time_axis)
    return frame


def _first_wrong(
    graph: StepGraph, found: Mapping[str, Array], exact: Mapping[str, Array], tolerance: float
) -> Node | None:
    for node in graph.nodes:
        for value in node.outputs:
            if value.name in found and _differs(found[value.name], exact[value.name], tolerance):
                return node
    return None


def _show_all(graph: StepGraph) -> StepGraph:
    """The graph with every value as an output under its own name."""
    shown = tuple(StepOutput(value.name, value) for node in graph.nodes for value in node.outputs)
    return dataclasses.replace(graph, outputs=shown)


def _run_code(program: Program, target: Target, frame: Mapping[str, Array]) -> dict[str, Array]:
    try:
        emission = run_stages(target, program, target.options({}))
        session = Artifact.create(
            signature=program.signature,
            engine=emission.engine,
            target=target.name,
            weights=program.weights,
            state_init=program.state_init,
            scratch_bytes=program.scratch_bytes,
            sections=emission.sections,
            facts=emission.facts,
        ).session()
    except EdgeLSTMError:
        return {}  # no code for every value shown, or for another processor than this one
    specs = program.signature.inputs
    flat = {spec.name: frame[spec.name].reshape(spec.shape) for spec in specs}
    outputs = session.advance(flat)
    if not isinstance(outputs, dict):
        outputs = {program.signature.outputs[0].name: outputs}
    return {
        spec.name: np.array(outputs[spec.name]).reshape(spec.model_shape)
        for spec in program.signature.outputs
    }


def _differs(actual: Array, expected: Array, tolerance: float) -> bool:
    return not relative_error(actual, expected) <= tolerance
