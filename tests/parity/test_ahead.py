"""Input products that a run computes ahead: the same bits as steps, for any number of frames."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from edgelstm.artifact import Artifact
from edgelstm.engines.native import ISA_VARIABLE, code_variants
from edgelstm.errors import NonFiniteStateError
from edgelstm_compiler.driver import compile_model
from edgelstm_compiler.emulation.kernel import emulate
from tests.models import gru_model, lstm_model, rnn_model

pytestmark = [pytest.mark.tvm, pytest.mark.usefixtures("every_instruction_set")]

WIDE: dict[str, Any] = {"steps": None, "features": 301}
MODELS = {
    "lstm": lambda: lstm_model(hidden=32, **WIDE),
    "lstm, a part of a block": lambda: lstm_model(hidden=44, peepholes=True, clip=0.7, **WIDE),
    "lstm, half a block": lambda: lstm_model(hidden=24, **WIDE),
    "gru": lambda: gru_model(hidden=28, **WIDE),
    "gru, reset behind the product": lambda: gru_model(hidden=48, linear_before_reset=True, **WIDE),
    "rnn": lambda: rnn_model(hidden=96, **WIDE),
    "rows that are not joined": lambda: lstm_model(hidden=16, steps=None, features=4200, gain=0.1),
}


def frames_of(model: onnx.ModelProto, count: int, seed: int = 0) -> np.ndarray:
    """Seeded input."""
    width = model.graph.input[0].type.tensor_type.shape.dim[2].dim_value
    return np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32)


def isas_of(artifact: Artifact) -> list[str]:
    """Those that this machine runs."""
    return [x.isa for x in code_variants(artifact.container) if x.obstacle() is None]


def compiled(model: onnx.ModelProto, **options: Any) -> Artifact:
    """For this machine's kind, without the code for many streams."""
    given: dict[str, Any] = {"target": "host", "mode": "stream", "check": False}
    return compile_model(model, target_options={"streams": "no"}, **{**given, **options})


def sets_ahead(artifact: Artifact) -> int:
    """For how many instruction sets a run computes input products of several frames at once."""
    return sum(x.get("ahead", 1) > 1 for x in artifact.manifest["target"]["facts"]["isas"])


@pytest.mark.parametrize("name", MODELS)
def test_a_run_is_as_many_steps_to_the_bit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outputs and states, whole groups of frames and what is left, on every instruction set."""
    model = MODELS[name]()
    artifact = compiled(model)
    # Half a block is summed in another way with short vectors.
    assert sets_ahead(artifact) == (2 if "half" in name else 3)
    frames = frames_of(model, 61)
    for isa in isas_of(artifact):
        monkeypatch.setenv(ISA_VARIABLE, isa)
        chosen = Artifact(artifact.container)
        stepped, run = chosen.session(), chosen.session()
        at = 0
        for count in (1, 5, 6, 7, 13, 29):
            block = frames[at : at + count]
            found = run.run(block)
            wanted = [
                {key: value.copy() for key, value in stepped.step(frame).items()} for frame in block
            ]
            for key, rows in found.items():
                np.testing.assert_array_equal(rows, np.stack([each[key] for each in wanted]))
            at += count
        assert run.snapshot() == stepped.snapshot(), isa


def test_the_numbers_are_those_of_the_model() -> None:
    """The self-check compares runs in pieces and steps with ONNX Runtime, inside and out."""
    artifact = compiled(MODELS["lstm"](), check=True)
    assert artifact.manifest["check"]["done"]


@pytest.mark.parametrize("options", [{"features": 12, "hidden": 64}, {"hidden": 8}])
def test_narrow_inputs_and_near_weights_are_not(options: dict[str, int]) -> None:
    """Their code stays as small as it is."""
    assert sets_ahead(compiled(lstm_model(steps=None, **options))) == 0


def test_frames_between_other_inputs_are_found() -> None:
    """Two inputs: the frames of the wide one stand apart by both."""
    model = lstm_model(hidden=24, outputs=("Y",), **WIDE)
    model.graph.input.append(
        helper.make_tensor_value_info("other", onnx.TensorProto.FLOAT, ["T", 1, 1, 24])
    )
    model.graph.node.append(helper.make_node("Add", ["Y", "other"], ["sum"], "add"))
    model.graph.output[0].CopyFrom(
        helper.make_tensor_value_info("sum", onnx.TensorProto.FLOAT, ["T", 1, 1, 24])
    )
    artifact = compiled(model)
    rng = np.random.default_rng(3)
    inputs = {
        spec.name: rng.standard_normal((17, *spec.shape)).astype(np.float32)
        for spec in artifact.signature.inputs
    }
    session = artifact.session()
    rows = [session.step({name: x[i] for name, x in inputs.items()}).copy() for i in range(17)]
    np.testing.assert_array_equal(artifact.session().run(inputs), np.stack(rows))


def test_a_run_stops_at_the_frame_whose_state_would_overflow() -> None:
    """Within a group of frames whose products were there already."""
    model = rnn_model(hidden=96, activations=("Relu",), gain=3.0, **WIDE)
    artifact = compiled(model)
    assert artifact.signature.checks_states
    frames = np.abs(frames_of(model, 40)) * 1e26
    stepped, run = artifact.session(), artifact.session()
    with pytest.raises(NonFiniteStateError) as caught:
        run.run(frames)
    done = caught.value.frames_done
    assert 0 < done < 40
    for frame in frames[:done]:
        stepped.step(frame)
    with pytest.raises(NonFiniteStateError):
        stepped.step(frames[done])
    assert run.snapshot() == stepped.snapshot()


@pytest.mark.parametrize("target", ["aarch64", "armv7"])
def test_emulated_arm_computes_ahead_too(target: str) -> None:
    """Fewer lanes than a block has units, other numbers of sums side by side."""
    pytest.importorskip("unicorn")
    model = MODELS["gru"]()
    artifact = emulate(compiled(model, target=target))
    frames = frames_of(model, 9)
    stepped, run = artifact.session(), artifact.session()
    found = run.run(frames)
    for i, frame in enumerate(frames):
        for key, value in stepped.step(frame).items():
            np.testing.assert_array_equal(found[key][i], value)
    assert run.snapshot() == stepped.snapshot()
