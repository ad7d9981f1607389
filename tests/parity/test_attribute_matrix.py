"""The attribute matrix of the three cells: host and reference beside ONNX Runtime, in call mode."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given

from edgelstm_compiler import compile_model
from tests.models import CellCase, cell_cases, cell_model
from tests.oracle import assert_close, expected_outputs, is_tame, random_inputs

DIRECTIONS = ("forward", "reverse", "bidirectional")

# One artifact for this machine alone: the levels of x86-64 are compared with each other elsewhere.
NATIVE = {"cpu": "native"}


def check_case(case: CellCase, target: str) -> None:
    """Every output of a compiled case is the oracle's."""
    model = cell_model(case)
    inputs = random_inputs(model, seed=case.seed)
    expected = expected_outputs(model, inputs)
    if not is_tame(expected):
        return  # an unbounded activation ran away: float32 has no say there
    artifact = compile_model(
        model,
        target=target,
        mode="call",
        shapes={name: x.shape for name, x in inputs.items()},
        target_options=NATIVE if target == "host" else {},
        check=False,
    )
    result = artifact.session().call(inputs)
    if not isinstance(result, dict):
        result = {artifact.signature.outputs[0].name: result}
    assert_close(result, expected, where=str(case))


def grid() -> list[CellCase]:
    """Every value of every attribute with every direction, odd sizes, more than one batch."""
    cases: list[CellCase] = []
    base = CellCase(hidden=37, features=5, steps=4, batch=3)
    for op, direction in itertools.product(("LSTM", "GRU", "RNN"), DIRECTIONS):
        case = dataclasses.replace(base, op=op, direction=direction)
        variants: list[dict[str, object]] = [
            {},
            {"clip": 0.3},
            {"layout": 1},
            {"sequence_lens": "input"},
            {"sequence_lens": (4, 1, 2)},
            {"initial_h": "input", "initial_c": "constant"},
            {"bias": False},
            {"outputs": ("Y_h",)},
            {"hidden": 16, "features": 1, "batch": 1},
            {"hidden": 1, "features": 3, "batch": 2, "steps": 1},
            {"hidden": 33, "clip": 0.5, "layout": 1, "sequence_lens": "input"},
        ]
        if op == "LSTM":
            variants += [
                {"peepholes": True},
                {"input_forget": True},
                {"peepholes": True, "input_forget": True, "clip": 0.4},
                {"peepholes": True, "initial_c": "input", "layout": 1},
            ]
        if op == "GRU":
            variants += [
                {"linear_before_reset": True},
                {"linear_before_reset": True, "clip": 0.3, "bias": False},
                {"linear_before_reset": True, "sequence_lens": "input", "initial_h": "input"},
            ]
        cases += [
            dataclasses.replace(case, seed=seed, **variant)  # type: ignore[arg-type]
            for seed, variant in enumerate(variants)
        ]
    return cases


@pytest.mark.parametrize("target", ["reference", pytest.param("host", marks=pytest.mark.tvm)])
@pytest.mark.parametrize("case", grid(), ids=str)
def test_grid(case: CellCase, target: str) -> None:
    """Each attribute alone and in telling combinations."""
    check_case(case, target)


@given(case=cell_cases())
def test_drawn_on_reference(case: CellCase) -> None:
    """Any combination of attributes, activations included, on the reference."""
    check_case(case, "reference")


@pytest.mark.tvm
@pytest.mark.slow
@given(case=cell_cases())
def test_drawn_on_host(case: CellCase) -> None:
    """Any combination of attributes, activations included, in compiled code."""
    check_case(case, "host")


@pytest.mark.tvm
@pytest.mark.parametrize("isa", ["x86-64-v2", "x86-64-v3", "x86-64-v4"])
@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
def test_every_level(op: str, isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each level of x86-64 that this machine has computes the same within the tolerance."""
    from edgelstm.engines.cpu_features import cpu_flags

    needed = {"x86-64-v2": "sse4_2", "x86-64-v3": "avx2", "x86-64-v4": "avx512f"}[isa]
    if needed not in cpu_flags():
        pytest.skip(f"this CPU has no {needed}")
    monkeypatch.setenv("EDGELSTM_ISA", isa)
    case = CellCase(op=op, hidden=37, features=5, steps=6, batch=2, direction="bidirectional")
    model = cell_model(case)
    inputs = random_inputs(model, seed=1)
    artifact = compile_model(model, mode="call", check=False, target_options={"cpu": "generic"})
    assert artifact.kernel.facts["isa"] == isa
    assert_close(artifact.session().call(inputs), expected_outputs(model, inputs))


def test_the_comparison_notices_a_wrong_weight() -> None:
    """The check of this file fails when one weight differs: it is not vacuous."""
    case = CellCase(op="LSTM", hidden=5, steps=3)
    model = cell_model(case)
    inputs = random_inputs(model, seed=0)
    expected = expected_outputs(model, inputs)
    expected["Y"] = expected["Y"] + np.float32(1e-4)
    artifact = compile_model(model, target="reference", mode="call", check=False)
    with pytest.raises(AssertionError):
        assert_close(artifact.session().call(inputs), expected)
