"""Artifacts: the manifest, the file, and what contradicts itself."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgelstm
from edgelstm import Artifact
from edgelstm.container import Container
from edgelstm.errors import ArtifactFormatError
from tests.unit.runtime.toy_models import (
    LEAKY,
    leaky_expected,
    leaky_native,
    leaky_reference,
    needs_cc,
)

FRAMES = np.random.default_rng(0).standard_normal((10, 2)).astype(np.float32)


@pytest.mark.parametrize("make", [pytest.param(leaky_native, marks=needs_cc), leaky_reference])
def test_saved_and_loaded_it_runs_the_same(make: Callable[[], Artifact], tmp_path: Path) -> None:
    """A session works from memory, and from the file."""
    artifact = make()
    np.testing.assert_array_equal(artifact.session().run(FRAMES), leaky_expected(FRAMES))
    artifact.save(tmp_path / "leaky.edgelstm")
    loaded = edgelstm.load(tmp_path / "leaky.edgelstm")
    np.testing.assert_array_equal(loaded.session().run(FRAMES), leaky_expected(FRAMES))
    assert loaded.manifest == artifact.manifest
    assert loaded.signature == artifact.signature == LEAKY
    assert loaded.header == artifact.header
    assert loaded.model_id == artifact.model_id
    loaded.save(tmp_path / "again.edgelstm")
    assert (tmp_path / "again.edgelstm").read_bytes() == (tmp_path / "leaky.edgelstm").read_bytes()


def test_two_compilations_are_byte_identical() -> None:
    """Nothing of the time or the process gets into the file."""
    assert leaky_reference().container.to_bytes() == leaky_reference().container.to_bytes()


def test_the_manifest_says_where_it_comes_from() -> None:
    """The documented entries are all there."""
    artifact = leaky_reference(options={"a": 1}, target_options={"cpu": "x"}, header="/* h */")
    assert artifact.manifest == {
        "format": 2,
        "edgelstm": edgelstm.__version__,
        "signature": LEAKY.to_json(),
        "target": {
            "name": "reference",
            "engine": "reference",
            "options": {"cpu": "x"},
            "facts": {},
        },
        "memory": {"weights_bytes": 12, "state_bytes": 8, "scratch_bytes": 0},
        "source": {"sha256": "ab" * 32, "file": "leaky.onnx", "producer": "", "opset": None},
        "check": {"done": False, "against": None, "max_error": None},
        "macs": 2,
        "layers": [],
        "options": {"a": 1},
    }
    assert artifact.header == "/* h */"
    assert artifact.sizes["weights"] == 12


def test_model_id_follows_the_source() -> None:
    """Another source, or without one other weights, is another model."""
    same = leaky_reference(source={"sha256": "ab" * 32})
    other = leaky_reference(source={"sha256": "cd" * 32})
    unknown = leaky_reference(source={})
    heavier = leaky_reference(source={}, weights=bytes(12))
    ids = [a.model_id for a in (leaky_reference(), same, other, unknown, heavier)]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 4


def damaged(change: Callable[[dict[str, Any]], object], **sections: bytes) -> Container:
    container = leaky_reference().container
    manifest = dict(container.manifest)
    change(manifest)
    return Container(manifest, {**container.sections, **sections})


def set_in(*path: Any) -> Callable[[dict[str, Any]], None]:
    """Set the value at a path in the manifest."""
    *way, last, value = path

    def change(manifest: dict[str, Any]) -> None:
        place: Any = manifest
        for key in way:
            place = place[key]
        place[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.pop("signature"), "malformed"),
        (lambda m: m.pop("memory"), "malformed"),
        (lambda m: m.pop("target"), "malformed"),
        (set_in("signature", 5), "malformed"),
        (set_in("signature", "inputs", 5), "malformed"),
        (set_in("signature", "inputs", 0, "dtype", "f7"), "malformed"),
        (set_in("signature", "name", 5), "malformed"),
        (set_in("signature", "name", "9 lives"), "no C identifier"),
        (set_in("signature", "mode", "dream"), "signature.mode is 'dream'"),
        (set_in("signature", "outputs", []), "no inputs or no outputs"),
        (set_in("signature", "input_bytes", 4), "input 'x' stands outside of its block"),
        (set_in("signature", "input_bytes", -1), "signature.input_bytes is -1"),
        (set_in("signature", "outputs", 0, "offset_bytes", 4), "output 'y' stands outside"),
        (set_in("signature", "outputs", 0, "offset_bytes", -8), r"outputs\[0\].offset_bytes is -8"),
        (set_in("signature", "outputs", 0, "shape", [2.0]), r"outputs\[0\].shape\[0\] is 2.0"),
        (set_in("signature", "states", 0, "shape", [3]), "state 's' stands outside"),
        (set_in("memory", "weights_bytes", 100), "'weights' has 12 bytes instead of 100"),
        (set_in("memory", "state_bytes", 4), "'state_init' has 8 bytes instead of 4"),
        (set_in("memory", "scratch_bytes", 2**60), "scratch_bytes is"),
        (set_in("memory", "scratch_bytes", True), "scratch_bytes is True"),
        (set_in("target", "facts", []), r"target.facts is \[\], expected an object"),
        (set_in("target", "engine", None), "target.engine is None"),
        (set_in("source", "x"), "source is 'x', expected an object"),
        (set_in("source", "sha256", "xyz"), "source.sha256 is 'xyz'"),
        (set_in("layers", [5]), r"layers\[0\] is 5"),
        (set_in("macs", "many"), "macs is 'many'"),
        (set_in("check", {"done": True, "max_error": "x"}), "check.max_error is 'x'"),
        (set_in("identity", "ab"), "identity is 'ab'"),
        (set_in("signature", "inputs", 0, "model_shape", [2**62, 9]), "expected as many elements"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(
    change: Callable[[dict[str, Any]], object], message: str, tmp_path: Path
) -> None:
    """Native code relies on sizes and places: they are checked before anything runs."""
    path = tmp_path / "wrong.edgelstm"
    damaged(change).write(path)
    with pytest.raises(ArtifactFormatError, match=rf"wrong\.edgelstm: .*{message}"):
        edgelstm.load(path)


def test_keys_of_newer_versions_are_left_alone(tmp_path: Path) -> None:
    """What this version does not know, on any level, changes nothing."""
    path = tmp_path / "newer.edgelstm"

    def change(manifest: dict[str, Any]) -> None:
        manifest["surprise"] = {"of": [1, "kind"]}
        manifest["signature"]["surprise"] = 1
        manifest["signature"]["inputs"][0]["surprise"] = 1
        manifest["memory"]["surprise"] = "x"

    damaged(change).write(path)
    assert edgelstm.load(path).signature == leaky_reference().signature


@pytest.mark.parametrize(
    "program",
    [b"", b"{", b"[]", b"{}", b'{"inputs": []}', b"\xff", b"[" * 100_000],
)
def test_a_broken_reference_program_is_refused(program: bytes) -> None:
    """The interpreter's program is checked when it is loaded."""
    artifact = leaky_reference(sections={"program": program})
    with pytest.raises(ArtifactFormatError, match="section 'program' is malformed"):
        artifact.session()


def test_version_is_that_of_the_project() -> None:
    """The number stands in two places, and is one."""
    project = Path(__file__).parents[3] / "pyproject.toml"
    match = re.search(r'^version = "(.*)"$', project.read_text(), re.MULTILINE)
    assert match is not None
    assert match.group(1) == edgelstm.__version__
