"""The graphs behind an artifact, made again from it and from its model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edgelstm.artifact import Artifact
from edgelstm.container import Container
from edgelstm.errors import ArtifactError, EdgeLSTMError
from edgelstm.signature import Signature
from edgelstm_compiler.binding import Binding
from edgelstm_compiler.driver import CompileOptions, bind, compile_read_model, to_step_graph
from edgelstm_compiler.ir.graph import StepGraph
from edgelstm_compiler.ir.types import Array
from edgelstm_compiler.lowering.signature import make_signature
from edgelstm_compiler.onnx_import.read import OnnxModel
from edgelstm_compiler.passes.context import PassContext
from edgelstm_compiler.quant.convert import Quantized
from edgelstm_compiler.quant.embedded import (
    SECTION,
    expect_recipe,
    restore_model,
    unpack_calibration,
)
from edgelstm_compiler.quant.model import QuantizedModel
from edgelstm_compiler.quant.replay import Recording, Replay, chunks
from edgelstm_compiler.streaming.carry import request_of
from edgelstm_compiler.streaming.cut import Cut
from edgelstm_compiler.streaming.modes import ModeRequest, compile_mode
from edgelstm_compiler.verification import as_compiled


@dataclass(frozen=True, slots=True)
class Restored:
    """An artifact beside what it was made from.

    Args:
        artifact: the compiled model; of a look-ahead model its chunk.
        model: the ONNX model.
        binding: the imported graph.
        float_graph: the float32 step graph.
        quantized: the quantized model, or None where all is float32.
        converted: its graph with the integer form of each value, or None.
        cut: how recordings become steps of the graph; None: they are.
    """

    artifact: Artifact
    model: OnnxModel
    binding: Binding
    float_graph: StepGraph
    quantized: QuantizedModel | None
    converted: Quantized | None
    cut: Cut | None = None

    @property
    def recorded(self) -> Signature:
        """What recordings look like."""
        graph = self.float_graph
        return make_signature(graph if self.cut is None else self.cut.faced(graph))

    def steps_of(self, recordings: Sequence[Recording]) -> list[Recording]:
        """Recordings as the steps of the graph take them.

        Raises:
            CapabilityError: none has enough frames for one.
        """
        return list(recordings if self.cut is None else self.cut.recordings(recordings))

    @property
    def graph(self) -> StepGraph:
        """The step graph that the artifact computes."""
        return self.float_graph if self.quantized is None else self.quantized.graph

    @property
    def integer_tensors(self) -> Mapping[str, Any]:
        """Inputs and outputs that are handed over in integers, by name."""
        if self.quantized is None:
            return {}
        return {tensor["name"]: tensor for tensor in self.quantized.record["borders"]}


def restore(artifact: Artifact, model: OnnxModel) -> Restored:
    """Import, convert and quantize as the artifact's manifest says.

    Raises:
        ModelError: another model than the artifact's.
        ArtifactError: it was quantized with a calibration that it does not hold.
    """
    model = as_compiled(artifact, model)
    options = _options(artifact)
    artifact = code_of(artifact)
    binding = bind(model, options)
    float_graph = to_step_graph(binding, options, PassContext())
    cut = compile_mode(options.mode, options.request).cut_of(binding)
    record = artifact.manifest.get("quantization")
    if record is None:
        return Restored(artifact, model, binding, float_graph, None, None, cut)
    expect_recipe(record)
    calibration = None
    sections = artifact.container.sections
    if SECTION in sections:
        calibration = unpack_calibration(sections[SECTION])
    elif record.get("calibration") is not None:
        raise ArtifactError(
            "the artifact was quantized with a calibration that it does not hold: compile it again"
        )
    quantized, converted = restore_model(float_graph, record, calibration)
    return Restored(artifact, model, binding, quantized.float_graph, quantized, converted, cut)


class Runner:
    """Runs one of the two programs over recordings: compiled code where that is fast, else NumPy.

    Args:
        graph: the step graph; what stands for the artifact's names and shapes.
        artifact: its compiled form, or None: NumPy.
        integer_tensors: integer inputs and outputs by name; recordings and results are floats.
    """

    def __init__(
        self, graph: StepGraph, artifact: Artifact | None, integer_tensors: Mapping[str, Any]
    ) -> None:
        self._graph = graph
        self._artifact = artifact if artifact is not None and runs_native(artifact) else None
        self._integer_tensors = integer_tensors

    def run(self, recording: Recording) -> dict[str, Array]:
        """All outputs of a recording, (n, *shape in the graph); n is 1 in calls."""
        given = {name: self.to_integers(name, np.asarray(x)) for name, x in recording.items()}
        if self._artifact is None:
            rows = Replay(self._graph).run(given)
        else:
            rows = self._run_native(self._artifact, given)
        return {name: self.to_floats(name, x) for name, x in rows.items()}

    def to_integers(self, name: str, data: Array) -> Array:
        """An input as the program takes it."""
        tensor = self._integer_tensors.get(name)
        if tensor is None:
            return data
        moved = data - np.asarray(tensor.get("offset") or 0.0)
        steps = np.rint(moved / np.asarray(tensor["scale"])) + tensor["zero_point"]
        return np.asarray(np.clip(steps, -32768, 32767), np.int16)

    def to_floats(self, name: str, data: Array) -> Array:
        """An output as the float32 program gives it."""
        tensor = self._integer_tensors.get(name)
        if tensor is None:
            return data
        scale = np.asarray(tensor["scale"])
        return np.asarray((data - tensor["zero_point"]) * scale, np.float32)

    def _run_native(self, artifact: Artifact, recording: Recording) -> dict[str, Array]:
        signature, pieces = artifact.signature, chunks(self._graph, recording)
        frames = {
            spec.name: np.stack([piece[spec.name] for piece in pieces]).reshape(-1, *spec.shape)
            for spec in signature.inputs
        }
        session = artifact.session()
        result = session.advance_all(frames)
        rows = result if isinstance(result, dict) else {signature.outputs[0].name: result}
        shapes = {out.name: out.value.type.shape for out in self._graph.outputs}
        return {name: np.array(x).reshape(len(x), *shapes[name]) for name, x in rows.items()}


def runs_native(artifact: Artifact) -> bool:
    """Whether this machine runs the artifact's code."""
    if artifact.manifest["target"]["engine"] == "reference":
        return False
    try:
        return artifact.kernel is not None
    except EdgeLSTMError:
        return False


