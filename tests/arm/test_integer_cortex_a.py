"""Integer products on emulated Cortex-A: NumPy's bits from every instruction set."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgelstm.artifact import Artifact
from edgelstm_compiler import compile_model
from edgelstm_compiler.c_export.golden import record_golden
from edgelstm_compiler.c_export.pieces import ExportOptions
from edgelstm_compiler.c_export.project import export_project
from edgelstm_compiler.emulation.kernel import emulate
from tests.arm.c_project import run_in_user_mode
from tests.arm.integer_cases import (
    CALLS,
    STEPS,
    STREAMS,
    as_bytes,
    compile_integers,
    integrator,
    stream,
    walk,
    wanted_calls,
    wanted_stream,
)
from tests.models import gru_model, lstm_model, stacked_model
from tests.quantized_models import recordings, step_graph

pytestmark = pytest.mark.tvm
pytest.importorskip("tvm")

TARGETS = {
    "aarch64-dotprod": "aarch64",
    "aarch64": "aarch64",
    "armv7-vfpv4": "armv7",
    "armv7-neon": "armv7",
}
"""The target of each instruction set."""
FLOAT_MODELS: dict[str, tuple[Any, dict[str, Any]]] = {
    "stack": (stacked_model, {"ops": ("LSTM", "GRU"), "hidden": 24, "head": "sequence"}),
    "lstm": (lstm_model, {"hidden": 37, "features": 5, "peepholes": True, "clip": 3.0}),
    "gru_linear": (gru_model, {"hidden": 33, "features": 3, "linear_before_reset": True}),
}


def _cuts(seed: str) -> list[int]:
    rng = np.random.default_rng(sum(seed.encode()))
    return sorted(set(rng.integers(1, STEPS - 1, 20).tolist()) | {1, 2})


@functools.cache
def _streaming(name: str, target: str, integer_io: bool) -> Artifact:
    model, given, _, _ = wanted_stream(name, integer_io)
    return compile_integers(model, target, "stream", given, integer_io)


@pytest.mark.parametrize("isa", TARGETS)
@pytest.mark.parametrize("name", STREAMS)
def test_streams(name: str, isa: str) -> None:
    """Hundreds of steps, cut at random: outputs and states; inputs go to the ends of int16."""
    pytest.importorskip("unicorn", reason="pip install unicorn==2.1.4")
    _, _, frames, wanted = wanted_stream(name, True)
    assert np.max(frames["X"]) == 32767
    artifact = emulate(_streaming(name, TARGETS[isa], True), isa)
    assert stream(artifact, frames, _cuts(name + isa)) == wanted


@pytest.mark.parametrize("isa", ["aarch64-dotprod", "armv7-vfpv4"])
@pytest.mark.parametrize("name", ["lstm_peepholes_clip", "stack"])
def test_streams_of_floats(name: str, isa: str) -> None:
    """The same with float inputs and outputs: they are quantized as NumPy does."""
    pytest.importorskip("unicorn", reason="pip install unicorn==2.1.4")
    _, _, frames, wanted = wanted_stream(name, False)
    artifact = emulate(_streaming(name, TARGETS[isa], False), isa)
    assert stream(artifact, frames, _cuts(name)) == wanted


@functools.cache
def _integrator() -> tuple[onnx.ModelProto, Any, dict[str, Any], tuple[bytes, bytes]]:
    """Inputs that drive the cells of `integrator` to the ends of 16 bits, and NumPy's bits."""
    model, given = integrator()
    reference = compile_integers(model, "reference", "stream", given, True)
    signs = np.where(np.arange(300) < 140, 1, -1)[:, None]
    frames = {"X": np.broadcast_to(signs * 32767, (300, 2)).astype(np.int16)}
    return model, given, frames, stream(reference, frames)


@pytest.mark.parametrize("isa", TARGETS)
def test_cells_that_saturate(isa: str) -> None:
    """The cell state stops at 32767 and -32767."""
    pytest.importorskip("unicorn", reason="pip install unicorn==2.1.4")
    model, given, frames, wanted = _integrator()
    artifact = emulate(compile_integers(model, TARGETS[isa], "stream", given, True), isa)
    assert stream(artifact, frames) == wanted
    cells = np.frombuffer(wanted[1], np.int16)
    assert np.any(np.abs(cells.astype(int)) == 32767)


