"""What the compiled kernels take: registers, spills, names, bytes that repeat."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnx
import pytest

from edgelstm.engines.cuda_cubin import read_cubin
from edgelstm.engines.cuda_launch import PARAMETERS
from edgelstm.errors import CapabilityError, TargetUnavailableError
from edgelstm_compiler.driver import compile_model
from edgelstm_compiler.target import find_target
from edgelstm_targets.numba_cuda import toolkit
from edgelstm_targets.numba_cuda.toolkit import toolkit_version
from tests import models
from tests.quantized_models import recordings, step_graph

DEMO = Path(__file__).parents[2] / "compiler/edgelstm_compiler/demo/tug_phase.onnx"


def layers(op: str, count: int, features: int, hidden: int) -> Any:
    """Recurrent layers over free time."""
    return models.stacked_model(
        ops=(op,) * count, features=features, hidden=hidden, steps=None, head="sequence"
    )


TINY = models.stacked_model(ops=("RNN",), hidden=4, features=2, steps=None)
"""What compiles soonest."""

GATES: dict[str, tuple[Any, dict[str, int]]] = {
    "demo": (DEMO, {"sm_87": 104, "sm_90": 104}),
    "LSTM (9, 64) x 1": (layers("LSTM", 1, 9, 64), {"sm_87": 124, "sm_90": 124}),
    "LSTM (9, 64) x 2": (layers("LSTM", 2, 9, 64), {"sm_87": 96, "sm_90": 96}),
    "LSTM (64, 256) x 1": (layers("LSTM", 1, 64, 256), {"sm_87": 128, "sm_90": 128}),
    "LSTM (64, 256) x 2": (layers("LSTM", 2, 64, 256), {"sm_87": 128, "sm_90": 128}),
    "GRU (9, 64) x 1": (layers("GRU", 1, 9, 64), {"sm_87": 72, "sm_90": 72}),
    "GRU (9, 64) x 2": (layers("GRU", 2, 9, 64), {"sm_87": 96, "sm_90": 96}),
    "GRU (64, 256) x 1": (layers("GRU", 1, 64, 256), {"sm_87": 128, "sm_90": 80}),
    "GRU (64, 256) x 2": (layers("GRU", 2, 64, 256), {"sm_87": 128, "sm_90": 128}),
}
"""Models, and registers that no thread of theirs exceeds."""

EVERY_RUN = (
    ("demo", "sm_87"),
    ("LSTM (9, 64) x 1", "sm_87"),
    ("GRU (9, 64) x 1", "sm_87"),
    ("LSTM (9, 64) x 2", "sm_90"),
    ("LSTM (64, 256) x 1", "sm_90"),
)
ALL = os.environ.get("EDGELSTM_CUDA_GATES") == "all"
"""`make gates-cuda`: every model and chip, each compiled again by a process of its own."""


@pytest.mark.parametrize(
    ("name", "chip"),
    [(name, chip) for name in GATES for chip in ("sm_87", "sm_90")] if ALL else EVERY_RUN,
)
def test_registers_and_spills(name: str, chip: str, tmp_path: Path) -> None:
    """No kernel spills, none takes more registers than its gate, none more than the block has."""
    model, gates = GATES[name]
    path = model if isinstance(model, Path) else saved(model, tmp_path)
    artifact = compile_model(path, target=f"cuda:{chip}", name="gated", check=False)
    for kernel in artifact.manifest["target"]["facts"]["kernels"]:
        if kernel["form"] != "cubin":
            continue
        found = read_cubin(bytes(artifact.container.section(kernel["section"])))
        resources = found[kernel["entry"]]
        assert resources.frame_bytes == 0
        assert resources.registers <= gates[chip], (kernel["entry"], resources.registers)
        assert resources.registers * kernel["threads"] <= 65536
        assert tuple(size for _, size in resources.parameters) == PARAMETERS
    if ALL:
        assert artifact.container.digest == compile_elsewhere(path, chip)


INTEGER_GATES = {
    "demo": 56,
    "LSTM (9, 64) x 1": 64,
    "GRU (9, 64) x 1": 56,
    "LSTM (64, 256) x 1": 144,
}
"""The same models in int8-full: registers that no thread exceeds."""


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("demo", "cuda:sm_87"),
        ("LSTM (9, 64) x 1", "cuda:sm_90"),
        ("GRU (9, 64) x 1", "cuda:sm_87"),
        pytest.param("LSTM (64, 256) x 1", "cuda:sm_87+sm_90", marks=pytest.mark.slow),
    ],
)
def test_registers_and_spills_of_integers(name: str, target: str) -> None:
    """int8-full: no kernel spills, none takes more registers than its gate."""
    model = GATES[name][0]
    loaded = onnx.load(model) if isinstance(model, Path) else model
    given = recordings(step_graph(loaded), frames=40, count=2)
    artifact = compile_model(
        loaded,
        target=target,
        target_options={"groups": "none"},
        quantize="int8-full",
        calibration=given,
        check=False,
    )
    kernels = [k for k in artifact.manifest["target"]["facts"]["kernels"] if k["form"] == "cubin"]
    assert kernels
    for kernel in kernels:
        code = bytes(artifact.container.section(kernel["section"]))
        resources = read_cubin(code)[kernel["entry"]]
        assert resources.frame_bytes == 0
        assert resources.registers <= INTEGER_GATES[name], (kernel["entry"], resources.registers)
        assert resources.registers * kernel["threads"] <= 65536


def test_bytes_of_integers_repeat() -> None:
    """int8-full: compiling twice gives the same artifact."""
    model = layers("LSTM", 1, 3, 8)
    given = recordings(step_graph(model), frames=40, count=2)
    first, second = (
        compile_model(
            model, target="cuda:sm_87", quantize="int8-full", calibration=given, check=False
        )
        for _ in range(2)
    )
    assert {kernel["shape"] for kernel in first.manifest["target"]["facts"]["kernels"]} == {
        "block",
        "tensor",
    }
    assert first.container.digest == second.container.digest


def saved(model: Any, folder: Path) -> Path:
    """The model as a file: an artifact tells the file's name."""
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString(deterministic=True))
    return path


