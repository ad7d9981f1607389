"""A device: the wheel in a clean environment with NumPy and click alone runs an artifact."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgelstm_compiler import compile_model
from tests.models import stacked_model

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    done = subprocess.run([*command, str(ROOT)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def device(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment into which only the wheel was installed."""
    folder = tmp_path_factory.mktemp("device")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, str(wheel)], check=True)
    return python


def test_wheel_holds_three_packages(wheel: Path) -> None:
    """Three importable packages, the demo's model among them, and no tests."""
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info" not in name}
    assert tops == {"edgelstm", "edgelstm_compiler", "edgelstm_targets"}
    assert "edgelstm_compiler/demo/tug_phase.onnx" in names
    assert all(f"{top}/py.typed" in names for top in tops)


def test_device_has_numpy_and_click_alone(device: Path) -> None:
    """Nothing else comes with it."""
    words = [str(device), "-m", "pip", "list", "--format", "freeze", "--disable-pip-version-check"]
    listing = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    names = {line.split("==")[0].lower() for line in listing.splitlines()}
    assert names - {"pip", "setuptools", "wheel"} == {"edgelstm", "numpy", "click"}


@pytest.mark.parametrize("target", ["reference", pytest.param("host", marks=pytest.mark.tvm)])
def test_run_on_the_device(device: Path, target: str, tmp_path: Path) -> None:
    """`edgelstm run` there gives what a session here gives."""
    path, source, output = (tmp_path / name for name in ("m.edgelstm", "in.npy", "out.npy"))
    model = stacked_model(ops=("GRU", "LSTM"), features=6, steps=None, head="sequence")
    onnx.checker.check_model(model)
    artifact = compile_model(model, target=target)
    artifact.save(path)
    frames = np.random.default_rng(0).standard_normal((50, 6)).astype(np.float32)
    np.save(source, frames)
    command = [str(device.parent / "edgelstm"), "run", str(path)]
    done = subprocess.run(
        [*command, "--input", str(source), "--output", str(output)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(np.load(output), artifact.session().run(frames), atol=1e-6)


def test_commands_of_the_compiler_say_what_to_install(device: Path) -> None:
    """`compile` on a device is no traceback but a hint."""
    command = [str(device.parent / "edgelstm"), "compile", "model.onnx"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 4
    assert "[compiler]" in done.stderr
    assert "Traceback" not in done.stderr
