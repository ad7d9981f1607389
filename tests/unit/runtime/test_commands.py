"""`inspect`, `bench` and `targets` on toy models."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgelstm.commands.bench as bench_module
import edgelstm.commands.inspect as inspect_module
import edgelstm.commands.targets as targets_module
from edgelstm import Artifact, Signature
from edgelstm.commands.report import format_bytes, format_ns
from edgelstm.engines import cuda
from edgelstm.errors import TargetUnavailableError
from edgelstm.timing import StepTimer, random_frames
from tests.unit.runtime.command_line import invoke
from tests.unit.runtime.toy_models import (
    double_call,
    leaky_native,
    leaky_reference,
    needs_cc,
    pair_reference,
)

HERE = "tests.unit.runtime.test_commands"


def save(artifact: Artifact, path: Path) -> Path:
    artifact.save(path)
    return path


def entry(name: str, value: str) -> EntryPoint:
    return EntryPoint(name, value, "some.group")


@needs_cc
def test_inspect_shows_all_of_an_artifact(tmp_path: Path) -> None:
    """As JSON with stable keys, and as text."""
    path = save(
        leaky_native(check={"done": True, "against": "float64", "max_error": 1.2e-7}),
        tmp_path / "leaky.edgelstm",
    )
    report = json.loads(invoke("inspect", path, "--json").stdout)
    assert report["name"] == "leaky"
    assert report["mode"] == "stream"
    assert report["runs_here"] is True
    assert report["parameters"] == 2
    assert report["macs"] == 2
    assert report["inputs"][0]["shape"] == [2]
    assert report["states"] == [{"name": "s", "dtype": "f32", "shape": [2]}]
    assert report["isas"][0]["obstacle"] is None
    assert set(report["sections"]) >= {"weights", "state_init", "header.h"}
    text = invoke("inspect", path).stdout
    for word in ("leaky", "leaky.onnx", "float64", "1.2e-07", "weights"):
        assert word in text


def test_inspect_of_what_cannot_run_here(tmp_path: Path) -> None:
    """The artifact is still described; the reason is in the report."""
    path = save(leaky_native(engine="quantum", sections={}), tmp_path / "leaky.edgelstm")
    result = invoke("inspect", path, "--json")
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert report["runs_here"] is False
    assert "quantum" in report["runs_here_as"]
    assert "quantum" in invoke("inspect", path).stdout


def inspect_toy(path: Path, **options: Any) -> dict[str, Any]:
    return {"kind": "toy", "file": path.name, "options": options, "layers": [{"a": 1}, {"b": 2}]}


def inspect_texty(path: Path, **options: Any) -> dict[str, Any]:
    del options
    return {"kind": "texty", "text": f"all about {path.name}"}


def test_inspect_asks_the_plug_in_of_the_suffix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Options reach it; its text is shown, or else its entries."""
    entries = [
        entry("toy", f"{HERE}:inspect_toy"),
        entry("texty", f"{HERE}:inspect_texty"),
        entry("onnx", "edgelstm_gone:f"),
    ]
    monkeypatch.setattr(inspect_module, "entry_points", lambda group: entries)
    for suffix in ("toy", "texty", "onnx", "other"):
        (tmp_path / f"model.{suffix}").write_bytes(b"content")
    options = ["--mode", "call", "--shape", "X=5,1"]
    result = invoke("inspect", tmp_path / "model.toy", *options, "--json")
    assert json.loads(result.stdout)["options"] == {"mode": "call", "shapes": {"X": [5, 1]}}
    assert "kind: toy" in invoke("inspect", tmp_path / "model.toy").stdout
    assert invoke("inspect", tmp_path / "model.texty").stdout == "all about model.texty\n"
    result = invoke("inspect", tmp_path / "model.onnx")
    assert result.exit_code == 4
    assert "/compiler" in result.stderr
    assert invoke("inspect", tmp_path / "model.other").exit_code == 5
    assert invoke("inspect", tmp_path / "missing.onnx").exit_code == 5
    assert invoke("inspect", tmp_path / "model.toy", "--shape", "X").exit_code == 2
    monkeypatch.setattr(inspect_module, "entry_points", lambda group: [])
    result = invoke("inspect", tmp_path / "model.onnx")
    assert result.exit_code == 4
    assert "/compiler" in result.stderr


class _ToyPeer:
    """A peer that takes exactly a microsecond."""

    name = "toy"
    version = "1.0"
    prepared: Mapping[str, np.ndarray] | None = None

    def __init__(self, model: Path, signature: Signature, options: Mapping[str, Any]) -> None:
        assert not options
        assert model.name == "model.onnx"
        assert signature.name == "leaky"

    def prepare(self, frames: Mapping[str, np.ndarray]) -> None:
        _ToyPeer.prepared = frames

    def time_step(self) -> float:
        return 1000.0

    def time_sequence(self) -> float | None:
        return None


