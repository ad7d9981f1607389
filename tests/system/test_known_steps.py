"""Steps recorded at compilation: what the reference engine computes is what the code computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgelstm.artifact import Artifact
from edgelstm.blocks import unpack_inputs, unpack_outputs
from edgelstm.container import Container
from edgelstm.errors import TargetUnavailableError
from edgelstm_compiler import compile_model
from edgelstm_compiler.c_export.golden import record_golden
from edgelstm_compiler.emulation.kernel import emulate
from edgelstm_compiler.known_steps import KnownSteps, recorded_steps
from tests.models import stacked_model

pytestmark = [pytest.mark.tvm, pytest.mark.usefixtures("every_instruction_set")]
pytest.importorskip("tvm")


def compiled(scheme: str | None = None, **options: Any) -> Artifact:
    """A small model for the host."""
    model = stacked_model(ops=("LSTM", "GRU"), hidden=8, features=3, steps=None, head="sequence")
    frames = np.random.default_rng(0).standard_normal((200, 3)).astype(np.float32)
    if scheme == "int8-full":
        options["calibration"] = [frames]
    return compile_model(model, quantize=scheme, check=False, **options)


def replayed(artifact: Artifact, known: KnownSteps) -> tuple[np.ndarray, np.ndarray]:
    """The recorded outputs, and those of a session on the recorded inputs."""
    signature = artifact.signature
    (given,), (shown,) = signature.inputs, signature.outputs
    wanted, found = [], []
    session = artifact.session()
    for step in range(known.steps):
        block = known.inputs[step * signature.input_bytes : (step + 1) * signature.input_bytes]
        result = known.outputs[step * signature.output_bytes : (step + 1) * signature.output_bytes]
        wanted.append(unpack_outputs(signature, result)[shown.name])
        found.append(np.array(session.step(unpack_inputs(signature, block)[given.name])))
    return np.array(wanted), np.array(found)


def test_integer_models_agree_to_the_bit() -> None:
    """On compiled code; the self-test of the C project compares every bit too."""
    artifact = compiled("int8-full")
    known = recorded_steps(artifact)
    assert known is not None
    assert known.steps == 16
    np.testing.assert_array_equal(*replayed(artifact, known))
    assert record_golden(artifact, None, 16, None).tolerance == 0


def test_float_models_agree_within_the_tolerance() -> None:
    """Which the self-test allows."""
    artifact = compiled()
    known = recorded_steps(artifact)
    assert known is not None
    golden = record_golden(artifact, None, 16, None)
    wanted, found = replayed(artifact, known)
    assert 0 < golden.tolerance <= 1e-5
    np.testing.assert_allclose(found, wanted, atol=golden.tolerance)
    assert golden.outputs == known.outputs
    assert "reference engine" in golden.origin


def test_fewer_steps_are_the_first_of_them() -> None:
    """`--steps 3`."""
    artifact = compiled()
    golden, whole = (record_golden(artifact, None, steps, None) for steps in (3, 16))
    assert (golden.steps, whole.steps) == (3, 16)
    assert whole.inputs.startswith(golden.inputs)
    assert whole.outputs.startswith(golden.outputs)


def test_more_steps_are_emulated() -> None:
    """The code for x86-64-v2, by Unicorn; the same numbers as on this machine."""
    pytest.importorskip("unicorn")
    artifact = compiled("int8-full")
    golden = record_golden(artifact, None, 40, None)
    assert golden.steps == 40
    assert "emulated" in golden.origin
    known = KnownSteps(golden.inputs, golden.outputs, golden.steps)
    np.testing.assert_array_equal(*replayed(artifact, known))


def test_extensions_that_the_emulator_lacks_are_named() -> None:
    """AVX is not there."""
    pytest.importorskip("unicorn")
    with pytest.raises(TargetUnavailableError, match=r"up to SSE4\.2, and the code for x86-64-v3"):
        emulate(compiled(), "x86-64-v3", host_too=True)


def test_nothing_is_said_where_nobody_can_tell(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An artifact without recorded steps, no emulator, no model: the way out is named."""
    import importlib.util

    container = compiled().container
    sections = {k: v for k, v in container.sections.items() if not k.startswith("known/")}
    artifact = Artifact(Container(container.manifest, sections))
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "unicorn" else find(name, *a)
    )
    with pytest.raises(TargetUnavailableError, match="give the ONNX model by --model"):
        record_golden(artifact, None, 16, None)
