"""The self-check of quantized artifacts sees a target that computes something else."""

from __future__ import annotations

import dataclasses

import pytest

from edgelstm.errors import MismatchError
from edgelstm_compiler.driver import compile_model
from edgelstm_compiler.ir.ops import IntegerRecurrent
from edgelstm_compiler.quant.check import check_quantized
from edgelstm_compiler.quant.model import QuantizeRequest, quantize_model
from edgelstm_compiler.quant.scheme import QuantizeOptions
from tests.models import lstm_model, stacked_model
from tests.quantized_models import recordings, step_graph


@pytest.mark.parametrize("scheme", ["w8", "int8", "int8-full"])
def test_another_model_is_a_mismatch(scheme: str) -> None:
    """An artifact of other weights does not pass, in any scheme."""
    models = [lstm_model(steps=None, outputs=("Y",), seed=seed) for seed in (0, 1)]
    graphs = [step_graph(model) for model in models]
    given = recordings(graphs[0])
    quantized = quantize_model(graphs[0], QuantizeRequest(scheme, given))
    artifacts = [
        compile_model(m, target="reference", quantize=scheme, calibration=given, check=False)
        for m in models
    ]
    assert check_quantized(artifacts[0], quantized)["done"]
    with pytest.raises(MismatchError, match="'Y' differs from the quantized step graph"):
        check_quantized(artifacts[1], quantized)


def test_one_step_is_a_mismatch_in_integers() -> None:
    """In int8-full a single other bias step in one row is seen."""
    model = stacked_model(ops=("LSTM",), steps=None, head="sequence")
    given = recordings(step_graph(model))
    quantized = quantize_model(step_graph(model), QuantizeRequest("int8-full", given))
    artifact = compile_model(
        model, target="reference", quantize="int8-full", calibration=given, check=False
    )
    (shift,) = [
        node.op.sum_shift for node in quantized.graph.nodes if isinstance(node.op, IntegerRecurrent)
    ]
    constants = []
    for constant in quantized.graph.constants:
        if constant.value.name.endswith("layer_1.B.steps"):
            data = constant.data + (1 << shift)
            data.setflags(write=False)
            constant = dataclasses.replace(constant, data=data)
        constants.append(constant)
    moved = dataclasses.replace(quantized.graph, constants=tuple(constants))
    with pytest.raises(MismatchError):
        check_quantized(artifact, dataclasses.replace(quantized, graph=moved))


@pytest.mark.parametrize("mode", ["stream", "call"])
def test_integer_io(mode: str) -> None:
    """An artifact without floating point passes; its manifest lists integer inputs and outputs."""
    model = stacked_model(steps=None if mode == "stream" else 6, head="sequence")
    given = recordings(step_graph(model, mode), frames=100)
    artifact = compile_model(
        model,
        target="reference",
        mode=mode,  # type: ignore[arg-type]
        quantize="int8-full",
        calibration=given,
        quantize_options=QuantizeOptions(integer_io=True),
    )
    assert artifact.manifest["check"]["max_error"] == 0.0
    integer_tensors = artifact.manifest["quantization"]["borders"]
    assert [tensor["name"] for tensor in integer_tensors] == ["X", "Z"]
    assert all(spec.dtype.value == "i16" for spec in artifact.signature.inputs)
