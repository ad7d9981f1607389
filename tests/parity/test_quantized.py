"""Quantized artifacts: the same bits on every instruction set, in steps, chunks and NumPy."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from edgelstm.artifact import Artifact
from edgelstm.engines.cpu_features import cpu_flags
from edgelstm.engines.native import ISA_VARIABLE
from edgelstm_compiler.driver import compile_model
from tests.models import gru_model, lstm_model, stacked_model
from tests.quantized_models import recordings, step_graph

pytest.importorskip("tvm")
pytestmark = [pytest.mark.tvm, pytest.mark.usefixtures("every_instruction_set")]

MODELS: Mapping[str, tuple[Any, Mapping[str, Any]]] = {
    "stack": (stacked_model, {"ops": ("LSTM", "GRU"), "hidden": 24, "head": "sequence"}),
    "lstm": (lstm_model, {"hidden": 37, "features": 5, "peepholes": True, "clip": 3.0}),
    "lstm_input_forget": (
        lstm_model,
        {"hidden": 16, "features": 6, "input_forget": True, "initial_h": "constant"},
    ),
    "gru": (gru_model, {"hidden": 21, "features": 7, "initial_h": "constant"}),
    "gru_linear": (gru_model, {"hidden": 33, "features": 3, "linear_before_reset": True}),
}
STEPS = {"stack": 100_000}
"""Of the exact comparison of instruction sets; of the other models 3,000."""
PIECES, PIECE = 10, 1000
"""Of a long stream NumPy computes so many pieces of so many frames, spread over it."""


def _compiled(name: str, scheme: str, target: str) -> tuple[Artifact, int]:
    make, fields = MODELS[name]
    model = make(steps=None, **fields)
    given = recordings(step_graph(model), frames=150)
    artifact = compile_model(model, target=target, quantize=scheme, calibration=given)
    return artifact, artifact.signature.inputs[0].nbytes // 4


def _isas(artifact: Artifact) -> list[str]:
    facts = artifact.manifest["target"]["facts"]["isas"]
    return [
        item["section"].removeprefix("code/")
        for item in facts
        if set(item["requires"]) <= set(cpu_flags())
    ]


def _frames(count: int, features: int) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(4)
    walk = np.sin(np.cumsum(rng.normal(0, 0.3, (count, features)), axis=0))
    return (walk + rng.normal(0, 0.2, (count, features))).astype(np.float32)


def _run(artifact: Artifact, x: np.ndarray[Any, Any], cuts: list[int]) -> tuple[bytes, bytes]:
    """Everything that comes out, and the states at the end."""
    session = artifact.session()
    parts: list[bytes] = []
    for start, stop in itertools.pairwise([0, *cuts, len(x)]):
        result = session.run(x[start:stop])
        values = result.values() if isinstance(result, Mapping) else [result]
        parts.append(np.concatenate([np.array(v).reshape(stop - start, -1) for v in values], 1))
    states = session.snapshot()
    return np.concatenate(parts).tobytes(), bytes(states)


def _frames_of(session: Any, x: np.ndarray[Any, Any]) -> tuple[bytes, bytes]:
    """What comes out of a session, and its states then."""
    result = session.run(x)
    values = result.values() if isinstance(result, Mapping) else [result]
    rows = np.concatenate([np.array(v).reshape(len(x), -1) for v in values], 1)
    return rows.tobytes(), bytes(session.snapshot())


def _cuts(count: int, seed: int) -> list[int]:
    rng = np.random.default_rng(seed)
    return sorted(set(rng.integers(1, count, 40).tolist()) | {1, 2})


@pytest.mark.parametrize("name", MODELS)
def test_integers_are_the_same_everywhere(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """int8-full: NumPy and every instruction set give the same bits, outputs and states.

    Of a long stream NumPy computes pieces, each from the state that compiled code had there: what
    is equal everywhere and follows from the same state is the same stream.
    """
    artifact, features = _compiled(name, "int8-full", "host")
    reference, _ = _compiled(name, "int8-full", "reference")
    x = _frames(STEPS.get(name, 3000), features)
    starts = [0] if name not in STEPS else np.linspace(0, len(x) - PIECE, PIECES, dtype=int)
    wanted: list[tuple[bytes, bytes]] = []
    for seed, isa in enumerate(_isas(artifact)):
        monkeypatch.setenv(ISA_VARIABLE, isa)
        fresh = Artifact(artifact.container)
        assert fresh.kernel.facts["isa"] == isa
        for cuts in ([], _cuts(len(x), seed)):
            wanted.append(_run(fresh, x, cuts))
            assert wanted[-1] == wanted[0], (isa, len(cuts))
        compiled = fresh
    length = len(x) if name not in STEPS else PIECE
    width = len(wanted[0][0]) // len(x)
    for start in starts:
        before = compiled.session()
        before.run(x[:start])
        found = reference.session()
        found.restore(before.snapshot())
        shown, state = _frames_of(found, x[start : start + length])
        assert shown == wanted[0][0][start * width : (start + length) * width], start
        before.run(x[start : start + length])
        assert state == bytes(before.snapshot()), start


@pytest.mark.parametrize("scheme", ["fp16", "w8", "w4", "int8"])
@pytest.mark.parametrize("name", ["stack", "lstm", "gru_linear"])
def test_steps_are_the_sequence(name: str, scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On one instruction set any chunking gives the same bits; NumPy is near."""
    artifact, features = _compiled(name, scheme, "host")
    reference, _ = _compiled(name, scheme, "reference")
    x = _frames(400, features)
    wanted = np.frombuffer(_run(reference, x, [])[0], np.float32)
    for seed, isa in enumerate(_isas(artifact)):
        monkeypatch.setenv(ISA_VARIABLE, isa)
        fresh = Artifact(artifact.container)
        whole = _run(fresh, x, [])
        assert whole == _run(fresh, x, _cuts(len(x), seed)), isa
        assert whole == _run(fresh, x, list(range(1, len(x)))), isa
        found = np.frombuffer(whole[0], np.float32)
        np.testing.assert_allclose(found, wanted, 0, 0.02 if scheme == "int8" else 1e-4)
