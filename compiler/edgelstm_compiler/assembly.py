"""The last stage: what a target emitted, and all that is known about it, as one artifact."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgelstm.artifact import Artifact
from edgelstm.container import Container
from edgelstm.description import Description
from edgelstm_compiler.identity import provenance
from edgelstm_compiler.ir.graph import StepGraph
from edgelstm_compiler.ir.program import Program
from edgelstm_compiler.known_steps import KnownSteps
from edgelstm_compiler.lowering.select import count_macs
from edgelstm_compiler.onnx_import.read import OnnxModel
from edgelstm_compiler.quant.embedded import SECTION as CALIBRATION_SECTION
from edgelstm_compiler.quant.embedded import pack_calibration
from edgelstm_compiler.quant.model import QuantizedModel
from edgelstm_compiler.quant.scheme import QuantizeOptions
from edgelstm_compiler.target import Emission

OBJECT_PREFIX = "object/"
"""Sections that hold the object files of an artifact's code, by instruction set, for `export-c`."""

MAX_TOLD = 64
"""Elements of a constant that the manifest holds; of larger ones it holds the digest."""


def assemble_artifact(
    *,
    program: Program,
    emission: Emission,
    target: str,
    target_options: Mapping[str, Any],
    asked: Mapping[str, Any],
    model: OnnxModel,
    layers: list[dict[str, Any]],
    quantized: QuantizedModel | None,
    quantize_options: QuantizeOptions | None,
    identity: str,
    description: Description,
    notes: Mapping[str, Any],
    check: Mapping[str, Any],
    known: KnownSteps | None = None,
) -> Artifact:
    """The artifact of a program for a target.

    Args:
        program: what was compiled.
        emission: what the target made of it.
        target: name of the target.
        target_options: as they were used.
        asked: see `what_was_asked`.
        model: where it comes from.
        layers: see `describe_layers`.
        quantized: the record of the quantization, with its calibration.
        quantize_options: options of the calibration.
        identity: of what it computes.
        description: what its numbers mean.
        notes: what is easily overlooked.
        check: outcome of the self-check.
        known: steps whose outputs are known, for devices.
    """
    sections = dict(emission.sections)
    if known is not None:
        sections.update(known.sections())
    if quantized is not None and quantized.calibration is not None and quantize_options is not None:
        sections[CALIBRATION_SECTION] = pack_calibration(quantized.calibration, quantize_options)
    return Artifact.create(
        signature=program.signature,
        engine=emission.engine,
        target=target,
        weights=program.weights,
        state_init=program.state_init,
        scratch_bytes=program.scratch_bytes,
        sections=sections,
        header=emission.header,
        options=asked,
        target_options=target_options,
        facts=emission.facts,
        source={
            "sha256": model.sha256,
            "file": model.path.name if model.path is not None else "",
            "producer": model.producer,
            "opset": model.opset,
        },
        check=check,
        macs=program.macs,
        layers=layers,
        quantization=None if quantized is None else quantized.record,
        identity=identity,
        provenance=provenance(emission.engine),
        description=description,
        notes=notes,
    )


def with_description(artifact: Artifact, description: Description) -> Artifact:
    """The artifact with what its numbers mean: of frames, where its code takes chunks of them."""
    if not description:
        return artifact
    manifest = {**artifact.manifest, "description": description.to_json()}
    return Artifact(Container(manifest, dict(artifact.container.sections)))


def what_was_asked(
    mode: str,
    shapes: Mapping[str, Sequence[int]],
    constants: Mapping[str, Any],
    carried: Mapping[str, Any],
    attention_context: int | None = None,
) -> dict[str, Any]:
    """Mode, shapes, fixed inputs and carried states of a compilation, for the manifest."""
    asked: dict[str, Any] = {"mode": mode, **carried}
    if attention_context is not None:
        asked["attention_context"] = attention_context
    if shapes:
        asked["shapes"] = {name: list(shape) for name, shape in shapes.items()}
    if constants:
        asked["constants"] = {name: _told(value) for name, value in constants.items()}
    return asked


def _told(value: Any) -> Any:
    """A constant for the manifest: numbers as they are, more of them by their digest."""
    data = np.asarray(value)
    if data.size <= MAX_TOLD:
        return data.tolist()
    return f"sha256:{hashlib.sha256(np.ascontiguousarray(data).tobytes()).hexdigest()}"


def describe_layers(graph: StepGraph) -> list[dict[str, Any]]:
    """Name, kind, shapes, parameters and work of every node, for the manifest and `inspect`."""
    constants = {constant.value for constant in graph.constants}
    return [
        {
            "name": node.name,
            "kind": node.op.label,
            "origin": node.origin,
            "input": next((str(v.type) for v in node.inputs if v is not None), ""),
            "output": str(node.outputs[0].type),
            "params": sum(v.type.size for v in node.inputs if v in constants and v is not None),
            "macs": count_macs(node),
        }
        for node in graph.nodes
    ]
