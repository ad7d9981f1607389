"""What every host artifact promises: size, symbols, reproducible bytes, compile time."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

import edgelstm
from edgelstm.artifact import Artifact
from edgelstm_compiler import compile_model, elf
from tests.models import gru_model, lstm_model, stacked_model

pytestmark = [pytest.mark.tvm, pytest.mark.usefixtures("every_instruction_set")]

KB = 1024


@pytest.fixture(scope="module")
def two_layers() -> onnx.ModelProto:
    """Two layers of 128 units over nine channels, with a classifier."""
    return stacked_model(ops=("LSTM", "LSTM"), hidden=128, features=9, steps=None, head="sequence")


@pytest.fixture(scope="module")
def artifact(two_layers: onnx.ModelProto) -> Artifact:
    """That model, compiled for all levels of x86-64."""
    return compile_model(two_layers, name="two_layers")


def code_sections(artifact: Artifact) -> dict[str, bytes]:
    """The shared objects by name of their section."""
    sections = artifact.container.sections
    return {name: bytes(data) for name, data in sections.items() if name.startswith("code/")}


def test_three_levels(artifact: Artifact) -> None:
    """SSE4.2, AVX2 with FMA, and AVX-512 code stand in one artifact."""
    assert set(code_sections(artifact)) == {
        "code/x86-64-v2",
        "code/x86-64-v3",
        "code/x86-64-v4",
    }


def test_size(artifact: Artifact, tmp_path: Path) -> None:
    """The file is the weights plus at most 64 KB per instruction set."""
    path = tmp_path / "two_layers.edgelstm"
    artifact.save(path)
    weights = artifact.manifest["memory"]["weights_bytes"]
    model = 4 * (4 * 128 * (9 + 128 + 2) + 4 * 128 * (128 + 128 + 2) + 128 * 5 + 5)
    assert weights <= 1.02 * model
    assert path.stat().st_size <= weights + 64 * KB * len(code_sections(artifact))


@pytest.mark.parametrize("mode", ["stream", "call"])
def test_symbols(mode: str) -> None:
    """The code shows three functions and its sizes, and needs nothing: no libm, no malloc."""
    models = {
        "heads": stacked_model(ops=("GRU", "RNN"), features=6, steps=5, head="sequence"),
        "strange": lstm_model(
            features=3,
            activations=("Softplus", "Elu", "ScaledTanh"),
            alpha=(0.5, 0.9),
            beta=(0.7,),
            outputs=("Y",),
        ),
    }
    for name, model in models.items():
        artifact = compile_model(model, mode=mode, name=name)  # type: ignore[arg-type]
        for section, code in code_sections(artifact).items():
            assert elf.undefined(code) == (), section
            public = set(elf.exports(code))
            wanted = {f"{name}_{what}" for what in ("step", "run", "read", "sizes")}
            assert public == wanted, section


def test_two_compilations_give_the_same_bytes(
    two_layers: onnx.ModelProto, artifact: Artifact, tmp_path: Path
) -> None:
    """In this process and in another one, somewhere else on the disk."""
    artifact.save(tmp_path / "a.edgelstm")
    compile_model(two_layers, name="two_layers").save(tmp_path / "b.edgelstm")
    (tmp_path / "elsewhere").mkdir()
    onnx.save(two_layers, tmp_path / "model.onnx")
    script = (
        "import onnx; from edgelstm_compiler import compile_model; "
        "compile_model(onnx.load('../model.onnx'), name='two_layers').save('../c.edgelstm')"
    )
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path / "elsewhere", check=True)
    first = (tmp_path / "a.edgelstm").read_bytes()
    assert (tmp_path / "b.edgelstm").read_bytes() == first
    assert (tmp_path / "c.edgelstm").read_bytes() == first


def test_compiling_takes_seconds(two_layers: onnx.ModelProto, tmp_path: Path) -> None:
    """Five seconds for the command as a whole, interpreter and imports included.

    Processor time: other processes of a shared machine say nothing about the compiler.
    """
    onnx.save(two_layers, tmp_path / "model.onnx")
    command = [sys.executable, "-m", "edgelstm.cli", "compile", str(tmp_path / "model.onnx")]
    output = ["-o", str(tmp_path / "m.edgelstm")]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([*command, *output], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 5


def test_native_cpu(tmp_path: Path) -> None:
    """`cpu=native` builds one shared object, for this machine; it says what it needs."""
    model = gru_model(features=4, steps=None, outputs=("Y",))
    artifact = compile_model(model, target_options={"cpu": "native"})
    assert len(code_sections(artifact)) == 1
    artifact.save(tmp_path / "g.edgelstm")
    loaded = edgelstm.load(tmp_path / "g.edgelstm")
    frames = np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32)
    np.testing.assert_array_equal(loaded.session().run(frames), artifact.session().run(frames))


def test_header(artifact: Artifact) -> None:
    """The C header declares the functions and the sizes of the blocks."""
    header = artifact.header
    for word in ("two_layers_step", "two_layers_run", "TWO_LAYERS_STATE_BYTES", "int32_t"):
        assert word in header
