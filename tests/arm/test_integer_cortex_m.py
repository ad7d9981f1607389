"""int8-full on emulated microcontrollers: NumPy's bits, every attribute that the scheme takes."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import edgelstm
from edgelstm.artifact import Artifact
from edgelstm_compiler import compile_model
from edgelstm_compiler.c_export.golden import record_golden
from edgelstm_compiler.c_export.project import export_project
from edgelstm_compiler.emulation.kernel import count_cost, emulate
from edgelstm_compiler.quant.scheme import QuantizeOptions
from tests.arm.c_project import run_on_board
from tests.models import CellCase, cell_model, gru_model, lstm_model, stacked_model
from tests.quantized_models import recordings, step_graph
from tests.unit.runtime.command_line import invoke

pytestmark = pytest.mark.tvm
pytest.importorskip("tvm")

WAYS = ("cortex-m0plus", "cortex-m3", "cortex-m4")
"""One processor for each way of multiplying."""
OTHERS = ("cortex-m7", "cortex-m33")
"""They multiply as a Cortex-M4 does."""
STEPS = 300
MARGIN = 1.05
# Target and size of an LSTM (inputs, units): instructions per multiply-accumulate as they are, and
# what they must stay below in any case.
COUNTS = {
    ("cortex-m0plus", 64, 128): (3.90, 4.5),
    ("cortex-m0plus", 6, 32): (6.62, 7.5),
    ("cortex-m3", 64, 128): (2.57, 3.0),
    ("cortex-m4", 64, 128): (1.40, 1.6),
    ("cortex-m4", 6, 32): (2.20, 3.0),
    ("cortex-m7", 64, 128): (1.40, 1.6),
    ("cortex-m33", 64, 128): (1.40, 1.6),
}
STREAMS: dict[str, tuple[Any, dict[str, Any]]] = {
    "lstm": (lstm_model, {"hidden": 19, "features": 5}),
    "lstm_one_unit": (lstm_model, {"hidden": 1, "features": 1}),
    "lstm_peepholes_clip": (
        lstm_model,
        {"hidden": 33, "features": 6, "peepholes": True, "clip": 3.0, "initial_h": "constant"},
    ),
    "lstm_input_forget": (lstm_model, {"hidden": 40, "features": 17, "input_forget": True}),
    "gru": (gru_model, {"hidden": 21, "features": 7}),
    "gru_linear": (
        gru_model,
        {"hidden": 34, "features": 3, "linear_before_reset": True, "initial_h": "constant"},
    ),
    "stack": (stacked_model, {"ops": ("LSTM", "GRU", "LSTM"), "hidden": 18, "head": "sequence"}),
}
CALLS: dict[str, tuple[Any, dict[str, Any]]] = {
    "lstm_bidirectional": (
        lstm_model,
        {"hidden": 5, "direction": "bidirectional", "peepholes": True, "initial_c": "constant"},
    ),
    "lstm_reverse_batch": (lstm_model, {"hidden": 18, "direction": "reverse", "batch": 3}),
    "lstm_lengths": (
        lstm_model,
        {"hidden": 8, "batch": 4, "sequence_lens": (5, 3, 1, 0), "initial_h": "input"},
    ),
    "gru_bidirectional": (
        gru_model,
        {"hidden": 5, "direction": "bidirectional", "linear_before_reset": True, "clip": 1.0},
    ),
    "gru_hard": (
        gru_model,
        {
            "hidden": 9,
            "features": 37,
            "activations": ("HardSigmoid", "ScaledTanh"),
            "alpha": (0.3, 0.9),
            "beta": (0.4, 1.1),
            "initial_h": "input",
            "sequence_lens": (0, 5, 2),
            "batch": 3,
        },
    ),
    "stack": (stacked_model, {"ops": ("LSTM", "GRU"), "direction": "bidirectional", "steps": 7}),
}
FLOATING = ("lstm_lengths", "gru_hard")
"""Initial states that are inputs go through floats."""


def _compile(
    model: onnx.ModelProto, target: str, mode: str, given: list[Any], integer_io: bool
) -> Artifact:
    shapes = {name: x.shape for name, x in given[0].items()} if mode == "call" else None
    return compile_model(
        model,
        target=target,
        mode=mode,  # type: ignore[arg-type]
        shapes=shapes,
        name="net",
        quantize="int8-full",
        calibration=given,
        quantize_options=QuantizeOptions(integer_io=integer_io),
        check=False,
    )


def _steps(artifact: Artifact, count: int, seed: int = 4) -> dict[str, np.ndarray[Any, Any]]:
    """A walk with bursts of twice and eight times its height; integers as such, to the limits."""
    rng = np.random.default_rng(seed)
    frames = {}
    for spec in artifact.signature.inputs:
        walk = np.sin(np.cumsum(rng.normal(0, 0.4, (count, *spec.shape)), axis=0))
        walk *= rng.choice([1, 1, 1, 2, 8], (count, *[1] * len(spec.shape)))
        if not spec.dtype.is_float:
            limits = np.iinfo(spec.dtype.numpy)
            walk = np.clip(walk * (limits.max / 4), limits.min, limits.max)
        frames[spec.name] = walk.astype(spec.dtype.numpy)
    return frames


def _bytes(result: Any) -> bytes:
    values = result.values() if isinstance(result, dict) else [result]
    return b"".join(np.ascontiguousarray(value).tobytes() for value in values)


def _stream(artifact: Artifact, frames: dict[str, np.ndarray[Any, Any]]) -> tuple[bytes, bytes]:
    """All that comes out, and the states at the end: in two blocks and one single step."""
    session = artifact.session()
    count = len(next(iter(frames.values())))
    out = b""
    for start, stop in ((0, count // 3), (count // 3, count - 1)):
        out += _bytes(session.run({name: x[start:stop] for name, x in frames.items()}))
    out += _bytes(session.step({name: x[-1] for name, x in frames.items()}))
    return out, bytes(session.snapshot())


@functools.cache
def _wanted(name: str, integer_io: bool) -> tuple[Any, Any, Any, tuple[bytes, bytes]]:
    """A model, its calibration, what it is given, and what NumPy makes of it."""
    make, fields = STREAMS[name]
    model = make(steps=None, **fields)
    given = recordings(step_graph(model), frames=100)
    reference = _compile(model, "reference", "stream", given, integer_io)
    frames = _steps(reference, STEPS)
    return model, given, frames, _stream(reference, frames)


@pytest.mark.parametrize(
    ("name", "target"),
    [
        *((name, target) for name in STREAMS for target in WAYS),
        *((name, target) for name in ("lstm_peepholes_clip", "stack") for target in OTHERS),
    ],
)
def test_streams(name: str, target: str) -> None:
    """Hundreds of steps in integers: outputs and states."""
    pytest.importorskip("unicorn", reason="pip install unicorn==2.1.4")
    model, given, frames, wanted = _wanted(name, True)
    artifact = emulate(_compile(model, target, "stream", given, True))
    assert _stream(artifact, frames) == wanted


@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m33"])
@pytest.mark.parametrize("name", ["lstm_peepholes_clip", "stack"])
def test_streams_of_floats(name: str, target: str) -> None:
    """The same with floats at the border: they are quantized as NumPy does."""
    pytest.importorskip("unicorn", reason="pip install unicorn==2.1.4")
    model, given, frames, wanted = _wanted(name, False)
    artifact = emulate(_compile(model, target, "stream", given, False))
    assert _stream(artifact, frames) == wanted


@functools.cache
def _called(name: str) -> tuple[Any, Any, list[dict[str, Any]], list[bytes]]:
    make, fields = CALLS[name]
    model = make(**fields)
    given = recordings(step_graph(model, "call"))
    reference = _compile(model, "reference", "call", given, True)
    inputs = [_steps(reference, 1, seed) for seed in range(4)]
    inputs = [{key: x[0] for key, x in each.items()} for each in inputs]
    for each in inputs[2:]:
        for x in each.values():
            x[...] = np.where(x < 0, np.iinfo(x.dtype).min, np.iinfo(x.dtype).max)
    return model, given, inputs, [_bytes(reference.session().call(each)) for each in inputs]


@pytest.mark.parametrize(
    ("name", "target"),
    [
        (name, target)
        for name in CALLS
        for target in WAYS
        if target == "cortex-m4" or name not in FLOATING
    ],
)
def test_calls(name: str, target: str) -> None:
    """Directions, batch, lengths, and initial states at the ends of their range."""
    pytest.importorskip("unicorn", reason="pip install unicorn==2.1.4")
    model, given, inputs, wanted = _called(name)
    artifact = emulate(_compile(model, target, "call", given, True))
    assert [_bytes(artifact.session().call(each)) for each in inputs] == wanted


@functools.cache
def _measured(target: str, features: int, hidden: int) -> Artifact:
    model = lstm_model(hidden=hidden, features=features, steps=None)
    given = recordings(step_graph(model), count=1, frames=40)
    has_float = target not in ("cortex-m0plus", "cortex-m3")
    return _compile(model, target, "stream", given, not has_float)


@pytest.mark.parametrize(("target", "features", "hidden"), COUNTS)
def test_a_step_costs_no_more_than_it_did(target: str, features: int, hidden: int) -> None:
    """Within five percent of what is written here, and below the bound; and the stack as told."""
    pytest.importorskip("unicorn", reason="pip install unicorn==2.1.4")
    artifact = _measured(target, features, hidden)
    cost = count_cost(artifact)
    known, bound = COUNTS[target, features, hidden]
    assert cost.per_mac <= min(known * MARGIN, bound), cost
    told = artifact.manifest["target"]["facts"]["isas"][0]["stack_bytes"]
    assert cost.stack_bytes <= told <= 512


@pytest.mark.parametrize(("target", "text"), [("cortex-m4", 2400), ("cortex-m0plus", 2300)])
def test_code_and_memory_are_small(target: str, text: int) -> None:
    """An LSTM of 6 inputs and 32 units: at most five percent more code than now, and 384 bytes."""
    manifest = _measured(target, 6, 32).manifest
    (facts,) = manifest["target"]["facts"]["isas"]
    assert facts["text_bytes"] + facts["rodata_bytes"] <= MARGIN * text
    memory = manifest["memory"]
    assert memory["state_bytes"] + memory["scratch_bytes"] <= 384


@pytest.mark.parametrize("hidden", [512, 528])
def test_the_largest_sums_fit(hidden: int) -> None:
    """All weights and states at their limits, with both signs: 512 units in scaled sums, and more.

    More elements than `LONGEST` have to be multiplied the other way.
    """
    pytest.importorskip("unicorn", reason="pip install unicorn==2.1.4")
    case = CellCase(hidden=hidden, features=1, steps=None, initial_h="constant")
    model = cell_model(case)
    signs = np.where(np.arange(4 * hidden) % 3 == 0, -1, 1)
    arrays = {
        "R": np.broadcast_to(0.003 * signs[:, None], (1, 4 * hidden, hidden)),
        "initial_h": np.full((1, 1, hidden), 1.5),
    }
    for place, item in enumerate(model.graph.initializer):
        if item.name in arrays:
            data = arrays[item.name].astype(np.float32)
            model.graph.initializer[place].CopyFrom(numpy_helper.from_array(data, item.name))
    given = recordings(step_graph(model), count=1, frames=4)
    reference = _compile(model, "reference", "stream", given, True)
    assert bytes(reference.session().snapshot()).count(127) >= hidden
    frames = _steps(reference, 3)
    artifact = emulate(_compile(model, "cortex-m4", "stream", given, True))
    assert _stream(artifact, frames) == _stream(reference, frames)


@pytest.mark.parametrize("name", ["lstm_peepholes_clip", "gru", "gru_linear", "stack"])
def test_helium_on_a_board(name: str, tmp_path: Path) -> None:
    """Cortex-M55, which Unicorn does not know: the exported project on QEMU's mps3-an547."""
    model, given, frames, _ = _wanted(name, True)
    golden = record_golden(_compile(model, "reference", "stream", given, True), frames, STEPS, None)
    export_project(_compile(model, "cortex-m55", "stream", given, True), tmp_path, golden, None)
    assert "net: PASS" in run_on_board(tmp_path, "cortex-m55", "mps3-an547")


