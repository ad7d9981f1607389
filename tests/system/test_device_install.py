"""A device: the wheel in a clean environment with NumPy and click alone runs an artifact."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from edgelstm.cli import COMPILER_COMMANDS, cli
from edgelstm.version import VERSION
from edgelstm_compiler import compile_model
from tests.models import stacked_model

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


DISTRIBUTIONS = {"edgelstm": "", "edgelstm_compiler": "compiler", "edgelstm_targets": "targets"}
"""Packages with the folders of their distributions."""


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheels of this checkout, by package."""
    folder = tmp_path_factory.mktemp("wheels")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    for place in DISTRIBUTIONS.values():
        words = [*command, str(ROOT / place)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return {path.name.split("-")[0]: path for path in folder.glob("*.whl")}


@pytest.fixture(scope="module")
def wheel(wheels: dict[str, Path]) -> Path:
    """The wheel of the runtime."""
    return wheels["edgelstm"]


@pytest.fixture(scope="module")
def device(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment into which only the wheel was installed."""
    folder = tmp_path_factory.mktemp("device")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, str(wheel)], check=True)
    return python


def content(wheel: Path) -> set[str]:
    """Files of a wheel besides what describes the distribution."""
    return {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}


def test_each_wheel_holds_its_package(wheels: dict[str, Path]) -> None:
    """A package each, typed; no file in two of them, and no tests."""
    assert set(wheels) == set(DISTRIBUTIONS)
    for package, path in wheels.items():
        assert {name.split("/")[0] for name in content(path)} == {package}
        assert f"{package}/py.typed" in content(path)
    assert "edgelstm_compiler/demo/tug_phase.onnx" in content(wheels["edgelstm_compiler"])


@pytest.mark.tvm
def test_templates_come_with_the_wheels(wheels: dict[str, Path], tmp_path: Path) -> None:
    """Wheels export what the checkout does: no file of theirs is left behind."""
    pytest.importorskip("tvm")
    unpacked, artifact = tmp_path / "unpacked", tmp_path / "m.edgelstm"
    for path in wheels.values():
        zipfile.ZipFile(path).extractall(unpacked)
    model = stacked_model(ops=("GRU",), features=3, steps=None, head="sequence")
    compile_model(model, target="cortex-m4", check=False).save(artifact)
    code = (
        "from edgelstm.cli import cli\n"
        "import edgelstm_compiler.templates, edgelstm_targets.tvm_cpu.header as header\n"
        "print(edgelstm_compiler.templates.__file__, header.__file__)\n"
        "from edgelstm_compiler.templates import fill\n"
        "try: fill(header.__package__, 'model.h')\n"
        "except Exception as error: print(error)\n"
        "for package in ('cmake', 'arduino', 'zephyr'):\n"
        f"    words = ['export-c', {str(artifact)!r}, '--package', package, '--agent', '-o']\n"
        "    cli([*words, 'wheel_' + package], standalone_mode=False)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(unpacked)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    first, second = done.stdout.splitlines()[:2]
    assert all(file.startswith(str(unpacked)) for file in first.split())
    assert "template model.h and its values differ" in second
    for package in ("cmake", "arduino", "zephyr"):
        folder = tmp_path / package
        words = ["export-c", str(artifact), "--package", package, "--agent", "-o", str(folder)]
        assert CliRunner().invoke(cli, words).exit_code == 0
        found, expected = (
            {file.relative_to(place): file.read_bytes() for file in place.rglob("*.*")}
            for place in (tmp_path / f"wheel_{package}", folder)
        )
        assert found == expected
        assert len(expected) > 8


def test_each_wheel_holds_the_licence(wheels: dict[str, Path]) -> None:
    """The text, not a link to where it stands in the checkout."""
    for path in wheels.values():
        archive = zipfile.ZipFile(path)
        (name,) = (name for name in archive.namelist() if name.endswith("/LICENSE"))
        assert b"Apache License" in archive.read(name)


def test_size_of_the_runtime(wheel: Path) -> None:
    """What a device is sent takes less than 1.5 MB."""
    assert wheel.stat().st_size < 1.5e6


def test_versions_belong_together() -> None:
    """The compiler wants the runtime of its own version, the targets that compiler."""
    projects = {
        package: tomllib.loads((ROOT / folder / "pyproject.toml").read_text("utf-8"))["project"]
        for package, folder in DISTRIBUTIONS.items()
    }
    assert {project["version"] for project in projects.values()} == {VERSION}
    assert f"edgelstm=={VERSION}" in projects["edgelstm_compiler"]["dependencies"]
    assert f"edgelstm-compiler=={VERSION}" in projects["edgelstm_targets"]["dependencies"]


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


def test_help_on_the_device(device: Path) -> None:
    """It lists the commands that work there, and no other."""
    command = [str(device.parent / "edgelstm"), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    listed = {line.split()[0] for line in done.stdout.partition("Commands:")[2].split("\n") if line}
    assert {"run", "inspect", "bench", "targets"} <= listed
    assert not listed & set(COMPILER_COMMANDS)
    assert "cannot be loaded" not in done.stdout


@pytest.mark.parametrize("name", COMPILER_COMMANDS)
def test_commands_of_the_compiler_say_what_to_install(device: Path, name: str) -> None:
    """`compile` on a device is no traceback but a hint."""
    command = [str(device.parent / "edgelstm"), name, "model.onnx", "-o", "x"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 4
    assert "pip install . ./compiler ./targets" in done.stderr
    assert "Traceback" not in done.stderr


def test_every_command_of_the_compiler_is_known() -> None:
    """The runtime knows the commands of the compiler by name, all of them."""
    project = tomllib.loads((ROOT / "compiler" / "pyproject.toml").read_text("utf-8"))["project"]
    assert set(project["entry-points"]["edgelstm.commands"]) == set(COMPILER_COMMANDS)
