"""Whole exported C programs for Linux on ARM, built by Debian's cross compilers, run by QEMU."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgelstm_compiler import compile_model
from tests.arm.c_project import export, run_in_user_mode
from tests.arm.integer_models import in_integers, save
from tests.models import gru_model, lstm_model

pytestmark = pytest.mark.tvm
pytest.importorskip("tvm")

MACHINES = {"rpi5": "aarch64", "armv7": "arm"}
"""The machine of each target."""
MODELS = {
    "lstm": (lstm_model, {"hidden": 19, "features": 5, "steps": None}, {}),
    "gru": (
        gru_model,
        {"hidden": 13, "features": 6, "steps": None, "linear_before_reset": True},
        {},
    ),
    "bidirectional": (
        lstm_model,
        {"hidden": 9, "features": 4, "steps": 6, "direction": "bidirectional"},
        {"mode": "call"},
    ),
}


@pytest.mark.parametrize("target", MACHINES)
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("scheme", ["fp32", "int8-full"])
def test_the_program_gives_what_numpy_gives(
    target: str, name: str, scheme: str, tmp_path: Path
) -> None:
    """Known outputs from NumPy: within 1e-5 in floats, bit for bit in whole numbers."""
    make, fields, options = MODELS[name]
    model = save(make(**fields), tmp_path)
    if scheme == "fp32":
        artifact = compile_model(model, target=target, name="net", check=False, **options)
    else:
        artifact = in_integers(model, target, integer_io=False, name="net", **options)
    folder = export(artifact, tmp_path / "c", model=model)
    selftest = (folder / "net_selftest.c").read_text()
    assert ("Every bit must be equal" in selftest) == (scheme == "int8-full")
    assert run_in_user_mode(folder, MACHINES[target]) == "net: PASS\n"