def test_commands_without_a_floating_point_unit(tmp_path: Path) -> None:
    """`compile --quantize int8-full` gives integer borders by itself; verify and bench run it."""
    pytest.importorskip("unicorn", reason="pip install unicorn==2.1.4")
    model, walk, artifact = (tmp_path / name for name in ("net.onnx", "walk.csv", "net.edgelstm"))
    onnx.save(stacked_model(ops=("LSTM", "GRU"), steps=None, head="sequence", hidden=12), model)
    noise = np.random.default_rng(0).standard_normal((200, 3))
    rows = np.sin(0.3 * np.cumsum(noise, axis=0))
    walk.write_text("x,y,z\n" + "".join(f"{a:.5f},{b:.5f},{c:.5f}\n" for a, b, c in rows))
    words = ("--quantize", "int8-full", "--calibrate", walk, "--columns", "x,y,z")
    made = invoke("compile", model, "-o", artifact, "--target", "cortex-m0plus", *words)
    assert made.exit_code == 0, made.stderr
    assert "agrees with quantized step graph within 0" in made.output
    (signal,) = edgelstm.load(artifact).signature.inputs
    assert not signal.dtype.is_float
    checked = invoke("verify", artifact, "--model", model, "--emulate")
    assert checked.exit_code == 0, checked.stderr
    assert "PASS" in checked.output
    report = json.loads(invoke("bench", artifact, "--emulate", "--json").stdout)
    assert report["isas"][0]["stack_bytes"] > 0
