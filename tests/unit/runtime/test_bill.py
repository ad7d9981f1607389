"""Bills of materials: valid CycloneDX, the same for the same, of artifact and installation."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

import edgelstm
from tests.unit.runtime.command_line import invoke
from tests.unit.runtime.toy_models import leaky_reference

pytest.importorskip("cyclonedx")


def test_the_bill_of_an_artifact(tmp_path: Path) -> None:
    """The file with its hash, its sections, the model it was made from, and what made it."""
    path = tmp_path / "leaky.edgelstm"
    made = {"edgelstm": "0.1.0", "packages": {"numpy": "2.0.0"}}
    leaky_reference(provenance=made).save(path)
    result = invoke("sbom", path)
    assert result.exit_code == 0, result.stderr
    bill = json.loads(result.stdout)
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    (found,) = bill["metadata"]["component"]["hashes"]
    assert found == {"alg": "SHA-256", "content": hashlib.sha256(path.read_bytes()).hexdigest()}
    names = {component["name"] for component in bill["components"]}
    assert {"weights", "program", "leaky.onnx", "numpy", "edgelstm"} <= names
    assert invoke("sbom", path).stdout == result.stdout


def test_the_bill_of_the_installation() -> None:
    """Edgelstm and what it needs, with versions and package URLs."""
    result = invoke("sbom")
    assert result.exit_code == 0, result.stderr
    bill = json.loads(result.stdout)
    assert bill["metadata"]["component"]["version"] == edgelstm.__version__
    packages = {component["name"]: component for component in bill["components"]}
    assert packages["numpy"]["purl"].startswith("pkg:pypi/numpy@")
    assert "click" in packages


def test_files_are_not_replaced(tmp_path: Path) -> None:
    """`-o` writes a new file."""
    path = tmp_path / "bill.json"
    assert invoke("sbom", "-o", path).exit_code == 0
    before = path.read_bytes()
    assert invoke("sbom", "-o", path).exit_code == 5
    assert path.read_bytes() == before