def compile_elsewhere(path: Path, chip: str) -> str:
    """The digest of the artifact that a fresh process makes of the same file."""
    code = (
        "import sys; from edgelstm_compiler.driver import compile_model\n"
        "made = compile_model(sys.argv[1], target=sys.argv[2], name='gated', check=False)\n"
        "print(made.container.digest)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path), f"cuda:{chip}"],
        env={**os.environ, "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_bytes_repeat_and_names_are_stable(tmp_path: Path) -> None:
    """Another process makes the same artifact; kernels bear the model's name."""
    path = saved(TINY, tmp_path)
    first = compile_model(path, target="cuda:sm_87", name="gated", check=False)
    assert first.container.digest == compile_elsewhere(path, "sm_87")
    kernels = first.manifest["target"]["facts"]["kernels"]
    assert [kernel["entry"] for kernel in kernels] == ["gated_many"] * 2


@pytest.mark.slow
def test_one_artifact_for_all_chips() -> None:
    """`cuda:all` holds a cubin for every chip that the wheels know, and PTX of the newest."""
    artifact = compile_model(TINY, target="cuda:all", check=False)
    sections = [name for name in artifact.sizes if name.startswith(("cubin/", "ptx/"))]
    chips = ["sm_86", "sm_87", "sm_89", "sm_90"]
    chips += ["sm_100", "sm_120"] if toolkit_version() == 13 else []
    assert sorted(sections) == sorted(
        [*(f"cubin/{chip}/many" for chip in chips), f"ptx/{chips[-1]}/many"]
    )


@pytest.mark.parametrize(
    ("target", "options", "words"),
    [
        ("cuda:sm_70", {}, "knows no chip 'sm_70'"),
        ("cuda", {"cuda": "11"}, "expected 12 or 13"),
        ("cuda", {"shape": "ring"}, "expected auto, block"),
        ("cuda", {"colour": "red"}, "no option 'colour'"),
        ("cuda:sm_120", {"cuda": "12"}, "needs CUDA 13"),
        ("host:fast", {}, "no option 'variant'"),
    ],
)
def test_options_that_are_refused(target: str, options: dict[str, str], words: str) -> None:
    """Unknown chips, versions and options are named."""
    with pytest.raises(CapabilityError, match=words):
        find_target(target).options(options)


def test_wheels_of_another_version_are_refused() -> None:
    """A cubin of one CUDA is never passed for one of another."""
    other = "12" if toolkit_version() == 13 else "13"
    with pytest.raises(TargetUnavailableError, match=f"not {other}"):
        compile_model(
            layers("LSTM", 1, 3, 8),
            target="cuda:sm_87",
            target_options={"cuda": other},
            check=False,
        )


def test_a_numpy_without_what_numba_needs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numba-CUDA would fail somewhere inside, at its import."""
    monkeypatch.setattr(toolkit, "_NUMPY_TOO_NEW", {version("numba-cuda"): (1, 0)})
    with pytest.raises(TargetUnavailableError, match=r"NumPy .*: pip install 'numpy<1\.0'"):
        compile_model(TINY, target="cuda:sm_87", check=False)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (models.lstm_model(steps=None, batch=2), "session\\(streams=N\\)"),
    ],
)
def test_models_that_are_refused(model: Any, words: str) -> None:
    """What has no device code is refused by the node's name."""
    with pytest.raises(CapabilityError, match=words):
        compile_model(model, target="cuda:sm_87", check=False)


def test_windows_are_refused() -> None:
    """Mode call is for other targets."""
    with pytest.raises(CapabilityError, match="no mode 'call'"):
        compile_model(models.lstm_model(), target="cuda:sm_87", mode="call", check=False)