@pytest.mark.parametrize("target", ["rpi3", "rpi5"])
def test_boards(target: str) -> None:
    """The instruction set of each board."""
    pytest.importorskip("unicorn", reason="pip install unicorn==2.1.4")
    _, _, frames, wanted = wanted_stream("stack", True)
    assert stream(emulate(_streaming("stack", target, True)), frames) == wanted


@pytest.mark.parametrize("target", ["aarch64", "armv7"])
@pytest.mark.parametrize("name", CALLS)
def test_calls(name: str, target: str) -> None:
    """Directions, batch, lengths, and initial states at the ends of their range."""
    pytest.importorskip("unicorn", reason="pip install unicorn==2.1.4")
    model, given, inputs, wanted = wanted_calls(name)
    compiled = compile_integers(model, target, "call", given, True)
    for isa in (isa for isa, of in TARGETS.items() if of == target):
        artifact = emulate(compiled, isa)
        assert [as_bytes(artifact.session().call(each)) for each in inputs] == wanted, isa


@pytest.mark.parametrize(("isa", "cpu"), [("aarch64-dotprod", "max"), ("aarch64", "cortex-a53")])
def test_on_a_processor_with_i8mm(isa: str, cpu: str, tmp_path: Path, monkeypatch) -> None:
    """QEMU's `max` has i8mm and SVE2: what it picks gives NumPy's bits; a Cortex-A53 picks NEON."""
    from edgelstm.engines.native import choose_variant, code_variants

    model, given, frames, _ = wanted_stream("stack", True)
    artifact = _streaming("stack", "aarch64", True)
    flags = {"fp", "asimd", "crc32"}
    if isa == "aarch64-dotprod":
        flags |= {"asimddp", "i8mm", "sve", "sve2", "svei8mm", "bf16"}
    monkeypatch.setattr("edgelstm.engines.native.machine", lambda: "aarch64")
    monkeypatch.setattr("edgelstm.engines.native.cpu_flags", lambda: frozenset(flags))
    assert choose_variant(code_variants(artifact.container)).isa == isa
    reference = compile_integers(model, "reference", "stream", given, True)
    golden = record_golden(reference, frames, STEPS, None)
    export_project(artifact, tmp_path, golden, ExportOptions(isa=isa))
    assert "Every bit must be equal" in (tmp_path / "net_selftest.c").read_text()
    assert run_in_user_mode(tmp_path, "aarch64", cpu) == "net: PASS\n"


@functools.cache
def _in_floats(name: str, scheme: str) -> tuple[Any, Any, dict[str, Any], Any]:
    make, fields = FLOAT_MODELS[name]
    model = make(steps=None, **fields)
    given = recordings(step_graph(model), frames=100)
    reference = compile_model(
        model, target="reference", name="net", quantize=scheme, calibration=given, check=False
    )
    frames = walk(reference, 60)
    return model, given, frames, np.frombuffer(stream(reference, frames)[0], np.float32)


@pytest.mark.parametrize("target", ["aarch64", "armv7"])
@pytest.mark.parametrize(
    ("name", "scheme"),
    [(name, "int8") for name in FLOAT_MODELS] + [("stack", kind) for kind in ("fp16", "w8", "w4")],
)
def test_steps_are_the_sequence(name: str, scheme: str, target: str) -> None:
    """Any chunking gives the same bits on one instruction set; NumPy is near."""
    pytest.importorskip("unicorn", reason="pip install unicorn==2.1.4")
    model, given, frames, wanted = _in_floats(name, scheme)
    artifact = compile_model(
        model, target=target, name="net", quantize=scheme, calibration=given, check=False
    )
    for entry in artifact.manifest["target"]["facts"]["isas"]:
        isa = entry["section"].removeprefix("code/")
        emulated = emulate(artifact, isa)
        whole = stream(emulated, frames)
        assert whole == stream(emulated, frames, [1, 2, 3, 19, 20, 41]), isa
        found = np.frombuffer(whole[0], np.float32)
        # A sum near the middle of two steps of int8 may be rounded to the other one.
        np.testing.assert_allclose(found, wanted, 0, 0.02 if scheme == "int8" else 1e-4)