def compile_float(restored: Restored) -> Artifact:
    """The same model for the same target, all in float32.

    Raises:
        EdgeLSTMError: the target cannot build here.
    """
    artifact = restored.artifact
    target = artifact.manifest["target"]
    options = replace(
        _options(artifact),
        target=target["name"],
        target_options={
            name: str(value) for name, value in target["options"].items() if value is not None
        },
        check=False,
    )
    return code_of(compile_read_model(restored.model, options, lambda stage: None))


def code_of(artifact: Artifact) -> Artifact:
    """A look-ahead model's chunk, as what its code computes; any other artifact as it is."""
    plan = artifact.signature.lookahead
    if plan is None:
        return artifact
    manifest = {**artifact.manifest, "signature": plan.kernel.to_json()}
    manifest.pop("description", None)  # of frames
    code = Artifact(Container(manifest, dict(artifact.container.sections)))
    try:
        return code.on(artifact.kernel)
    except EdgeLSTMError:
        return code  # nothing runs it here


def _options(artifact: Artifact) -> CompileOptions:
    """What was asked when it was compiled."""
    told = artifact.manifest.get("options", {})
    mode = artifact.signature.mode
    request = ModeRequest(attention_context=told.get("attention_context"))
    if "lookahead" in told:
        mode = str(told["mode"])
        request = ModeRequest(chunk=int(told["chunk"]), lookahead=int(told["lookahead"]))
    return CompileOptions(
        mode=mode, request=request, shapes=_shapes(artifact), carry=request_of(told)
    )


def _shapes(artifact: Artifact) -> dict[str, tuple[int, ...]]:
    given = artifact.manifest.get("options", {}).get("shapes", {})
    shapes = compile_mode(artifact.signature.mode).shapes_of(artifact.signature, given)
    return {name: tuple(shape) for name, shape in shapes.items()}