@pytest.mark.parametrize("make", [pytest.param(leaky_native, marks=needs_cc), leaky_reference])
def test_bench(make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All numbers are there, and a peer is measured in turn."""
    entries = [entry("toy", f"{HERE}:_ToyPeer"), entry("gone", "edgelstm_gone:f")]
    monkeypatch.setattr(bench_module, "entry_points", lambda group: entries)
    path = save(make(), tmp_path / "leaky.edgelstm")
    fast = ["--rounds", 2, "--seconds", 0.01, "--frames", 20]
    with_peer = ["--against", "toy", "--model", tmp_path / "model.onnx"]
    result = invoke("bench", path, *fast, *with_peer, "--json")
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    native = report["native"]
    # A step of some ns takes far less than a call of it from Python, and still more than nothing.
    assert 0.2 < native["min_ns"] <= native["p50_ns"] <= native["p99_ns"]
    assert native["min_ns"] <= 1.2 * report["native_run_ns"]
    assert report["native_run_ns"] > 0
    assert report["python_step_ns"] > (native["p50_ns"] if make is leaky_native else 0)
    assert report["python_run_ns"] > 0
    assert (report["read_ns"] is None) == (make is leaky_reference)
    assert report["peers"][0]["step_ns"] == 1000
    if native["p50_ns"] > 1:
        ratio = report["peers"][0]["step_ratio"]
        assert ratio == pytest.approx(1000 / native["p50_ns"], rel=0.01)
    assert report["peers"][0]["sequence_ns"] is None
    assert _ToyPeer.prepared is not None
    assert _ToyPeer.prepared["x"].shape == (20, 2)
    text = invoke("bench", path, *fast, *with_peer).stdout
    for word in ("native", "session.step", "session.run", "toy 1.0"):
        assert word in text
    assert invoke("bench", path, "--against", "toy").exit_code == 2
    for name in ("gone", "unknown"):
        assert invoke("bench", path, "--against", name, "--model", "m.onnx").exit_code == 4


def test_bench_of_call_mode(tmp_path: Path) -> None:
    """Calls are timed instead of steps; there is no run."""
    path = save(double_call(), tmp_path / "double.edgelstm")
    fast = ["--rounds", 1, "--seconds", 0.01, "--frames", 5]
    report = json.loads(invoke("bench", path, *fast, "--json").stdout)
    assert report["python_run_ns"] is None
    assert "session.call" in invoke("bench", path, *fast).stdout


def test_timing_of_several_inputs() -> None:
    """Frames are packed as the native code wants them; whole numbers are zero."""
    artifact = pair_reference()
    frames = random_frames(artifact.signature, 7)
    assert frames["a"].shape == (7, 2)
    assert not frames["k"].any()
    timer = StepTimer(artifact, frames)
    assert timer.time_step(0.01).steps >= 5
    assert timer.time_run(0.01) > 0
    assert timer.time_python_step(0.01) > 0


class _GoodTarget:
    def probe(self) -> Any:
        class Probe:
            can_build, can_run, reason = True, False, "no such device"

        return Probe()


class _BadTarget:
    def probe(self) -> Any:
        raise RuntimeError("exploded")


def test_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each target's probe; one that cannot be imported, or that breaks, says why."""
    entries = [
        entry("good", f"{HERE}:_GoodTarget"),
        entry("bad", f"{HERE}:_BadTarget"),
        entry("absent", "edgelstm_gone:Target"),
    ]
    groups = {targets_module.TARGET_GROUP: entries}
    monkeypatch.setattr(targets_module, "entry_points", lambda group: groups.get(group, []))
    report = json.loads(invoke("targets", "--json").stdout)
    found = {target["name"]: target for target in report["targets"]}
    assert found["good"] == {
        "name": "good",
        "can_build": True,
        "can_run": False,
        "reason": "no such device",
    }
    assert found["bad"]["reason"] == "RuntimeError: exploded"
    assert "pip install" in found["absent"]["reason"]
    text = invoke("targets").stdout
    assert "no such device" in text
    monkeypatch.setattr(targets_module, "entry_points", lambda group: [])
    assert "pip install" in invoke("targets").stdout


def test_engines_that_this_machine_cannot_run_say_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine is there where its device is; the others are not touched by that."""

    def absent() -> None:
        raise TargetUnavailableError("there is no driver")

    monkeypatch.setattr(cuda, "open_device", absent)
    report = json.loads(invoke("targets", "--json").stdout)
    assert {engine["name"]: engine["reason"] for engine in report["engines"]} == {
        "cuda": "there is no driver",
        "native": "",
        "reference": "",
    }
    assert "cuda (there is no driver)" in invoke("targets").stdout
    monkeypatch.setattr(cuda, "open_device", lambda: None)
    assert "cuda (ok)" in invoke("targets").stdout


def test_durations_and_sizes_read_well() -> None:
    """Three digits and a unit."""
    assert [format_ns(v) for v in (None, 4.5, 999.0, 1500.0, 2.5e6, 3e9)] == [
        "-",
        "4.5 ns",
        "999 ns",
        "1.5 us",
        "2.5 ms",
        "3 s",
    ]
    assert [format_bytes(v) for v in (0, 1023, 2048, 3 << 20, 1 << 31)] == [
        "0 B",
        "1023 B",
        "2 KB",
        "3 MB",
        "2 GB",
    ]
